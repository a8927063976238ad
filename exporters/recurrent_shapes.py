"""The shapes of what LSTM and GRU give, at any length of time.

Torch finds them by running its own loop over time, which makes that length a number; torch.onnx then writes it into the
file, where it stays silently as long as the time axis itself is open. The operators are translated as they are, so of
what they give nothing but the shapes is wanted.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from exporters.replaced import entries_replaced

_KEY = torch._C.DispatchKey.CompositeImplicitAutograd


@contextlib.contextmanager
def at_any_length() -> Iterator[None]:
    """In a block, torch knows the shapes of LSTM's and GRU's results without a loop over time.

    By the two tables that torch.export._patches changes to put torch.while_loop in those places.
    """
    shaped = {torch.ops.aten.lstm.input: _lstm, torch.ops.aten.gru.input: _gru}
    with contextlib.ExitStack() as held:
        for operator, function in shaped.items():
            held.enter_context(entries_replaced(operator.py_kernels, {_KEY: function}))
        held.enter_context(entries_replaced(torch._decomp.decomposition_table, shaped))
        yield


def _gru(x: torch.Tensor, state: torch.Tensor, *settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return _of_time(x, state, settings), state.new_empty(state.shape)


def _lstm(x: torch.Tensor, states: Sequence[torch.Tensor], *settings: Any) -> tuple[torch.Tensor, ...]:
    return _of_time(x, states[0], settings), *(state.new_empty(state.shape) for state in states)


def _of_time(x: torch.Tensor, state: torch.Tensor, settings: Sequence[Any]) -> torch.Tensor:
    """``(time, batch, features)`` or ``(batch, time, features)`` with the features of ``(layers, batch, features)``."""
    _parameters, _has_biases, _layers, _dropout, _train, is_bidirectional, _batch_first = settings
    return x.new_empty((*x.shape[:2], state.shape[2] * (2 if is_bidirectional else 1)))
