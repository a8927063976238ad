"""What leaves for a device: ``packing`` makes a package, and never one that fails its own test.

``contents`` finds what goes in (models, samples, preprocessing, labels, measured rows), ``golden`` what a device must
answer and how far it may be off (``tolerance``), which ``golden_values`` reads again, ``model_package`` writes ONNX
Runtime's part, ``package`` describes ours; ``card``, ``sbom`` and ``checksums`` are for those who receive it.
``self_test`` runs what lies in ``runners/``, which is data: packages carry it, and nothing here imports it.

What others sent is read by ``names``, ``folder`` and ``archive``, which follow nothing and unpack nothing that does
harm, and held against its ``checksums``, its ``package_form`` and its ``signature`` by one of the ``keys``:
``verification`` gives the verdict.

``pushing`` brings a package to ``devices``, each a ``device`` over ssh whose shell obeys ``receive.sh``, in ``blocks``
of which none is sent that is there already.
"""
