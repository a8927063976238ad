"""``nnx serve``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option

if TYPE_CHECKING:
    from toolchain.serving.checked import Served


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where it listens."""

    host: str = option(
        "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
        help="The address to listen on; 0.0.0.0 lets everybody in who can reach it.",
    )  # fmt: skip
    port: int = option(
        "--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="The port; 0 is a free one."
    )


@dataclass(frozen=True, kw_only=True)
class _Manner:
    """How the model runs."""

    threads: int | None = option(
        "--threads",
        type=click.IntRange(min=1),
        help="Threads of a call.  [default: those of the package's measurement]",
    )
    streams: int = option(
        "--streams", type=click.IntRange(min=1), default=1, show_default=True, help="Calls that run at once."
    )
    most_rows: int = option(
        "--max-batch", type=click.IntRange(min=1), default=8, show_default=True,
        help="Samples of several requests that run together, where the batch may be of any length; 1: each alone.",
    )  # fmt: skip
    delay_s: float | None = option(
        "--max-delay", type=types.Duration(),
        help="How long a request waits for company, such as 2ms.  [default: not at all]",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    """What is too much."""

    places: int = option(
        "--queue", type=click.IntRange(min=1), default=256, show_default=True,
        help="Requests that are read, wait or run at a time; to others it says 429.",
    )  # fmt: skip
    most_bytes: int = option(
        "--max-size", type=types.Size(), default="16MB", show_default=True, help="The largest body; beyond it says 413."
    )
    within_s: float = option(
        "--within", type=types.Duration(), default="30s", show_default=True,
        help="From a request to its answer; then it says 504.",
    )  # fmt: skip


@click.command("serve")
@click.argument("package", type=types.FILE_OR_FOLDER)
@click.option("--variant", metavar="NAME", help="The one of the package's models.  [default: the recommended one]")
@click.option("--trust", type=types.FILE, metavar="KEY.pub", help="The public key that must have signed all of it.")
@group("place", _Place)
@group("manner", _Manner)
@group("bounds", _Bounds)
@options.as_json
def command(
    package: Path,
    variant: str | None,
    trust: Path | None,
    place: _Place,
    manner: _Manner,
    bounds: _Bounds,
    as_json: bool,
) -> None:
    """Let a package answer over HTTP, by the Open Inference Protocol (v2), as Triton and OpenVINO Model Server do.

    A test double for those, and a server for a small site: one model, one process, no TLS and no authentication. The
    package is verified, and answers its golden inputs as it should, before anybody is let in. Requests that wait
    together run together. SIGTERM and Ctrl-C: what was taken on is answered, and it exits with 0. Needs the extra
    serve.

    \b
    Example:
      nnx serve digits.ortpackage --trust release.pub
      nnx serve digits.ortpackage.tar --variant fp32 --port 9000 --max-batch 32 --max-delay 2ms
    """
    from toolchain.console import LiveProgress, print_json, print_result
    from toolchain.serving import checked, server
    from toolchain.serving.app import Limits

    limits = Limits(places=bounds.places, most_bytes=bounds.most_bytes, within_s=bounds.within_s)
    progress = LiveProgress()
    with (
        server.listening(place.host, place.port) as socket,
        checked.opened(
            package,
            variant=variant,
            trust=trust,
            threads=manner.threads,
            most_rows=manner.most_rows,
            progress=progress,
        ) as served,
    ):
        url = _url(place.host, socket.getsockname()[1])
        if place.host not in ("127.0.0.1", "::1", "localhost"):
            progress.warn(f"{place.host} is open to others: there is no TLS and no authentication.")

        def started() -> None:
            facts = _facts(served, url)
            if as_json:
                print_json(facts)
            else:
                batches = f"batches up to {served.most_rows}" if served.most_rows > 1 else "each request alone"
                print_result(f"{facts['url']}: {facts['variant']}, {batches}")

        answers = server.serve(
            served, socket, limits, delay_s=manner.delay_s or 0.0, streams=manner.streams, started=started
        )
    told = ", ".join(f"{count} with {status}" for status, count in sorted(answers.items()))
    progress.note(f"Stopped; answered: {told or 'nothing'}.")


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _facts(served: "Served", url: str) -> dict[str, object]:
    return {
        "url": f"{url}/v2/models/{served.interface.name}",
        "package": served.package.name,
        "version": served.package.version,
        "variant": served.variant.name,
        "threads": served.threads,
        "max_batch": served.most_rows,
    }
