"""A row on another machine: what the bench asks its own processes, asked of a package's runner there."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters import feeds
from exporters.batch_axes import BatchAxes
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
            "open", batch=spec["batch"], threads=spec["threads"], inputs=inputs, axes=self._axes(),
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

    def _inputs(self) -> dict[str, str]:
        """Where the samples are there."""
        if any(not isinstance(entry, str) for entry in self._spec["inputs"].values()):
            what = "The samples are of unequal shapes, which the runner on another machine does not stack."
            raise JobFailed("BadUsage", what, "Give samples of one shape with --samples.")
        return {name: self._host.place_of(Path(entry)) for name, entry in self._spec["inputs"].items()}

    def _axes(self) -> dict[str, Any]:
        """As the runner has them: where each sample is a call of its own, no input has an axis to stack along."""
        axes, samples = BatchAxes(**self._spec["axes"]), samples_file.mapped(self._spec["inputs"])
        shared = [name for name, array in samples.items() if feeds.is_shared(array, name, axes)]
        inputs = dict(axes.inputs)
        if feeds.run_alone(samples, axes):
            if self._spec["batch"] > 1:
                what = "The model takes one sample a call: it has no batch axis."
                raise JobFailed("BadUsage", what, "Use batch 1.")
            inputs = dict.fromkeys(samples)
        return {"inputs": inputs, "outputs": dict(axes.outputs), "shared": shared}
