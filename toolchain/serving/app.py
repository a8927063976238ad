"""The ASGI application: who asks for what, what is too much, too late or not there, and what waits for an answer."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from runtimes.errors import RuntimesError
from toolchain import __version__
from toolchain.errors import explain
from toolchain.serving import compression, protocol
from toolchain.serving.batching import Batcher
from toolchain.serving.protocol import HEADER_LENGTH, Body, Interface
from toolchain.serving.refusal import Refusal
from toolchain.serving.tensors import Array

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Outputs = Mapping[str, Array]
_LARGE_BYTES = 65_536
"""Reading more than that takes milliseconds, in which nobody else would be served: a thread does it."""
_PATIENCE_S = 0.05
"""How long an answer may take before somebody looks whether who asked for it is still there."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is taken on: ``places`` requests at a time, being read, waiting or running.

    ``most_bytes`` are those of a body as it comes, and as it is unpacked; ``within_s`` counts from its headers to the
    answer.
    """

    places: int = 256
    most_bytes: int = 16_000_000
    within_s: float = 30.0


class App:
    """Serves one model through ``batcher``. ``ready`` is what it says to who asks for its health.

    ``answered`` counts what was said by its status.
    """

    def __init__(self, interface: Interface, batcher: Batcher, limits: Limits | None = None) -> None:
        self.ready = True
        self.answered: Counter[int] = Counter()
        self._interface = interface
        self._batcher = batcher
        self._limits = limits or Limits()
        self._taken = 0
        model = f"/v2/models/{interface.name}"
        version = f"{model}/versions/{interface.version}"
        self._told: dict[str, bytes | None] = {  # None is an answer about health
            "/v2": protocol.as_json({"name": "nnx", "version": __version__, "extensions": ["binary_tensor_data"]}),
            "/v2/health/live": b"",
            "/v2/health/ready": None,
            **dict.fromkeys((model, version), protocol.as_json(protocol.metadata(interface))),
            **dict.fromkeys((f"{model}/ready", f"{version}/ready")),
        }
        self._inferred = {f"{model}/infer", f"{version}/infer"}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            status, headers, body = await self._answer(scope, receive)
        except Refusal as refusal:
            status, body = refusal.status, Body(protocol.as_json({"error": refusal.what}))
            headers = refusal.headers
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - the edge: what nobody foresaw is no client's matter
            known = explain(error)
            status, headers = 500, {}
            body = Body(protocol.as_json({"error": known[0] if known else f"A fault of nnx: {type(error).__name__}."}))
        self.answered[status] += 1
        kind = "application/json" if body.header_length is None else "application/octet-stream"
        told = {"content-type": kind, "content-length": str(len(body.content)), **headers}
        if body.header_length is not None:
            told[HEADER_LENGTH] = str(body.header_length)
        lines = [(name.encode(), value.encode()) for name, value in told.items()]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": body.content})

    async def _answer(self, scope: Message, receive: Receive) -> tuple[int, Mapping[str, str], Body]:
        path = scope["path"].removesuffix("/")
        if path in self._told:
            _require(scope, "GET", "HEAD")
            told = self._told[path]
            status = 200 if told is not None or self.ready else 400
            content = b"" if told is None or scope["method"] == "HEAD" else told
            return status, {}, Body(content)
        if path not in self._inferred:
            raise Refusal(404, self._why_unknown(path))
        _require(scope, "POST")
        if self._taken >= self._limits.places:
            raise Refusal(429, f"{self._taken} requests wait already: ask again later.", {"retry-after": "1"})
        self._taken += 1
        try:
            return 200, {}, await self._inference(_headers(scope), receive)
        finally:
            self._taken -= 1

    def _why_unknown(self, path: str) -> str:
        parts = path.split("/")
        if parts[:3] == ["", "v2", "models"] and len(parts) > 3:
            if parts[3] != self._interface.name:
                return f"There is no model '{parts[3][:80]}' here, only '{self._interface.name}'."
            if parts[4:5] == ["versions"] and parts[5:6] != [self._interface.version]:
                return f"There is no such version of '{self._interface.name}' here, only {self._interface.version}."
        return "There is no such place; see the Open Inference Protocol, version 2."

    async def _inference(self, headers: Mapping[bytes, bytes], receive: Receive) -> Body:
        clock = asyncio.get_running_loop().time
        ends = clock() + self._limits.within_s
        length = _number(headers, "content-length")
        if length is not None and length > self._limits.most_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout_at(ends):
                body = await self._body(receive)
        except TimeoutError:
            raise Refusal(408, "The body did not come in time.", {"connection": "close"}) from None
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
        header_length = _number(headers, HEADER_LENGTH)

        def read() -> protocol.Request:
            plain = body
            if encoding != "identity":
                plain = compression.unpacked(body, encoding, self._limits.most_bytes)
            return protocol.read(plain, header_length, self._interface)

        large = encoding != "identity" or len(body) > _LARGE_BYTES
        request = await asyncio.to_thread(read) if large else read()
        outputs = await self._outputs(request.feeds, receive, ends - clock())
        if sum(array.nbytes for array in outputs.values()) > _LARGE_BYTES:
            return await asyncio.to_thread(protocol.written, request, outputs, self._interface)
        return protocol.written(request, outputs, self._interface)

    async def _body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            parts.append(message.get("body", b""))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > self._limits.most_bytes:
                raise self._too_large()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> Refusal:
        # the connection stays, and what still comes is thrown away: cut off in the middle, a client reads no answer
        return Refusal(
            413, f"The body has more than {self._limits.most_bytes} bytes, which is the most that is read here."
        )

    async def _outputs(self, feeds: Mapping[str, Array], receive: Receive, left_s: float) -> Outputs:
        """What the model gives; raise Refusal when that takes too long, Gone when nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outputs] = loop.create_future()

        def done(outcome: Outputs | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # a loop that was ended by force is closed
                loop.call_soon_threadsafe(_settle, answer, outcome)

        waiting = self._batcher.submit(feeds, done)
        gone: asyncio.Task[None] | None = None
        try:
            await asyncio.wait([answer], timeout=min(_PATIENCE_S, left_s))
            if not answer.done():
                gone = asyncio.create_task(_until_gone(receive))
                both: list[asyncio.Future[Any]] = [answer, gone]
                await asyncio.wait(both, timeout=left_s - _PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if gone is not None and gone.done():
                raise Gone
            raise Refusal(504, f"There was no answer within {self._limits.within_s:g} s.")
        except RuntimesError as error:
            raise Refusal(400, f"The model cannot answer that. {error.what}") from error
        finally:
            self._batcher.cancel(waiting)
            answer.cancel()
            if gone is not None:
                gone.cancel()


class Gone(Exception):
    """Who asked has left."""


def _settle(answer: "asyncio.Future[Outputs]", outcome: Outputs | Exception) -> None:
    if answer.done():  # too late
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _require(scope: Message, *methods: str) -> None:
    if scope["method"] not in methods:
        raise Refusal(405, f"That is asked with {methods[0]}.", {"allow": ", ".join(methods)})


def _headers(scope: Message) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def _number(headers: Mapping[bytes, bytes], name: str) -> int | None:
    given = headers.get(name.encode())
    if given is None:
        return None
    if not (given.isdigit() and len(given) < 20):
        raise Refusal(400, f"The header {name} is no number.")
    return int(given)
