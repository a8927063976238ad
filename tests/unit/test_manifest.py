import subprocess
import sys
from pathlib import Path

import pytest

from toolchain import manifest
from toolchain.errors import BadUsage
from toolchain.manifest import Manifest

INPUTS = {"weights": "abc", "opset": 20}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"model")
    Manifest(tmp_path).record("export", INPUTS, [tmp_path / "model.onnx"], {"size_bytes": 5})
    return tmp_path


def test_an_unchanged_step_is_done(recorded: Path) -> None:
    assert Manifest(recorded).done("export", INPUTS) == {"size_bytes": 5}


def test_other_inputs_are_not(recorded: Path) -> None:
    assert Manifest(recorded).done("export", INPUTS | {"opset": 21}) is None
    assert Manifest(recorded).done("fp16", INPUTS) is None


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"mode")])
def test_a_missing_or_changed_file_is_not(recorded: Path, damage: object) -> None:
    damage(recorded / "model.onnx")  # type: ignore[operator]
    assert Manifest(recorded).done("export", INPUTS) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 99}'])
def test_an_unreadable_manifest_reuses_nothing(recorded: Path, content: str) -> None:
    (recorded / manifest.NAME).write_text(content)
    assert Manifest(recorded).done("export", INPUTS) is None


def test_a_step_is_intact_while_its_files_are(recorded: Path) -> None:
    assert Manifest(recorded).intact("export")
    assert not Manifest(recorded).intact("train")
    (recorded / "model.onnx").write_bytes(b"half trained")
    assert not Manifest(recorded).intact("export")


def test_two_processes_that_record_in_one_folder_lose_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from toolchain.manifest import Manifest\n"
        "known = Manifest(pathlib.Path(sys.argv[1]))\n"
        "known.describe(**{sys.argv[2]: 'described'})\n"
        "for number in range(50):\n"
        "    known.record(f'{sys.argv[2]} {number}', {'number': number}, [], {'number': number})\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "new"), name]) for name in ("one", "other")]
    assert [each.wait() for each in both] == [0, 0]
    known = Manifest(tmp_path / "new")
    for name in ("one", "other"):
        assert known.fact(name) == "described"
        assert [known.done(f"{name} {number}", {"number": number}) for number in range(50)] == [
            {"number": number} for number in range(50)
        ]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"manifest.json", ".manifest.json.lock"}


def test_a_folder_without_a_manifest_is_no_artifacts_folder(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="not an artifacts folder"):
        manifest.of_existing(tmp_path)
