"""One verdict on a folder or an archive; nothing heavy is loaded for it before it is needed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain.errors import BadUsage
from toolchain.shipping import keys, signature, verification
from toolchain.shipping.bad_package import BadPackage

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_a_signed_package_is_whole_however_it_is_sent(
    kind: str, package: Path, pair: keys.Pair, tmp_path: Path
) -> None:
    signature.sign(package, pair.private)
    sent = package
    if kind != "folder":
        sent = Path(shutil.make_archive(str(tmp_path / "sent"), kind, package.parent, package.name))
    verdict = verification.verify(sent, pair.public)
    assert verdict.sound
    assert (verdict.signed_by, verdict.has_signature, verdict.package) == (pair.fingerprint, True, str(sent))
    assert verdict.files == sum(path.is_file() for path in package.rglob("*"))
    told = json.loads(verdict.to_json())
    assert (told["schema_version"], told["sound"], told["faults"]) == (1, True, [])
    assert "signed by" in verification.lines(verdict)[1]
    assert "was not looked at" in verification.lines(verification.verify(sent))[1]


def test_without_a_key_an_unsigned_package_is_whole_and_that_is_said(package: Path) -> None:
    verdict = verification.verify(package)
    assert verdict.sound and verdict.signed_by is None
    assert verification.lines(verdict)[1].startswith("not signed")


def test_a_package_by_a_link_is_the_one_that_it_leads_to(package: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(package)
    assert verification.verify(tmp_path / "current").sound


def test_what_is_no_package_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadPackage, match="is no package"):
        verification.verify(tmp_path / "folder")
    with pytest.raises(BadUsage, match="There is no package"):
        verification.verify(tmp_path / "nothing")


def test_checksums_that_are_gone_or_none_are_named(package: Path) -> None:
    (package / "SHA256SUMS").write_text("hello\n")
    (fault,) = verification.verify(package).faults
    assert (str(fault.kind), fault.file, fault.why) == (
        "unfit", "SHA256SUMS", "it has no checksum and name in line 1",
    )  # fmt: skip
    (package / "SHA256SUMS").unlink()
    (fault,) = verification.verify(package).faults
    assert (str(fault.kind), fault.file) == ("missing", "SHA256SUMS")


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    command = [sys.executable, "-c", "import sys, toolchain.shipping.verification; print(*sys.modules)"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())
    assert "toolchain.shipping.signature" in loaded
    assert not loaded & {"torch", "onnxruntime", "onnx", "jsonschema", "cryptography", "model_signing"}
