"""Makes model files, each from the one before: torch module -> fp32 -> fp16, int8.

Every converter has one shape, ``convert(src, dst, *, ...) -> Artifact``, and never edits its input.
Knows nothing of timing, tasks or commands. Start at :mod:`exporters.torch_onnx`.
"""
