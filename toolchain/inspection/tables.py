"""What ``nnx inspect`` shows a person: a head, some tables, and sentences under them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from toolchain.inspection import modules
from toolchain.inspection.record import Description, Module, Target, Work

_MOST_OPERATORS = 15
_MOST_MODULES = 40


@dataclass(frozen=True)
class Table:
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    droppable: Sequence[str] = ()


def head(found: Description) -> Iterator[str]:
    """What the file is, in a few lines."""
    yield f"{found.model}: {found.precision}, {_bytes(found.size_bytes)}, SHA-256 {found.sha256[:16]}…"
    used = {"ai.onnx", *(each.name.rpartition(".")[0] for each in found.operators)}
    opsets = ", ".join(f"{domain} {version}" for domain, version in found.opsets.items() if domain in used)
    made = f"; made by {found.producer}" if found.producer else ""
    yield f"Opset {opsets}; IR {found.ir_version}{made}."
    yield f"{found.parameters:,} parameters. {work(found.work)}"
    for each in found.formats:
        yield f"{each.name}: {each.detail}."
    yield from found.notes


def tables(found: Description, depth: int) -> Iterator[Table]:
    """Those that have a row."""
    yield Table(
        "Interface", ("name", "", "type"),
        [
            *((each.name, "input, has a default" if each.optional else "input", str(each)) for each in found.inputs),
            *((each.name, "output", str(each)) for each in found.outputs),
        ],
    )  # fmt: skip
    yield Table(
        "Constants by type", ("type", "constants", "values", "kB"),
        [(each.kind, f"{each.constants:,}", f"{each.elements:,}", _kilo(each.size_bytes)) for each in found.types],
    )  # fmt: skip
    if found.largest:
        yield Table(
            "Largest constants", ("name", "type", "shape", "kB"),
            [
                (each.name, each.kind, "x".join(map(str, each.shape)) or "scalar", _kilo(each.size_bytes))
                for each in found.largest
            ],
        )  # fmt: skip
    shown = found.operators[:_MOST_OPERATORS]
    more = f", the {_MOST_OPERATORS} commonest of {len(found.operators)}" if len(found.operators) > len(shown) else ""
    yield Table(
        f"Operators{more}", ("operator", "nodes", "MACs"),
        [(each.name, f"{each.nodes:,}", "–" if each.macs is None else scaled(each.macs)) for each in shown],
    )  # fmt: skip
    tree = list(modules.within(found.modules, depth))
    if tree:
        cut = f", the first {_MOST_MODULES} of {len(tree)}" if len(tree) > _MOST_MODULES else ""
        yield Table(
            f"Modules, by {found.modules_from}{cut}", ("module", "class", "nodes", "parameters", "MACs"),
            [_row(module, own) for module, own in tree[:_MOST_MODULES]], droppable=("class", "nodes"),
        )  # fmt: skip


def notes(found: Description) -> Iterator[str]:
    """Who runs it, what is not counted, functions, and what else the file says of itself."""
    for target in found.targets:
        yield f"{target.name}: {_runs(target)}; {target.why}."
    for each in found.work.not_counted:
        yield f"Not counted: {each.nodes} {each.operator} node{'' if each.nodes == 1 else 's'}, {each.why}."
    yield from found.work.notes
    if found.functions:
        yield f"It has {len(found.functions)} functions of its own: {', '.join(found.functions[:5])}."
    for name, text in {**{f"nnx.{name}": fact for name, fact in found.lineage.items()}, **found.metadata}.items():
        yield f"{name}: {_short(text)}"


def work(found: Work) -> str:
    """How much, and at which lengths."""
    at = ", ".join(f"{name}={length}" for name, length in found.lengths.items())
    guess = f" ({', '.join(found.assumed)} assumed: --fix {found.assumed[0]}=N)" if found.assumed else ""
    return f"{scaled(found.macs)} multiply-accumulates a run{f' at {at}' if at else ''}{guess}."


def scaled(count: int) -> str:
    """``1.814 G``."""
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M")):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count:,}"


def _row(module: Module, own: int) -> tuple[str, ...]:
    name = "  " * own + module.path
    kind = module.kind.removeprefix("torch.nn.modules.")
    return name, kind or "–", f"{module.nodes:,}", f"{module.parameters:,}", scaled(module.macs)


def _runs(target: Target) -> str:
    return "not known" if target.runs is None else "runs it" if target.runs else "does not run it"


def _bytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 10**9 else f"{size / 1e6:.3g} MB" if size >= 10**5 else f"{size:,} bytes"


def _kilo(size: int) -> str:
    return f"{size / 1e3:,.1f}"


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}…"
