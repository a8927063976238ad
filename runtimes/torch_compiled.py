"""PyTorch through torch.compile; the compilation happens in the first run of each shape."""

from collections.abc import Callable
from typing import Any

import torch

from runtimes.errors import ProviderUnavailable
from runtimes.torch_compiler import why_not
from runtimes.torch_eager import TorchEager

_COMPILE_ERRORS = (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError)


class TorchCompiled(TorchEager):
    """As :class:`TorchEager`, compiled once for each batch size."""

    def _prepare(self, module: torch.nn.Module) -> Callable[..., Any]:
        if missing := why_not(self._device.type):
            raise ProviderUnavailable(f"torch.compile cannot run here: {missing}.", "Install it, or leave the row out.")
        compiled: Callable[..., Any] = torch.compile(module, dynamic=False)

        def forward(*inputs: torch.Tensor) -> Any:
            try:
                return compiled(*inputs)
            except _COMPILE_ERRORS as error:
                reason = str(error).strip().partition("\n")[0]
                raise ProviderUnavailable(
                    f"torch.compile failed: {reason}", "Mend it, or leave the row out."
                ) from error

        return forward
