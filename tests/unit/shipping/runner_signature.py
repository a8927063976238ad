"""The program in packages that looks at their signature, with nothing but Python."""

import importlib.util
from pathlib import Path

PLACE = Path(__file__).resolve().parents[3] / "toolchain/shipping/runners/python/signature.py"
_spec = importlib.util.spec_from_file_location("packed_signature", PLACE)
assert _spec is not None
assert _spec.loader is not None
runner = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(runner)


def faults_by_runner(package: Path, key: Path) -> list[tuple[str, str]]:
    """(kind, file) of each."""
    lines = [line.split(": ") for line in runner.faults(package, runner.public_key(key.read_bytes()))]
    return [(line[0], line[1]) for line in lines]
