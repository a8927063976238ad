"""``report.md``: one page about a run, for people."""

import shlex
from collections.abc import Sequence
from dataclasses import fields

from toolchain import machine
from toolchain.bench import report
from toolchain.bench.record import Benchmark
from toolchain.legible import code_in_markdown, in_markdown
from toolchain.steps import ModelStep, TrainStep
from toolchain.training.record import told


def render(name: str, train: TrainStep, made: Sequence[ModelStep], measured: Benchmark) -> str:
    """Training, model files (the fp32 one first), benchmark, machine, how to repeat it."""
    title = in_markdown(train.measure.title)
    curve = report.markdown_table(
        ["epoch", "loss", f"train {title}", f"validation {title}", "samples/s"],
        [
            [
                str(epoch.number), f"{epoch.loss:.4f}", told(train.measure, epoch.train_score),
                told(train.measure, epoch.validation_score), f"{epoch.samples_per_s:,.0f}",
            ]
            for epoch in train.epochs
        ],
    )  # fmt: skip
    files = report.markdown_table(
        ["precision", "MB", "of fp32", "opset", "proof"],
        [
            [
                model.precision, f"{model.size_bytes / 1e6:.3f}", f"{model.size_bytes / made[0].size_bytes:.2f}x",
                str(model.opset), " ".join(filter(None, [f"{model.parity}.", model.verdict])),
            ]
            for model in made
        ],
    )  # fmt: skip
    return f"""# {in_markdown(name)}

## Training

Test {train.test_text} (PyTorch, fp32), validation {told(train.measure, train.validation_score)}, \
{train.seconds:.0f} s of training with {in_markdown(", ".join(train.switched_on)) or "nothing switched on"}.

{curve}

## Model files

{files}

## Benchmark

On {in_markdown(measured.data)}; each row in a process of its own, in turns.

{report.markdown(report.table(measured.rows), report.notes(measured))}
## Where and how

- {in_markdown(str(_machine(measured)))}
- {in_markdown(", ".join(f"{name} {version}" for name, version in _libraries(measured)))}
- {in_markdown(measured.created)}{_command(measured)}
- raw samples in `bench.json`, inputs and hashes of every step in `manifest.json`
"""


def _machine(measured: Benchmark) -> machine.Machine:
    """What is known of it; another nnx may have written more facts."""
    return machine.Machine(**{each.name: measured.machine[each.name] for each in fields(machine.Machine)})


def _libraries(measured: Benchmark) -> list[tuple[str, str]]:
    return [(name, version) for name, version in measured.machine["libraries"].items() if version != "-"]


def _command(measured: Benchmark) -> str:
    """What was typed, as a shell takes it."""
    return f", {code_in_markdown(shlex.join(measured.command))}" if measured.command else ""
