"""Shapes that follow from dynamic axes and from shapes that are computed, as ONNX Runtime's own tool tells them."""

import onnx
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference


def with_symbolic_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with the shapes that follow from its dynamic axes; as it is where an operator is not known.

    ``SymbolicShapeInference.infer_shapes`` does the same, but leaves a file in the working folder when it gives up.
    """
    inference = SymbolicShapeInference(int_max=2**31 - 1, auto_merge=False, guess_output_rank=False, verbose=0)
    inference._preprocess(model)
    complete = True
    while inference.run_:
        complete = inference._infer_impl()
    inference._update_output_from_vi()
    return inference.out_mp_ if complete else model
