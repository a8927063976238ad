"""Runs the application on a port until it is told to stop, and then answers what it has taken on."""

import gc
import socket
from collections.abc import Callable, Mapping
from types import FrameType

import uvicorn

from toolchain.errors import BadUsage
from toolchain.serving.app import App, Limits
from toolchain.serving.batching import Batcher
from toolchain.serving.checked import Served

_MOST_CONNECTIONS = 4_096
_BACKLOG = 1_024


def listening(host: str, port: int) -> socket.socket:
    """A socket of that address, not yet listening; port 0 is a free one. Raises BadUsage where it cannot be had."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, number)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise BadUsage(f"{host}:{port} cannot be had: {error.strerror or error}.", "Choose another --port.") from error
    return found


def serve(
    served: Served,
    place: socket.socket,
    limits: Limits,
    *,
    delay_s: float = 0.0,
    streams: int = 1,
    started: Callable[[], None] = lambda: None,
) -> Mapping[int, int]:
    """Answer on ``place`` until SIGTERM or Ctrl-C, and then what was taken on; how many answers there were, by status.

    A second signal ends it without an answer to the rest.

    ``streams`` calls of the model run at once. ``started`` is called when the first request can come.
    """
    batcher = Batcher(served.runtime.stoppable, most_rows=served.most_rows, delay_s=delay_s, threads=streams)
    app = App(served.interface, batcher, limits)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        loop="asyncio",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(limits.within_s) + 1,
    )
    gc.collect()
    gc.freeze()  # what is loaded stays: no collection looks through it while somebody waits
    try:
        _Server(config, app, started).run(sockets=[place])
    finally:
        batcher.close()  # nobody waits for anything any more
        gc.unfreeze()
    return dict(app.answered)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: App, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._when_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not ready any more, and the end when all is answered; uvicorn's own would then raise the signal again."""
        self._app.ready = False
        self.force_exit = self.should_exit
        self.should_exit = True
