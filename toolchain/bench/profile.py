"""Where a row's time goes: the profile of a model file or of a PyTorch call, and one line of advice."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtimes.node_time import CONVERSIONS, COPIES, PYTHON, NodeTime, is_compiled
from runtimes.registry import Options, short_name
from toolchain.bench.record import NodeShare, Profile, Unfused

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from runtimes import ort_profile
    from runtimes.session_settings import SessionSettings

_CPU = frozenset({"CPUExecutionProvider", "cpu"})
_HALVES = ("fp16", "bf16")
_INT8_ABLE = frozenset({"Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"})
"""Operators that have an int8 kernel, and stay in float for want of a format that it takes."""
_ONE_AFTER_THE_OTHER = "The row runs nodes side by side, its profile ran them one after the other."
_PROFILED_S = 2.0
_RUNS_AT_LEAST, _RUNS_AT_MOST = 5, 50
_WORTH_MENTIONING = 0.05
_BLURRED_US = 3.0
_NAMED = 3


def of_file(
    path: Path,
    feeds: "Mapping[str, npt.NDArray[np.generic]]",
    *,
    precision: str,
    provider: str,
    threads: int,
    options: Options = (),
    settings: "SessionSettings | None" = None,
    latency_ms: float,
) -> Profile:
    """Profile an ``.onnx`` file on ``provider``, named as onnxruntime names it, for about two seconds.

    Opens a session of its own, in which nodes run one after the other; the advice says so where the row's do not.
    ``latency_ms`` is about what a run takes. Raises what :func:`runtimes.ort_profile.time_shares` does.
    """
    from runtimes import ort_profile, ort_session

    nodes = ort_profile.time_shares(
        path, feeds, threads=threads, runs=runs_for(latency_ms), provider=provider, options=options, settings=settings
    )
    found = profile_of(nodes, ort_profile.unfused(nodes), precision=precision, provider=provider)
    if ort_session.chosen_settings(path, provider, settings).execution_mode == "sequential":
        return found
    return replace(found, advice=f"{found.advice} {_ONE_AFTER_THE_OTHER}")


def of_call(call: Callable[[], object], *, device: str, compiled: bool, latency_ms: float) -> Profile:
    """Profile what a PyTorch runtime has bound, for about two seconds.

    With ``compiled``, it is compiled once more, and again by the next call: profile after everything that is timed.
    """
    from runtimes import torch_profile

    nodes = torch_profile.time_shares(call, runs=runs_for(latency_ms), device=device, compiled=compiled)
    return profile_of(nodes, [], precision="fp32", provider=device)


def runs_for(latency_ms: float) -> int:
    """How many runs fill the time that a profile may take."""
    return max(_RUNS_AT_LEAST, min(_RUNS_AT_MOST, int(_PROFILED_S * 1e3 / max(latency_ms, 1e-3))))


def profile_of(
    nodes: Sequence[NodeTime], unfused: "Sequence[ort_profile.Unfused]", *, precision: str, provider: str
) -> Profile:
    """``nodes`` as the record of a row of that ``precision`` on ``provider``, named as the nodes name theirs."""
    shares: defaultdict[str, float] = defaultdict(float)
    for node in nodes:
        shares[node.op_type] += node.share
    return Profile(
        run_us=sum(node.mean_us for node in nodes),
        nodes=tuple(
            NodeShare(
                name=node.name,
                op_type=node.op_type,
                provider=node.provider,
                precision=node.precision,
                mean_us=node.mean_us,
                share=node.share,
            )
            for node in nodes
        ),
        op_types=dict(sorted(shares.items(), key=lambda item: -item[1])),
        copies=sum(node.op_type in COPIES for node in nodes),
        casts=sum(node.inserted for node in nodes),
        unfused=tuple(
            Unfused(name=node.name, op_type=node.op_type, share=node.share, why=node.why) for node in unfused
        ),
        advice=advice(nodes, unfused, precision=precision, provider=provider),
    )


def advice(
    nodes: Sequence[NodeTime], unfused: "Sequence[ort_profile.Unfused]", *, precision: str, provider: str
) -> str:
    """The one thing to know: what costs time and can be spared, else what takes the most of it."""
    return (
        _about_placement(nodes, precision, provider)
        or _about_half_precision(nodes, precision, provider)
        or _about_unfused(unfused)
        or _about_the_slowest(nodes)
    )


def _about_placement(nodes: Sequence[NodeTime], precision: str, provider: str) -> str | None:
    away = [node for node in nodes if node.provider != provider]
    copies = [node for node in nodes if node.op_type in COPIES]
    share = sum(node.share for node in {id(node): node for node in (*away, *copies)}.values())
    if share < _WORTH_MENTIONING or not away:
        return None
    where = " and ".join(sorted({short_name(node.provider) for node in away}))
    between = f" with {counted(len(copies), 'copy', 'copies')} between" if copies else ""
    do = "try fp16 there" if precision.startswith("int") else f"{short_name(provider)} has no kernels for them"
    return f"{len(away)} of {len(nodes)} nodes ran on {where}{between} and take {share:.0%} of the time: {do}."


def _about_half_precision(nodes: Sequence[NodeTime], precision: str, provider: str) -> str | None:
    in_fp32 = sum(node.share for node in nodes if node.precision == "fp32" and not node.inserted)
    in_half = sum(node.share for node in nodes if node.precision == precision and not node.inserted)
    if precision not in _HALVES or provider not in _CPU or in_fp32 <= in_half:
        return None
    inserted = [node for node in nodes if node.inserted]
    if not inserted:
        return f"{precision} is computed in fp32 on this CPU: it saves bytes, not time."
    casts = f"{counted(len(inserted), 'Cast was', 'Casts were')} inserted"
    share = sum(node.share for node in inserted)
    take = "takes" if len(inserted) == 1 else "take"
    return f"{precision} is computed in fp32 on this CPU: {casts} and {take} {share:.0%} of the time, ship fp32 here."


def _about_unfused(unfused: "Sequence[ort_profile.Unfused]") -> str | None:
    share = sum(node.share for node in unfused)
    if share < _WORTH_MENTIONING:
        return None
    in_float = [node for node in unfused if node.op_type not in CONVERSIONS]
    if not in_float:
        pairs = f"{counted(len(unfused), 'Q or DQ node', 'Q and DQ nodes')} inside the graph did not fuse"
        return f"{pairs} ({share:.0%} of the time): try another --target of `nnx quantize`."
    who = f"{counted(len(in_float), 'node runs', 'nodes run')} in float between Q and DQ"
    named = _listed([node.name for node in in_float])
    do = "--target" if any(node.op_type in _INT8_ABLE for node in in_float) else "--exclude"
    return f"{who} ({named}); with the Q and DQ around they take {share:.0%} of the time: try `nnx quantize {do}`."


def _about_the_slowest(nodes: Sequence[NodeTime]) -> str:
    if not nodes:
        return "The profiler saw no node."
    by_operator: defaultdict[str, list[NodeTime]] = defaultdict(list)
    for node in nodes:
        by_operator[node.op_type].append(node)
    op_type, slowest = max(by_operator.items(), key=lambda item: sum(node.share for node in item[1]))
    share = sum(node.share for node in slowest)
    if is_compiled(slowest[0].name, slowest[0].provider):
        return (
            f"{short_name(slowest[0].provider)} compiled {share:.0%} of the time into subgraphs that no profile shows."
        )
    if op_type == PYTHON:
        return f"Python between the operators takes {share:.0%} of the time: a larger batch or ONNX Runtime spares it."
    precision = max(slowest, key=lambda node: node.share).precision
    said = f"{op_type} takes {share:.0%} of the time" + (f", in {precision}" if precision else "")
    if sum(node.mean_us for node in nodes) < _BLURRED_US * len(nodes):
        said += "; the profiler's own microsecond a node blurs times as short as these"
    return f"{said}."


def counted(number: int, one: str, many: str) -> str:
    """The number with its noun."""
    return f"{number} {one if number == 1 else many}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
