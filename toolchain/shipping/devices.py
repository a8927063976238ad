"""Several devices at once, and what came of each."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

from toolchain.errors import BadUsage
from toolchain.legible import MOST_IN_SENTENCE, legible
from toolchain.shipping.device import Connection, Refused, Target, may_ask

SCHEMA_VERSION = 1
_AT_ONCE = 32
"""Connections: each waits for its network and its device, not for us."""


@dataclass(kw_only=True)
class Told:
    """What is known of a device by now: ``sha256`` of the package that is live there, ``receipt`` of a self-test.

    Where nothing could test itself, ``untested`` says why.
    """

    sha256: str | None = None
    sent_bytes: int = 0
    package_bytes: int = 0
    receipt: Mapping[str, Any] | None = None
    untested: str | None = None

    def hear(self, said: Sequence[str]) -> None:
        """Lines of receive.sh."""
        for line in said:
            kind, _, rest = line.partition(" ")
            if kind == "untested":
                self.untested = rest
            elif kind == "receipt":
                self.receipt = _receipt(rest)
            elif kind == "live":  # a release, whose name ends in + where one before it was damaged
                self.sha256 = rest.removeprefix("releases/").rstrip("+") or None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one device; ``why`` it is not ``done``, without an end. For the others see :class:`Told`."""

    target: str
    done: bool
    why: str
    seconds: float
    sha256: str | None
    sent_bytes: int
    package_bytes: int
    receipt: Mapping[str, Any] | None
    untested: str | None


def require_distinct(targets: Sequence[Target]) -> None:
    """BadUsage for one that is named twice: the second would find the first at work."""
    if len({target.address for target in targets}) < len(targets):
        raise BadUsage("A target is named twice.", "Name each once.")


class Devices:
    """All that are to be reached while the block lasts: ssh gets through to them while something else is done.

    Where it may ask the user for a password it waits until :meth:`do`: nobody breaks off a question.
    """

    def __init__(self, targets: Sequence[Target], *, python: str | None, limit_s: float | None) -> None:
        self._targets, self._python, self._limit_s = targets, python, limit_s
        self._asks = may_ask() and len(targets) == 1
        self._lock, self._open, self._over = threading.Lock(), dict[Target, Connection](), False

    def do(self, one: Callable[[Connection, Told, str], None]) -> tuple[Outcome, ...]:
        """``one`` with all of them at once; what a device refuses is its own outcome."""
        with ThreadPoolExecutor(min(_AT_ONCE, len(self._targets))) as pool:
            futures = [pool.submit(self._at, target, one) for target in self._targets]
            try:
                return tuple(future.result() for future in futures)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._end()
                raise

    def _at(self, target: Target, one: Callable[[Connection, Told, str], None]) -> Outcome:
        told, began, why = Told(), monotonic(), ""
        try:
            with self._reached(target) as connection:
                one(connection, told, target.address)
        except Refused as refused:
            told.hear(refused.said)
            why = f"{refused}{_failed_checks(told.receipt)}"
        finally:
            with self._lock:
                self._open.pop(target, None)
        return Outcome(target=target.address, done=not why, why=why, seconds=monotonic() - began, **vars(told))

    def _reached(self, target: Target) -> Connection:
        with self._lock:
            if target not in self._open:
                self._open[target] = Connection(target, python=self._python, asks=self._asks, limit_s=self._limit_s)
            if self._over:
                self._open[target].end()
            return self._open[target]

    def _end(self) -> None:
        with self._lock:
            self._over = True
            for connection in self._open.values():
                connection.end()

    def __enter__(self) -> "Devices":
        try:
            for target in () if self._asks else self._targets[:_AT_ONCE]:
                self._reached(target)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *ignored: object) -> None:
        for connection in self._open.values():  # of which nothing was asked
            connection.drop()


def line(outcome: Outcome, *, did: str) -> str:
    """For a person: what came of it, where ``did`` says what was to be."""
    if not outcome.done:
        return legible(f"{outcome.target}: failed: {outcome.why}", most=MOST_IN_SENTENCE)
    parts = [f"{outcome.target}: {did}"]
    if outcome.sha256 is not None:
        parts.append(f"SHA-256 of the live list {outcome.sha256[:16]}…")
    if outcome.package_bytes:
        parts.append(f"{outcome.sent_bytes / 1e6:.3f} of {outcome.package_bytes / 1e6:.3f} MB to send")
    if outcome.receipt is not None:
        parts.append(f"tested there: {_told(outcome.receipt)}")
    elif outcome.untested is not None:
        parts.append(f"not tested there: {outcome.untested}")
    return legible(f"{', '.join(parts)}, {outcome.seconds:.1f} s", most=MOST_IN_SENTENCE)


def _told(receipt: Mapping[str, Any]) -> str:
    latency = receipt.get("latency_ms")
    p50 = latency.get("p50") if isinstance(latency, dict) else None
    measured = f", p50 {p50:.3g} ms" if isinstance(p50, (int, float)) else ""
    return f"onnxruntime {receipt.get('onnxruntime')}{measured}"


def _receipt(text: str) -> Mapping[str, Any] | None:
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _failed_checks(receipt: Mapping[str, Any] | None) -> str:
    checks = receipt.get("checks", []) if receipt else []
    failed = [f"{each.get('name')}: {each.get('detail')}".rstrip(".") for each in checks if not each.get("ok")]
    return f": {'; '.join(failed)}" if failed else ""
