"""Without a folder for temporary files, a home or room to write: a right result all the same, or exit 3 and why."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end import small_model

pytestmark = pytest.mark.slow  # each starts processes of its own

NNX = [sys.executable, "-m", "toolchain"]
QUANTIZE = [*NNX, "quantize", "model.onnx", "--int8", "--no-time", "-o", "out.onnx"]
WITH_CACHE = [*NNX, "quantize", "model.onnx", "--int8", "--calibration", "calib.npz", "--no-time", "-o", "out.onnx"]
BENCH = [*NNX, "bench", "model.onnx", "--max-time", "200ms"]
DOCTOR = [*NNX, "doctor", "--json"]
# the shell fills a file system of 16 KiB, then becomes the command
FILLED = 'mount -t tmpfs -o size=16k none full && head -c 99999 /dev/zero > full/filled 2>/dev/null; exec "$@"'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    small_model.write(tmp_path / "model.onnx")
    small_model.write_samples(tmp_path / "calib.npz")
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    return tmp_path


def ended(
    command: list[str], place: Path, *, without: tuple[str, ...] = (), before: Callable[[], None] | None = None,
    **given: str,
) -> "subprocess.CompletedProcess[str]":  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run(
        command, cwd=place, env={**kept, **given}, preexec_fn=before, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def on_a_full_one(command: list[str]) -> list[str]:
    """``command`` where the folder ``full`` is a file system without room."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs unshare -rm, for a full file system")
    return ["unshare", "-rm", "sh", "-c", FILLED, "sh", *command]


def no_files() -> None:
    """No file on a disk gets a byte: there is no folder for temporary ones."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("named", "lacks"),
    [("missing", "No such file or directory"), ("file", "Not a directory"), ("full", "No space left on device")],
)
def test_the_doctor_tells_what_tmpdir_lacks_and_all_else_works(named: str, lacks: str, place: Path) -> None:
    command = on_a_full_one(DOCTOR) if named == "full" else DOCTOR
    told = ended(command, place, TMPDIR=str(place / named))
    assert (told.returncode, told.stderr) == (0, "")
    found = next(each for each in json.loads(told.stdout)["checks"] if each["name"] == "temporary folder")
    assert found["status"] == "warn"
    assert found["found"].startswith(f"TMPDIR is {place / named}, where no file can be made: {lacks}; ")
    command = on_a_full_one(QUANTIZE) if named == "full" else QUANTIZE
    assert ended(command, place, TMPDIR=str(place / named)).returncode == 0
    assert (place / "out.onnx").is_file()


def test_no_folder_for_temporary_files_at_all(place: Path) -> None:
    before = sorted(path.name for path in place.iterdir())
    told = ended(DOCTOR, place, before=no_files)
    assert told.returncode == 3, told.stderr
    found = {each["name"]: each for each in json.loads(told.stdout)["checks"]}
    assert found["temporary folder"]["status"] == "missing"
    assert {found[name]["status"] for name in ("python", "torch", "onnxruntime", "provider cpu")} == {"ok"}
    assert "Missing: temporary folder." in told.stderr
    for command, lacks in (
        (BENCH, "No folder for temporary files can be used."),
        (QUANTIZE, "No file may become that large."),  # its first file is the candidate, beside the output
    ):
        told = ended(command, place, before=no_files)
        assert told.returncode == 3, told.stderr
        assert lacks in told.stderr
        assert "Traceback" not in told.stderr
    assert sorted(path.name for path in place.iterdir()) == before


def test_an_output_on_a_full_disk(place: Path) -> None:
    command = [*QUANTIZE[:-1], "full/out.onnx"]
    told = ended(on_a_full_one(command), place)
    assert told.returncode == 3, told.stderr
    assert "The disk is full" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(("command", "code"), [(QUANTIZE, 0), (WITH_CACHE, 3), (DOCTOR, 0)])
def test_a_user_without_a_home(command: list[str], code: int, place: Path) -> None:
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "--map-user=54321", "true"], check=False).returncode
    ):
        pytest.skip("needs unshare --map-user, for a user without an entry")
    told = ended(["unshare", "--map-user=54321", *command], place, without=("HOME", "XDG_CACHE_HOME"))
    assert told.returncode == code, told.stderr
    assert ("This user has no home folder." in told.stderr) == (code == 3)
    assert "Traceback" not in told.stderr


def test_an_export_that_may_train_holds_the_folder(tmp_path: Path) -> None:
    script = (
        "import pathlib, subprocess, sys\n"
        "from toolchain import folder_lock\n"
        "with folder_lock.held(pathlib.Path('artifacts/digits'), ['nnx', 'train', 'digits']):\n"
        "    sys.exit(subprocess.run([sys.executable, '-m', 'toolchain', 'export', 'digits']).returncode)\n"
    )
    told = ended([sys.executable, "-c", script], tmp_path)
    assert told.returncode == 3, told.stderr
    assert "artifacts/digits is in use by process" in told.stderr
    assert "`nnx train digits`" in told.stderr
