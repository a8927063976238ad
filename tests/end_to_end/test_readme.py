"""The README's commands run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain.bench.notes import EFFICIENT
from toolchain.bench.report import HEADINGS

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_command_blocks_run(tmp_path: Path) -> None:
    assert blocks("sh")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for block in blocks("sh"):
        for line in block.splitlines():
            ended = subprocess.run(
                line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert ended.returncode == 0, f"{line}\n{ended.stderr}"
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {"artifacts", "digits.onnx", "digits.fp16.onnx", "digits.int8-static.onnx", "try"}


def test_every_linked_file_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target


def test_the_demo_output_is_real() -> None:
    first_screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:45])
    for label in ("eager", "compiled", "ort fp32", "ort fp16", "ort int8-dynamic", "ort int8-static"):
        assert re.search(rf"^{label}( {EFFICIENT})? +cpu +\d", first_screen, re.MULTILINE), label
    (headings,) = re.findall(r"^row .*$", first_screen, re.MULTILINE)
    assert re.split(r" {2,}", headings) == [name for name in HEADINGS if name in headings]
    assert {"speed-up", "accuracy", "load ms"} <= set(re.split(r" {2,}", headings))
    assert re.search(r"^batch \d+, \d+ threads: the fastest is ", first_screen, re.MULTILINE)


def test_no_placeholder_was_forgotten() -> None:
    assert not re.findall(r"^[A-Z]+_[A-Z_]+$", README.read_text(encoding="utf-8"), re.MULTILINE)
