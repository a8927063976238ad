"""Runners tell of a signature what nnx tells, where their language has the means."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hard import base_package
from tests.contract.shipping.conftest import Pack, write_net
from tests.contract.shipping.device_runners import node, run
from tests.unit.shipping.runner_signature import runner
from tests.unit.shipping.test_signature import BUNDLES, STATEMENTS, bundle_of, resign
from toolchain.shipping import checksums, keys, self_test, signature
from toolchain.shipping.package import SIGNATURE
from toolchain.shipping.targets import TARGETS


@pytest.fixture
def pair(tmp_path: Path) -> keys.Pair:
    return keys.new(tmp_path / "one")


@pytest.fixture
def signed(pack: Pack, tmp_path: Path, pair: keys.Pair) -> Path:
    targets = [TARGETS["node"], TARGETS["cpp"]]
    folder = pack(write_net(tmp_path / "net.onnx"), targets=targets).path
    signature.sign(folder, pair.private)
    return folder


def ended(language: str, folder: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    words = ["--self-test", *map(str, arguments)]
    if language != "python":
        return run(language, folder, *words)
    command = [sys.executable, str(folder / self_test.RUNNER), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def checks(language: str, folder: Path, key: Path) -> dict[str, tuple[bool, str]]:
    receipt = json.loads(ended(language, folder, "--trust", key).stdout)
    return {each["name"]: (each["ok"], each["detail"]) for each in receipt["checks"]}


@pytest.mark.parametrize("language", ["python", "node"])
def test_a_self_test_looks_at_the_signature_where_a_key_is_trusted(
    language: str, signed: Path, pair: keys.Pair, tmp_path: Path
) -> None:
    assert checks(language, signed, pair.public)["signature"] == (True, f"by {pair.fingerprint}")
    assert "signature" not in ended(language, signed).stdout.split('"onnxruntime fp32"')[0]
    other = keys.new(tmp_path / "other")
    _, why = checks(language, signed, other.public)["signature"]
    assert why == "wrongly signed: model.sig: it is signed with another key than the one that is trusted"
    (signed / "README.md").write_text("changed")
    (signed / "more.txt").write_text("more")
    (signed / "nnx/sbom.cdx.json").unlink()
    checksums.write(signed)
    found = checks(language, signed, pair.public)
    assert found["files"] == (True, "as in SHA256SUMS"), "whoever changes a package can write that anew"
    assert found["signature"] == (
        False, "changed: README.md; changed: SHA256SUMS; extra: more.txt; missing: nnx/sbom.cdx.json",
    )  # fmt: skip
    (signed / SIGNATURE).unlink()
    assert checks(language, signed, pair.public)["signature"] == (False, "unsigned: model.sig")


@pytest.mark.parametrize("language", ["python", "node", "cpp"])
def test_what_is_no_key_or_no_means_is_told_in_a_sentence(language: str, signed: Path, pair: keys.Pair) -> None:
    for key in (signed / "README.md", signed / "nothing.pub"):
        told = ended(language, signed, "--trust", key)
        assert told.returncode == (3 if language == "cpp" else 2)
        assert ("no signature" if language == "cpp" else "cannot be trusted") in told.stderr
        assert len(told.stderr.splitlines()) == 1


def test_node_judges_each_signature_as_python_does(signed: Path, pair: keys.Pair, tmp_path: Path) -> None:
    """All the other forms of bundle and statement, and signatures with a bit turned."""
    given = [b"", b"{}", b"[]", b"null", b"\xff", b'{"mediaType": NaN}', (signed / SIGNATURE).read_bytes()]
    folder = base_package.write(tmp_path / "small.ortpackage")
    signature.sign(folder, pair.private)
    whole = bundle_of(folder)
    for change in BUNDLES.values():
        bundle = json.loads(json.dumps(whole))
        change(bundle)
        given.append(json.dumps(bundle).encode())
    for change in STATEMENTS.values():
        shutil.copytree(folder, tmp_path / "again.ortpackage")
        resign(tmp_path / "again.ortpackage", pair.private, change)
        given.append((tmp_path / "again.ortpackage" / SIGNATURE).read_bytes())
        shutil.rmtree(tmp_path / "again.ortpackage")
    sig = base64.b64decode(whole["dsseEnvelope"]["signatures"][0]["sig"])
    for bit in range(0, 8 * len(sig), 7):
        turned = (int.from_bytes(sig, "big") ^ 1 << bit).to_bytes(len(sig), "big")
        whole["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(turned).decode()
        given.append(json.dumps(whole).encode())
    key = runner.public_key(pair.public.read_bytes())
    assert by_node(signed, pair.public, given) == [by_python(content, key) for content in given]


def by_python(content: bytes, key: Any) -> Any:
    try:
        return runner.signed(content, key)
    except ValueError as error:
        return str(error)


SCRIPT = """
import { readFileSync } from 'node:fs';
const [module, key, given] = process.argv.slice(2);
const { publicKey, signed } = await import(module);
const trusted = await publicKey(readFileSync(key, 'utf8')), told = [];
for (const text of JSON.parse(readFileSync(given, 'utf8'))) {
  told.push(await signed(Buffer.from(text, 'base64'), trusted).then(Object.fromEntries, (error) => error.message));
}
console.log(JSON.stringify(told));
"""


def by_node(package: Path, key: Path, given: list[bytes]) -> Any:
    program = node(package)[0]
    place = package.parent / "script.mjs"
    place.write_text(SCRIPT)
    (package.parent / "given.json").write_text(json.dumps([base64.b64encode(each).decode() for each in given]))
    module = package / "runners/node/signature.mjs"
    command = [program, str(place), str(module), str(key), str(package.parent / "given.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
