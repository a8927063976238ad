"""What static and dynamic quantization share: the pre-process step before, the checks and provenance after."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto
from onnxruntime.quantization.shape_inference import quant_pre_process

from exporters import onnx_file, provenance
from exporters.artifact import Artifact
from exporters.atomic_file import sha256_of
from exporters.errors import BadModelFile, NotConvertible, WrongResult

_INT8_TYPES = (TensorProto.INT8, TensorProto.UINT8)


@contextlib.contextmanager
def prepared(src: Path, model: onnx.ModelProto, dst: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (a pre-processed copy of ``src``, a path for the quantizer's output), both gone afterwards.

    Pre-processing infers shapes and folds constants and batch normalisation, which the quantizer builds upon. Library
    failures inside the block are raised as NotConvertible.
    """
    if not any(tensor.data_type == TensorProto.FLOAT for tensor in model.graph.initializer):
        raise BadModelFile(f"{src} has no fp32 weights to quantize.", "Give the fp32 model.")
    dst.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nnx-int8-") as folder:
        ready = Path(folder) / "ready.onnx"
        try:
            with quiet():
                quant_pre_process(src, ready)
            yield ready, Path(folder) / "quantized.onnx"
        except (
            ValueError,
            RuntimeError,
            AssertionError,
            KeyError,
            onnx.shape_inference.InferenceError,
        ) as error:
            raise NotConvertible(
                f"{src} could not be quantized: {onnx_file.one_line(error)}.",
                "Run the fp32 model with `nnx bench` first; if it runs, report this with the model.",
            ) from error


def refuse_quantized(src: Path, model: onnx.ModelProto) -> None:
    """Raise BadModelFile for a model that is int8 already."""
    if onnx_file.precision_of(model).startswith("int8"):
        raise BadModelFile(f"{src} is quantized already.", "Give the fp32 model.")


def finish(
    quantized: Path,
    *,
    src: Path,
    dst: Path,
    precision: str,
    wanted_op: str,
    facts: dict[str, str],
    interface: tuple[tuple[str, ...], tuple[str, ...]],
) -> Artifact:
    """Check the quantizer's output, add the provenance, save it to ``dst`` and describe it."""
    model = onnx_file.load(quantized)
    onnx_file.check(model, step=precision)
    if onnx_file.interface_of(model) != interface:
        raise WrongResult(f"The {precision} model has other inputs or outputs.", "Report it with the model.")
    has_op = any(node.op_type == wanted_op for node in model.graph.node)
    if not has_op or not any(tensor.data_type in _INT8_TYPES for tensor in model.graph.initializer):
        raise WrongResult(
            f"Nothing in {src} could be quantized to {precision}.",
            "It has no operator with constant weights that the quantizer knows: ship fp32 or fp16.",
        )
    parent = sha256_of(src)
    provenance.write(
        model,
        {**facts, "precision": precision, "parent_sha256": parent, "tools": provenance.tool_versions()},
    )
    onnx_file.save(model, dst)
    return Artifact.of(dst, precision=precision, opset=onnx_file.opset_of(model), parent_sha256=parent)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the quantizer: it logs through the root logger and prints on stdout."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
