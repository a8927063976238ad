"""Shapes that follow from dynamic axes and from shapes that are computed, as ONNX Runtime's own tool tells them."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import onnx
import onnxruntime


def with_symbolic_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with the shapes that follow from its dynamic axes; as it is where an operator is not known.

    ``SymbolicShapeInference.infer_shapes`` does the same, but leaves a file in the working folder when it gives up.
    """
    inference = _tool().SymbolicShapeInference(int_max=2**31 - 1, auto_merge=False, guess_output_rank=False, verbose=0)
    inference._preprocess(model)
    complete = True
    while inference.run_:
        complete = inference._infer_impl()
    inference._update_output_from_vi()
    return inference.out_mp_ if complete else model


@functools.cache
def _tool() -> Any:
    """Its file by itself: the package around it imports PyTorch wherever that is installed, which takes a second."""
    path = Path(onnxruntime.__file__).parent / "tools" / "symbolic_shape_infer.py"
    spec = importlib.util.spec_from_file_location("nnx_symbolic_shape_infer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
