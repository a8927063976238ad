"""torch.nn.Module -> fp32 .onnx, through torch.export."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import torch

from exporters import onnx_file, provenance
from exporters.artifact import Artifact
from exporters.errors import BadOption, NotExportable, WrongResult
from exporters.model_file import ModelFile

OPSETS = range(18, 27)
"""What torch.onnx honours: lower numbers it raises to 18 in silence, so they are refused here."""
DEFAULT_OPSET = 20
BATCH_AXIS = "batch"


def export(
    module: torch.nn.Module,
    dst: Path,
    *,
    example_inputs: Mapping[str, torch.Tensor],
    output_names: Sequence[str],
    opset: int = DEFAULT_OPSET,
    facts: Mapping[str, str] | None = None,
) -> Artifact:
    """Write ``module`` to ``dst`` as an fp32 ONNX file whose first axis, the batch, is dynamic.

    ``example_inputs`` are passed to ``module.forward`` in their order; their keys become the input names. They are
    ``(N, ...)`` with one ``N``. ``facts`` go into the file's provenance. ``module`` is left in eval mode.

    Raises BadOption for an opset that would not be honoured, NotExportable when torch.export cannot capture the
    module, WrongResult when the file made differs from what was asked for (names, opset, dynamic batch).
    """
    if opset not in OPSETS:
        raise BadOption(f"Opset {opset} cannot be exported.", f"Choose one from {OPSETS.start} to {OPSETS.stop - 1}.")
    module.eval()
    model = _translate(module, example_inputs, tuple(output_names), opset)
    _strip_traces(model)
    provenance.write(
        model,
        {**(facts or {}), "precision": "fp32", "source": _name(module), "tools": provenance.tool_versions()},
    )
    _verify(model, tuple(example_inputs), tuple(output_names), opset)
    onnx_file.check(model, step="export")
    onnx_file.save(model, dst)
    return Artifact.of(ModelFile.of(model, dst), precision="fp32")


def _translate(
    module: torch.nn.Module,
    example_inputs: Mapping[str, torch.Tensor],
    output_names: tuple[str, ...],
    opset: int,
) -> onnx.ModelProto:
    if isinstance(module, torch.jit.ScriptModule):
        raise NotExportable(
            "A ScriptModule cannot be exported: torch.export reads Python code.",
            "Export the original nn.Module instead.",
        )
    if any(".quantized." in type(layer).__module__ for layer in module.modules()):
        raise NotExportable(
            "The module was quantized by torch, whose int8 layers have no ONNX form.",
            "Export the fp32 module, then quantize the file with `nnx quantize`.",
        )
    # torch.export specialises axes of length 0 and 1, so one sample is shown twice.
    shown = tuple(torch.cat([value, value]) if value.shape[0] == 1 else value for value in example_inputs.values())
    batch = torch.export.Dim(BATCH_AXIS)
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                shown,
                dynamo=True,
                verbose=False,
                input_names=tuple(example_inputs),
                output_names=output_names,
                dynamic_shapes=tuple({0: batch} for _ in shown),
                opset_version=opset,
            )
        except Exception as error:  # torch.export raises whatever the module's own code raises
            cause = error.__cause__ or error
            raise NotExportable(
                f"{_name(module)} could not be exported: {onnx_file.one_line(cause)}.",
                "Check that its forward() runs on these inputs and does not branch on tensor values.",
            ) from error
    if program is None:
        raise NotExportable(f"{_name(module)} gave no ONNX program.", "Update torch and onnxscript.")
    model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress off stdout and its notes about absent libraries off stderr."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip_traces(model: onnx.ModelProto) -> None:
    """Drop per-node stack traces: they name the exporting machine's folders and differ from run to run."""
    for graph in onnx_file.graphs_of(model):
        del graph.metadata_props[:]
        for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            del item.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]


def _verify(model: onnx.ModelProto, input_names: tuple[str, ...], output_names: tuple[str, ...], opset: int) -> None:
    """Compare what was written with what was asked for: torch.onnx succeeds in silence when they differ."""
    made = onnx_file.interface_of(model)
    if made != (input_names, output_names):
        raise WrongResult(
            f"The export has inputs {list(made[0])} and outputs {list(made[1])}, "
            f"asked were {list(input_names)} and {list(output_names)}.",
            "Name every tensor that forward() takes and returns, in order.",
        )
    if onnx_file.opset_of(model) != opset:
        raise WrongResult(
            f"The export has opset {onnx_file.opset_of(model)}, asked was {opset}.", "Ask for another opset."
        )
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        if axes and not axes[0].dim_param:
            raise WrongResult(
                f"The batch axis of '{value.name}' became fixed at {axes[0].dim_value}.",
                "Write forward() without the batch size as a Python number.",
            )


def _name(module: torch.nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
