"""What ``nnx export``, ``convert`` and ``quantize`` print about the file that they made."""

import json
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

from toolchain.console import print_json, print_result, print_text

if TYPE_CHECKING:
    from toolchain.accuracy.gate import Verdict
    from toolchain.conversion.proof import Proven
    from toolchain.conversion.speed_check import Speed


def _facts(verdict: "Verdict") -> dict[str, object]:
    """The metric stands there where it is another than accuracy."""
    return {name: value for name, value in asdict(verdict).items() if name != "metric" or value is not None}


def show(made: "Proven", as_json: bool, speed: "Speed | None" = None, code: str = "") -> None:
    """The result on stdout: lines for a person, or JSON."""
    artifact = made.artifact
    if as_json:
        facts = {
            **asdict(artifact),
            "path": str(artifact.path),
            "parity": asdict(made.parity),
            "proven_on": made.proven_on,
            "rests_on": asdict(made.rests_on),
            "verdict": _facts(made.verdict) if made.verdict else None,
            "source_bytes": made.source_bytes or None,
            "plan": json.loads(made.plan.to_json()) if made.plan else None,
            "code": code,
            "speed": asdict(speed) | {"slower": speed.slower} if speed else None,
        }
        print_json(facts)
        return
    print_result(f"{artifact.path}: {artifact.precision}, {artifact.size_bytes / 1e6:.3f} MB, opset {artifact.opset}")
    print_text(f"proven on {made.rests_on}: {made.parity}")
    if made.verdict is not None:
        what = made.verdict.metric.title if made.verdict.metric else "accuracy"
        print_text(f"{what}: {made.verdict.word}. {made.verdict.text}")
    if made.plan is not None:
        ended = "" if made.plan.finished else "; the budget ended first, so fewer may do"
        print_result(f"plan, after {made.plan.evaluations} trials{ended}:")
        if made.plan.exclude:
            option = "--keep-fp32" if artifact.precision in ("fp16", "bf16") else "--exclude"
            print_result("  " + " ".join(f"{option} {shlex.quote(name)}" for name in made.plan.exclude))
        if made.plan.methods:
            print_result(f"  other methods for {len(made.plan.methods)} tensors, which --save-plan keeps")
    if made.grown:
        print_text(made.grown)
    for note in artifact.notes:
        print_text(note)
    if speed is not None:
        print_text(str(speed))
        for line in speed.advice():
            print_text(line)
    if code:
        print_result("It is fastest here when opened like this, which its file says and nnx obeys:\n")
        print_result(code)
