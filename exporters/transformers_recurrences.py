"""Recurrences that models of transformers compute in a Python loop over the sequence, as torch's scan.

A loop is unrolled when it is captured, and the length of the sequence becomes a number; a scan becomes ONNX's Scan, of
any length. The functions are replaced by their names, while a model is captured only; what comes of it is proven beside
transformers' own, as every file is.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.nn.functional import silu, softplus

from exporters.replaced import replaced

Step = Callable[..., tuple[Any, torch.Tensor]]


@contextlib.contextmanager
def as_scans(module: torch.nn.Module) -> Iterator[None]:
    """In a block, the recurrences that layers of ``module`` have under known names are scans."""
    theirs = "transformers.models."
    kinds = {type(layer) for layer in module.modules() if type(layer).__module__.startswith(theirs)}
    files = {sys.modules[kind.__module__] for kind in kinds}
    with contextlib.ExitStack() as held:
        for name, function in _FUNCTIONS.items():
            for file in (file for file in files if name in vars(file)):
                held.enter_context(replaced(file, name, function))
        for name, function in _METHODS.items():
            for kind in (kind for kind in kinds if name in vars(kind)):
                held.enter_context(replaced(kind, name, function))
        yield


def _selective_scan(
    hidden_states: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,  # noqa: N803 - the names by which it is called, here and below
    B: torch.Tensor,  # noqa: N803
    C: torch.Tensor,  # noqa: N803
    D: torch.Tensor | None = None,  # noqa: N803
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **_: Any,
) -> Any:
    """Mamba's, equation 2 of arXiv 2312.00752: ``(batch, channels, time)``; B and C ``(batch, states, time)``."""
    if delta_bias is not None:
        dt = dt + delta_bias.to(dt.dtype)[..., None]
    if delta_softplus:
        dt = softplus(dt)
    decay = torch.exp(A[None, :, None, :] * dt[..., None])
    given = dt[..., None] * B.transpose(1, 2)[:, None].float() * hidden_states[..., None].float()
    states = _decaying(decay.permute(2, 0, 1, 3), given.permute(2, 0, 1, 3))
    read = states.to(hidden_states.dtype) @ C.permute(2, 0, 1)[..., None]
    result = read.squeeze(-1).permute(1, 2, 0)
    if D is not None:
        result = result + hidden_states * D[None, :, None]
    if z is not None:
        result = result * silu(z)
    return (result, states[-1]) if return_last_state else result


def _linear_recurrence(
    self: torch.nn.Module,
    hidden_states: torch.Tensor,
    recurrent_gate: torch.Tensor,
    reset: torch.Tensor,
    recurrent_states: torch.Tensor | None,
    acc_dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Griffin's, equation 4 of arXiv 2402.19427, of inputs ``(batch, time, channels)``."""
    decay, given = ((recurrent_gate * ~reset).to(acc_dtype), hidden_states.to(acc_dtype))
    states = _decaying(decay.transpose(0, 1), given.transpose(0, 1), recurrent_states)
    return states.transpose(0, 1).to(hidden_states.dtype), states[-1]


def _linear_attention(
    time_decay: torch.Tensor,
    time_first: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    state: Any = None,
    return_state: bool = False,
) -> tuple[torch.Tensor, Any]:
    """RWKV's, equation 14 of arXiv 2305.13048 in the form that does not overflow, of ``(batch, time, channels)``."""
    decay = -torch.exp(time_decay)

    def step(carried: Any, now: Any) -> tuple[Any, torch.Tensor]:
        (numerator, denominator, most), (k, v) = carried, now
        here = torch.maximum(most, k + time_first)
        before, this = torch.exp(most - here), torch.exp(k + time_first - here)
        answer = (before * numerator + this * v) / (before * denominator + this)
        later = torch.maximum(most + decay, k)
        before, this = torch.exp(most + decay - later), torch.exp(k - later)
        return (before * numerator + this * v, before * denominator + this, later), answer

    nothing = torch.zeros_like(key[:, 0], dtype=torch.float32)
    first = tuple(state) if state is not None else (nothing, nothing.clone(), nothing - 1e38)
    last, answers = _scanned(step, first, (key.float().transpose(0, 1), value.float().transpose(0, 1)))
    return answers.transpose(0, 1).to(key.dtype), [*last] if return_state or state is not None else state


def _decaying(decay: torch.Tensor, given: torch.Tensor, first: torch.Tensor | None = None) -> torch.Tensor:
    """``states[t] = decay[t] * states[t - 1] + given[t]`` along axis 0."""

    def step(state: torch.Tensor, now: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        state = now[0] * state + now[1]
        return state, state.clone()

    found: torch.Tensor = _scanned(step, torch.zeros_like(given[0]) if first is None else first, (decay, given))[1]
    return found


def _scanned(step: Step, first: Any, over: Any) -> tuple[Any, torch.Tensor]:
    from torch._higher_order_ops.scan import scan

    last, results = scan(step, first, over, dim=0)
    return last, results


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "mamba_selective_scan": _selective_scan,
    "rwkv_linear_attention": _linear_attention,
}
_METHODS: Mapping[str, Callable[..., Any]] = {"_rnn_scan": _linear_recurrence}
