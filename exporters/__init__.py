"""Makes model files, each from the one before: torch module -> fp32 -> fp16, bf16, int8, int4.

Every converter has one shape, ``convert(src, dst, *, ...) -> Artifact``, and never edits its input.
Knows nothing of timing, tasks or commands. Start at :mod:`exporters.torch_onnx`.

    int8_static      calibration (activations -> histogram -> thresholds; taps say of what; statistics_cache)
                     -> equalization, stem_fold, attention_form -> qdq -> bias_correction (segments), by evidence
    int8_dynamic     int8_preparation is what both share, targets says in which format
    fp16             half_ranges (which nodes cannot) -> half_graph (who casts)
    bf16, int4       weights only
"""
