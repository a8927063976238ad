"""Registries that break off, lie, or send what does harm: the package is whole or not there."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hard import base_package
from tests import device_folder, hostile_registry
from tests.hostile_registry import HostileRegistry, Request
from toolchain.errors import BadUsage, CheckFailed, NotAvailable
from toolchain.shipping.bad_package import BadPackage
from toolchain.shipping.registry import client, connections, pulling, pushing
from toolchain.shipping.registry.pulling import Pulled


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return device_folder.version(tmp_path_factory.mktemp("packages") / "a.ortpackage", "a")


@pytest.fixture
def registry(package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HostileRegistry]:
    monkeypatch.setattr(pulling, "_PAUSE_S", 0.0)
    monkeypatch.setattr(client, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with hostile_registry.running() as made:
        made.hold(package)
        yield made


def pull(registry: HostileRegistry, folder: Path) -> Pulled:
    return pulling.pull(registry.address, folder / "small.ortpackage", plain_http=True)


def same(one: Path, other: Path) -> bool:
    def held(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return held(one) == held(other)


def nothing_in(folder: Path) -> bool:
    return not list(folder.iterdir())


def breaking_off(registry: HostileRegistry, times: int, after: int = 2**20) -> None:
    """The largest file's first ``times`` answers end after so many bytes."""
    left, content = [times], registry.blobs[registry.largest()]

    def answer(request: Request) -> None:
        left[0] -= 1
        request.part(content, after if left[0] >= 0 else None)

    registry.answers["GET", registry.largest()] = answer


# --- what breaks off


def test_a_download_that_breaks_off_goes_on_where_it_was(
    registry: HostileRegistry, package: Path, tmp_path: Path
) -> None:
    breaking_off(registry, 2)
    pulled = pull(registry, tmp_path)
    assert same(pulled.folder, package)
    ranges = [headers.get("Range") for _, path, headers in registry.asked if registry.largest() in path]
    assert ranges == [None, f"bytes={2**20}-", f"bytes={2**21}-"]
    assert pulled.fetched_bytes == sum(len(registry.blobs[each]) for each in fetched(registry))


def fetched(registry: HostileRegistry) -> set[str]:
    return {path.rpartition("/")[2] for method, path, _ in registry.asked if method == "GET" and "/blobs/" in path}


def test_what_arrived_of_a_pull_that_failed_is_not_fetched_again(
    registry: HostileRegistry, package: Path, tmp_path: Path
) -> None:
    breaking_off(registry, 1)
    answer = registry.answers["GET", registry.largest()]
    registry.answers["GET", registry.largest()] = lambda request: (
        answer(request) if "Range" not in request.headers else request.part(b"", 0)
    )
    with pytest.raises(NotAvailable, match="broke off"):
        pull(registry, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".small.ortpackage.arrived"]
    registry.answers.clear()
    registry.asked.clear()
    pulled = pull(registry, tmp_path)
    assert same(pulled.folder, package)
    assert registry.largest() in fetched(registry)
    assert pulled.fetched_bytes < len(registry.blobs[registry.largest()])
    assert [path.name for path in tmp_path.iterdir()] == ["small.ortpackage"]


def test_parts_that_are_not_known_are_fetched_from_the_beginning(
    registry: HostileRegistry, package: Path, tmp_path: Path
) -> None:
    content, calls = registry.blobs[registry.largest()], []

    def answer(request: Request) -> None:
        calls.append(request.headers.get("Range"))
        del request.headers["Range"]
        request.part(content, 1000 if len(calls) == 1 else None)

    registry.answers["GET", registry.largest()] = answer
    assert same(pull(registry, tmp_path).folder, package)
    assert calls == [None, "bytes=1000-"]


def test_another_part_than_was_asked_for_is_refused(registry: HostileRegistry, tmp_path: Path) -> None:
    content = registry.blobs[registry.largest()]
    registry.answers["GET", registry.largest()] = lambda request: (
        request.answer(206, content[5:], Content_Range=f"bytes 5-{len(content) - 1}/{len(content)}")
        if "Range" in request.headers
        else request.part(content, 1000)
    )
    with pytest.raises(NotAvailable, match="another part"):
        pull(registry, tmp_path)


def test_what_lies_damaged_where_it_arrived_is_fetched_again(
    registry: HostileRegistry, package: Path, tmp_path: Path
) -> None:
    arrived = tmp_path / ".small.ortpackage.arrived"
    arrived.mkdir()
    name = registry.largest().removeprefix("sha256:")
    (arrived / f"{name}.part").write_bytes(bytes(1000))
    other = next(each for each in registry.blobs if each != registry.largest()).removeprefix("sha256:")
    (arrived / other).write_bytes(b"half")
    assert same(pull(registry, tmp_path).folder, package)


def test_a_registry_that_is_busy_is_asked_again(registry: HostileRegistry, package: Path, tmp_path: Path) -> None:
    left = [2]

    def answer(request: Request) -> None:
        left[0] -= 1
        request.part(registry.manifest) if left[0] < 0 else request.answer(503)

    registry.answers["GET", "/manifests/"] = answer
    assert same(pull(registry, tmp_path).folder, package)
    left[0] = 100
    with pytest.raises(NotAvailable, match="503"):
        pull(registry, tmp_path)


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"]
)
def test_what_is_no_registry_is_not_available(registry: HostileRegistry, tmp_path: Path, said: bytes) -> None:
    def answer(request: Request) -> None:
        request.wfile.write(said)
        request.close_connection = True

    registry.answers["GET", "/manifests/"] = answer
    with pytest.raises(NotAvailable, match="broke off"):
        pull(registry, tmp_path)
    assert nothing_in(tmp_path)


def test_a_registry_that_says_nothing_is_given_up(
    registry: HostileRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_TIMEOUT_S", 0.2)
    registry.answers["GET", "/manifests/"] = lambda request: time.sleep(2)
    with pytest.raises(NotAvailable, match="does not answer"):
        pull(registry, tmp_path)


# --- what lies


def test_a_file_of_another_content_is_not_kept(registry: HostileRegistry, tmp_path: Path) -> None:
    content = bytearray(registry.blobs[registry.largest()])
    content[5] ^= 1
    registry.answers["GET", registry.largest()] = lambda request: request.part(bytes(content))
    with pytest.raises(CheckFailed, match="not what its manifest says"):
        pull(registry, tmp_path)
    assert not (tmp_path / "small.ortpackage").exists()
    registry.answers.clear()
    pull(registry, tmp_path)


def test_an_endless_file_ends_where_the_manifest_says(registry: HostileRegistry, tmp_path: Path) -> None:
    name = next(each for each in registry.blobs if len(registry.blobs[each]) < 1000)

    def answer(request: Request) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(10_000):
            request.wfile.write(bytes(2**20))

    registry.answers["GET", name] = answer
    with pytest.raises(CheckFailed, match="larger than its manifest says"):
        pull(registry, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 4 * 2**20


def test_a_manifest_of_100_mb_is_not_read(registry: HostileRegistry, tmp_path: Path) -> None:
    registry.manifest = b'{"layers": [' + bytes(100 * 2**20)
    with pytest.raises(BadUsage, match="manifest of more than 4 MB"):
        pull(registry, tmp_path)
    assert nothing_in(tmp_path)


def test_a_digest_is_held_against_what_comes(registry: HostileRegistry, tmp_path: Path) -> None:
    registry.answers["GET", "/manifests/1"] = lambda request: request.answer(
        200, registry.manifest, Docker_Content_Digest="sha256:" + "0" * 64
    )
    with pytest.raises(CheckFailed, match="calls sha256:0000"):
        pull(registry, tmp_path)
    named = registry.address.__class__(registry.place, "small", None, "sha256:" + "1" * 64)
    with pytest.raises(CheckFailed, match="calls sha256:1111"):
        pulling.pull(named, tmp_path / "small.ortpackage", plain_http=True)
    assert nothing_in(tmp_path)


def _named(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["layers"][0]["annotations"].update({"org.cncf.model.filepath": name})


@pytest.mark.parametrize(
    "name",
    ["../out", "/etc/passwd", "a/../../out", "nnx\\package.json", "con", "readme.md", "nnx", "a\x1b[2J", "", "a//b"],
)
def test_names_that_lead_elsewhere_are_refused(registry: HostileRegistry, tmp_path: Path, name: str) -> None:
    if name == "readme.md":
        registry.change(lambda manifest: manifest["layers"].append(_copy(manifest["layers"][0], name)))
    else:
        registry.change(_named(name))
    with pytest.raises(BadPackage):
        pull(registry, tmp_path)
    assert nothing_in(tmp_path)


def _copy(layer: dict[str, Any], name: str) -> dict[str, Any]:
    return {**layer, "annotations": {"org.cncf.model.filepath": name}}


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "an image": lambda manifest: manifest["config"].update(mediaType="application/vnd.oci.image.config.v1+json"),
    "an index": lambda manifest: [manifest.pop("layers"), manifest.update(manifests=[])],
    "another kind of model": lambda manifest: manifest.update(artifactType="application/vnd.docker.ai"),
    "packed layers": lambda manifest: manifest["layers"][0].update(
        mediaType="application/vnd.cncf.model.weight.v1.tar+gzip"
    ),
    "a negative size": lambda manifest: manifest["layers"][0].update(size=-1),
    "a huge size": lambda manifest: manifest["layers"][0].update(size=10**30),
    "a fraction": lambda manifest: manifest["layers"][0].update(size=4.0),
    "another hash": lambda manifest: manifest["layers"][0].update(digest="md5:00"),
    "a digest that is a path": lambda manifest: manifest["layers"][0].update(digest="sha256:../../../../etc/passwd"),
    "no names": lambda manifest: manifest["layers"][0].pop("annotations"),
    "no layers": lambda manifest: manifest.update(layers=[]),
    "too many layers": lambda manifest: manifest.update(layers=manifest["layers"][:1] * 10_001),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_package_is_refused(registry: HostileRegistry, tmp_path: Path, change: str) -> None:
    registry.change(CHANGES[change])
    with pytest.raises(BadUsage, match="is no package"):
        pull(registry, tmp_path)
    assert nothing_in(tmp_path)


@pytest.mark.parametrize("manifest", [b"", b"[" * 100_000, b"null", b'{"schemaVersion": NaN}', b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(registry: HostileRegistry, tmp_path: Path, manifest: bytes) -> None:
    registry.manifest = manifest
    with pytest.raises(BadUsage, match="is no package"):
        pull(registry, tmp_path)


def test_a_package_larger_than_the_disk_is_not_begun(registry: HostileRegistry, tmp_path: Path) -> None:
    registry.change(lambda manifest: manifest["layers"][0].update(size=2**52))
    with pytest.raises(NotAvailable, match="MB more"):
        pull(registry, tmp_path)
    assert not fetched(registry)


def test_a_whole_delivery_of_something_else_is_not_kept(registry: HostileRegistry, tmp_path: Path) -> None:
    """Every digest of the manifest's is right, and a file that SHA256SUMS lists is not among them."""
    registry.change(lambda manifest: manifest["layers"].pop(0))
    with pytest.raises(CheckFailed, match=r"README\.md is missing"):
        pull(registry, tmp_path)
    assert nothing_in(tmp_path)


def test_a_package_that_is_there_stays_when_another_is_refused(
    registry: HostileRegistry, package: Path, tmp_path: Path
) -> None:
    pulled = pull(registry, tmp_path)
    registry.hold(device_folder.version(tmp_path / "b", "b"))
    content = bytearray(registry.blobs[registry.largest()])
    content[5] ^= 1
    registry.answers["GET", registry.largest()] = lambda request: request.part(bytes(content))
    with pytest.raises(CheckFailed):
        pull(registry, tmp_path)
    assert same(pulled.folder, package)


def test_what_a_registry_says_moves_no_cursor(registry: HostileRegistry, tmp_path: Path) -> None:
    registry.answers["GET", "/manifests/"] = lambda request: request.answer(
        404, json.dumps({"errors": [{"message": "\x1b[2Jgone\n" * 1000}]}).encode()
    )
    with pytest.raises(BadUsage) as caught:
        pull(registry, tmp_path)
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 400


# --- where it leads


def test_redirects_are_followed_without_what_only_the_registry_may_know(
    registry: HostileRegistry, package: Path, tmp_path: Path
) -> None:
    log_in(tmp_path, registry.place)
    registry.answers["GET", "/manifests/"] = lambda request: (
        request.part(registry.manifest)
        if "Authorization" in request.headers
        else request.answer(401, WWW_Authenticate='Basic realm="here"')
    )
    with hostile_registry.running() as storage:
        storage.blobs = registry.blobs
        registry.answers["GET", "/blobs/"] = lambda request: request.answer(
            307, Location=f"http://{storage.place}{request.path}"
        )
        assert same(pull(registry, tmp_path).folder, package)
        assert all("Authorization" in headers for method, _, headers in registry.asked[1:])
        assert storage.asked
        assert not any("Authorization" in headers for _, _, headers in storage.asked)


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "", "{itself}", "http://[", "http://h:99999/", "http://h/é"],
)
def test_redirects_that_lead_nowhere_end(registry: HostileRegistry, tmp_path: Path, location: str) -> None:
    registry.answers["GET", "/blobs/"] = lambda request: request.answer(
        302, Location=location.replace("{itself}", request.path)
    )
    with pytest.raises(NotAvailable, match=r"leads nowhere|no place to ask"):
        pull(registry, tmp_path)
    assert len(registry.asked) < 10


# --- who one is


def log_in(folder: Path, place: str, **entry: str) -> None:
    (folder / "docker").mkdir()
    told = entry or {"auth": base64.b64encode(b"somebody:open sesame").decode()}
    (folder / "docker" / "config.json").write_text(json.dumps({"auths": {place: told}}))


def wants_token(registry: HostileRegistry, realm: str | None = None) -> None:
    def manifest(request: Request) -> None:
        if request.headers.get("Authorization") == "Bearer good":
            request.part(registry.manifest)
        else:
            where = realm or f"http://{registry.place}/token?a=b"
            challenge = f'Bearer realm="{where}",service="here",scope="repository:small:pull,push"'
            request.answer(401, WWW_Authenticate=challenge)

    registry.answers["GET", "/manifests/"] = manifest


def test_a_token_is_fetched_for_a_password(registry: HostileRegistry, package: Path, tmp_path: Path) -> None:
    log_in(tmp_path, registry.place)
    wants_token(registry)
    registry.answers["GET", "/token"] = lambda request: request.answer(200, b'{"token": "good"}')
    assert same(pull(registry, tmp_path).folder, package)
    (asked,) = [(path, headers) for _, path, headers in registry.asked if path.startswith("/token")]
    assert asked[0] == "/token?a=b&service=here&scope=repository%3Asmall%3Apull%2Cpush"
    assert asked[1]["Authorization"] == "Basic " + base64.b64encode(b"somebody:open sesame").decode()


def test_a_token_is_fetched_for_a_token_and_for_nobody(
    registry: HostileRegistry, package: Path, tmp_path: Path
) -> None:
    wants_token(registry)
    registry.answers["GET", "/token"] = lambda request: request.answer(200, b'{"access_token": "good"}')
    assert same(pull(registry, tmp_path).folder, package)
    log_in(tmp_path, registry.place, identitytoken="long lived")
    sent = []

    def answer(request: Request) -> None:
        sent.append(request.rfile.read(int(request.headers["Content-Length"])))
        request.answer(200, b'{"access_token": "good"}')

    registry.answers["POST", "/token"] = answer
    assert same(pull(registry, tmp_path).folder, package)
    assert b"refresh_token=long+lived" in sent[0]


@pytest.mark.parametrize(
    "said", [b"", b"{}", b'{"token": 5}', b'{"token": "a\\r\\nHost: b"}', b"[]", b'{"token": null}']
)
def test_what_is_no_token_is_not_sent(registry: HostileRegistry, tmp_path: Path, said: bytes) -> None:
    wants_token(registry)
    registry.answers["GET", "/token"] = lambda request: request.answer(200, said)
    with pytest.raises(NotAvailable, match="gives no token"):
        pull(registry, tmp_path)


def test_who_is_not_known_is_told_so(registry: HostileRegistry, tmp_path: Path) -> None:
    log_in(tmp_path, registry.place)
    wants_token(registry)
    registry.answers["GET", "/token"] = lambda request: request.answer(401)
    with pytest.raises(BadUsage, match="does not know you"):
        pull(registry, tmp_path)
    registry.answers["GET", "/token"] = lambda request: request.answer(200, b'{"token": "bad"}')
    with pytest.raises(BadUsage, match="does not know you"):
        pull(registry, tmp_path)
    for realm in ("ftp://127.0.0.1/", "http://[", "", "/token"):
        wants_token(registry, realm=realm or " ")
        with pytest.raises(NotAvailable, match="no place to ask"):
            pull(registry, tmp_path)


# --- what is sent


def takes_uploads(registry: HostileRegistry, answer: Callable[[Request, bytearray, list[int]], None]) -> bytearray:
    """A registry that has all but the largest file; ``answer`` treats what is sent of that one."""
    largest, taken, calls = registry.largest(), bytearray(), [0]
    del registry.blobs[largest]
    registry.answers["POST", "/uploads/"] = lambda request: request.answer(202, Location="/v2/small/blobs/uploads/1")

    def patch(request: Request) -> None:
        calls[0] += 1
        answer(request, taken, calls)

    registry.answers["PATCH", "/uploads/"] = patch
    registry.answers["PUT", "/uploads/"] = lambda request: request.answer(
        201 if hostile_registry.digest(bytes(taken)) in request.path.replace("%3A", ":") else 400
    )
    registry.answers["PUT", "/manifests/"] = lambda request: request.answer(201)
    return taken


def take_all(request: Request, taken: bytearray) -> None:
    taken += request.rfile.read(int(request.headers["Content-Length"]))
    request.answer(202, Location=request.path)


@pytest.mark.parametrize("knows_how_far", [True, False])
def test_an_upload_that_breaks_off_goes_on(registry: HostileRegistry, package: Path, knows_how_far: bool) -> None:
    def answer(request: Request, taken: bytearray, calls: list[int]) -> None:
        if calls[0] > 1:
            if not knows_how_far:
                taken.clear()
            take_all(request, taken)
        else:
            taken += request.rfile.read(2**20)
            request.connection.close()
            request.close_connection = True

    taken = takes_uploads(registry, answer)
    registry.answers["GET", "/uploads/1"] = lambda request: (
        request.answer(204, Range=f"0-{len(taken) - 1}", Location=request.path)
        if knows_how_far
        else request.answer(404)
    )
    pushing.push(package, registry.address, plain_http=True)
    ranges = [headers["Content-Range"].partition("-")[0] for method, _, headers in registry.asked if method == "PATCH"]
    assert ranges == ["0", str(2**20) if knows_how_far else "0"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://127.0.0.1/"])
def test_an_upload_goes_to_no_other_kind_of_place(registry: HostileRegistry, package: Path, location: str) -> None:
    takes_uploads(registry, lambda request, taken, calls: take_all(request, taken))
    registry.answers["POST", "/uploads/"] = lambda request: request.answer(202, Location=location)
    with pytest.raises(NotAvailable, match="no place to ask"):
        pushing.push(package, registry.address, plain_http=True)


def test_an_upload_that_came_further_than_it_is_begins_anew(registry: HostileRegistry, package: Path) -> None:
    def answer(request: Request, taken: bytearray, calls: list[int]) -> None:
        if calls[0] > 1:
            take_all(request, taken)
        else:
            request.connection.close()
            request.close_connection = True

    takes_uploads(registry, answer)
    registry.answers["GET", "/uploads/1"] = lambda request: request.answer(204, Range="0-99999999")
    pushing.push(package, registry.address, plain_http=True)


def test_an_upload_that_always_breaks_off_leaves_the_tag(registry: HostileRegistry, package: Path) -> None:
    def answer(request: Request, taken: bytearray, calls: list[int]) -> None:
        request.connection.close()
        request.close_connection = True

    takes_uploads(registry, answer)
    with pytest.raises(NotAvailable, match="broke off"):
        pushing.push(package, registry.address, plain_http=True)
    assert not [path for method, path, _ in registry.asked if method == "PUT"]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, BadUsage), (403, BadUsage), (413, BadUsage), (500, NotAvailable), (507, NotAvailable)]
)
def test_what_a_registry_does_not_take_is_said(
    registry: HostileRegistry, package: Path, status: int, kind: type[Exception]
) -> None:
    takes_uploads(registry, lambda request, taken, calls: take_all(request, taken))
    registry.answers["POST", "/uploads/"] = lambda request: request.answer(
        status, b'{"errors": [{"code": "DENIED", "message": "not today"}]}'
    )
    with pytest.raises(kind, match="not today"):
        pushing.push(package, registry.address, plain_http=True)


def test_a_package_that_is_not_whole_is_not_sent(registry: HostileRegistry, tmp_path: Path) -> None:
    package = base_package.write(tmp_path / "small")
    (package / "README.md").write_text("changed\n")
    with pytest.raises(CheckFailed, match="is not sent"):
        pushing.push(package, registry.address, plain_http=True)
    assert not registry.asked
