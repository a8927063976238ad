"""`nnx keys` and `nnx verify`: exit codes and sentences, with the extra `sign` and without."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.hard import base_package
from tests.end_to_end import small_model
from toolchain.shipping import signature
from toolchain.shipping.package import SIGNATURE

Nnx = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {missing!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Finder())
sys.path.insert(0, {root!r})
"""
SIGN = """
from pathlib import Path
from toolchain import errors
from toolchain.shipping import keys, signature
try:
    keys.new(Path("new"))
    signature.sign(Path("p"), Path("new.key"))
except ImportError as error:
    print(*errors.explain(error))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package, and a key that signed it."""
    monkeypatch.chdir(tmp_path)
    base_package.write(tmp_path / "p")
    return tmp_path


def test_a_package_is_signed_and_verified(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("keys", "new", "mine", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["private"], made["public"]) == ("mine.key", "mine.pub")
    assert nnx("verify", "p")[0] == 0
    code, out, err = nnx("verify", "p", "--trust", "mine.pub")
    assert (code, out) == (1, "unsigned: model.sig: it is not there\n")
    assert err.splitlines()[0] == "nnx: p is not what it should be: 1 fault."
    signature.sign(place / "p", place / "mine.key")
    code, out, err = nnx("verify", "p", "--trust", "mine.pub", "--json")
    assert code == 0, err
    assert json.loads(out)["signed_by"] == made["fingerprint"]
    (place / "p" / "README.md").write_text("changed")
    (place / "p" / "more").write_text("more")
    code, out, _ = nnx("verify", "p", "--trust", "mine.pub", "--json")
    assert code == 1
    assert [(fault["kind"], fault["file"]) for fault in json.loads(out)["faults"]] == [
        ("changed", "README.md"),
        ("extra", "more"),
    ]


def test_what_nnx_packs_is_signed_and_still_passes_its_own_test(place: Path, nnx: Nnx) -> None:
    small_model.write(place / "m.onnx")
    assert nnx("pack", "m.onnx", "-o", "m.ortpackage")[0] == 0
    assert nnx("keys", "new", "mine")[0] == 0
    signature.sign(place / "m.ortpackage", place / "mine.key")
    code, out, err = nnx("verify", "m.ortpackage", "--trust", "mine.pub")
    assert code == 0, out + err
    runner = [sys.executable, "m.ortpackage/runners/python/run.py", "--self-test"]
    assert subprocess.run(runner, capture_output=True, check=False).returncode == 0
    assert nnx("verify", "m.ortpackage", "--trust", "mine.pub")[0] == 0  # the runner left nothing in it


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["keys", "new", "there"], 2, "there.key is there already"),
        (["keys", "old", "name"], 2, "'old' is not 'new'"),
        (["keys", "new", "p"], 2, "is a directory"),
        (["verify", "nothing"], 2, "no package nothing"),
        (["verify", "there.key"], 2, "no folder, and no .tar or .zip"),
        (["verify", "empty"], 2, "is no package"),
        (["verify", "linked"], 2, "holds 'a', which is a link"),
        (["verify", "/dev/zero"], 2, "is a device"),
        (["verify", "p", "--trust", "none.pub"], 2, "no key none.pub"),
        (["verify", "p", "--trust", "p/README.md"], 2, "holds no public key"),
    ],
)
def test_bad_input_gets_a_sentence(arguments: list[str], code: int, said: str, place: Path, nnx: Nnx) -> None:
    (place / "there.key").write_text("mine")
    (place / "empty").mkdir()
    base_package.write(place / "linked")
    (place / "linked" / "a").symlink_to("README.md")
    got, out, err = nnx(*arguments)
    assert (got, out) == (code, "")
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err


@pytest.mark.parametrize("missing", ["cryptography", "model_signing", "OpenSSL"])
def test_without_the_extra_it_is_said_what_to_install(missing: str, place: Path) -> None:
    def run(code: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", WITHOUT.format(missing=missing, root=str(ROOT)) + code]
        return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)

    install = "pip install 'nnx-toolchain[sign]'."
    assert run(SIGN).stdout == f"This needs {missing}, which is not installed. {install} 3\n"
    assert not (place / "p" / SIGNATURE).exists()
    (place / "k.pub").write_text("key")
    for arguments, code in ((["verify", "p"], 0), (["verify", "p", "--trust", "k.pub"], 3), (["keys", "new", "k"], 3)):
        if code == 0 or missing == "cryptography":  # signing alone takes the others
            ended = run(f"from toolchain.cli import main; main({arguments})")
            assert ended.returncode == code, ended.stderr
            assert (install in ended.stderr) == (code == 3)
