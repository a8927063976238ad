"""ONNX Runtime with any execution provider; refuses to run elsewhere than was asked."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from runtimes import nvidia_device, ort_device, plugin_providers
from runtimes.base import FEEDABLE, Arrays, Placement, Runtime, TensorSpec, check_feeds
from runtimes.errors import BadProviderOption, NotLoadable, ProviderUnavailable
from runtimes.ort_session import CPU, RUN_ERRORS, chosen_settings, own_threads, run_failed, start
from runtimes.registry import Options, provider_of
from runtimes.session_settings import SessionSettings

_DTYPES = {**{f"tensor({name})": name for name in FEEDABLE}, "tensor(float)": "float32", "tensor(double)": "float64"}
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_ON_CUDA = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")


class OrtRuntime(Runtime):
    """An ``.onnx`` file in an ``InferenceSession`` on ``provider`` (as onnxruntime names it) with its ``options``.

    ``threads`` is the size of the intra-op pool. Without ``settings`` the CPU provider, on which they are measured,
    uses those stored in the file. Nodes that ``provider`` has no kernel for run on the CPU, as :meth:`placement` tells;
    when none at all is on ``provider``, :meth:`open` raises ProviderUnavailable.

    ``precise`` is for comparing a file, not for timing it: products of uint8 by int8 are summed up as a CPU with VNNI
    or an Arm does it, where this x86 without VNNI would saturate pairs of them at 16 bits. Files that ONNX Runtime 1.31
    cannot open so (two products that share a weight) run as they do here.

    ``weights`` is the folder of the files that hold weights, where that is not the model's own.
    """

    def __init__(
        self,
        path: Path,
        *,
        provider: str = CPU,
        threads: int = 1,
        settings: SessionSettings | None = None,
        options: Options = (),
        precise: bool = False,
        weights: Path | None = None,
    ) -> None:
        self._path = path
        self._weights = weights
        self._precise = precise
        self._settings = settings
        self._provider = provider
        self._options = options
        self._threads = threads
        self._session: onnxruntime.InferenceSession | None = None
        self._graph_taken = False
        self.inputs: Sequence[TensorSpec] = ()
        self.outputs: Sequence[TensorSpec] = ()

    def open(self) -> None:
        settings = chosen_settings(self._path, self._provider, self._settings)
        try:
            self._session = self._started(settings, precise=self._precise)
        except NotLoadable:
            if not self._precise:
                raise
            self._session = self._started(settings, precise=False)
        self._refuse_the_cpu_under_another_name()
        self.inputs = [_spec(value) for value in self._session.get_inputs()]
        self.outputs = [_spec(value) for value in self._session.get_outputs()]

    def _started(self, settings: SessionSettings, *, precise: bool) -> onnxruntime.InferenceSession:
        session_options = settings.options(threads=self._threads)
        session_options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if self._weights is not None:
            session_options.add_session_config_entry(_WEIGHTS_FOLDER, str(self._weights))
        if precise:
            session_options.add_session_config_entry("session.x64quantprecision", "1")
        return start(
            self._path,
            session_options,
            provider=self._provider,
            options=self._options,
            settings=settings,
            threads=self._threads,
        )

    def bind(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> Callable[[], Arrays]:
        return self._bound(feeds, ort_device.run_options(ort_device.NO_GRAPH) if self._uses_graphs() else None)

    def stoppable(
        self, feeds: Mapping[str, npt.NDArray[np.generic]]
    ) -> tuple[Callable[[], Arrays], Callable[[], None]]:
        """As :meth:`bind`, and what another thread calls to end it between two nodes, when it raises RunFailed.

        Not under CUDA graphs, which run as a whole.
        """
        options = onnxruntime.RunOptions()

        def stop() -> None:
            options.terminate = True

        return self._bound(feeds, options), stop

    def _bound(
        self, feeds: Mapping[str, npt.NDArray[np.generic]], options: onnxruntime.RunOptions | None
    ) -> Callable[[], Arrays]:
        check_feeds(self.inputs, feeds)
        session = self._opened()
        names = [spec.name for spec in self.outputs]
        held = dict(feeds)

        def call() -> Arrays:
            try:
                return dict(zip(names, session.run(names, held, options), strict=True))
            except RUN_ERRORS as error:
                raise run_failed(error) from error

        return call

    def timed(self, feeds: Mapping[str, npt.NDArray[np.generic]], *, copies: bool) -> Callable[[], object]:
        """As :meth:`runtimes.base.Runtime.timed`.

        Raises ProviderUnavailable where the copies cannot be left out, BadProviderOption for a second call under CUDA
        graphs: onnxruntime lets one thread only use a session that has them.
        """
        check_feeds(self.inputs, feeds)
        session = self._opened()
        device = None
        if not copies or self._uses_graphs():
            device = ort_device.device_of(self._provider, self._options)
        if device is not None:
            return self._on_device(feeds, device, copies)
        run, held = session.run, dict(feeds)

        def call() -> object:
            # 60 ns over a bare session.run(None, feeds), which takes 14 us for a perceptron of 600-256-128-64-2
            try:
                return run(None, held)
            except RUN_ERRORS as error:
                raise run_failed(error) from error

        return call

    def placement(self) -> Placement:
        nodes: dict[str, int] = {}
        for subgraph in self._assignments() or ():
            nodes[subgraph.ep_name] = nodes.get(subgraph.ep_name, 0) + len(subgraph.get_nodes())
        return Placement(nodes)

    def facts(self) -> dict[str, str]:
        session = self._opened()
        told = {"onnxruntime": str(onnxruntime.__version__)}
        if onnxruntime.package_name not in (None, "", "onnxruntime"):
            told["package"] = str(onnxruntime.package_name)
        if threads := own_threads(self._provider, self._options):
            told["threads"] = threads
        plugin = provider_of(self._provider).plugin
        if plugin and self._provider not in plugin_providers.built_in():
            told["plug-in"] = plugin_providers.package(plugin)
        if self._provider in _ON_CUDA:
            options = session.get_provider_options().get(self._provider, {})
            if "use_tf32" in options:
                told["tf32"] = "on" if options["use_tf32"] in ("1", "true") else "off"
            told["cuda graphs"] = "on" if self._uses_graphs() else "off"
            told["device"] = nvidia_device.name(self._device_id()) or f"cuda:{self._device_id()}"
        if self._assignments() is None:
            told["placement"] = "not told by this onnxruntime"
        return told

    def device_memory_bytes(self) -> int | None:
        return nvidia_device.memory_bytes() if self._provider in _ON_CUDA else None

    def close(self) -> None:
        self._session = None
        self._graph_taken = False

    def _on_device(
        self, feeds: Mapping[str, npt.NDArray[np.generic]], device: str, copies: bool
    ) -> Callable[[], object]:
        if self._uses_graphs() and self._graph_taken:
            raise BadProviderOption(
                "With CUDA graphs a session of ONNX Runtime runs in one stream only.",
                "Leave the option out, or measure one stream.",
            )
        self._graph_taken = True
        try:
            step = ort_device.bound(self._opened(), feeds, device=device, device_id=self._device_id(), copies=copies)
        except (*RUN_ERRORS, RuntimeError) as error:
            raise run_failed(error) from error

        def call() -> object:
            try:
                return step()
            except RUN_ERRORS as error:
                raise run_failed(error) from error

        return call

    def _uses_graphs(self) -> bool:
        told: Mapping[str, str] = self._opened().get_provider_options().get(self._provider, {})
        return ort_device.uses_graphs({**dict(self._options), **told})

    def _device_id(self) -> int:
        number = dict(self._options).get("device_id", "0")
        return int(number) if number.isdecimal() else 0

    def _assignments(self) -> Sequence[Any] | None:
        """None where onnxruntime is too old to tell: before 1.24."""
        ask = getattr(self._opened(), "get_provider_graph_assignment_info", None)
        found: Sequence[Any] | None = ask() if ask else None
        return found

    def _refuse_the_cpu_under_another_name(self) -> None:
        told = self._assignments() is not None
        if told and self._provider != CPU and not self.placement().share(self._provider):
            raise ProviderUnavailable(
                f"Not one node of {self._path} runs on {self._provider}.", "Bench it with --provider cpu."
            )

    def _opened(self) -> onnxruntime.InferenceSession:
        if self._session is None:
            raise RuntimeError("OrtRuntime.open() was not called")
        return self._session


def _spec(value: Any) -> TensorSpec:
    shape = tuple(axis if isinstance(axis, int) else str(axis) for axis in value.shape)
    return TensorSpec(value.name, _DTYPES.get(value.type, value.type), shape)
