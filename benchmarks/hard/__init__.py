"""Models, files and faults that nobody made for nnx: `make hard` counts what comes out right, refused, wrong or broken.

``cases``, ``exports``: a folder of scripts that write hard models. ``operator_tests``: the onnx package's own, in four
modes. ``mutated_models`` and ``hostile_files``: broken with fixed seeds. ``faults``: a disk that fails and signals, at
many points of a run. Each of them gives ``verdicts``; ``runs`` forks every command from one warm process, watches its
time, memory and files; ``comparing`` judges a file by a measure of its own, not by nnx's; ``report`` writes the table.
"""
