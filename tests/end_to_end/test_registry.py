"""`nnx push` to a registry and `nnx pull` from one: exit codes, sentences, JSON, and what a kill leaves."""

import contextlib
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import base_image, device_folder, hostile_registry, registry_process
from tests.end_to_end import small_model
from tests.end_to_end.command import run_nnx, start_nnx
from tests.hostile_registry import Request
from tests.registry_process import Registry
from toolchain.shipping import checksums
from toolchain.shipping.registry.address import address

Nnx = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_process.running(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    device_folder.version(tmp_path / "a.ortpackage", "a")
    return tmp_path


def test_a_package_goes_to_a_registry_and_comes_back(place: Path, registry: Registry, nnx: Nnx) -> None:
    target = f"oci://{registry.place}/team/small:1"
    code, out, err = nnx("push", "a.ortpackage", target, "--dry-run")
    assert code == 0, err
    assert out.startswith(f"{target}: would be sent, 3.15")
    code, out, err = nnx("push", "a.ortpackage", target, "--json")
    assert code == 0, err
    pushed = json.loads(out)
    assert (pushed["target"], pushed["before"]) == (target, None)
    code, out, err = nnx("pull", target, "--json")
    assert code == 0, err
    pulled = json.loads(out)
    assert (pulled["digest"], pulled["package"]) == (pushed["digest"], "small.ortpackage")
    assert pulled["sha256"] == device_folder.sha256(place / "a.ortpackage")
    code, out, err = nnx("pull", f"{target}@{pulled['digest']}", "-o", "b.ortpackage")
    assert code == 0, err
    assert out.splitlines()[1] == pulled["digest"]
    device_folder.version(place / "b", "b")
    code, out, err = nnx("push", "b", target)
    assert code == 0, err
    assert f"before that the tag led to {pulled['digest']}" in out
    code, out, err = nnx("pull", f"{target}@{pulled['digest']}", "-o", "c.ortpackage")
    assert code == 1
    assert "by now" in err
    code, out, err = nnx("pull", f"oci://{registry.place}/team/small:2")
    assert code == 2
    assert "small:2 is not there" in err
    assert not (place / "c.ortpackage").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pull", "oci://host/a"], 2, "names no tag"),
        (["pull", "ssh://host/a"], 2, "is no place in a registry"),
        (["pull", "oci://localhost:1/a:1"], 3, "nothing answers there"),
        (["pull", "oci://localhost:1/a:1", "-o", "out"], 2, "does not end in .ortpackage"),
        (["pull", "oci://localhost:1/a:1", "-o", "full.ortpackage"], 2, "is no package of nnx"),
        (["pull", "oci://localhost:1/a:1", "--trust", "no.pub"], 2, "no.pub"),
        (["push", "a.ortpackage", "oci://localhost:1/a:1"], 3, "nothing answers there"),
        (["push", "a.ortpackage", "oci://localhost:1/A:1"], 2, "is no place in a registry"),
        (["push", "a.ortpackage", "oci://localhost:1/a:1", "file:///a"], 2, "one registry at a time"),
        (["push", "a.ortpackage", "oci://localhost:1/a:1", "--check", "true"], 2, "--check would do nothing"),
        (["push", "a.ortpackage", "file:///a", "--plain-http"], 2, "--plain-http would do nothing"),
        (["push", "--rollback", "oci://localhost:1/a:1"], 2, "--rollback would do nothing"),
        (["push", "nothing", "oci://localhost:1/a:1"], 2, "There is no package nothing"),
        (["push", "a.ortpackage", "oci://localhost:1/a:1", "--modelcar", "busybox"], 2, "is no place in a registry"),
        (["push", "a.ortpackage", "file:///a", "--emit", "mender", "-o", "new"], 2, "--device-type"),
        (["push", "a.ortpackage", "file:///a", "--emit", "rauc"], 2, "with -o where this is written"),
        (["push", "a.ortpackage", "file:///a", "--emit", "systemd-pull", "-o", "new"], 2, "is no place in a registry"),
        (
            ["push", "oci://h/a:1", "file:///a", "--emit", "systemd-pull", "-o", "full.ortpackage"],
            2,
            "is there already",
        ),
        (["push", "oci://h/a:1", "ssh://h/a", "--emit", "systemd-pull", "-o", "new"], 2, "is one machine"),
        (["push", "oci://h/a:1", "file:///a%20b", "--emit", "systemd-pull", "-o", "new"], 2, "no folder that every"),
        (["push", "oci://h/a:1", "file:///a", "--emit", "systemd-pull", "-o", "new", "--dry-run"], 2, "do nothing"),
        (["push", "a.ortpackage", "file:///a", "--every", "1h"], 2, "--every would do nothing"),
    ],
)
def test_bad_input_gets_a_sentence(arguments: list[str], code: int, said: str, place: Path, nnx: Nnx) -> None:
    (place / "full.ortpackage").mkdir()
    (place / "full.ortpackage" / "letters.txt").write_text("mine\n")
    ended, out, err = nnx(*arguments)
    assert (ended, out) == (code, "")
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err
    assert (place / "full.ortpackage" / "letters.txt").exists()


def test_what_kserve_serves_becomes_an_image(place: Path, registry: Registry, nnx: Nnx) -> None:
    base = f"oci://{registry.place}/busybox:1"
    base_image.put(address(base))
    small_model.write(place / "small.onnx")
    for engine in ("kserve", "triton"):
        code, _, err = nnx("pack", "small.onnx", "--target", engine, "-o", engine)
        assert code == 0, err
    target = f"oci://{registry.place}/car:1"
    code, out, err = nnx("push", "kserve", target, "--modelcar", base, "--json")
    assert code == 0, err
    (layer,) = [blob for blob in layers(registry, json.loads(out)["digest"]) if b"config.pbtxt" in blob]
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        names = set(archive.getnames())
    assert {"models/small/config.pbtxt", "models/small/1/model.onnx"} <= names
    assert not [name for name in names if "nnx.json" in name or "yaml" in name]
    code, out, err = nnx("push", "triton", target, "--modelcar", base)
    assert (code, out) == (2, "")
    assert "triton is for triton" in err
    code, out, err = nnx("push", "kserve", target, "--modelcar", base, "--trust", "small.onnx")
    assert (code, out) == (2, "")
    assert "--trust would do nothing" in err


def layers(registry: Registry, digest: str) -> list[bytes]:
    """Those of the first image of an index."""

    def blob(digest: str) -> bytes:
        found = digest.removeprefix("sha256:")
        return (registry.folder / f"docker/registry/v2/blobs/sha256/{found[:2]}/{found}/data").read_bytes()

    image = json.loads(blob(json.loads(blob(digest))["manifests"][0]["digest"]))
    return [blob(layer["digest"]) for layer in image["layers"]]


@pytest.mark.parametrize("kind", ["systemd-pull", "mender", "rauc"])
def test_what_carries_it_to_a_fleet_is_written(kind: str, place: Path, nnx: Nnx) -> None:
    pulls = kind == "systemd-pull"
    source = "oci://registry.example/team/digits:stable" if pulls else "a.ortpackage"
    more = ["--every", "5m"] if pulls else ["--device-type", "board"]
    code, out, err = nnx("push", source, "file:///var/lib/digits", "--emit", kind, "-o", f"fleet/{kind}", *more)
    assert code == 0, err
    assert f"fleet/{kind}/README.md says where it goes" in out
    assert "/var/lib/digits" in (place / "fleet" / kind / "README.md").read_text()
    if pulls:
        assert "OnUnitInactiveSec=300s" in (place / "fleet" / kind / "nnx-digits.timer").read_text()


@pytest.mark.slow
def test_a_push_that_is_killed_moves_no_tag_and_the_next_sends_the_rest(place: Path, registry: Registry) -> None:
    weights = place / "a.ortpackage" / "small" / "weights.bin"
    weights.write_bytes(os.urandom(2**20) * 128)
    checksums.write(place / "a.ortpackage")
    target = f"oci://{registry.place}/killed:1"
    process = start_nnx("push", "a.ortpackage", target, cwd=place)
    while arrived(registry) < 2**20 and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode < 0
    assert run_nnx("pull", target, cwd=place).returncode == 2
    ended = run_nnx("push", "a.ortpackage", target, "--json", cwd=place)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["before"] is None
    ended = run_nnx("pull", target, cwd=place)
    assert ended.returncode == 0, ended.stderr
    assert (place / "killed.ortpackage" / "small" / "weights.bin").read_bytes() == weights.read_bytes()


def arrived(registry: Registry) -> int:
    """Bytes of the upload that goes on."""
    size = 0
    for path in registry.folder.glob("docker/registry/v2/repositories/killed/_uploads/*/data"):
        with contextlib.suppress(FileNotFoundError):  # it is done
            size = max(size, path.stat().st_size)
    return size


def test_a_pull_that_is_killed_leaves_nothing_half_and_the_next_goes_on(place: Path) -> None:
    with hostile_registry.running() as registry:
        registry.hold(place / "a.ortpackage")
        content, sent, go_on = registry.blobs[registry.largest()], threading.Event(), threading.Event()

        def answer(request: Request) -> None:
            request.send_response(200)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content[: 2**21])
            sent.set()
            go_on.wait(60)
            request.close_connection = True

        registry.answers["GET", registry.largest()] = answer
        source = f"oci://{registry.place}/small:1"
        process = start_nnx("pull", source, cwd=place)
        assert sent.wait(60)
        arrived = place / ".small.ortpackage.arrived" / f"{registry.largest()[7:]}.part"
        while not arrived.exists() or arrived.stat().st_size < 2**20:
            assert process.poll() is None
        process.kill()
        process.communicate(timeout=30)
        go_on.set()
        assert not (place / "small.ortpackage").exists()
        registry.answers.clear()
        registry.asked.clear()
        ended = run_nnx("pull", source, "--json", cwd=place)
        assert ended.returncode == 0, ended.stderr
        (range_asked,) = [headers.get("Range") for _, path, headers in registry.asked if registry.largest() in path]
        assert range_asked is not None
        assert json.loads(ended.stdout)["fetched_bytes"] <= len(content) - 2**20 + 20_000
        assert {path.name for path in place.iterdir()} == {"a.ortpackage", "small.ortpackage"}
