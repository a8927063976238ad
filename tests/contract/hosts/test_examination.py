"""What `nnx doctor --host` says of a machine, where it is this one with less on it."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from toolchain.doctor.checks import Check, Health
from toolchain.hosts.address import Address
from toolchain.hosts.examination import examined

TOOLS = "sh cat cp dd df find grep head id ln mkdir mv printf readlink rm sha256sum sync tail tar timeout uname wc date"
HERE = Address("ssh://here", "", ())


@pytest.fixture
def bin_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs, which a test may change."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS.split():
        (folder / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def checks(python: str | None = None) -> dict[str, Check]:
    return {check.name: check for check in examined(HERE, python)}


def test_a_machine_with_all_that_it_takes(bin_there: Path) -> None:
    found = checks(sys.executable)
    for name in ("ssh", "system", "tools", "python", "numpy", "onnxruntime", "providers", "processor", "time"):
        assert found[name].status is Health.OK, found[name]
    assert found["providers"].found == "CPUExecutionProvider"
    assert "emulation" not in found and "int8" in found


def test_each_lack_is_named_with_what_mends_it(
    bin_there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("date", path=os.defpath)
    script(bin_there / "date", f"echo $(($({real} +%s) + 7200))")
    (bin_there / "timeout").unlink()
    (bin_there / "sha256sum").unlink()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    found = checks()
    assert found["python"].status is Health.MISSING
    assert "pip install numpy onnxruntime" in (found["python"].mend or "")
    assert found["tools"].found == "no sha256sum, timeout: `nnx push` does not work"
    assert found["time"].status is Health.WARN
    assert re.fullmatch(r"its clock is off by 7,[12]\d\d s, ahead", found["time"].found)
    assert found["disk"].found == f"{tmp_path / 'nowhere'} cannot be written"


def test_a_python_without_a_library_is_told_from_none(bin_there: Path) -> None:
    script(bin_there / "python3", f'case $2 in *onnxruntime*) exit 1 ;; esac\nexec {sys.executable} "$@"')
    found = checks()
    assert found["python"].status is Health.OK
    assert found["onnxruntime"].status is Health.MISSING
    assert found["onnxruntime"].found.endswith("python3 has none: `nnx bench` needs it")


def test_what_a_machine_says_of_itself_is_never_obeyed(bin_there: Path) -> None:
    script(bin_there / "id", "printf 'pi\\033[2Jx'")
    assert "\x1b" not in checks()["ssh"].found
