"""What ``nnx export``, ``convert`` and ``quantize`` print about the file that they made."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from toolchain.console import print_result

if TYPE_CHECKING:
    from toolchain.proof import Proven


def show(made: "Proven", as_json: bool) -> None:
    """The result on stdout: lines for a person, or JSON."""
    artifact = made.artifact
    if as_json:
        facts = {
            **asdict(artifact),
            "path": str(artifact.path),
            "parity": asdict(made.parity),
            "proven_on": made.proven_on,
        }
        print_result(json.dumps(facts))
        return
    print_result(f"{artifact.path}: {artifact.precision}, {artifact.size_bytes / 1e6:.3f} MB, opset {artifact.opset}")
    print_result(f"proven on {made.proven_on}: {made.parity}")
    for note in artifact.notes:
        print_result(note)
