"""The pinned versions and the hashes of their files name the same things."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if not line.startswith("#")}


def test_every_pinned_file_but_pytorch_s_has_a_hash_and_nothing_else_has() -> None:
    text = (ROOT / "requirements-hashed.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    assert {line[0] for line in lines} == {pin for pin in pinned() if not pin.startswith("torch==")}, (
        "run `make constraints`"
    )
    for name, *hashes in lines:
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), name


def test_pins_are_exact_and_each_stands_once() -> None:
    names = [re.fullmatch(r"([A-Za-z0-9._-]+)==[^=*\s]+", pin) for pin in pinned()]
    assert all(names)
    assert len({name[1].lower().replace("_", "-") for name in names if name}) == len(pinned())
