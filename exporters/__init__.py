"""Makes model files, each from the one before: torch module -> fp32 -> fp16, bf16, int8, int4.

Every converter has one shape, ``convert(src: ModelFile, dst: Path, *, ...) -> Artifact``, and never edits its input.
Knows nothing of timing, tasks or commands. Start at :mod:`exporters.torch_onnx`, or at a :mod:`exporters.model_file`.

    model_file       one .onnx file, read once: facts, hash and size over all its files, the graph in converters' form
    cleaning         that form, and graphs without what nobody reads (onnx-ir)
    calibration/     what activations do on real data
    weights          those that nodes see, in nested graphs too; products and embeddings read them
    int8/ half/      static and dynamic int8; fp16 and bf16; int4 beside them packs weights only
    finish           the tail that all converters share: checked, interface kept, provenance written, saved
"""

import os

# onnxruntime's wheels keep a device id, and send events with the model's name; only this, before it loads, stops both
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
