"""The ASGI application without a server and without a model: who is told what, and how much is taken on."""

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtimes.errors import RunFailed
from tests.unit.serving.asking import ONES, body_of, model
from toolchain.serving.app import App, Limits, Message
from toolchain.serving.batching import Batcher

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]
INFER = "/v2/models/net/infer"


class Model:
    """``y = 2x``, once :attr:`go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.rows: list[int] = []
        self.error: Exception | None = None

    def start(self, feeds: Outputs) -> tuple[Callable[[], Outputs], Callable[[], None]]:
        return lambda: self.run(feeds), lambda: None

    def run(self, feeds: Outputs) -> Outputs:
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        self.rows.append(len(feeds["x"]))
        return {"y": feeds["x"] * 2}


@pytest.fixture
def net() -> Model:
    return Model()


@pytest.fixture
def app(net: Model) -> Iterator[Callable[..., App]]:
    """app(places=...) -> an application with these limits."""
    batchers = []

    def make(**limits: Any) -> App:
        batchers.append(Batcher(net.start, most_rows=8))
        return App(model(), batchers[-1], Limits(**limits))

    yield make
    net.go.set()
    for batcher in batchers:
        batcher.close()


class Client:
    """One request. What it sends comes in ``parts``, and after them nothing, or its departure."""

    def __init__(self, method: str, path: str, *parts: bytes, leaves: bool = False, **headers: str) -> None:
        names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.scope: Message = {"type": "http", "method": method, "path": path, "headers": names}
        bodies = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        if bodies and not leaves:
            bodies[-1]["more_body"] = False
        self._coming: list[Message] = [*bodies, *([{"type": "http.disconnect"}] if leaves else [])]
        self.status, self.headers, self.body = 0, dict[str, str](), b""

    async def receive(self) -> Message:
        if not self._coming:
            await asyncio.Event().wait()
        return self._coming.pop(0)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]

    async def of(self, app: App) -> "Client":
        await app(self.scope, self.receive, self.send)
        assert not self.status or int(self.headers["content-length"]) == len(self.body)
        return self

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def asked(app: App, *given: Any, **more: Any) -> Client:
    return asyncio.run(Client(*given, **more).of(app))


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/v2", 200, '"name":"nnx"'),
        ("/v2/", 200, '"binary_tensor_data"'),
        ("/v2/health/live", 200, ""),
        ("/v2/health/ready", 200, ""),
        ("/v2/models/net", 200, '"datatype":"FP32","shape":[-1,2]'),
        ("/v2/models/net/versions/1.0.0", 200, '"versions":["1.0.0"]'),
        ("/v2/models/net/ready", 200, ""),
        ("/v2/models/net/versions/1.0.0/ready", 200, ""),
        ("/v2/models/other", 404, "There is no model 'other' here, only 'net'."),
        ("/v2/models/other/infer", 404, "There is no model 'other' here, only 'net'."),
        ("/v2/models/net/versions/2", 404, "There is no such version of 'net' here, only 1.0.0."),
        ("/v2/models/net/config", 404, "There is no such place"),
        ("/", 404, "There is no such place"),
        ("", 404, "There is no such place"),
        (INFER, 405, "That is asked with POST."),
    ],
)
def test_what_there_is_to_see(app: Callable[..., App], path: str, status: int, told: str) -> None:
    client = asked(app(), "GET", path)
    assert client.status == status
    assert told in client.body.decode()
    if status != 200:
        assert list(client.json) == ["error"]


def test_other_methods_are_named(app: Callable[..., App]) -> None:
    client = asked(app(), "POST", "/v2/models/net", b"")
    assert (client.status, client.headers["allow"]) == (405, "GET, HEAD")


def test_one_that_stops_is_alive_and_not_ready(app: Callable[..., App]) -> None:
    served = app()
    served.ready = False
    health = {path: asked(served, "GET", path).status for path in ("/v2/health/live", "/v2/health/ready")}
    assert health == {"/v2/health/live": 200, "/v2/health/ready": 400}
    assert asked(served, "GET", "/v2/models/net/ready").status == 400
    assert asked(served, "POST", INFER, body_of({"x": ONES})[0]).status == 200  # what comes is answered


@pytest.mark.parametrize("path", [INFER, "/v2/models/net/versions/1.0.0/infer"])
def test_an_answer_in_json(app: Callable[..., App], path: str) -> None:
    client = asked(app(), "POST", path, body_of({"x": ONES * 3}, id="a")[0])
    assert (client.status, client.headers["content-type"]) == (200, "application/json")
    output = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [6.0, 6.0]}
    assert client.json == {"model_name": "net", "model_version": "1.0.0", "id": "a", "outputs": [output]}


def test_an_answer_in_bytes_to_bytes_in_parts(app: Callable[..., App]) -> None:
    array = np.arange(4, dtype=np.float32).reshape(2, 2)
    body, length = body_of({"x": array}, binary="x", parameters={"binary_data_output": True})
    parts = [body[:7], b"", body[7:]]
    client = asked(app(), "POST", INFER, *parts, inference_header_content_length=str(length))
    assert (client.status, client.headers["content-type"]) == (200, "application/octet-stream")
    header = int(client.headers["inference-header-content-length"])
    assert client.body[header:] == (array * 2).tobytes()


def test_a_large_body_packed_or_not(app: Callable[..., App]) -> None:
    array = np.arange(40_000, dtype=np.float32).reshape(-1, 2)
    body, _ = body_of({"x": array})
    for given, headers in ((body, {}), (gzip.compress(body), {"content_encoding": "gzip"})):
        client = asked(app(), "POST", INFER, given, **headers)
        assert client.json["outputs"][0]["data"] == (array * 2).ravel().tolist()


@pytest.mark.parametrize(
    ("parts", "headers", "status"),
    [
        ((b"{}",), {}, 400),
        ((b"{}",), {"inference_header_content_length": "x"}, 400),
        ((b"{}",), {"inference_header_content_length": "-1"}, 400),
        ((b"{}",), {"content_encoding": "br"}, 415),
        ((b"a" * 1001,), {}, 413),
        ((b"a" * 600, b"a" * 600), {}, 413),
        ((), {"content_length": "1001"}, 413),
        ((), {"content_length": "9" * 30}, 400),
        ((gzip.compress(bytes(1001)),), {"content_encoding": "gzip"}, 413),
    ],
)
def test_what_is_not_read(app: Callable[..., App], parts: tuple[bytes], headers: dict[str, str], status: int) -> None:
    client = asked(app(most_bytes=1000), "POST", INFER, *parts, **headers)
    assert client.status == status
    assert client.json["error"].endswith(".")


def test_a_body_that_does_not_come_is_not_waited_for(app: Callable[..., App]) -> None:
    client = asked(app(within_s=0.05), "POST", INFER)
    assert (client.status, client.headers["connection"]) == (408, "close")


def test_an_answer_that_takes_too_long_is_not_waited_for(app: Callable[..., App], net: Model) -> None:
    net.go.clear()
    assert asked(app(within_s=0.1), "POST", INFER, body_of({"x": ONES})[0]).status == 504


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (RunFailed("There is no such row.", "Do."), 400, "The model cannot answer that. There is no such row."),
        (MemoryError(), 500, "There is not enough memory."),
        (KeyError("x"), 500, "A fault of nnx: KeyError."),
    ],
)
def test_what_a_run_raises(app: Callable[..., App], net: Model, error: Exception, status: int, told: str) -> None:
    net.error = error
    client = asked(app(), "POST", INFER, body_of({"x": ONES})[0])
    assert (client.status, client.json) == (status, {"error": told})


def test_more_than_the_places_are_told_to_come_later_and_the_others_run_together(
    app: Callable[..., App], net: Model
) -> None:
    """Six run or wait, two are too many; then all places are free again."""
    served = app(places=6)
    body = body_of({"x": ONES})[0]

    async def crowd() -> list[Client]:
        net.go.clear()
        clients = [Client("POST", INFER, body) for _ in range(8)]
        tasks = [asyncio.create_task(client.of(served)) for client in clients]
        await asyncio.sleep(0.2)
        net.go.set()
        await asyncio.gather(*tasks)
        return clients

    for _ in range(2):
        clients = asyncio.run(crowd())
        assert sorted(client.status for client in clients) == [200] * 6 + [429] * 2
        assert {client.headers.get("retry-after") for client in clients if client.status == 429} == {"1"}
    assert sum(net.rows) == 12
    assert max(net.rows) >= 5
    assert served.answered == {200: 12, 429: 4}


def test_who_has_left_is_not_computed_for(app: Callable[..., App], net: Model) -> None:
    """While the first runs, the second comes, and leaves before its turn."""
    served = app()
    body = body_of({"x": ONES})[0]

    async def visits() -> tuple[Client, Client]:
        net.go.clear()
        first = asyncio.create_task(Client("POST", INFER, body).of(served))
        await asyncio.sleep(0.05)
        second = Client("POST", INFER, body)
        left = asyncio.Event()
        whole = second.receive

        async def receive() -> Message:
            if second._coming:
                return await whole()
            await left.wait()
            return {"type": "http.disconnect"}

        task = asyncio.create_task(served(second.scope, receive, second.send))
        await asyncio.sleep(0.1)
        left.set()
        await task  # it ends although the model does not
        net.go.set()
        return await first, second

    first, second = asyncio.run(visits())
    assert (first.status, second.status) == (200, 0)
    assert net.rows == [1]


def test_who_leaves_while_sending_is_forgotten(app: Callable[..., App], net: Model) -> None:
    served = app(places=1)
    assert asked(served, "POST", INFER, b'{"inp', leaves=True).status == 0
    assert asked(served, "POST", INFER, body_of({"x": ONES})[0]).status == 200
    assert net.rows == [1]
