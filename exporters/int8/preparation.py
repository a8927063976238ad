"""What static and dynamic quantization share: the pre-process step before, the check of what was made after."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto

from exporters import cleaning, external_data, large_weights, onnx_file, skeleton
from exporters.calibration import activations
from exporters.errors import BadModelFile, NotApplicable, NotConvertible
from exporters.int8 import products
from exporters.library_output import quiet
from exporters.model_file import ModelFile
from exporters.symbolic_shapes import with_symbolic_shapes
from exporters.tensors import require_fp32

_ONNX_ERRORS = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError)
MIN_OPSET = 13
"""The first operator set whose QuantizeLinear and DequantizeLinear have a scale for each channel."""
_INT8_TYPES = (TensorProto.INT8, TensorProto.UINT8)


def preprocessed(src: ModelFile, model: onnx.ModelProto) -> onnx.ModelProto:
    """``model``, read from ``src``, with shapes inferred, constants and batch norms folded, every node named, and its
    products in the form that int8 has kernels for.

    None of the library's steps is needed, and each has models that it dies of: what fails is left out.
    """
    require_fp32(model, src, "quantize")
    with quiet():
        shaped = model if _has_attention(model) else _attempted(_shaped, model)
        optimized = _attempted(_optimized, shaped)
        if optimized is shaped:
            optimized = _attempted(_optimized, model)
        found = _attempted(skeleton.shaped, optimized)
    _declare(found, model)
    cleaning.guard(found)
    found = _with_types(cleaning.named(found))
    return products.plain(found)


def _declare(found: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Let the outputs have the axes that ``model`` says: which axis counts samples is read off them everywhere.

    Inference finds other names: with those, a sequence that an output is as long as would be taken for the batch.
    """
    declared = {value.name: value for value in model.graph.output}
    for value in found.graph.output:
        said = declared.get(value.name)
        if said is not None and said.type.tensor_type.HasField("shape"):
            value.CopyFrom(said)


def _attempted(step: Callable[[onnx.ModelProto], onnx.ModelProto], model: onnx.ModelProto) -> onnx.ModelProto:
    """What ``step`` makes of a copy of ``model``; the model itself where it fails."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        return step(copy)
    except Exception:  # noqa: BLE001 - a library raises AttributeError, IndexError, anything, of a graph it did not expect
        return model


def _optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constants and batch norms folded by ONNX Runtime, shapes inferred by onnx."""
    with large_weights.lasting("nnx-int8-") as folder:
        given, ready = folder / "given.onnx", folder / "ready.onnx"
        onnx_file.write(model, given)  # of a model in memory it loses the shapes that are constants
        preprocess(given, ready)
        made = onnx.load(ready, load_external_data=False)
        external_data.read(made, ready, stubs=large_weights.is_open())
        for name in (given, external_data.data_path(given)):
            name.unlink(missing_ok=True)
        return made


def _with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with the types of tensors that onnx's inference does not know, as ONNX Runtime finds them.

    It knows its own operators, and gives types where onnx's inference gave up. Where it cannot open the model either,
    the types stay unknown, and so do ranges.
    """
    known = {value.name for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)}
    unknown = [name for node in model.graph.node for name in node.output if name and name not in known]
    if not unknown:
        return model
    try:
        session = activations.open_session(activations.tapped(model, unknown))
    except NotConvertible:
        return model
    for value in session.get_outputs():
        if value.type == "tensor(float)":
            shape = [axis if isinstance(axis, int | str) else None for axis in value.shape]
            model.graph.value_info.append(onnx.helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    return model


def preprocess(given: Path, ready: Path) -> None:
    """ONNX Runtime's basic optimizations, from a file to a file; a model that lies in two files is written to two.

    As its own step before quantization has them, ``quant_pre_process``, which also holds all weights twice: a model
    took 2.7 times its size there. Raises what ONNX Runtime raises.
    """
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(ready)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    if external_data.data_path(given).exists():
        name = external_data.data_path(ready).name
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", name)
    onnxruntime.InferenceSession(str(given), options, providers=["CPUExecutionProvider"])


def _shaped(model: onnx.ModelProto) -> onnx.ModelProto:
    skeleton.take_shapes(model.graph, with_symbolic_shapes(skeleton.skeleton(model)).graph)
    return model


def successors(source: onnx.GraphProto, ready: onnx.GraphProto, names: Collection[str]) -> set[str]:
    """The names of the nodes in ``ready``, made from ``source`` by fusions, that took the place of ``names``.

    A node that was fused with those after it is found where its result, or else the first of theirs that is left, is
    made.
    """
    makers = {output: node for node in ready.node for output in node.output if output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in source.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    found: set[str] = set()
    pending = [output for node in source.node if node.name in names for output in node.output if output]
    while pending:
        tensor = pending.pop()
        if (maker := makers.get(tensor)) is not None:
            found.add(maker.name)
        else:
            pending += [output for reader in readers.get(tensor, []) for output in reader.output if output]
    return found


def _has_attention(model: onnx.ModelProto) -> bool:
    """Whether there is an opset-23 Attention, on which ONNX Runtime's symbolic shape inference fails an assertion."""
    return any(node.op_type == "Attention" and not node.domain for node in model.graph.node)


@contextlib.contextmanager
def translated(src: ModelFile | str) -> Iterator[None]:
    """Silence the library, and raise failures of the library inside the block as NotConvertible."""
    try:
        with quiet():
            yield
    except (ValueError, RuntimeError, AssertionError, KeyError, *_ONNX_ERRORS) as error:
        raise NotConvertible(
            f"{src} could not be quantized: {onnx_file.one_line(error)}.",
            "Run the fp32 model with `nnx bench` first; if it runs, report this with the model.",
        ) from error


def refuse_quantized(src: ModelFile) -> None:
    """Raise BadModelFile for a model that is int8 or int4 already."""
    if src.precision.startswith("int"):
        raise BadModelFile(f"{src} is quantized already.", "Give the fp32 model.")


def require_int8(model: onnx.ModelProto, operator: str, *, src: ModelFile, precision: str) -> None:
    """Raise NotApplicable unless the quantizer put ``operator`` and int8 weights into the graph."""
    has_op = any(node.op_type == operator for node in model.graph.node)
    if not has_op or not any(tensor.data_type in _INT8_TYPES for tensor in model.graph.initializer):
        raise NotApplicable(
            f"Nothing in {src} could be quantized to {precision}.",
            "It has no operator with constant weights that the quantizer knows: ship fp32 or fp16.",
        )
