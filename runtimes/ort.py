"""ONNX Runtime with any execution provider; refuses to run elsewhere than was asked."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as pybind

from runtimes.base import Arrays, Placement, TensorSpec, check_feeds
from runtimes.errors import NotLoadable, ProviderUnavailable, RunFailed
from runtimes.session_settings import SessionSettings, stored_in

_CPU = "CPUExecutionProvider"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "tensor(bool)": "bool",
}
_LOAD_ERRORS = (
    pybind.Fail,
    pybind.InvalidProtobuf,
    pybind.InvalidGraph,
    pybind.NotImplemented,
    pybind.NoSuchFile,
)
_RUN_ERRORS = (pybind.Fail, pybind.InvalidArgument, pybind.RuntimeException, pybind.NotImplemented)


class OrtRuntime:
    """An ``.onnx`` file in an ``InferenceSession`` on ``provider``, named as onnxruntime names it.

    ``threads`` is the size of the intra-op pool. Without ``settings`` the CPU provider, on which they are measured,
    uses those stored in the file. Nodes that ``provider`` has no kernel for run on the CPU, as :meth:`placement` tells;
    when none at all is on ``provider``, :meth:`open` raises ProviderUnavailable.
    """

    def __init__(
        self, path: Path, *, provider: str = _CPU, threads: int = 1, settings: SessionSettings | None = None
    ) -> None:
        self._path = path
        self._settings = settings
        self._provider = provider
        self._threads = threads
        self._session: onnxruntime.InferenceSession | None = None
        self.inputs: Sequence[TensorSpec] = ()
        self.outputs: Sequence[TensorSpec] = ()

    def open(self) -> None:
        settings = self._chosen_settings()
        options = settings.options(threads=self._threads)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if self._provider.startswith("CUDA") and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        try:
            self._session = onnxruntime.InferenceSession(
                str(self._path),
                options,
                providers=list(dict.fromkeys([self._provider, _CPU])),
                disabled_optimizers=list(settings.disabled_optimizers),
            )
        except _LOAD_ERRORS as error:
            raise NotLoadable(
                f"ONNX Runtime refuses {self._path}: {_reason(error)}.",
                "Check the model with `nnx export` again.",
            ) from error
        self._refuse_fallback()
        self.inputs = [_spec(value) for value in self._session.get_inputs()]
        self.outputs = [_spec(value) for value in self._session.get_outputs()]

    def bind(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> Callable[[], Arrays]:
        check_feeds(self.inputs, feeds)
        session = self._opened()
        names = [spec.name for spec in self.outputs]
        held = dict(feeds)
        call = self._bind_device(held, names) if self._provider != _CPU else None

        def on_cpu() -> Arrays:
            return dict(zip(names, session.run(names, held), strict=True))

        return _mapping_errors(call or on_cpu)

    def placement(self) -> Placement:
        nodes: dict[str, int] = {}
        ask = getattr(self._opened(), "get_provider_graph_assignment_info", list)  # older versions cannot tell
        for subgraph in ask():
            nodes[subgraph.ep_name] = nodes.get(subgraph.ep_name, 0) + len(subgraph.get_nodes())
        return Placement(nodes)

    def close(self) -> None:
        self._session = None

    def _chosen_settings(self) -> SessionSettings:
        stored = stored_in(self._path) if self._settings is None and self._provider == _CPU else None
        return self._settings or stored or SessionSettings()

    def _bind_device(self, feeds: Arrays, names: list[str]) -> Callable[[], Arrays]:
        """Through IO binding: one copy in and one out per call, both inside it, as the PyTorch rows have them."""
        session = self._opened()
        binding = session.io_binding()

        def on_device() -> Arrays:
            binding.clear_binding_inputs()
            binding.clear_binding_outputs()
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array)
            for name in names:
                binding.bind_output(name, "cpu")
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))

        return on_device

    def _refuse_fallback(self) -> None:
        """onnxruntime answers a provider it cannot start with a CPU session and a warning: ask what happened."""
        session = self._opened()
        if self._provider not in session.get_providers():
            raise ProviderUnavailable(
                f"{self._provider} did not start: ONNX Runtime fell back to {', '.join(session.get_providers())}.",
                "Check the driver and the CUDA and cuDNN libraries that this onnxruntime wants.",
            )
        if self._provider != _CPU and not self.placement().share(self._provider):
            raise ProviderUnavailable(
                f"Not one node of {self._path} is known to run on {self._provider}.",
                "Bench it with --provider cpu, or update onnxruntime to 1.24 or newer, which tells where nodes run.",
            )

    def _opened(self) -> onnxruntime.InferenceSession:
        if self._session is None:
            raise RuntimeError("OrtRuntime.open() was not called")
        return self._session


def _spec(value: Any) -> TensorSpec:
    shape = tuple(axis if isinstance(axis, int) else str(axis) for axis in value.shape)
    return TensorSpec(value.name, _DTYPES.get(value.type, value.type), shape)


def _mapping_errors(call: Callable[[], Arrays]) -> Callable[[], Arrays]:
    def run() -> Arrays:
        try:
            return call()
        except _RUN_ERRORS as error:
            raise RunFailed(
                f"ONNX Runtime failed: {_reason(error)}.", "Try a smaller batch, or another provider."
            ) from error

    return run


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rpartition(" : ")[2].rstrip(".")[:300]
