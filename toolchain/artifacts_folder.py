"""The names of what lies in ``artifacts/<recipe>/``."""

MODELS = {
    "fp32": "model.onnx",
    "fp16": "model.fp16.onnx",
    "int8-dynamic": "model.int8-dynamic.onnx",
    "int8-static": "model.int8-static.onnx",
}
"""Precision -> file name."""
BENCH = "bench.json"
EXPLANATION = "explain.json"
HISTORY = "training.json"
ABLATION = "ablation.json"
REPORT = "report.md"
