"""Checkpoints: written atomically, read without running their content."""

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from exporters.atomic_file import staged
from exporters.errors import in_words
from exporters.torch_module import require_values, unwrapped
from toolchain.errors import BadUsage

BEST = "checkpoint.pt"
"""The weights with the best validation accuracy, under ``model``; beside them ``epoch`` and ``validation_accuracy``."""
RESUME = "resume.pt"
"""The state after the last whole epoch, from which training goes on."""
_NAMES = ("model", "state_dict", "model_state_dict")
"""Where the model's own weights are looked for when several sets fit: an average's or a teacher's do too."""
_COMPILED = "_orig_mod."
_DEEPEST = 3
_BLOWN_UP = 4
"""torch stores its archives uncompressed: one that unpacks to more than so many times its size is a bomb."""
_PLAIN = "Save a state_dict with torch.save."


def save(content: dict[str, Any], path: Path) -> None:
    """Replace ``path`` by ``content``."""
    # through a handle: given a path, torch writes the file's temporary name into the archive
    with staged(path) as temporary, temporary.open("wb") as handle:
        torch.save(content, handle)


def load(path: Path) -> dict[str, Any]:
    """Read tensors, numbers and strings, nothing that could run; raise BadUsage when ``path`` is missing or unfit."""
    if not path.is_file():
        what = f"{path} is not a file." if path.exists() else f"There is no checkpoint {path}."
        raise BadUsage(what, "Name a checkpoint, or make one with `nnx train`.")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    _require_no_bomb(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise BadUsage(f"{path} holds a {type(content).__name__}, not weights.", _PLAIN)
    return content


def load_weights(module: torch.nn.Module, path: Path) -> list[str]:
    """Load a state_dict, or the one dict in a checkpoint that fits ``module``, whatever prefix its keys share.

    Returns what was assumed, a sentence each. Raises BadUsage that names the keys that do not fit, and weights that
    are NaN or have no values.
    """
    module = unwrapped(module)
    require_values(module)
    wanted = module.state_dict()
    found = [_Candidate(place, weights) for place, weights in _dicts(load(path), ())]
    found = [stripped for candidate in found for stripped in candidate.stripped()]
    fitting = [candidate for candidate in found if set(candidate.weights) == set(wanted)]
    chosen = _chosen(fitting, path) or max(found, key=lambda candidate: len(set(candidate.weights) & set(wanted)))
    _require_fit(chosen.weights, wanted, path, type(module).__name__)
    try:
        module.load_state_dict(chosen.weights)
    except RuntimeError as error:
        raise BadUsage(f"The weights in {path} cannot be loaded: {in_words(error)}.", _PLAIN) from error
    return chosen.assumed(path)


class _Candidate:
    """Weights at ``place`` in a checkpoint, their names without ``prefix``."""

    def __init__(self, place: tuple[str, ...], weights: Mapping[str, Any], prefix: str = "") -> None:
        self.place, self.weights, self.prefix = place, weights, prefix

    def stripped(self) -> Iterator["_Candidate"]:
        """Itself, and itself with every prefix taken off that its names share; AveragedModel's count is no weight."""
        yield self
        weights = {name: value for name, value in self.weights.items() if name != "n_averaged"}
        if any(f".{_COMPILED}" in name for name in weights):  # of layers that were compiled on their own
            yield _Candidate(self.place, {name.replace(_COMPILED, ""): weights[name] for name in weights}, _COMPILED)
        prefix = ""
        while len(heads := {name.partition(".")[0] for name in weights}) == 1 and all("." in name for name in weights):
            prefix += f"{heads.pop()}."
            weights = {name.partition(".")[2]: value for name, value in weights.items()}
            yield _Candidate(self.place, weights, prefix)

    def assumed(self, path: Path) -> list[str]:
        told = [f"'{self.prefix}' was taken off the names of the weights in {path}."] if self.prefix else []
        usual = len(self.place) <= 1 and (not self.place or self.place[0] == "model")
        return told if usual else [f"The weights are those under {'.'.join(self.place)} in {path}.", *told]


def _dicts(content: Mapping[Any, Any], place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """``content`` and the dicts in it, in so far as their keys are names."""
    yield place, {name: value for name, value in content.items() if isinstance(name, str)}
    for name, value in content.items():
        if isinstance(value, Mapping) and isinstance(name, str) and len(place) < _DEEPEST:
            yield from _dicts(value, (*place, name))


def _chosen(fitting: list[_Candidate], path: Path) -> _Candidate | None:
    for candidate in fitting:
        if len(fitting) == 1 or not candidate.place or candidate.place[-1] in _NAMES:
            return candidate
    if fitting:
        places = ", ".join(".".join(candidate.place) for candidate in fitting)
        raise BadUsage(f"{path} holds several sets of weights that fit: {places}.", "Save the one that is meant.")
    return None


def _require_fit(weights: Mapping[str, Any], wanted: Mapping[str, torch.Tensor], path: Path, model: str) -> None:
    problems = [f"missing {name}" for name in wanted if name not in weights]
    problems += [f"unknown {name}" for name in weights if name not in wanted]
    for name, value in wanted.items():
        given = weights.get(name, value)
        if not isinstance(given, torch.Tensor):
            problems.append(f"{name} is a {type(given).__name__}")
        elif given.shape != value.shape:
            problems.append(f"{name} is {list(given.shape)}, wanted {list(value.shape)}")
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise BadUsage(
            f"The weights in {path} do not fit {model}: {'; '.join(problems[:4])}{more}.",
            "Give the checkpoint of this model.",
        )
    for name, given in weights.items():
        if given.is_meta:
            raise BadUsage(f"'{name}' in {path} is on the meta device, without values.", "Save the weights themselves.")
        if given.is_floating_point() and bool(torch.isnan(given).any()):
            raise BadUsage(f"'{name}' in {path} is NaN: that training diverged.", "Give an earlier checkpoint.")


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except OSError:
        raise
    except Exception as error:  # its reader's own kinds, of which not all are exported
        raise BadUsage(f"{path} is not a safetensors file, or it is truncated: {in_words(error)}.", _PLAIN) from error


def _require_no_bomb(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise _unreadable(path, error) from error
    if unpacked > _BLOWN_UP * path.stat().st_size + 2**20:
        raise BadUsage(f"{path} unpacks to {unpacked / 1e9:,.1f} GB, unlike what torch.save writes.", _PLAIN)


def _unreadable(path: Path, error: Exception) -> BadUsage:
    text = str(error)
    if refused := re.search(r"(?:GLOBAL|Unsupported (?:class|global):?) ([\w.]+\.\w+)", text):
        return BadUsage(
            f"{path} holds a {refused[1]} beside its weights, and reading one could run code.",
            "Save the weights alone: torch.save(model.state_dict(), FILE).",
        )
    if "TorchScript" in text or "constants.pkl" in text:
        return BadUsage(f"{path} is a TorchScript archive, not weights.", _PLAIN)
    return BadUsage(f"{path} is not a checkpoint of plain weights, or it is truncated.", _PLAIN)
