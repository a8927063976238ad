"""fp32 .onnx -> dynamic int8 .onnx: int8 weights, activations quantized as they come, no calibration.

    MatMul, Gemm  DynamicQuantizeLinear, one for all readers of an activation, and MatMulInteger, which ONNX Runtime
                  fuses into one kernel; alpha, beta and biases of any shape are kept
    Gather        of a constant table: the rows in int8, each with its scale (:mod:`exporters.embeddings`)
    LSTM          ONNX Runtime's DynamicQuantizeLSTM
    GRU, RNN      weights in int8, which the runtime takes back to float when it loads the file

in nested graphs too. A weight that several nodes read is rounded once, an embedding that is the last layer as well.
Conv stays in float: its dynamic kernel (ConvInteger) is 3 to 10 times slower. So do tables that would not shrink.

The graph is rewritten here, because onnxruntime 1.31's quantize_dynamic makes Conv slow, an opset-23 Attention and
every If with a product in it invalid, spoils transposed weights that two nodes share, knows neither a Gemm that scales
nor weights of three axes, fails on tensors called as its own (x_scale) and rounds a whole table by one scale.
"""

from collections.abc import Collection
from pathlib import Path

import onnx

from exporters import cleaning, onnx_file
from exporters.artifact import Artifact
from exporters.errors import NotApplicable
from exporters.finish import finish, sparing
from exporters.int8 import attention_form
from exporters.int8.integer_graph import IntegerGraph
from exporters.int8.preparation import MIN_OPSET, refuse_quantized
from exporters.int8.targets import Int8Format
from exporters.model_file import ModelFile
from exporters.tensors import require_fp32
from exporters.weights import drop_unread, import_contrib

OPERATORS = ("MatMul", "Gemm", "Gather", "LSTM", "GRU", "RNN")
"""What has weights that can become int8."""
_SHOWN = 3


@sparing
def convert(src: ModelFile, dst: Path, *, int8: Int8Format, exclude: Collection[str] = ()) -> Artifact:
    """Write ``src``'s dynamic int8 version to ``dst``.

    ``exclude`` names nodes of ``src`` to leave in float. Attention is brought to its 3-D form first where it applies;
    the artifact's notes say so, and which weights stayed in float for what reason; the file's provenance has the steps.

    Raises NotApplicable when the model has no operator of :data:`OPERATORS`, BadModelFile when it is int8 already, has
    no fp32 weights or one that is not finite, BadOption for a name that is not in the model, NotApplicable when nothing
    could be quantized.
    """
    refuse_quantized(src)
    model = src.to_convert(MIN_OPSET)
    _refuse_unfit(src, model, exclude)
    form = attention_form.flattened(model)
    model, steps = (form[0], (f"attention-form: {form[1]}",)) if form else (model, ())
    made = IntegerGraph(model, int8, exclude, source=src)
    left = _told(made.left)
    if not made.count:
        raise NotApplicable(
            f"Nothing in {src} could be quantized to int8-dynamic: {left or 'every node is excluded'}.",
            "Ship fp32 or fp16, or use --mode static with --calibration.",
        )
    model = cleaning.without_dead_parts(model)
    drop_unread(model)
    import_contrib(model)
    facts = {"int8_format": str(int8), "steps": "; ".join(steps), "float_nodes": ", ".join(sorted(exclude))}
    notes = (*steps, f"left in float: {left}") if left else steps
    return finish(model, dst, src=src, precision="int8-dynamic", facts=facts, notes=notes)


def _refuse_unfit(src: ModelFile, model: onnx.ModelProto, exclude: Collection[str]) -> None:
    graphs = list(onnx_file.graphs_of(model))
    if not any(node.op_type in OPERATORS for graph in graphs for node in graph.node):
        raise NotApplicable(
            f"{src} has no {', '.join(OPERATORS)} to quantize dynamically.", "Use --mode static with --calibration."
        )
    require_fp32(model, src, "quantize")
    onnx_file.require_nodes(model, exclude, source=src)


def _told(left: dict[str, list[str]]) -> str:
    """Which nodes stayed in float, by the reason; few of each by name."""
    parts = []
    for reason, names in left.items():
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        parts.append(f"{shown} ({reason})")
    return "; ".join(parts)
