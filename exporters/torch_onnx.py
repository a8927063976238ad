"""torch.nn.Module -> fp32 .onnx, through torch.export."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from exporters import onnx_file, provenance, versions
from exporters.artifact import Artifact
from exporters.errors import BadOption, NotExportable, WrongResult
from exporters.input_tree import Input
from exporters.model_file import ModelFile
from exporters.torch_guards import Fixed, Guard, fixed_axis, rename
from exporters.torch_module import Flat, isolated, unwrapped
from exporters.torch_rungs import Capture, Rung, captured

OPSETS = range(18, 27)
"""What torch.onnx honours: lower numbers it raises to 18 in silence, so they are refused here."""
DEFAULT_OPSET = 20
BATCH_AXIS = "batch"


@dataclass(frozen=True, kw_only=True)
class Captured:
    """An export, and the ``guards`` under which it was captured: torch.onnx drops them.

    ``program`` is what it was translated from, None of the older exporter.
    """

    artifact: Artifact
    guards: tuple[Guard, ...]
    program: torch.export.ExportedProgram | None


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

    ``example_inputs`` are passed to ``module.forward`` by name where their keys are names of its parameters, else in
    their order; the keys become the input names. They are ``(N, ...)`` with one ``N``. ``facts`` go into the file's
    provenance. ``module`` is left as it was.

    Raises BadOption for an opset that would not be honoured or inputs that forward() does not take, NotExportable when
    torch.export cannot capture the module, WrongResult when the file made differs from what was asked for (names,
    opset, dynamic batch).
    """
    flat = Flat(isolated(unwrapped(module)), {name: Input(name) for name in example_inputs})
    axes = {name: {0: BATCH_AXIS} for name in example_inputs}
    return capture(
        flat,
        dst,
        example_inputs=example_inputs,
        axes=axes,
        output_axes={name: {} for name in output_names},
        opset=opset,
        facts=facts,
    ).artifact


def capture(
    flat: Flat,
    dst: Path,
    *,
    example_inputs: Mapping[str, torch.Tensor],
    axes: Mapping[str, Mapping[int, str]],
    output_axes: Mapping[str, Mapping[int, str]],
    opset: int = DEFAULT_OPSET,
    ir_version: int | None = None,
    facts: Mapping[str, str] | None = None,
    rung: Rung = Rung.NON_STRICT,
) -> Captured:
    """:func:`export` of a module whose inputs have the dynamic ``axes`` named there, and no others.

    ``output_axes`` are those of the outputs, by their names, that are known to change with them; ``rung`` is the way
    in which the module is captured.
    """
    if opset not in OPSETS:
        raise BadOption(f"Opset {opset} cannot be exported.", f"Choose one from {OPSETS.start} to {OPSETS.stop - 1}.")
    if any(".quantized." in type(layer).__module__ for layer in flat.modules()):
        raise NotExportable(
            "The module was quantized by torch, whose int8 layers have no ONNX form.",
            "Export the fp32 module, then quantize the file with `nnx quantize`.",
        )
    wanted = Capture(flat=flat, inputs=example_inputs, axes=axes, output_names=tuple(output_axes), opset=opset)
    translated = captured(wanted, rung)
    model, program = translated.model, translated.program
    _strip_traces(model)
    _unprefix(model)
    guards = () if program is None else rename(model, program, axes, translated.fixed)
    _free(model, output_axes)
    provenance.write(
        model,
        {**(facts or {}), "precision": "fp32", "source": wanted.name, "tools": provenance.tool_versions()},
    )
    _verify(model, axes, tuple(output_axes), opset, translated.fixed)
    if ir_version is not None:
        versions.set_ir(model, ir_version)
    onnx_file.check(model, step="export")
    onnx_file.save(model, dst)
    return Captured(artifact=Artifact.of(ModelFile.of(model, dst), precision="fp32"), guards=guards, program=program)


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


def _unprefix(model: onnx.ModelProto) -> None:
    """Give the weights the names that they have in the user's module, but for those that something else has."""
    prefix = "module."
    graphs = list(onnx_file.graphs_of(model))
    taken = {name for graph in graphs for node in graph.node for name in node.output}
    taken |= {value.name for graph in graphs for value in (*graph.input, *graph.output)}
    weights = [tensor.name for graph in graphs for tensor in graph.initializer]
    free = (name for name in weights if name not in taken and name.removeprefix(prefix) not in {*taken, *weights})
    names = {name: name.removeprefix(prefix) for name in free}
    for graph in graphs:
        for value in (*graph.initializer, *graph.value_info):
            value.name = names.get(value.name, value.name)
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]


def _free(model: onnx.ModelProto, output_axes: Mapping[str, Mapping[int, str]]) -> None:
    """Name the outputs' axes that torch.onnx declares fixed though they are not: an LSTM's time, which is a loop's."""
    for value in model.graph.output:
        for axis, name in output_axes.get(value.name, {}).items():
            dimensions = value.type.tensor_type.shape.dim
            if axis < len(dimensions) and dimensions[axis].HasField("dim_value"):
                dimensions[axis].dim_param = name
                del model.graph.value_info[:]  # which are as wrong


def _verify(
    model: onnx.ModelProto,
    axes: Mapping[str, Mapping[int, str]],
    output_names: tuple[str, ...],
    opset: int,
    fixed: Fixed,
) -> None:
    """Compare what was written with what was asked for: torch.onnx succeeds in silence when they differ."""
    made = onnx_file.interface_of(model)
    if made != (tuple(axes), output_names):
        raise WrongResult(
            f"The export has inputs {list(made[0])} and outputs {list(made[1])}, "
            f"asked were {list(axes)} and {list(output_names)}.",
            "Let forward() use every input, and name every tensor that it returns.",
        )
    if onnx_file.opset_of(model) != opset:
        raise WrongResult(
            f"The export has opset {onnx_file.opset_of(model)}, asked was {opset}.", "Ask for another opset."
        )
    for value in model.graph.input:
        for axis, name in axes[value.name].items():
            if not (found := value.type.tensor_type.shape.dim[axis]).dim_param:
                raise fixed_axis(value.name, axis, name, found.dim_value, fixed)
