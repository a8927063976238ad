"""Another machine as a bench sees it: what it is, how it does, and rows that run there."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from exporters.atomic_file import sha256_of
from exporters.model_file import ModelFile
from runtimes.session_settings import stored_in
from toolchain.bench.hosts import Look
from toolchain.errors import NotAvailable
from toolchain.hosts.address import Address
from toolchain.hosts.connection import Connection, text_of
from toolchain.hosts.far_row import FarRow
from toolchain.inspection.targets import lowest_release
from toolchain.machine.description import SHOWN_ISA
from toolchain.processes.turns import JobFailed
from toolchain.progress import SILENT, Progress
from toolchain.shipping.device import may_ask

_RUNNER = Path("runners", "python")
_MODEL = "model.onnx"
_PORTRAIT = "portrait.py"
_BEGIN_S = 120.0
_MEGABYTE = 1e6
_WORTH_A_NOTE_BYTES = 5_000_000


_Version = tuple[Path, int]


class Host:
    """What :class:`toolchain.bench.hosts.Host` asks for, over a ``connection`` that is open."""

    def __init__(self, address: Address, connection: Connection, progress: Progress = SILENT) -> None:
        self.address, self.connection, self._progress = address.host, connection, progress
        self._name = str(address)
        folder = connection.ask("make", files={}, texts={_PORTRAIT: text_of(_PORTRAIT)})
        self._portrait = f"{folder}/{_PORTRAIT}"
        told = self._told("describe")
        flags = set(told.pop("isa"))
        self.processors: tuple[int, ...] = tuple(told.pop("allowed"))
        self.cores: int = told["cores"]
        self._machine = {**told, "isa": [flag for flag in SHOWN_ISA if flag in flags], "gpu": None}
        self._looks = [self.look()]
        self._runners: dict[_Version, str] = {}
        self._places: dict[_Version, str] = {}

    @property
    def machine(self) -> dict[str, Any]:
        """As :class:`toolchain.machine.Machine` describes one, and what it emulates, its governors and temperatures."""
        heat = [look.temperature_c for look in self._looks if look.temperature_c is not None]
        conditions = {
            "governors": list(self._looks[-1].governors),
            "temperature_c": [min(heat), max(heat)] if heat else [],
        }
        return {**self._machine, **conditions, "throttled": self._looks[-1].throttled}

    def look(self) -> Look:
        """How it does now."""
        told = self._told("look")
        return Look(**{**told, "times": tuple(told["times"]), "governors": tuple(told["governors"])})

    def seen(self) -> tuple[Look, Look]:
        """How it did at first, and now."""
        with contextlib.suppress(JobFailed):  # it is lost, and its rows say so
            self._looks.append(self.look())
        return self._looks[0], self._looks[-1]

    def start(self, job: str, spec: dict[str, Any], **limits: Any) -> FarRow:
        """A row, which is sent when it is opened; ``job`` is the bench's own, for which the runner stands in there."""
        if spec["runtime"] != "ort":
            what = f"PyTorch's rows do not run on {self._name}."
            raise JobFailed("ProviderUnavailable", what, "Add --host local for them.")
        return FarRow(self, spec, **{name: limits[name] for name in ("threads", "cpus", "timeout_s")})

    def runner_of(self, model: str) -> str:
        """The program there that runs a model, beside which it lies as in a package; sent when it is not there."""
        version = _version_of(Path(model))
        if version not in self._runners:
            file = ModelFile(Path(model))
            beside = {path.relative_to(file.path.parent).as_posix(): path for path in file.external_files}
            settings = stored_in(file.path)
            variant = {
                "name": "model", "model": _MODEL, "row": None, "shared_weights": None,
                "session_options": settings.config_entries() if settings else {},
                "onnxruntime": lowest_release(file.graph),
            }  # fmt: skip
            file.release()
            sent = self._sent({_MODEL: file.path, **beside})
            texts = {"nnx/package.json": json.dumps({"variants": [variant]}), **_runner()}
            takes_s = file.size_bytes / _MEGABYTE  # where the disk there has no links
            folder = self.connection.ask("make", files=sent, texts=texts, takes_s=takes_s)
            self._runners[version] = f"{folder}/{_RUNNER.as_posix()}/run.py"
        return self._runners[version]

    def place_of(self, file: Path) -> str:
        """Where a file lies there; sent when it is not there."""
        version = _version_of(file)
        if version not in self._places:
            (sha256,) = self._sent({file.name: file}).values()
            self._places[version] = self.connection.ask("place_of", sha256=sha256)
        return self._places[version]

    def _told(self, operation: str) -> dict[str, Any]:
        """By a process that is gone while rows run: onnxruntime takes its memory."""
        worker = self.connection.ask("start", program=self._portrait, threads=1, cpus=[])
        told: dict[str, Any] = self.connection.ask_worker(worker, operation, limit_s=_BEGIN_S, told_s=_BEGIN_S)
        self.connection.ask("end", worker=worker)
        return told

    def _sent(self, files: Mapping[str, Path]) -> dict[str, str]:
        """The SHA-256 of each, once all are there."""
        digests = {name: sha256_of(path) for name, path in files.items()}
        total = sum(path.stat().st_size for path in files.values())
        lacks = set(self.connection.ask("lacks", sha256=list(digests.values()), takes_s=total / _MEGABYTE))
        size = sum(path.stat().st_size for name, path in files.items() if digests[name] in lacks)
        if size > _WORTH_A_NOTE_BYTES:
            self._progress.note(f"{size / _MEGABYTE:,.1f} MB go to {self._name} ...")
        for name, path in files.items():
            if digests[name] in lacks:
                self.connection.put(path, digests[name])
        return digests


@contextlib.contextmanager
def opened(
    addresses: Sequence[Address], pythons: Mapping[str, str], progress: Progress = SILENT
) -> Iterator[dict[str, Host]]:
    """Hosts by their addresses, open while the block lasts; ``pythons`` are interpreters there, by the same.

    Raises NotAvailable for one that cannot be used.
    """
    with contextlib.ExitStack() as stack:
        found = {}
        for each in addresses:
            asks = may_ask()  # one after the other: nobody else asks meanwhile
            connection = stack.enter_context(Connection(each, python=pythons.get(each.host), asks=asks))
            try:
                found[each.host] = Host(each, connection, progress)
            except JobFailed as failure:
                raise NotAvailable(f"{each} cannot be used: {failure.what}", failure.do) from failure
        yield found


def _version_of(file: Path) -> _Version:
    """One that is written anew is sent anew."""
    return file, file.stat().st_mtime_ns


def _runner() -> dict[str, str]:
    """The files of Python's runner, by where they lie in a package."""
    with resources.as_file(resources.files("toolchain.shipping") / str(_RUNNER)) as folder:
        return {f"{_RUNNER.as_posix()}/{path.name}": path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
