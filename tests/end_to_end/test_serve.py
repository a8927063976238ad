"""`nnx serve`: the real command on a real port, to its end by SIGTERM; what it refuses, and with which exit code."""

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from tests.contract.shipping.conftest import write_net
from tests.served import Serve, servers
from tests.unit.serving.asking import body_of
from toolchain.shipping import contents, keys, packing, signature
from toolchain.shipping.packing import Title

Nnx = Callable[..., tuple[int, str, str]]
INFER = "/v2/models/net/infer"
LOOP = """
<ir_version: 9, opset_import: ["": 18]>
net (float[N, 4] x, int64[1] rounds) => (float[N, 4] y)
<bool go = {1}>
{
    count = Squeeze(rounds)
    y = Loop(count, go, x) <body = step (int64 i, bool more, float[M, 4] a) => (bool again, float[M, 4] b) {
        again = Identity(more)
        b = Neg(a)
    }>
}
"""
"""As long as one likes: three million rounds take some ten seconds."""


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    with servers() as start:
        yield start


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    given = contents.of_models([write_net(folder / "net.onnx")])
    return packing.pack(given, folder / "net.ortpackage", Title(name="net")).path


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slow")
    onnx.save(parser.parse_model(LOOP), folder / "net.onnx")
    np.savez(folder / "samples.npz", x=np.ones((1, 1, 4), np.float32), rounds=np.ones((1, 1), np.int64))
    given = contents.of_models([folder / "net.onnx"], samples_source=str(folder / "samples.npz"))
    return packing.pack(given, folder / "net.ortpackage", Title(name="net")).path


def rounds(count: int) -> bytes:
    return body_of({"x": np.ones((1, 4), np.float32), "rounds": np.array([count], np.int64)})[0]


def test_a_call_that_takes_too_long_is_ended_and_the_next_is_answered(slow: Path, serve: Serve) -> None:
    server = serve(slow, "--within", "1s")
    started = time.monotonic()
    assert server.ask("POST", INFER, rounds(10**9))[0] == 504
    assert server.ask("POST", INFER, rounds(3))[0] == 200
    assert time.monotonic() - started < 20
    assert server.stop()[0] == 0


def test_who_leaves_ends_their_call(slow: Path, serve: Serve) -> None:
    server = serve(slow, "--within", "100s")
    body = rounds(10**9)
    with socket.create_connection(("127.0.0.1", server.port)) as leaving:
        leaving.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.5)
    assert server.ask("POST", INFER, rounds(3))[0] == 200
    assert server.stop()[0] == 0


def test_a_second_signal_ends_it_at_once(slow: Path, serve: Serve) -> None:
    server = serve(slow, "--within", "100s")
    body = rounds(10**9)
    with socket.create_connection(("127.0.0.1", server.port)) as waiting:
        waiting.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1)  # what was taken on is to be answered
        assert server.stop()[0] == 0


def test_it_answers_until_it_is_told_to_stop(package: Path, serve: Serve) -> None:
    server = serve(package, "--max-batch", 4)
    assert server.told["variant"] == "fp32"
    assert server.told["max_batch"] == 4
    assert server.ask("GET", "/v2/health/ready")[0] == 200
    array = np.arange(8, dtype=np.float32).reshape(2, 4)
    body, length = body_of({"x": array}, binary="x")
    status, _, content = server.ask("POST", INFER, body, inference_header_content_length=str(length))
    assert (status, json.loads(content)["outputs"][0]["shape"]) == (200, [2, 3])
    assert server.ask("POST", INFER, b"{")[0] == 400
    code, said = server.stop()
    assert code == 0
    assert "answered: 2 with 200, 1 with 400" in said


def test_what_was_taken_on_is_answered_before_it_ends(package: Path, serve: Serve) -> None:
    """Requests without a pause in four threads: of those that were sent whole, none is without an answer."""
    server = serve(package)
    body, _ = body_of({"x": np.ones((1, 4), np.float32)})
    outcomes: list[object] = []

    def ask() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            while True:
                try:
                    connection.request("POST", INFER, body)
                    answer = connection.getresponse()
                except ConnectionError:
                    return  # it closed between two requests, as every server may
                outcomes.append((answer.status, len(json.loads(answer.read())["outputs"])))
                if answer.getheader("connection") == "close":
                    return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    code, said = server.stop()
    for thread in threads:
        thread.join(30)
    assert code == 0
    assert len(outcomes) > 10
    assert set(outcomes) == {(200, 1)}
    assert f"answered: {len(outcomes)} with 200" in said


def test_half_a_request_holds_nobody_up(package: Path, serve: Serve) -> None:
    server = serve(package, "--within", "1s", "--max-size", "1KB")
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert server.ask("GET", "/v2/health/ready")[0] == 200
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    status, _, content = server.ask("POST", INFER, b"a" * 2_000_000)
    assert status == 413
    assert json.loads(content)["error"].startswith("The body has more than 1000 bytes")
    assert server.stop()[0] == 0


def test_what_cannot_be_served(package: Path, tmp_path: Path, nnx: Nnx) -> None:
    assert nnx("serve", tmp_path)[0] == 2
    assert nnx("serve", tmp_path / "none")[0] == 2
    code, _, said = nnx("serve", package, "--variant", "int8")
    assert (code, "has no variant 'int8'" in said) == (2, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, said = nnx("serve", package, "--port", taken.getsockname()[1])
    assert (code, "cannot be had" in said) == (2, True)
    code, _, said = nnx("serve", package, "--host", "203.0.113.1")
    assert (code, "cannot be had" in said) == (2, True)
    harmed = Path(shutil.copytree(package, tmp_path / "net.ortpackage"))
    (harmed / "extra").touch()
    assert nnx("serve", harmed)[0] == 1


def test_only_what_a_trusted_key_has_signed(package: Path, tmp_path: Path, nnx: Nnx, serve: Serve) -> None:
    signed = Path(shutil.copytree(package, tmp_path / "net.ortpackage"))
    pair, other = keys.new(tmp_path / "release"), keys.new(tmp_path / "other")
    signature.sign(signed, pair.private)
    assert nnx("serve", package, "--trust", pair.public)[0] == 1
    assert nnx("serve", signed, "--trust", other.public)[0] == 1
    assert serve(signed, "--trust", pair.public).stop()[0] == 0
