"""PyTorch as it is: the module called under inference_mode, in fp32."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from runtimes import nvidia_device
from runtimes.base import Arrays, Placement, Runtime, TensorSpec, check_feeds
from runtimes.errors import BadProviderOption, ProviderUnavailable, RunFailed, shortened
from runtimes.registry import Options

_SWITCH = {"0": False, "1": True}
_RUN_ERRORS = (RuntimeError, IndexError, KeyError, AttributeError, TypeError, ValueError, AssertionError)
"""What PyTorch and a user's forward() raise for inputs that do not suit them."""


class TorchEager(Runtime):
    """``module`` on ``device`` (``cpu`` or ``cuda``); ``inputs`` in the order in which forward() takes them.

    Of the provider's ``options`` PyTorch has ``device_id`` and ``use_tf32``, on CUDA; any other is refused, since a
    row would be compared with one that obeys it.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: str = "cpu",
        threads: int = 1,
        options: Options = (),
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._module: torch.nn.Module | None = module
        self._device = torch.device(device)
        self._threads = threads
        self._options = options
        self._forward: Callable[..., Any] | None = None

    def open(self) -> None:
        self._obey_options()
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise ProviderUnavailable(
                "PyTorch sees no CUDA device.", "Install a CUDA build of torch and NVIDIA's driver."
            )
        if self._module is None:
            raise RuntimeError("close() was called")
        torch.set_num_threads(self._threads)
        try:
            self._module.eval().to(self._device)
        except RuntimeError as error:
            raise _failed(error) from error
        self._forward = self._prepare(self._module)

    def bind(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> Callable[[], Arrays]:
        return self._call(feeds, self._named)

    def timed(self, feeds: Mapping[str, npt.NDArray[np.generic]], *, copies: bool) -> Callable[[], object]:
        if self._device.type == "cpu":
            return self._call(feeds, self._opened())
        return self._call(feeds, self._there_and_back if copies else self._fenced, placed=not copies)

    def placement(self) -> Placement:
        return Placement({})

    def facts(self) -> dict[str, str]:
        told = {"torch": str(torch.__version__)}
        if self._device.type == "cuda":
            products = torch.backends.cuda.matmul.allow_tf32
            convolutions = torch.backends.cudnn.allow_tf32
            told["tf32"] = "on" if products and convolutions else "off"
            if products != convolutions:
                told["tf32"] = "in products only" if products else "in convolutions only"
            told["cuda graphs"] = "off"
            told["device"] = torch.cuda.get_device_name(self._device)
        return told

    def device_memory_bytes(self) -> int | None:
        if self._device.type == "cpu":
            return None
        # as ONNX Runtime's rows have it; where the driver cannot tell, without CUDA's own context
        return nvidia_device.memory_bytes() or torch.cuda.max_memory_allocated(self._device)

    def close(self) -> None:
        self._module = self._forward = None

    def _prepare(self, module: torch.nn.Module) -> Callable[..., Any]:
        return module

    def _call(
        self, feeds: Mapping[str, npt.NDArray[np.generic]], step: Callable[..., Any], *, placed: bool = False
    ) -> Callable[[], Any]:
        """``step`` on the tensors of ``feeds``, which lie on the device beforehand where they are ``placed``."""
        check_feeds(self.inputs, feeds)
        self._opened()
        tensors = [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])) for spec in self.inputs]
        if placed:
            tensors = self._placed(tensors)
        # one for each call, since it keeps its state in itself; a new one for each run would take 0.9 us longer
        inference = torch.inference_mode()

        def call() -> Any:
            try:
                with inference:
                    return step(*tensors)
            except _RUN_ERRORS as error:
                raise _failed(error) from error

        return call

    def _placed(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        try:
            return [tensor.to(self._device) for tensor in tensors]
        except RuntimeError as error:
            raise _failed(error) from error

    def _there_and_back(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        result = self._opened()(*[tensor.to(self._device) for tensor in tensors])
        return [value.cpu() for value in _tensors(result)]  # waits for the device

    def _named(self, *tensors: torch.Tensor) -> Arrays:
        names, values = [spec.name for spec in self.outputs], self._there_and_back(*tensors)
        if len(values) != len(names):
            raise RunFailed(
                f"The module returns {len(values)} tensors, its outputs are named {', '.join(names)}.",
                "Let forward() return as many as there are names.",
            )
        return {name: _array(value) for name, value in zip(names, values, strict=True)}

    def _fenced(self, *tensors: torch.Tensor) -> Any:
        result = self._opened()(*tensors)
        torch.cuda.synchronize(self._device)
        return result

    def _opened(self) -> Callable[..., Any]:
        if self._forward is None:
            raise RuntimeError("open() was not called")
        return self._forward

    def _obey_options(self) -> None:
        given = dict(self._options)
        known = {"device_id": str.isdecimal, "use_tf32": _SWITCH.__contains__} if self._device.type == "cuda" else {}
        for name, value in given.items():
            if name not in known or not known[name](value):
                raise BadProviderOption(
                    f"PyTorch on {self._device.type} cannot obey {name}={value}.",
                    f"It takes {' and '.join(known) or 'no options'}; leave PyTorch out, or the option.",
                )
        if "device_id" in given:
            self._device = torch.device("cuda", int(given["device_id"]))
        if "use_tf32" in given:
            torch.backends.cuda.matmul.allow_tf32 = _SWITCH[given["use_tf32"]]
            torch.backends.cudnn.allow_tf32 = _SWITCH[given["use_tf32"]]


def _tensors(result: Any) -> list[torch.Tensor]:
    """What forward() returned, one after the other; raise RunFailed for anything but tensors, however nested."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, Mapping):
        inner = list(result.values())
    elif isinstance(result, (tuple, list)):
        inner = list(result)
    elif dataclasses.is_dataclass(result):
        inner = [getattr(result, field.name) for field in dataclasses.fields(result)]
    else:
        raise RunFailed(
            f"The module returns a {type(result).__name__}.",
            "Let forward() return tensors, or tuples or dicts of them.",
        )
    return [tensor for value in inner if value is not None for tensor in _tensors(value)]


def _array(value: torch.Tensor) -> npt.NDArray[np.generic]:
    """``value``, on the CPU, as numpy has it: there is no bfloat16."""
    array: npt.NDArray[np.generic] = (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
    return array


def _failed(error: Exception) -> RunFailed:
    if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
        return RunFailed("PyTorch ran out of memory.", "Try a smaller batch.")
    reason = shortened(str(error).strip().partition("\n")[0]) or type(error).__name__
    return RunFailed(f"PyTorch failed: {reason}.", "Check the model with these inputs.")
