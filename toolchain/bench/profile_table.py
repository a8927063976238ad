"""A row's profile as tables and notes for the terminal."""

from collections import Counter
from dataclasses import dataclass

from runtimes.registry import short_name
from toolchain.bench.profile import counted
from toolchain.bench.record import Profile, Row

OPERATOR_HEADINGS = ("operator", "nodes", "in", "µs", "share")
NODE_HEADINGS = ("node", "operator", "in", "on", "µs", "share")
_MOST_ROWS = 8
_NODE_WIDTH, _OPERATOR_WIDTH = 27, 20


@dataclass(frozen=True, kw_only=True)
class ProfileTable:
    """What :func:`toolchain.console.print_table` takes; not wider than 80 columns."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(row: Row) -> list[ProfileTable]:
    """A row's slowest operators and its slowest nodes; PyTorch's nodes are its operators. None without a profile."""
    profile = row.profile
    if profile is None:
        return []
    title = f"{row.name}: {_time(profile.run_us)} µs in {counted(len(profile.nodes), 'node', 'nodes')}"
    operators = ProfileTable(title=title, headings=OPERATOR_HEADINGS, rows=tuple(_operator_rows(profile)))
    if all(node.name == node.op_type for node in profile.nodes):
        return [operators]
    slowest = sorted(profile.nodes, key=lambda node: -node.mean_us)
    shown = _shown(len(slowest))
    rows = [
        (
            _tail(node.name, _NODE_WIDTH),
            _tail(node.op_type, _OPERATOR_WIDTH),
            node.precision or "–",
            short_name(node.provider),
            _time(node.mean_us),
            f"{node.share:.1%}",
        )
        for node in slowest[:shown]
    ]
    if rest := slowest[shown:]:
        time_us, share = sum(node.mean_us for node in rest), sum(node.share for node in rest)
        rows.append((f"{len(rest)} more nodes", "", "", "", _time(time_us), f"{share:.1%}"))
    return [operators, ProfileTable(title="slowest nodes", headings=NODE_HEADINGS, rows=tuple(rows))]


def notes(profile: Profile) -> list[str]:
    """What stands under the tables: where the nodes ran and what the backend put in, and the advice."""
    placed = Counter(short_name(node.provider) for node in profile.nodes)
    facts = [f"{counted(number, 'node', 'nodes')} on {name}" for name, number in placed.most_common()]
    if profile.copies:
        facts.append(f"{counted(profile.copies, 'copy', 'copies')} between devices")
    if profile.casts:
        facts.append(f"{counted(profile.casts, 'Cast', 'Casts')} inserted")
    if profile.unfused:
        facts.append(f"{counted(len(profile.unfused), 'node', 'nodes')} not fused into int8 kernels")
    return [", ".join(facts) + ".", profile.advice] if facts else [profile.advice]


def _operator_rows(profile: Profile) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    shown = _shown(len(profile.op_types))
    for op_type in list(profile.op_types)[:shown]:
        nodes = [node for node in profile.nodes if node.op_type == op_type]
        rows.append(
            (
                _tail(op_type, _NODE_WIDTH + _OPERATOR_WIDTH),
                str(len(nodes)),
                ", ".join(dict.fromkeys(node.precision for node in nodes if node.precision)) or "–",
                _time(sum(node.mean_us for node in nodes)),
                f"{profile.op_types[op_type]:.1%}",
            )
        )
    if rest := list(profile.op_types)[shown:]:
        nodes = [node for node in profile.nodes if node.op_type in rest]
        time_us, share = sum(node.mean_us for node in nodes), sum(node.share for node in nodes)
        rows.append((f"{len(rest)} more operators", str(len(nodes)), "", _time(time_us), f"{share:.1%}"))
    return rows


def _shown(total: int) -> int:
    """How many of ``total`` have a row of their own; where not all can, the last row is for all others."""
    return total if total <= _MOST_ROWS else _MOST_ROWS - 1


def _tail(name: str, width: int) -> str:
    """The end of a long name: what tells nodes of a deep module apart stands there."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _time(time_us: float) -> str:
    return f"{time_us:,.0f}" if time_us >= 100 else f"{time_us:.1f}"
