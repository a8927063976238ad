"""Who runs a file: the installed ONNX Runtime is asked; what has the same kernels follows from its answer."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnxruntime

from exporters import onnx_file
from exporters.element_types import FLOAT, HALF, inner_graphs
from exporters.model_file import ModelFile
from exporters.operators import definition, opsets_of, parameter_of
from runtimes.errors import NotLoadable
from runtimes.ort import OrtRuntime
from toolchain.inspection.nodes import ONNX_DOMAINS, Placed, name_of
from toolchain.inspection.record import Target
from toolchain.inspection.releases import INSTALLED, Computes, Release, Types, known_releases
from toolchain.inspection.tensor_types import tensor_types

_MOST_IN_WASM = 2**32
_NO_MEMORY_OF_ITS_OWN = "a WebAssembly page has 4 GB of memory, and the file takes more"
_ARM = ("aarch64", "arm64")


def targets_of(model: ModelFile, *, weightless: bool = False, releases: Sequence[Release] = ()) -> tuple[Target, ...]:
    """The installed ONNX Runtime on this CPU, the same release on the other kind of CPU, and in a browser; and others.

    ``weightless`` files are not opened: nobody could. Of ``releases`` their tables are asked.
    """
    version = str(onnxruntime.__version__)
    here = platform.machine().lower()
    name = f"ONNX Runtime {version}, CPU ({here})"
    if weightless:
        return (Target(name=name, runs=None, why="its weights were taken out", asked=False),)
    why = ""
    try:
        with OrtRuntime(model.path):
            pass
    except NotLoadable as refused:
        why = refused.what.rstrip(".")
    runs = not why
    said = "it opens the file" if runs else why
    others = [_by_table(model.graph, release) for release in releases]
    return (Target(name=name, runs=runs, why=said, asked=True), *_alike(version, here, runs, model.size_bytes), *others)


def _by_table(model: onnx.ModelProto, release: Release) -> Target:
    why = next(lacking(model, release), "")
    said = why or "its wheel told that it reads the versions and has the kernels"
    return Target(name=f"{release.label}, CPU", runs=not why, why=said, asked=False)


def lacking(model: onnx.ModelProto, release: Release) -> Iterator[str]:
    """What a release does not have that ``model`` wants, in words: versions first, then operators, each once."""
    opset = onnx_file.opset_of(model)
    if model.ir_version > release.ir_version:
        yield f"IR version {model.ir_version}: {release.label} reads up to {release.ir_version}"
    if opset > release.opset:
        yield f"opset {opset}: {release.label} knows up to {release.opset}"
    yield from dict.fromkeys(found.why for found in absent(model, release))


def lowest_release(model: onnx.ModelProto) -> str:
    """The oldest release from which on all have what ``model`` wants; the installed one where no table says so."""
    found = str(onnxruntime.__version__)
    for release in reversed(known_releases()):
        if next(lacking(model, release), None) is not None:
            break
        found = release.name
    return found


def _alike(version: str, here: str, runs: bool, size_bytes: int) -> Iterator[Target]:
    """Those that are built from the same kernels.

    https://github.com/microsoft/onnxruntime/tree/main/js/web: "compiles the native ONNX Runtime CPU engine into
    WebAssembly ... including full ONNX operator coverage".
    """
    other = "x86-64" if here in _ARM else "arm64"
    why = "the same release has the same CPU kernels there; not asked"
    yield Target(name=f"ONNX Runtime {version}, CPU ({other})", runs=runs, why=why, asked=False)
    if runs and size_bytes > _MOST_IN_WASM:
        yield Target(name=f"onnxruntime-web {version}, wasm", runs=False, why=_NO_MEMORY_OF_ITS_OWN, asked=False)
    else:
        why = "it is the same CPU engine compiled to WebAssembly, by its README; not asked"
        yield Target(name=f"onnxruntime-web {version}, wasm", runs=runs, why=why, asked=False)


@dataclass(frozen=True)
class Absent:
    """A node that a release of ONNX Runtime has no kernel for on the CPU, and why."""

    place: Placed
    why: str
    opset: int


def absent(model: onnx.ModelProto, release: Computes = INSTALLED) -> Iterator[Absent]:
    """The nodes that no kernel of the release's CPU provider computes, all of them; functions are looked into."""
    opsets = opsets_of(model)
    own = {(function.domain, function.name) for function in model.functions}
    for (graph, inside), known in zip(_graphs(model.graph), tensor_types(model), strict=True):
        for node in graph.node:
            if (node.domain, node.op_type) not in own and (why := _why_absent(node, opsets, known, release)):
                yield Absent(Placed(node, inside), why, opsets[""])
    for function in model.functions:
        versions = {entry.domain: entry.version for entry in function.opset_import}
        for node in function.node:
            if (node.domain, node.op_type) not in own and (why := _why_absent(node, opsets | versions, {}, release)):
                yield Absent(Placed(node, (f"function {function.name}",)), why, versions.get("", opsets[""]))


def _graphs(graph: onnx.GraphProto, inside: tuple[str, ...] = ()) -> Iterator[tuple[onnx.GraphProto, tuple[str, ...]]]:
    """In the order of :func:`skeleton.graphs_of`, each with the nodes around it."""
    yield graph, inside
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from _graphs(inner, (*inside, name_of(node)))


def _why_absent(node: onnx.NodeProto, opsets: Mapping[str, int], types: Mapping[str, str], release: Computes) -> str:
    """Empty where there is a kernel, or a function that is made of others."""
    domain = "" if node.domain in ONNX_DOMAINS else node.domain
    since = release.since_version(domain, node.op_type, opsets.get(domain, 1))
    if since is None:
        return f"{release.label} knows no operator {node.op_type} of '{domain or 'ai.onnx'}'"
    if (domain, node.op_type) == ("", "Constant") or _is_function(node, opsets.get(domain, 1)):
        return ""
    kernels = release.kernels(domain, node.op_type, since)
    if not kernels:
        return f"{release.label} has no CPU kernel for {node.op_type} of version {since}"
    bound = _bound(node, opsets, types)
    if any(_fits(bound, kernel) for kernel in kernels):
        return ""
    halved = {name: FLOAT if kind == HALF else kind for name, kind in bound.items()}
    if any(_fits(halved, kernel) for kernel in kernels):
        return ""  # ONNX Runtime puts casts around it
    kinds = ", ".join(sorted(set(bound.values())))
    return f"{release.label} has no CPU kernel for {node.op_type} on {kinds}"


def _is_function(node: onnx.NodeProto, opset: int) -> bool:
    if node.domain not in ONNX_DOMAINS or not onnx.defs.has(node.op_type, opset, ""):
        return False
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def _bound(node: onnx.NodeProto, opsets: Mapping[str, int], types: Mapping[str, str]) -> dict[str, str]:
    """Type parameter -> what it is in ``node``, as far as that is known."""
    formal = definition(node, opsets)
    if formal is None:
        return {}
    found = {}
    for names, parameters in ((node.input, formal.inputs), (node.output, formal.outputs)):
        for index, name in enumerate(names):
            parameter = parameter_of(parameters, index)
            if parameter is not None and name in types:
                found[parameter.name] = types[name]
    return found


def _fits(bound: Mapping[str, str], kernel: Types) -> bool:
    return all(kind in kernel[name] for name, kind in bound.items() if name in kernel)
