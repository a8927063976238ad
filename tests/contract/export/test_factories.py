"""The function that makes a model."""

from pathlib import Path

import pytest
import torch

from toolchain.errors import BadUsage
from toolchain.inputs import factories, models


def test_weights_that_a_factory_draws_are_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text("import torch\n\n\ndef make():\n    return torch.nn.Linear(8, 4)\n")
    first, second = (factories.made(f"{tmp_path}/made.py:make", {}).module for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    "given",
    [
        "torch.zeros(2, 8)",
        "(torch.zeros(2, 8),)",
        "[torch.zeros(2, 8)]",
        "((), {'x': torch.zeros(2, 8)})",
        "{'x': torch.zeros(2, 8).numpy()}",
    ],
)
def test_examples_are_given_as_a_call_is_written(given: str, tmp_path: Path) -> None:
    code = (
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x, twice=False): return x\n"
        f"def make(): return torch.nn.DataParallel(Net()), {given}\n"
    )
    (tmp_path / "made.py").write_text(code)
    made = factories.made(f"{tmp_path}/made.py:make", {})
    example = models.example_of(made, [], None)
    assert {name: array.shape for name, array in example.at({"batch": 2}).items()} == {"x": (2, 8)}


def test_examples_that_do_not_fit_forward_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(
        "import torch\ndef make(): return torch.nn.Linear(8, 4), (torch.zeros(8), 1, 2)\n"
    )
    with pytest.raises(BadUsage, match=r"gives as examples does not fit forward\(\): TypeError: too many positional"):
        factories.made(f"{tmp_path}/made.py:make", {})
