"""Weights as people save them, fitted to a module: nested in a checkpoint, under a prefix, shared ones kept once."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from exporters.torch_module import require_values, unwrapped
from toolchain.errors import BadUsage
from toolchain.training import checkpoint

_NAMES = ("model", "state_dict", "model_state_dict")
"""Where the model's own weights are looked for when several sets fit: an average's or a teacher's do too."""
_COMPILED = "_orig_mod."
_COUNTED = "num_batches_tracked"
"""A batch norm's count of training steps, which older checkpoints lack and no answer depends on."""
_DEEPEST = 3
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A file of weights; ``key`` says under which of its keys they are, joined by full stops where it is nested.

    ``strip_prefix`` is taken off their names, those without it are left out. Without ``strict`` what does not fit is
    left out too, and said.
    """

    file: Path
    key: str | None = None
    strip_prefix: str | None = None
    strict: bool = True


@dataclass(frozen=True)
class _Candidate:
    """Weights at ``place`` in a checkpoint; ``prefix`` was taken off their names, ``others`` do not have it."""

    place: tuple[str, ...]
    weights: Mapping[str, Any]
    prefix: str = ""
    others: tuple[str, ...] = ()

    def without(self, prefix: str) -> "_Candidate":
        kept = {name.removeprefix(prefix): self.weights[name] for name in self.weights if name.startswith(prefix)}
        others = tuple(name for name in self.weights if not name.startswith(prefix))
        return _Candidate(self.place, kept, self.prefix + prefix, (*self.others, *others))

    def stripped(self, least: int) -> Iterator["_Candidate"]:
        """Itself, and what is left without what stands before its names, if it is ``least`` weights.

        AveragedModel's count is no weight.
        """
        yield self
        plain = _Candidate(self.place, {name: value for name, value in self.weights.items() if name != "n_averaged"})
        if any(f".{_COMPILED}" in name for name in plain.weights):  # of layers that were compiled on their own
            weights = {name.replace(_COMPILED, ""): value for name, value in plain.weights.items()}
            yield _Candidate(self.place, weights, _COMPILED)
        yield from plain._headless(least)

    def _headless(self, least: int) -> Iterator["_Candidate"]:
        for head in dict.fromkeys(f"{name.partition('.')[0]}." for name in self.weights if "." in name):
            candidate = self.without(head)
            if len(candidate.weights) >= least:
                yield candidate
                yield from candidate._headless(least)

    def assumed(self, path: Path) -> Iterator[str]:
        usual = len(self.place) <= 1 and (not self.place or self.place[0] == "model")
        if not usual:
            yield f"The weights are those under {'.'.join(self.place)} in {path}."
        if self.prefix:
            yield f"'{self.prefix}' was taken off the names of the weights in {path}."
        if self.others:
            yield f"Others of its weights were left out: {_listed(self.others)}."


def load(module: torch.nn.Module, given: Weights) -> list[str]:
    """Load weights into ``module``: what stands under a key, or the one dict in a file that fits, whatever its prefix.

    Returns what was assumed, a sentence each. Raises BadUsage that names the keys that do not fit, and weights that
    are NaN or have no values.
    """
    module = unwrapped(module)
    require_values(module)
    wanted = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    found = [_Candidate(place, weights) for place, weights in _dicts(checkpoint.load(given.file), ())]
    if given.key is not None:
        found = [_at_key(found, given.key, given.file)]
    if given.strip_prefix is not None:
        found = [candidate.without(given.strip_prefix) for candidate in found]
    else:
        found = [stripped for candidate in found for stripped in candidate.stripped(len(wanted) // 2)]
    found = [_with_shared(candidate, wanted) for candidate in found]
    fitting = [each for each in found if set(each.weights) == set(wanted) and _fit(each, wanted)[0] == len(wanted)]
    chosen = _chosen(fitting, given.file)
    chosen = chosen or max(found, key=lambda each: _fit(each, wanted))
    problems = _problems(chosen.weights, wanted)
    if problems and _converts(module, chosen.weights):
        problems = []
    if problems and (given.strict or not set(chosen.weights) & set(wanted)):
        raise BadUsage(
            f"The weights in {given.file} do not fit {type(module).__name__}: {'; '.join(map(str, problems))}.",
            "Give the checkpoint of this model, say where it is with --key or --strip-prefix, or leave out with "
            "--no-strict what does not fit.",
        )
    passed = [each for each in found if set(each.weights) >= set(wanted) and each.place != chosen.place]
    unfit = {name for problem in problems for name in problem.names}
    weights = {name: value for name, value in chosen.weights.items() if name not in unfit}
    _require_values(weights, given.file)
    try:
        module.load_state_dict(weights, strict=not problems)
    except Exception as error:  # hooks and extra state of the module's own
        why = " ".join(str(error).split())[:300].rstrip(".")
        raise BadUsage(f"The weights in {given.file} cannot be loaded: {why}.", checkpoint.PLAIN) from error
    others = dict.fromkeys(".".join(each.place) or "the file's own" for each in passed)
    told = [f"Others fit too, under {_listed(list(others))}: --key says which."] if others and given.key is None else []
    return [*chosen.assumed(given.file), *told, *(f"Left as the model was made: {problem}." for problem in problems)]


def _dicts(content: Mapping[Any, Any], place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """``content`` and the dicts in it, in so far as their keys are names."""
    yield place, {name: value for name, value in content.items() if isinstance(name, str)}
    for name, value in content.items():
        if isinstance(value, Mapping) and isinstance(name, str) and len(place) < _DEEPEST:
            yield from _dicts(value, (*place, name))


def _at_key(found: list[_Candidate], key: str, path: Path) -> _Candidate:
    for candidate in found:
        if candidate.place and ".".join(candidate.place) == key:
            return candidate
    known = [".".join(candidate.place) for candidate in found if candidate.place]
    raise BadUsage(
        f"{path} has no dict under '{key}'.",
        f"It has {_listed(known)}." if known else "Its weights are not nested: leave --key out.",
    )


def _with_shared(candidate: _Candidate, wanted: Mapping[str, torch.Tensor]) -> _Candidate:
    """With what files may lack: a weight that the module shares under several names, and an old norm's count."""
    if not set(candidate.weights) & set(wanted):
        return candidate
    weights = dict(candidate.weights)
    present = {_place(value): name for name, value in wanted.items() if name in weights and value.numel()}
    for name, value in wanted.items():
        if name not in weights and _place(value) in present:
            weights[name] = weights[present[_place(value)]]
        elif name not in weights and name.endswith(_COUNTED):
            weights[name] = value
    return replace(candidate, weights=weights)


def _place(value: torch.Tensor) -> tuple[object, ...]:
    """Where a tensor's values lie."""
    return value.data_ptr(), value.dtype, value.shape, value.stride()


def _chosen(fitting: list[_Candidate], path: Path) -> _Candidate | None:
    """The one that fits; of several the one that leaves nothing out, or stands where a model's own weights do."""
    fitting = [each for each in fitting if not each.others] or fitting
    usual = [each for each in fitting if not each.place or each.place[-1] in _NAMES]
    usual = [each for each in usual if each.place == usual[0].place]
    if len(fitting) == 1 or len(usual) == 1:
        return (usual or fitting)[0]
    if fitting:
        places = dict.fromkeys(".".join((*each.place, each.prefix.rstrip("."))).strip(".") for each in fitting)
        raise BadUsage(
            f"{path} holds several sets of weights that fit: {', '.join(places)}.",
            "Say which with --key, or with --strip-prefix.",
        )
    return None


def _fit(candidate: _Candidate, wanted: Mapping[str, torch.Tensor]) -> tuple[int, int, int, bool]:
    """How well one fits that does not wholly: by weights of the right shape, by names, by how little is left over."""
    known = [name for name in wanted if name in candidate.weights]
    shaped = sum(getattr(candidate.weights[name], "shape", None) == wanted[name].shape for name in known)
    usual = not candidate.place or candidate.place[-1] in _NAMES
    return shaped, len(known), -len(candidate.weights), usual


def _converts(module: torch.nn.Module, weights: Mapping[str, Any]) -> bool:
    """Whether the module's own hooks bring weights of an older form, such as those of weight_norm, to its names."""
    try:
        copy.deepcopy(module).load_state_dict(weights)
    except Exception:  # noqa: BLE001 - whatever says no
        return False
    return not any(isinstance(value, torch.Tensor) and value.is_complex() for value in weights.values())


@dataclass(frozen=True)
class _Problem:
    """``names`` that do not fit for one reason."""

    what: str
    names: tuple[str, ...]
    texts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.what} {_listed(self.texts or self.names)}"


def _problems(weights: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> list[_Problem]:
    both = [name for name in wanted if name in weights]
    complex_ = tuple(
        name for name in both
        if isinstance(weights[name], torch.Tensor) and weights[name].is_complex() and not wanted[name].is_complex()
    )  # fmt: skip
    odd = {
        name: f"{name} (a {type(weights[name]).__name__})"
        for name in both if not isinstance(weights[name], torch.Tensor)
    }  # fmt: skip
    shapes = {
        name: f"{name} ({list(weights[name].shape)}, wanted {list(wanted[name].shape)})"
        for name in both if name not in odd and weights[name].shape != wanted[name].shape
    }  # fmt: skip
    found = [
        _Problem("missing", tuple(name for name in wanted if name not in weights)),
        _Problem("unexpected", tuple(name for name in weights if name not in wanted)),
        _Problem("misshapen", tuple(shapes), tuple(shapes.values())),
        _Problem("complex", complex_),
        _Problem("no tensor", tuple(odd), tuple(odd.values())),
    ]
    return [problem for problem in found if problem.names]


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _require_values(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    for name, given in weights.items():
        if not isinstance(given, torch.Tensor):
            continue
        if given.is_meta:
            raise BadUsage(f"'{name}' in {path} is on the meta device, without values.", "Save the weights themselves.")
        if given.is_floating_point() and bool(torch.isnan(given).any()):
            raise BadUsage(f"'{name}' in {path} is NaN: that training diverged.", "Give an earlier checkpoint.")
