"""The parts of the page that are about the model: operators, layers, training, and where all of it was measured."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from toolchain.ablation.record import Ablation
from toolchain.bench.record import LOCAL, Benchmark, Profile, shown_host
from toolchain.html_report import commands, drawing, model_charts, tables
from toolchain.html_report.finding import Panel
from toolchain.html_report.gather import Gathered
from toolchain.html_report.markup import command, joined, tag
from toolchain.html_report.model_charts import Cell, Curve, Gain
from toolchain.html_report.sections import MOST_DRAWN, Section
from toolchain.layers.record import LIMIT_DB, ExplainedLayer, Explanation
from toolchain.stats import Interval, shown_ratio
from toolchain.training.record import History, told

_MOST_OPERATORS = 10
_MOST_NODES = 12
_MOST_LAYERS = 32
_SHARES = (0.01, 0.05, 0.15, 0.3)
_DECIBELS = (60.0, 40.0, 30.0, 20.0)


def missing(key: str, title: str, what: str, line: str | None) -> Section:
    """A part whose data are not there, and the command that makes them, where it is known."""
    how = [" Make them with: ", tag("code", line)] if line else []
    return Section(key=key, title=title, intro=tag("p", what, *how, class_="missing"))


def operators(several: Sequence[Panel], line: str | None) -> Section:
    """Where the time of a run goes, by type of operator."""
    key, title = "operators", "Where the time goes"
    if not any(row.profile for panel in several for row in panel.rows):
        return missing(
            key, title, "There are no profiles." if line else "There are no profiles: bench with --profile.", line
        )
    parts = []
    profiles = [
        (panel, [(panel.called[row.name], row.profile) for row in panel.rows if row.profile]) for panel in several
    ]
    for panel, profiled in [each for each in profiles if each[1]][:MOST_DRAWN]:
        cells = _operator_cells(profiled)
        largest = [(name, *next(iter(profile.op_types.items()), ("nothing", 0.0))) for name, profile in profiled]
        finding = "; ".join(f"{name} spends {share:.0%} in {operator}" for name, operator, share in largest)
        figure = drawing.figure(
            lambda layout, cells=cells: model_charts.heat_map(cells, layout),  # type: ignore[misc]
            name=f"operators-{panel.key}",
            title=f"share of time by operator, {panel.title.lower()}",
            finding=f"{finding}.",
            caption="Share of the time of all nodes; the stronger the shade, the more.",
            data=joined(
                _operator_table(cells, panel.title.lower()),
                *(_node_table(name, profile) for name, profile in profiled),
            ),
        )
        advice = [tag("li", tag("b", name), f": {_profile_line(profile)}") for name, profile in profiled]
        parts += [tag("h3", panel.title), figure, tag("ul", *advice, class_="notes")]
    intro = "From a run of its own under the backend's profiler, outside of the timed rounds."
    return Section(key=key, title=title, intro=tag("p", intro), body=joined(*parts))


def _operator_cells(profiled: Sequence[tuple[str, Profile]]) -> list[Cell]:
    """Operators by rows, the operators with the largest share in any row first."""
    most: dict[str, float] = {}
    for _, profile in profiled:
        for operator, share in profile.op_types.items():
            most[operator] = max(share, most.get(operator, 0.0))
    kept = sorted(most, key=lambda operator: -most[operator])[:_MOST_OPERATORS]
    cells = []
    for operator in kept:
        for name, profile in profiled:
            share = profile.op_types.get(operator, 0.0)
            text = _percent(share) if operator in profile.op_types else ""
            cells.append(Cell(row=operator, column=name, text=text, level=_level(share, _SHARES)))
    return cells


def _operator_table(cells: Sequence[Cell], where: str) -> Markup:
    columns = list(dict.fromkeys(cell.column for cell in cells))
    shares = {(cell.row, cell.column): cell.text or "–" for cell in cells}
    lines = [
        [name, *(shares[name, column] for column in columns)] for name in dict.fromkeys(cell.row for cell in cells)
    ]
    return tables.table(f"Share of time by operator, {where}", ["operator", *columns], lines)


def _node_table(name: str, profile: Profile) -> Markup:
    nodes = sorted(profile.nodes, key=lambda node: -node.share)[:_MOST_NODES]
    lines = [
        [node.name, node.op_type, node.provider, node.precision, f"{node.mean_us:,.1f}", f"{node.share:.1%}"]
        for node in nodes
    ]
    left = len(profile.nodes) - len(nodes)
    caption = f"Nodes of {name}" + (f", the slowest {len(nodes)} of {len(profile.nodes)}" if left else "")
    return tables.table(caption, ["node", "operator", "provider", "precision", "µs", "time"], lines)


def _profile_line(profile: Profile) -> str:
    counts = [
        f"{count} {one if count == 1 else many}"
        for count, one, many in (
            (profile.copies, "copy between devices", "copies between devices"),
            (profile.casts, "inserted cast", "inserted casts"),
            (len(profile.unfused), "node outside of int8 kernels", "nodes outside of int8 kernels"),
        )
        if count
    ]
    return f"{profile.run_us / 1e3:.3g} ms a run" + (f", {', '.join(counts)}" if counts else "") + f". {profile.advice}"


def layers(explained: Explanation | None, line: str) -> Section:
    """What each layer does to precision and time."""
    key, title = "layers", "Layers"
    if explained is None:
        return missing(key, title, "The layers were not looked at.", line)
    if not explained.layers:
        return missing(key, title, f"{Path(explained.model).name} has no layers.", None)
    shown = _told_apart(explained.layers[:_MOST_LAYERS])
    left = len(explained.layers) - len(shown)
    caption = "Signal to noise in dB, where 6 dB are one bit: the layer's own, and that up to it in the model; "
    caption += "the stronger the shade, the worse."
    figure = drawing.figure(
        lambda layout: model_charts.heat_map([cell for layer in shown for cell in _layer_cells(layer)], layout),
        name="layers-map",
        title="noise and time by layer",
        finding=" ".join(explained.advice) or f"{len(explained.layers)} layers.",
        caption=caption + (f" {left} less damaging layers are in the table." if left else ""),
        data=tables.table(
            f"Layers of {explained.model}",
            ["layer", "operator", "precision", "own dB", "accumulated dB", "noise", "time"],
            [_layer_line(layer) for layer in explained.layers],
        ),
    )
    against = f", against {Path(explained.reference).name} on {explained.samples}" if explained.reference else ""
    intro = f"{Path(explained.model).name}{against}, the most damaging layer first."
    advice = tag("ul", *(tag("li", line) for line in explained.advice), class_="notes")
    return Section(key=key, title=title, intro=tag("p", intro), body=joined(figure, advice))


def _told_apart(found: Sequence[ExplainedLayer]) -> list[ExplainedLayer]:
    """With a number behind each name but the first of its kind: a row of the picture is one layer."""
    seen: Counter[str] = Counter()
    numbered = []
    for layer in found:
        seen[layer.name] += 1
        again = seen[layer.name] > 1
        numbered.append(replace(layer, name=f"{layer.name} ({seen[layer.name]})") if again else layer)
    return numbered


def _layer_cells(layer: ExplainedLayer) -> list[Cell]:
    cells = [
        Cell(row=layer.name, column=name, text=_decibels(value), level=_level(-value, [-step for step in _DECIBELS]))
        for name, value in (("own dB", layer.own_sqnr_db), ("in model", layer.accumulated_sqnr_db))
        if value is not None
    ]
    if layer.noise_share is not None:
        cells.append(_share_cell(layer, "noise", layer.noise_share))
    return [*cells, _share_cell(layer, "time", layer.time_share)]


def _share_cell(layer: ExplainedLayer, column: str, share: float) -> Cell:
    return Cell(row=layer.name, column=column, text=_percent(share), level=_level(share, _SHARES))


def _layer_line(layer: ExplainedLayer) -> list[str]:
    decibels = ["–" if value is None else _decibels(value) for value in (layer.own_sqnr_db, layer.accumulated_sqnr_db)]
    noise = "–" if layer.noise_share is None else f"{layer.noise_share:.1%}"
    return [layer.name, layer.op_type, layer.precision or "–", *decibels, noise, f"{layer.time_share:.1%}"]


def training(found: History | None, line: str) -> Section:
    """Loss and score by epoch."""
    key, title = "training", "Training"
    if found is None or not found.epochs:
        return missing(key, title, "There are no training curves.", line)
    first, last, top = found.epochs[0], found.epochs[-1], found.best
    measure, score_title = found.measure, found.measure.title
    data = tables.table(
        "Training, epoch by epoch",
        ["epoch", "loss", f"training {score_title}", f"validation {score_title}", "s"],
        [
            [
                str(one.number), f"{one.loss:.4f}", told(measure, one.train_score),
                told(measure, one.validation_score),
                f"{one.seconds:.2f}",
            ]
            for one in found.epochs
        ],
    )  # fmt: skip
    scores = [
        Curve(name="validation", values=[one.validation_score for one in found.epochs]),
        Curve(name="training", values=[one.train_score for one in found.epochs], dashed=True),
    ]
    scores = [curve for curve in scores if any(value is not None for value in curve.values)]
    loss = [Curve(name="loss", values=[one.loss for one in found.epochs])]
    best_text = f"The best validation {score_title} is {told(measure, top.validation_score)}, after epoch {top.number}."
    figures = [
        *(
            [
                drawing.figure(
                    lambda layout: model_charts.curves(scores, layout, shares=measure.share),
                    name="training-score", title=f"{score_title} by epoch", finding=best_text, data=data,
                )
            ]
            if scores
            else []
        ),
        drawing.figure(
            lambda layout: model_charts.curves(loss, layout, shares=False),
            name="training-loss", title="training loss by epoch",
            finding=f"The loss goes from {first.loss:.3g} to {last.loss:.3g} in {len(found.epochs)} epochs.",
            data=data,
        ),
    ]  # fmt: skip
    intro = (
        f"{len(found.epochs)} epochs in {sum(one.seconds for one in found.epochs):.0f} s on {found.device}. {best_text}"
    )
    return Section(key=key, title=title, intro=tag("p", intro), body=joined(*figures))


def ablation(found: Ablation | None, line: str) -> Section:
    """What each training switch gains."""
    key, title = "ablation", "What the training switches gain"
    if found is None or not found.variants:
        return missing(key, title, "The switches were not compared.", line)
    gains = [
        Gain(
            loop=loop.name, measure=measure, estimate=gain.estimate,
            low=gain.low if math.isfinite(gain.high) else gain.estimate,  # one round alone has no interval
            high=gain.high if math.isfinite(gain.high) else gain.estimate,
        )
        for loop in found.variants
        for measure, gain in (("a step", loop.step_gain), ("an epoch", loop.epoch_gain))
        if gain is not None
    ]  # fmt: skip
    data = tables.table(
        "Training loops",
        ["training loop", "step ms", "step gain", "epoch s", "epoch gain", "validation"],
        [
            [
                loop.name, f"{loop.step_ms:.1f}", _ratio(loop.step_gain), f"{loop.epoch_s:.1f}",
                _ratio(loop.epoch_gain), told(found.measure, loop.validation_score),
            ]
            for loop in found.variants
        ],
    )  # fmt: skip
    compared = [(loop.epoch_gain.estimate, loop.name) for loop in found.variants if loop.epoch_gain is not None]
    if not compared:
        intro = tag("p", "The plain loop could not run, so no gain is known.")
        return Section(key=key, title=title, intro=intro, body=data)
    largest, leader = max(compared, key=lambda pair: pair[0])
    finding = f"The largest gain has “{leader}”: {largest:.2f} times as fast an epoch as plain."
    figure = drawing.figure(
        lambda layout: model_charts.gains(gains, layout),
        name="ablation-gains",
        title="gain of each training switch",
        finding=finding,
        caption="Each loop in a process of its own, in turns; lines are 95 % intervals.",
        data=data,
    )
    return Section(key=key, title=title, intro=tag("p", finding), body=figure)


def _ratio(gain: Interval | None) -> str:
    return "–" if gain is None else shown_ratio(gain)


def machine(benchmark: Benchmark) -> Section:
    """Where it was measured."""
    machines = benchmark.machines
    described = [
        tables.facts([*_machine(facts, here=name == LOCAL), ("Measured", benchmark.created)])
        for name, facts in machines.items()
    ]
    if len(machines) > 1:
        titles = [tag("h3", shown_host(None if name == LOCAL else name)) for name in machines]
        described = [joined(title, facts) for title, facts in zip(titles, described, strict=True)]
    return Section(
        key="machine",
        title="Machines" if len(machines) > 1 else "Machine",
        intro=tag("p", "Figures from another machine are other figures."),
        body=joined(*described),
    )


def _machine(facts: Mapping[str, Any], *, here: bool) -> list[tuple[str, str]]:
    """Nobody looks for a GPU elsewhere."""
    memory, heat = facts.get("memory_bytes"), facts.get("temperature_c")
    pairs = [
        ("Processor", str(facts.get("processor", ""))),
        ("Emulated", str(facts.get("emulated", ""))),
        ("Cores", str(facts.get("cores", ""))),
        ("Instructions", ", ".join(facts.get("isa", ()))),
        ("Memory", f"{memory / 2**30:.0f} GiB" if memory else ""),
        ("GPU", facts.get("gpu") or ("none" if here else "")),
        ("System", " ".join(filter(None, (facts.get("system"), facts.get("architecture"))))),
        ("Python", str(facts.get("python", ""))),
        ("Libraries", ", ".join(f"{name} {at}" for name, at in facts.get("libraries", {}).items() if at != "-")),
        ("Governor", ", ".join(facts.get("governors", ()))),
        ("Temperature", f"{heat[0]:.0f} to {heat[-1]:.0f} °C" if heat else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def reproduce(gathered: Gathered) -> Section:
    """The commands, the data, and the files by their digests."""
    files = {row.candidate.label: row.candidate for row in gathered.benchmark.rows}
    table = tables.table(
        "Files that were measured",
        ["row", "bytes", "sha256"],
        [[label, f"{one.size_bytes:,}", tag("code", one.sha256)] for label, one in files.items()],
    )
    intro = tag("p", f"The data: {gathered.benchmark.data}.")
    return Section(
        key="reproduce", title="Do it again", intro=intro, body=joined(command(*commands.again(gathered)), table)
    )


def _level(value: float, steps: Sequence[float]) -> int:
    """How many of the rising ``steps`` the value has reached."""
    return sum(value >= step for step in steps)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}" if share >= 0.0005 else "0"


def _decibels(value: float) -> str:
    if abs(value) >= LIMIT_DB:
        return "exact" if value > 0 else "none"
    return f"{value:.1f}"
