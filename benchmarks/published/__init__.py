"""`make published`: nnx on model files that others published, beside ONNX Runtime's quantizers on the same samples.

:mod:`.packages` lists what pip fetches and which files are in it, :mod:`.samples` makes what they are fed,
:mod:`.tools` are the commands that are tried on each, :mod:`.judging` says how near a result is to its model and what
is a fault of nnx's, and :mod:`.report` the table of it.
"""
