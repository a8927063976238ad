"""`nnx inspect`, `check`, `diff` and `lighten` on the digits run, and on what is no model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.end_to_end import small_model
from tests.end_to_end.command import run_nnx

Nnx = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(digits, tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["model", "model.fp16", "model.int8-static", "model.int8-dynamic"])
def test_inspect_what_nnx_made(name: str, place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("inspect", f"digits/{name}.onnx", "--fix", "batch=8", "--json")
    assert code == 0, err
    found, plain = json.loads(out), json.loads(nnx("inspect", "digits/model.onnx", "--json")[1])
    assert found["schema_version"] == 1
    assert found["work"]["macs"] == 8 * plain["work"]["macs"] > 0
    assert found["work"]["assumed"] == []
    assert abs(found["parameters"] - plain["parameters"]) <= 16
    assert found["lineage"]["precision"] == found["precision"]
    assert found["targets"][0]["runs"]
    assert [module["path"] for module in found["modules"]] == [module["path"] for module in plain["modules"]]


@pytest.mark.parametrize("name", ["model", "model.fp16", "model.int8-static", "model.int8-dynamic"])
def test_what_nnx_made_has_no_fault(name: str, place: Path, nnx: Nnx) -> None:
    code, out, _ = nnx("check", f"digits/{name}.onnx")
    assert code == 0, out
    assert "no faults" in out


@pytest.mark.parametrize(("name", "least_db"), [("fp16", 50), ("int8-static", 15), ("int8-dynamic", 20)])
def test_diff_across_precisions_on_real_inputs(name: str, least_db: float, place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("diff", "digits/model.onnx", f"digits/model.{name}.onnx", "--samples", "digits", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["only_a"], found["only_b"]) == ([], [])
    assert found["values"]["parts"] is None
    rated = [each["sqnr_db"] for each in (*found["values"]["tensors"], *found["values"]["outputs"])]
    assert min(rated) > least_db
    assert "logits" in {each["a"] for each in found["values"]["outputs"]}


def test_diff_exits_by_what_differs_when_it_is_asked_to(place: Path, nnx: Nnx) -> None:
    files = ["digits/model.onnx", "digits/model.int8-static.onnx", "--no-run"]
    assert nnx("diff", *files)[0] == 0
    code, _, err = nnx("diff", *files, "--exit-code")
    assert code == 1
    assert "differ" in err
    assert nnx("diff", "digits/model.onnx", "digits/model.onnx", "--exit-code")[0] == 0


def test_lighten_and_fill(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("lighten", "digits/model.onnx", "-o", "report.light.onnx")
    assert code == 0, err
    assert Path("report.light.onnx").stat().st_size < 0.2 * Path("digits/model.onnx").stat().st_size
    assert nnx("bench", "report.light.onnx", "--max-time", "1ms")[0] == 2
    code, out, err = nnx("lighten", "report.light.onnx", "--fill", "--json")
    assert code == 0, err
    assert json.loads(out)["path"] == "report.filled.onnx"
    assert nnx("check", "report.filled.onnx")[0] == 0
    code, out, err = nnx("diff", "digits/model.onnx", "report.filled.onnx", "--no-run", "--json")
    assert (json.loads(out)["only_a"], json.loads(out)["changed"]) == ([], [])


def test_the_tables_in_a_process_of_its_own(digits: Path, tmp_path: Path) -> None:
    ended = run_nnx("inspect", digits / "model.int8-static.onnx", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for heading in ("Interface", "Constants by type", "Largest constants", "Operators", "Modules"):
        assert f"\n{heading}" in ended.stdout
    assert "QDQ: " in ended.stdout
    assert "batch=1 (batch assumed: --fix batch=N)" in ended.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["inspect"], ["lighten"], ["diff", "good.onnx"]])
@pytest.mark.parametrize("broken", ["text.onnx", "empty.onnx", "cut.onnx", "nowhere.onnx"])
def test_what_is_no_model_is_wrong_input_and_leaves_nothing(
    command: list[str], broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nnx: Nnx
) -> None:
    monkeypatch.chdir(tmp_path)
    small_model.write(Path("good.onnx"))
    Path("text.onnx").write_text("no model")
    Path("empty.onnx").touch()
    Path("cut.onnx").write_bytes(Path("good.onnx").read_bytes()[:600])
    there = set(tmp_path.iterdir())
    code, out, err = nnx(*command, broken)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 2
    assert set(tmp_path.iterdir()) == there


@pytest.mark.parametrize("broken", ["text.onnx", "cut.onnx"])
def test_check_lists_what_others_refuse(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nnx: Nnx) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.onnx").write_text("no model")
    small_model.write(Path("good.onnx"))
    Path("cut.onnx").write_bytes(Path("good.onnx").read_bytes()[:600])
    code, out, _ = nnx("check", broken, "--json")
    assert code == 1
    found = json.loads(out)
    assert (found["sound"], [each["kind"] for each in found["faults"]]) == (False, ["file"])
    assert nnx("check", "nowhere.onnx")[0] == 2


def test_several_faults_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nnx: Nnx) -> None:
    monkeypatch.chdir(tmp_path)
    model = onnx.load(small_model.write(Path("m.onnx")))
    model.ir_version = 99
    model.graph.node.append(helper.make_node("Relu", ["product"], ["nobody"], name="dead"))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Mystery", "my.own"
    onnx.save(model, "m.onnx")
    code, out, err = nnx("check", "m.onnx")
    assert code == 1
    assert [line.split()[1] for line in out.splitlines() if line.startswith("✗")] == [
        "version", "operator", "target",
    ]  # fmt: skip
    assert any(line.startswith("! dead") for line in out.splitlines())
    assert "3 faults" in out
    assert "m.onnx has faults" in err


@pytest.mark.parametrize("given", ["batch", "batch=0", "batch=many", "=3"])
def test_a_length_that_cannot_be_read(given: str, tmp_path: Path, nnx: Nnx) -> None:
    code, _, err = nnx("inspect", small_model.write(tmp_path / "m.onnx"), "--fix", given)
    assert code == 2
    assert "batch=1" in err


def test_a_length_of_an_axis_that_there_is_none_of(tmp_path: Path, nnx: Nnx) -> None:
    code, _, err = nnx("inspect", small_model.write(tmp_path / "m.onnx"), "--fix", "time=3")
    assert code == 2
    assert "Its open axes are batch." in err
