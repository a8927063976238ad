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
from toolchain.bench.record import Setting
from toolchain.errors import BadUsage

COPIES = ("include", "exclude")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What to vary, as the options of ``nnx bench`` give it.

    ``providers`` are names with options, such as ``cuda:device_id=0``. ``threads`` empty: as many as ``cpus``, or as
    the machine has cores. ``pythons`` are interpreters that run ONNX Runtime's rows: ``PROVIDER=PATH`` for that
    provider, ``PATH`` for those that nnx's own has not.
    """

    providers: Sequence[str] = ("cpu",)
    batches: Sequence[int] = (1,)
    threads: Sequence[int] = ()
    concurrency: Sequence[int] = (1,)
    copies: str = "include"
    cpus: Sequence[int] = ()
    pythons: Sequence[str] = ()

    def settings(self) -> list[Setting]:
        """All combinations, the providers side by side in each.

        Raises BadUsage for a number below 1, a processor that is not this process's or an interpreter that is not
        there, UnknownProvider for a name, BadProviderOption for options that cannot be read.
        """
        threads = tuple(self.threads) or (len(self.cpus) or machine.usable_cores(),)
        for name, numbers in (("batch", self.batches), ("threads", threads), ("concurrency", self.concurrency)):
            if any(number < 1 for number in numbers):
                raise BadUsage(f"--{name} is {','.join(map(str, numbers))}.", "Every number must be at least 1.")
        if self.copies not in COPIES:
            raise BadUsage(f"--copies is {self.copies}.", f"Choose {' or '.join(COPIES)}.")
        _require_cpus(self.cpus)
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
            )
            for batch, count, streams in itertools.product(
                dict.fromkeys(self.batches), dict.fromkeys(threads), dict.fromkeys(self.concurrency)
            )
            for provider, options in dict.fromkeys(places)
        ]


def _require_cpus(cpus: Sequence[int]) -> None:
    if not cpus:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise BadUsage("Processes cannot be pinned to processors here.", "Leave --cpus out.")
    usable = allowed_processors()
    if strangers := sorted(set(cpus) - set(usable)):
        raise BadUsage(
            f"This process may not run on processor {', '.join(map(str, strangers))}.",
            f"Choose from {', '.join(map(str, usable))}.",
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
