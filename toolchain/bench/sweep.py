"""The settings of a benchmark: every provider in every combination of batch, threads and streams."""

import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporters.processors import allowed_processors
from runtimes.registry import available, parse_provider, provider_named
from toolchain import machine
from toolchain.bench.record import Setting, shown_host
from toolchain.errors import BadUsage

COPIES = ("include", "exclude")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What to vary, as the options of ``nnx bench`` give it.

    ``providers`` are names with options, such as ``cuda:device_id=0``. ``threads`` empty: as many as ``cpus``, or as
    the machine has cores. ``pythons`` are interpreters that run ONNX Runtime's rows: ``PROVIDER=PATH`` for that
    provider, ``PATH`` for those that nnx's own has not. ``place`` is the machine, None for this one.
    """

    providers: Sequence[str] = ("cpu",)
    batches: Sequence[int] = (1,)
    threads: Sequence[int] = ()
    concurrency: Sequence[int] = (1,)
    copies: str = "include"
    cpus: Sequence[int] = ()
    pythons: Sequence[str] = ()
    place: "Place | None" = None

    def settings(self) -> list[Setting]:
        """All combinations, the providers side by side in each.

        Raises BadUsage for a number below 1, a processor that is not this process's or an interpreter that is not
        there, UnknownProvider for a name, BadProviderOption for options that cannot be read.
        """
        place = self.place or Place(host=None, cores=machine.usable_cores(), processors=allowed_processors())
        threads = tuple(self.threads) or (len(self.cpus) or place.cores,)
        for name, numbers in (("batch", self.batches), ("threads", threads), ("concurrency", self.concurrency)):
            if any(number < 1 for number in numbers):
                raise BadUsage(f"--{name} is {','.join(map(str, numbers))}.", "Every number must be at least 1.")
        if self.copies not in COPIES:
            raise BadUsage(f"--copies is {self.copies}.", f"Choose {' or '.join(COPIES)}.")
        _require_cpus(self.cpus, place)
        interpreters = _interpreters(self.pythons)
        places = [parse_provider(text) for text in self.providers]
        return [
            Setting(
                provider=provider.name,
                options=options,
                batch=batch,
                threads=count,
                concurrency=streams,
                copies=self.copies,
                cpus=tuple(self.cpus),
                python=_interpreter(provider.name, interpreters),
                host=place.host,
            )
            for batch, count, streams in itertools.product(
                dict.fromkeys(self.batches), dict.fromkeys(threads), dict.fromkeys(self.concurrency)
            )
            for provider, options in dict.fromkeys(places)
        ]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A machine that rows run on: the address of a ``host``, its ``cores``, and the ``processors`` to pin to."""

    host: str | None
    cores: int
    processors: Sequence[int]


def _require_cpus(cpus: Sequence[int], place: Place) -> None:
    if not cpus:
        return
    where = f" on {shown_host(place.host)}" if place.host else ""
    if not place.processors or not (place.host or hasattr(os, "sched_setaffinity")):
        raise BadUsage(f"Processes cannot be pinned to processors{where or ' here'}.", "Leave --cpus out.")
    if strangers := sorted(set(cpus) - set(place.processors)):
        raise BadUsage(
            f"This process may not run on processor {', '.join(map(str, strangers))}{where}.",
            f"Choose from {', '.join(map(str, place.processors))}.",
        )


def _interpreters(pythons: Sequence[str]) -> Mapping[str, str]:
    """Provider, or an empty name for all that are not here, -> the interpreter's absolute path."""
    found = {}
    for text in pythons:
        name, equals, path = text.partition("=")
        name, path = (name, path) if equals else ("", text)
        if name:
            name = provider_named(name).name
        place = shutil.which(os.path.expanduser(path))  # noqa: PTH111 - Path drops the "./" that `which` looks for
        if place is None:
            raise BadUsage(f"There is no interpreter {path}.", "Give the path of a Python with onnxruntime in it.")
        # not resolved: what an environment's python links to knows nothing of the environment
        found[name] = str(Path(place).absolute())
    return found


def _interpreter(provider: str, interpreters: Mapping[str, str]) -> str | None:
    if provider in interpreters:
        return interpreters[provider]
    if "" in interpreters and not available("ort", provider_named(provider)):
        return interpreters[""]
    return None
