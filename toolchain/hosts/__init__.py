"""Other machines that rows run on, over the system's ssh; there a Python with numpy and onnxruntime is enough.

:mod:`~toolchain.hosts.address` is where they are, :mod:`~toolchain.hosts.connection` the one road to each, at whose end
:mod:`~toolchain.hosts.agent` runs. A :class:`~toolchain.hosts.host.Host` gives rows to ``nnx bench``, each a
:class:`~toolchain.hosts.far_row.FarRow`; :mod:`~toolchain.hosts.examination` is what ``nnx doctor`` says of one.
"""
