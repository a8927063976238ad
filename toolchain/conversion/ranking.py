"""In which order a search puts nodes back in float."""

from pathlib import Path

import onnx

from exporters.model_file import ModelFile
from toolchain.conversion.precisions import Ready
from toolchain.inputs.samples import Samples
from toolchain.layers.damage import damage
from toolchain.progress import Progress

_PASSING = {"Relu", "Clip", "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}


def rank(candidate: Path, ready: Ready, on: Samples, progress: Progress) -> list[str]:
    """Those nodes of ``ready.choice`` that do damage in ``candidate``, a version of it, the most damaging first."""
    graph = ready.reference.graph
    reference = ModelFile.of(ready.reference, Path("the fp32 model"))
    errors = damage(ModelFile(candidate), reference, on.inputs, progress=progress)
    operators = {node.name: node.op_type for node in graph.node}
    found = [error.name for error in errors if error.own_sqnr_db is not None]
    ranked, choice = _each_with_its_producers(found, graph), ready.choice
    return [name for name in ranked if choice is None or name in choice or operators.get(name) in choice]


def _each_with_its_producers(names: list[str], graph: onnx.GraphProto) -> list[str]:
    """``names``, each followed by the layers that make its inputs, if they are not before it already.

    A layer that suffers from a rounded input is not helped by computing in float: who makes that input must too.
    """
    nodes = {node.name: node for node in graph.node}
    makers = {output: node for node in graph.node for output in node.output}
    ranked: dict[str, None] = {}
    for name in names:
        ranked[name] = None
        pending = list(nodes[name].input) if name in nodes else []
        while pending:
            maker = makers.get(pending.pop())
            if maker is not None and maker.op_type in _PASSING:
                pending.append(maker.input[0])
            elif maker is not None and maker.name in names:
                ranked.setdefault(maker.name)
    return list(ranked)
