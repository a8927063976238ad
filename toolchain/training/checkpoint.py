"""Checkpoints: written atomically, read without running their content."""

import pickle
from pathlib import Path
from typing import Any

import torch

from exporters.atomic_file import staged
from toolchain.errors import BadUsage

BEST = "checkpoint.pt"
"""The weights with the best validation accuracy, under ``model``; beside them ``epoch`` and ``validation_accuracy``."""
RESUME = "resume.pt"
"""The state after the last whole epoch, from which training goes on."""


def save(content: dict[str, Any], path: Path) -> None:
    """Replace ``path`` by ``content``."""
    # through a handle: given a path, torch writes the file's temporary name into the archive
    with staged(path) as temporary, temporary.open("wb") as handle:
        torch.save(content, handle)


def load(path: Path) -> dict[str, Any]:
    """Read tensors, numbers and strings, nothing that could run; raise BadUsage when ``path`` is missing or unfit."""
    if not path.is_file():
        raise BadUsage(f"There is no checkpoint {path}.", "Make one with `nnx train`.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise BadUsage(
            f"{path} is not a checkpoint of plain weights, or it is truncated.",
            "Save a state_dict with torch.save.",
        ) from error
    if not isinstance(content, dict):
        raise BadUsage(f"{path} holds a {type(content).__name__}, not weights.", "Save a state_dict with torch.save.")
    return content


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Load a checkpoint of nnx, or a bare state_dict, into ``module``; BadUsage names the keys that do not fit."""
    content = load(path)
    weights = content["model"] if isinstance(content.get("model"), dict) else content
    wanted = module.state_dict()
    problems = [f"missing {name}" for name in wanted if name not in weights]
    problems += [f"unknown {name}" for name in weights if name not in wanted]
    problems += [
        f"{name} is {list(weights[name].shape)}, wanted {list(value.shape)}"
        for name, value in wanted.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise BadUsage(
            f"The weights in {path} do not fit {type(module).__name__}: {'; '.join(problems[:4])}{more}.",
            "Give the checkpoint of this model.",
        )
    module.load_state_dict(weights)
