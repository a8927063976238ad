"""The commands of the README and of the pages run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain.bench.notes import EFFICIENT
from toolchain.bench.report import HEADINGS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
# in this order, in one folder: a page's lines take what those before have left
PAGES = (
    README,
    *(ROOT / "docs" / "how-to" / f"{name}.md" for name in ("export", "quantize", "half", "inspect", "measure", "ship")),
    ROOT / "docs" / "how-to" / "distributed.md",
)
WRITTEN = (README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_blocks(page: Path, folder: Path) -> None:
    assert blocks(page, "sh")
    for block in blocks(page, "python"):
        if named := re.match(r"# (\w+\.py)\n", block):
            (folder / named[1]).write_text(block, encoding="utf-8")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            ended = subprocess.run(
                line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert ended.returncode == 0, f"{page.name}: {line}\n{ended.stderr}"


@pytest.mark.slow
def test_the_command_blocks_run(tmp_path: Path) -> None:
    for page in PAGES:
        run_blocks(page, tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {"artifacts", "digits.onnx", "digits.fp16.onnx", "digits.int8-static.onnx", "before.json"}
    assert made >= {"digits.ortpackage", "net.ortpackage"}


@pytest.mark.slow
def test_the_tutorial_runs_in_a_folder_of_its_own(tmp_path: Path) -> None:
    run_blocks(ROOT / "docs" / "tutorial.md", tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {"artifacts", "digits.onnx", "digits.int8-static.onnx", "bench.json", "page.html"}


@pytest.mark.slow
def test_the_page_on_reports_follows_the_readme(digits: Path) -> None:
    run_blocks(ROOT / "docs" / "how-to" / "report.md", digits.parents[1])


@pytest.mark.slow
def test_the_page_on_python_runs_as_one_script(tmp_path: Path) -> None:
    script = "\n".join(blocks(ROOT / "docs" / "library.md", "python"))
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {"artifacts", "net.onnx", "digits.fp16.onnx", "digits.int8.onnx", "one.onnx", "bench.html"}
    assert not ended.stderr


def test_no_page_with_commands_is_left_out() -> None:
    pages = ("tutorial.md", "how-to/report.md", "how-to/raspberry-pi.md")  # the last in test_ship.py
    run = {*PAGES, *(ROOT / "docs" / name for name in pages)}
    assert {page for page in WRITTEN if blocks(page, "sh")} == run


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_linked_file_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_demo_output_is_real() -> None:
    first_screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:45])
    for label in ("eager", "compiled", "ort fp32", "ort fp16", "ort int8-dynamic", "ort int8-static"):
        assert re.search(rf"^{label}( {EFFICIENT})? +cpu +\d", first_screen, re.MULTILINE), label
    (headings,) = re.findall(r"^row .*$", first_screen, re.MULTILINE)
    assert re.split(r" {2,}", headings) == [name for name in HEADINGS if name in headings]
    assert {"speed-up", "accuracy", "load ms"} <= set(re.split(r" {2,}", headings))
    assert re.search(r"^batch \d+, \d+ threads: the fastest is ", first_screen, re.MULTILINE)


def test_the_demo_output_is_that_of_the_benchmarks() -> None:
    (shown,) = [block for block in blocks(README, "text") if block.startswith("$ make demo")]
    (whole,) = [block for block in blocks(ROOT / "docs" / "benchmarks.md", "text") if block.startswith("$ make demo")]
    assert set(shown.splitlines()) - {"…"} <= set(whole.splitlines())


def test_no_placeholder_was_forgotten() -> None:
    for page in WRITTEN:
        assert not re.findall(r"^[A-Z]+_[A-Z_]+$", page.read_text(encoding="utf-8"), re.MULTILINE)
