"""A fault planted deep in a model is found there, and the file that is written shows it without nnx."""

import ast
import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from exporters.errors import NotExportable
from toolchain.bisection import bisecting, repro
from toolchain.bisection.bisecting import Bisected
from toolchain.conversion.target import Target
from toolchain.errors import BadUsage
from toolchain.inputs import examples

WIDTH = 8


def gate(x: torch.Tensor, level: float = 0.0) -> torch.Tensor:
    if x.sum() > level:
        return x
    return -x


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = 2.0

    def forward(self, x: torch.Tensor) -> Any:
        return gate(x * self.scale)


class Untranslated(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.linalg.eigvalsh(x.unsqueeze(2) * x.unsqueeze(1))


class Frozen(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x + torch.tensor(float(len(x)))


class Counts(nn.Module):
    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Any:
        self.seen += 1
        return x + self.seen


class Drops(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return nn.functional.dropout(x, 0.5, training=True)


class OverBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x - x.mean(0, keepdim=True)


class OtherInExport(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        doubled = x * 2
        return doubled * 1.1 if torch.compiler.is_exporting() else doubled


class OneBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x.reshape(2, WIDTH) * 2


class Block(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.inner = inner

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> Any:
        return {"x": self.inner(self.norm(x)) * scale}


class Net(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Linear(4, WIDTH)
        self.block = Block(inner)

    def forward(self, x: torch.Tensor) -> Any:
        return self.block(self.stem(x), scale=0.5)["x"].relu()


def bisected(inner: nn.Module, path: Path, spec: str = "x=float32[batch,4]") -> Bisected:
    torch.manual_seed(0)
    return bisecting.bisect(Net(inner), examples.of_specs([spec]), path, target=Target())


def line_of(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip() == text)


def ran(path: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, path.name], cwd=path.parent, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("inner", "what", "line", "shown"),
    [
        pytest.param(Branches, "data-dependent", "if x.sum() > level:", "raises", marks=pytest.mark.slow),
        pytest.param(
            Untranslated,
            "no translation of aten._linalg_eigh",
            "return torch.linalg.eigvalsh(x.unsqueeze(2) * x.unsqueeze(1))",
            "raises",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Frozen, "fixed at 2", "return x + torch.tensor(float(len(x)))", "does not agree", marks=pytest.mark.slow
        ),
        pytest.param(OtherInExport, "Parity failed", None, "does not agree", marks=pytest.mark.slow),
        (Counts, "changes the buffer seen", None, "another answer"),
        (Drops, "another answer", None, "another answer"),
        (OverBatch, "influence each other", None, "the others of its batch"),
    ],
)
def test_a_planted_fault_is_found_and_shown(
    inner: type[nn.Module], what: str, line: str | None, shown: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.repro.py"
    found = bisected(inner(), path).finding
    assert found is not None
    assert (found.module, found.kind) == ("block.inner", inner.__name__)
    assert (Path(found.file), found.line) == (Path(__file__), inner.forward.__code__.co_firstlineno)
    assert what in found.what
    if line is not None:
        assert found.origin is not None
        assert (Path(found.origin.file), found.origin.line) == (Path(__file__), line_of(line))
    assert found.repro == path, found.no_repro
    assert [*tmp_path.iterdir()] == [path]
    written = path.read_text()
    assert len(written.splitlines()) < 200
    assert "nnx" not in {node.id for node in ast.walk(ast.parse(written)) if isinstance(node, ast.Name)}
    code, said = ran(path)
    assert (code, shown in said) == (1, True), said


@pytest.mark.slow
def test_a_wrong_translation_is_found_at_its_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this process alone, so that no file can show it; the reason is said."""
    from onnxscript import opset20 as op

    def wrong(value: Any) -> Any:
        return op.Ceil(value)

    class Floors(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return torch.floor(x * 3) + 1

    table: Any = {torch.ops.aten.floor.default: wrong}
    monkeypatch.setattr(torch.onnx, "export", functools.partial(torch.onnx.export, custom_translation_table=table))
    found = bisected(Floors(), tmp_path / "net.repro.py").finding
    assert found is not None
    assert found.module == "block.inner"
    assert found.origin is not None
    assert (found.origin.operator, found.origin.line) == (
        "aten.floor.default",
        line_of("return torch.floor(x * 3) + 1"),
    )
    assert "the first to differ is aten.floor.default" in found.what
    assert found.repro is None
    assert found.no_repro
    assert not [*tmp_path.iterdir()]


def test_where_pytorch_itself_stops_at_another_batch(tmp_path: Path) -> None:
    done = bisected(OneBatch(), tmp_path / "net.repro.py", "x=float32[2,4]")
    found = done.finding
    assert found is not None
    assert done.notes == ("No axis is dynamic: PyTorch does not run at another batch.",)
    assert done.text.splitlines()[-1] == done.notes[0]
    assert (found.module, found.kind) == ("block.inner", "OneBatch")
    assert found.origin is not None
    assert found.origin.line == line_of("return x.reshape(2, WIDTH) * 2")


def test_a_file_that_does_not_end_leaves_the_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repro, "_MOST_SECONDS", 0.01)
    found = bisected(Counts(), tmp_path / "net.repro.py").finding
    assert found is not None
    assert (found.module, found.repro) == ("block.inner", None)
    assert "without an end" in found.no_repro
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("what", "said", "same"),
    [
        ("Net could not be exported: no translation of aten.eigh.", "raises X: No translation of aten.eigh", True),
        ("Net could not be exported: no translation of aten.eigh.", "raises NameError: x is not known", False),
        ("Net gave no ONNX program.", "raises NameError: x is not known", False),
        ("Net could not be exported: 3.", "raises NameError: x is not known", False),
    ],
)
def test_a_file_shows_a_fault_where_it_gives_the_same_reason(what: str, said: str, same: bool) -> None:
    assert repro._is_the_fault(f"FAULT: torch.onnx.export {said}", NotExportable(what, "Mend it.")) == same


def test_where_nothing_fails(tmp_path: Path) -> None:
    done = bisected(nn.GELU(), tmp_path / "net.repro.py")
    assert done.finding is None
    assert "Nothing fails" in done.text
    assert not [*tmp_path.iterdir()]


def test_a_file_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "net.repro.py"
    path.write_text("print('mine')\n")
    with pytest.raises(BadUsage, match="was not written by"):
        bisected(Counts(), path)
    assert path.read_text() == "print('mine')\n"
