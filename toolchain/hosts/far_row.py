"""A row on another machine: what the bench asks its own processes, asked of a package's runner there."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters import feeds
from exporters.batch_axes import BatchAxes
from exporters.errors import BadCalibrationData
from runtimes.registry import provider_named
from toolchain.bench import samples_file
from toolchain.processes.turns import JobFailed

if TYPE_CHECKING:
    from toolchain.hosts.host import Host


class FarRow:
    """Takes turns as :class:`toolchain.processes.turns.Turn` does; ``spec`` is that of :mod:`toolchain.bench.row`.

    Latencies are measured there: the network is in none of them.
    """

    def __init__(
        self, host: "Host", spec: dict[str, Any], *, threads: int, cpus: Sequence[int], timeout_s: float
    ) -> None:
        self._host, self._spec, self._threads, self._cpus, self._timeout_s = host, spec, threads, cpus, timeout_s
        self._worker: int | None = None

    def open(self) -> None:
        """Send what is not there, start the runner, and have it load the model; raise JobFailed when it cannot."""
        spec, connection = self._spec, self._host.connection
        inputs = self._inputs()
        program = self._host.runner_of(spec["model"])
        self._worker = connection.ask("start", program=program, threads=self._threads, cpus=list(self._cpus))
        self.ask(
            "open", batch=spec["batch"], threads=spec["threads"], inputs=inputs, **self._calls(),
            execution_provider=provider_named(spec["provider"]).ort_name, options=spec["options"],
        )  # fmt: skip

    def ask(self, operation: str, *, extra_s: float = 0.0, **arguments: Any) -> Any:
        """Its answer, for which it has ``extra_s`` beyond the time-out."""
        if operation == "outputs":
            return self._outputs(Path(arguments["path"]))
        result = self._asked(operation, extra_s, **arguments)
        if operation == "start" and (emulated := self._host.machine["emulated"]):
            result["facts"]["emulated"] = emulated
        return result

    def close(self) -> None:
        """End it; a second call does nothing, nor does one when the machine is lost: it has ended it then."""
        worker, self._worker = self._worker, None
        if worker is not None:
            try:
                self._host.connection.ask("end", worker=worker)
            except JobFailed:
                return

    def _asked(self, operation: str, extra_s: float = 0.0, **arguments: Any) -> Any:
        assert self._worker is not None
        limit_s = self._timeout_s + extra_s
        return self._host.connection.ask_worker(
            self._worker, operation, limit_s=limit_s, told_s=self._timeout_s, **arguments
        )

    def _outputs(self, path: Path) -> None:
        place = self._host.connection.ask("place_for_outputs")
        self._asked("outputs", path=place)
        self._host.connection.get_outputs(path)

    def _inputs(self) -> dict[str, Any]:
        """Where the samples are there, as :func:`samples_file.write` tells it."""

        def placed(entry: Any) -> Any:
            if isinstance(entry, str):
                return self._host.place_of(Path(entry))
            return {**entry, "file": self._host.place_of(Path(entry["file"]))}

        return {name: placed(entry) for name, entry in self._spec["inputs"].items()}

    def _calls(self) -> dict[str, Any]:
        """Which samples make a call, for the runner stacks what it is told: here is known what fits together."""
        axes, samples = BatchAxes(**self._spec["axes"]), samples_file.mapped(self._spec["inputs"])
        batch = self._spec["batch"]
        try:
            first = feeds.like(samples, axes, 0, batch)
            calls = list(samples_file.calls(samples, axes, batch))
        except BadCalibrationData as misfit:
            raise JobFailed("BadUsage", misfit.what, misfit.do) from misfit
        inputs = dict.fromkeys(samples) if feeds.run_alone(samples, axes) else dict(axes.inputs)
        shared = [name for name, array in samples.items() if feeds.is_shared(array, name, axes)]
        return {
            "axes": {"inputs": inputs, "outputs": dict(axes.outputs), "shared": shared}, "calls": calls, "first": first,
        }  # fmt: skip
