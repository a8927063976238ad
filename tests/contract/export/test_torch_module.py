"""How a user's module is called: inputs by name, results by name, nothing of it changed."""

from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from exporters.errors import BadOption, NotExportable
from exporters.input_tree import Input, planted
from exporters.torch_module import Flat, bound, isolated, require_values, unwrapped

A, B, C = torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([4.0])


class Minus(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return a - b if c is None else a - b + 10 * c


class Keywords(nn.Module):
    def forward(self, *, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ids - mask


class Anything(nn.Module):
    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return tensors[0] - tensors[1]


class Named(nn.Module):
    def forward(self, **tensors: torch.Tensor) -> torch.Tensor:
        return tensors["p"] - tensors["q"]


class PositionalOnly(nn.Module):
    def forward(self, a: torch.Tensor, /, b: torch.Tensor) -> torch.Tensor:
        return a - b


def called(module: nn.Module, given: Mapping[str, Any]) -> dict[str, Any]:
    tensors: dict[str, torch.Tensor] = {}
    flat = Flat(module, {name: planted(tree, name, tensors) for name, tree in given.items()})
    values = flat(*tensors.values())
    return dict(zip(flat.outputs, (value.tolist() for value in values), strict=True))


@pytest.mark.parametrize(
    ("module", "given", "wanted"),
    [
        (Minus(), {"a": A, "b": B}, -1),
        (Minus(), {"b": B, "a": A}, -1),
        (Minus(), {"first": A, "second": B}, -1),
        (Minus(), {"a": A, "second": B}, -1),
        (Minus(), {"c": C, "b": B, "a": A}, 39),
        (Minus(), {"a": A, "b": B, "c": None}, -1),
        (Keywords(), {"mask": A, "ids": B}, 1),
        (Anything(), {"b": A, "a": B}, -1),
        (Named(), {"q": A, "p": B}, 1),
        (PositionalOnly(), {"b": B, "a": A}, -1),
    ],
)
def test_inputs_are_bound_by_name_where_the_names_are_forwards(module: nn.Module, given: Any, wanted: float) -> None:
    assert called(module, given) == {"output": [wanted]}


@pytest.mark.parametrize(
    ("module", "names"),
    [(Minus(), "ax"), (Minus(), "xa"), (Minus(), "a"), (Minus(), "pqrs"), (Keywords(), "xy"), (Minus(), "abx")],
)
def test_names_that_fit_neither_way_are_refused(module: nn.Module, names: str) -> None:
    if names == "ax":  # a stands where forward() has it: by position
        bound(module, {name: Input(name) for name in names})
        return
    if names == "abx":
        names = "bax"
    with pytest.raises(BadOption) as caught:
        bound(module, {name: Input(name) for name in names})
    assert "forward() takes" in caught.value.what


def test_an_optional_argument_in_the_middle_may_be_left_out() -> None:
    class Encoder(nn.Module):
        def forward(self, ids: torch.Tensor, mask: Any = None, kinds: Any = None) -> Any:
            return ids if mask is None else ids + 100 * mask

    assert called(Encoder(), {"ids": A, "kinds": B}) == {"output": [1]}


def test_lists_and_dicts_of_tensors_are_one_argument() -> None:
    class Parts(nn.Module):
        def forward(self, parts: list[torch.Tensor], more: dict[str, Any]) -> Any:
            return parts[0] - parts[1] + more["x"] * more["by"]

    assert called(Parts(), {"parts": [A, B], "more": {"x": C, "by": 3}}) == {"output": [11]}
    with pytest.raises(BadOption, match="parts"):
        called(Parts(), {"parts": object()})


Pair = namedtuple("Pair", "left right")


@dataclass
class Answer:
    scores: torch.Tensor
    loss: torch.Tensor | None
    states: tuple[torch.Tensor, ...]


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (A, ["output"]),
        ([A], ["output"]),
        ((A, None), ["output"]),
        ((A, B), ["output0", "output1"]),
        ((A, (B, C)), ["output0", "output1.0", "output1.1"]),
        ({"logits": A, "more": {"f": B}}, ["logits", "more.f"]),
        ({"x": A}, ["x_output"]),
        (Pair(A, B), ["left", "right"]),
        (Answer(A, None, (B, C)), ["scores", "states.0", "states.1"]),
        ([{"boxes": A}, {"boxes": B}], ["output0.boxes", "output1.boxes"]),
    ],
)
def test_what_forward_returns_is_flattened_and_named(result: Any, names: list[str]) -> None:
    class Returns(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return result

    assert list(called(Returns(), {"x": A})) == names


@pytest.mark.parametrize("result", [b"bytes", "text", A.to_sparse()])
def test_what_is_no_tensor_is_named(result: Any) -> None:
    class Returns(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return {"here": result}

    with pytest.raises(NotExportable, match="here"):
        called(Returns(), {"x": A})


def test_wrappers_come_off() -> None:
    inner = nn.Linear(2, 2)
    assert unwrapped(nn.DataParallel(inner)) is inner
    assert unwrapped(torch.compile(inner)) is inner  # type: ignore[arg-type]
    assert unwrapped(torch.compile(nn.DataParallel(inner))) is inner  # type: ignore[arg-type]


def test_a_copy_shares_weights_and_keeps_what_it_changes_to_itself() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.seen = nn.Linear(1, 1), [0]
            self.register_buffer("calls", torch.zeros(()), persistent=False)

        def forward(self, x: torch.Tensor) -> Any:
            self.get_buffer("calls").add_(1)
            self.seen[0] += 1
            return self.inner(x)

    module = Counts()
    copy = isolated(module)
    copy(A)
    assert (float(module.calls), module.seen, module.training, copy.training) == (0, [0], True, False)  # type: ignore[arg-type]
    assert copy.get_parameter("inner.weight") is module.inner.weight


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_layers_that_compute_their_weight_are_copied(norm: Any) -> None:
    module = nn.Sequential(norm(nn.Linear(4, 3)), nn.ReLU()).eval()
    x = torch.ones(2, 4)
    copy = isolated(module)
    assert torch.equal(copy(x), module(x))
    assert copy.get_parameter("0.bias") is module.get_parameter("0.bias")


def test_compiled_layers_inside_come_out_of_their_wrapper_in_the_copy() -> None:
    module = nn.Sequential(torch.compile(nn.Linear(4, 3)), nn.ReLU())  # type: ignore[call-overload]
    assert isinstance(isolated(module).get_submodule("0"), nn.Linear)
    assert not isinstance(module[0], nn.Linear)


@pytest.mark.parametrize("module", [nn.LazyLinear(3), nn.Linear(2, 2, device="meta")], ids=["lazy", "meta"])
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_weights_without_values_are_named(module: nn.Module) -> None:
    with pytest.raises(NotExportable, match="weight"):
        require_values(module)
