"""A decoder as one step of generation: tokens and what the past left come in, what past and step leave goes out."""

import inspect
from typing import Any

import torch

from toolchain.errors import BadUsage

_PAST, _STEP = 6, 3
Layers = list[dict[str, torch.Tensor]]
Axes = dict[str, dict[int, str]]
Step = tuple[torch.nn.Module, dict[str, Any], Axes]
"""A module, the example of its inputs, and their dynamic axes."""


class WithPast(torch.nn.Module):
    """``model`` with keys and values ``(N, heads, past, width)`` of each layer as inputs, and as outputs ``present``.

    Without a mask: every token of the past counts.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        newer = "cache" in inspect.signature(model.forward).parameters
        self._name = "cache" if newer else "past_key_values"  # which newer releases warn of

    def forward(self, input_ids: torch.Tensor, past_key_values: Layers) -> dict[str, Any]:
        from transformers import Cache, DynamicCache

        cache = DynamicCache([(layer["key"], layer["value"]) for layer in past_key_values])
        found = self.model(input_ids=input_ids, **{self._name: cache}, use_cache=True, return_dict=True)
        others = {name: value for name, value in found.items() if not isinstance(value, Cache)}
        return {**others, "present": [{"key": layer.keys, "value": layer.values} for layer in cache.layers]}


def step_of(model: Any, input_ids: torch.Tensor) -> Step:
    """The step of ``model``, whose past is that of ``input_ids`` ``(N, tokens)``.

    Raises BadUsage for a model that keeps anything but keys and values of every token.
    """
    from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

    with torch.no_grad():
        found = model(input_ids=input_ids[:, :_PAST], use_cache=True)
    cache: Any = next((value for value in found.values() if isinstance(value, Cache)), None)
    if type(cache) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in cache.layers):
        raise BadUsage(
            f"What {type(model).__name__} keeps of the past is not the keys and values of every token alone.",
            "Leave --arg use_cache out.",
        )
    layers = [{"key": layer.keys, "value": layer.values} for layer in cache.layers]
    axes: Axes = {"input_ids": {0: "batch", 1: "sequence"}}
    for place in range(len(layers)):
        axes |= {f"past_key_values.{place}.{part}": {0: "batch", 2: "past"} for part in ("key", "value")}
    return WithPast(model), {"input_ids": input_ids[:, _PAST : _PAST + _STEP], "past_key_values": layers}, axes
