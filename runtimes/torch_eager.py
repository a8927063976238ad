"""PyTorch as it is: the module called under inference_mode, in fp32."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from runtimes.base import Arrays, Placement, TensorSpec, check_feeds
from runtimes.errors import ProviderUnavailable, RunFailed


class TorchEager:
    """``module`` on ``device`` (``cpu`` or ``cuda``); ``inputs`` in the order in which forward() takes them."""

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._module = module
        self._device = device
        self._threads = threads
        self._forward: Callable[..., Any] | None = None

    def open(self) -> None:
        if self._device == "cuda" and not torch.cuda.is_available():
            raise ProviderUnavailable(
                "PyTorch sees no CUDA device.", "Install a CUDA build of torch and NVIDIA's driver."
            )
        torch.set_num_threads(self._threads)
        self._module.eval().to(self._device)
        self._forward = self._prepare(self._module)

    def bind(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> Callable[[], Arrays]:
        check_feeds(self.inputs, feeds)
        if self._forward is None:
            raise RuntimeError("open() was not called")
        forward, device = self._forward, self._device
        tensors = [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])) for spec in self.inputs]
        names = [spec.name for spec in self.outputs]
        copies = device != "cpu"

        def call() -> Arrays:
            try:
                with torch.inference_mode():
                    given = [tensor.to(device) for tensor in tensors] if copies else tensors
                    result = forward(*given)
                    results = result if isinstance(result, (tuple, list)) else (result,)
                    # .cpu() waits for the device, so the call ends when the answer is here
                    return {name: value.cpu().numpy() for name, value in zip(names, results, strict=True)}
            except torch.OutOfMemoryError as error:
                raise RunFailed("PyTorch ran out of memory.", "Try a smaller batch.") from error

        return call

    def placement(self) -> Placement:
        return Placement({})

    def close(self) -> None:
        self._forward = None

    def _prepare(self, module: torch.nn.Module) -> Callable[..., Any]:
        return module
