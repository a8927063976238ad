"""Down the tree of the modules that a model calls, into the first that fails, to the smallest that does."""

from collections.abc import Callable

import torch

from exporters import torch_origin
from exporters.errors import causes
from toolchain.bisection import calls
from toolchain.bisection.calls import Place
from toolchain.bisection.finding import Finding
from toolchain.bisection.trial import Trials, Tried
from toolchain.conversion.settling import settle
from toolchain.conversion.target import Target
from toolchain.inputs.examples import Example
from toolchain.inputs.input_specs import BATCH
from toolchain.progress import SILENT, Progress


class Search:
    """The smallest module of ``module`` that fails as an export on ``example``, or in PyTorch before."""

    def __init__(
        self, module: torch.nn.Module, example: Example, target: Target, *, progress: Progress = SILENT
    ) -> None:
        self._example = example
        self._reference, self._found = settle(module, example, judged=False)
        self._trials = Trials(self._reference, self._found, target)
        self._progress = progress
        self._exported = True
        self._done: dict[tuple[str, int], Tried | None] = {}

    def run(self) -> tuple[Tried | None, Finding | None]:
        """The module that fails and what is found of it; no finding where nothing fails."""
        root = calls.tree(self._reference, self._reference.fed(self._found.example.at(self._found.lengths)))
        whole = self._tried(root)
        assert whole is not None
        self._exported = whole.fault is not None and not whole.unstable
        for fails in (_never_agrees, _first_way_fails, _is_coupled):
            if fails(whole):
                smallest = self._smallest(root, whole, fails)
                if smallest is whole and fails is _never_agrees and whole.trouble is None:
                    smallest = self._smallest(root, whole, _first_way_fails)
                return smallest, _finding(smallest)
        return None, self._stuck()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the model as a whole."""
        whole = self._done.get(("", 0))
        return tuple(
            dict.fromkeys((*self._reference.notes, *self._found.notes, *(whole.notes if whole is not None else ())))
        )

    def _smallest(self, place: Place, tried: Tried, fails: Callable[[Tried], bool]) -> Tried:
        """The first and deepest below ``place`` that ``fails``, or else ``tried``, which is there."""
        return self._below(place, fails) or tried

    def _below(self, place: Place, fails: Callable[[Tried], bool]) -> Tried | None:
        for part in place.inside:
            tried = self._tried(part)
            if tried is not None and not fails(tried):
                continue
            if found := self._below(part, fails) or tried:
                return found
        return None

    def _tried(self, place: Place) -> Tried | None:
        key = (place.path, place.call)
        if key not in self._done:
            tried = self._done[key] = self._trials.of(place, exported=self._exported)
            if place.path:
                word = "cannot be tried alone" if tried is None else "fails" if tried.fault else "agrees"
                self._progress.note(f"'{place.path}'{'' if tried is None else f' ({tried.kind})'} {word}.")
        return self._done[key]

    def _stuck(self) -> Finding | None:
        """Where PyTorch itself stops at another batch than the one that was given, if it does."""
        given = self._example.first_lengths()
        if not given or BATCH in self._found.lengths:
            return None
        length = next(iter(given.values()))
        example = self._example.without_batch(frozenset(name for name in given if given[name] != length))
        arrays = self._reference.fed(example.at({**self._found.lengths, BATCH: length + 1}))
        if (found := calls.stopped(self._reference, arrays)) is None:
            return None
        path, error = found
        what = f"forward() does not run at batch {length + 1}: {error.what.partition(': ')[2]}"
        origin = torch_origin.of_error([error, *causes(error)])
        return Finding.of(
            self._reference.module.get_submodule(path),
            path,
            what=f"{what.rstrip('.')}{origin or ''}.",
            do="Write forward() without the length of the batch as a number.",
            origin=origin,
            no_repro="PyTorch itself does not run it.",
        )


def _never_agrees(tried: Tried) -> bool:
    return tried.trouble is not None or not tried.agreed


def _first_way_fails(tried: Tried) -> bool:
    return tried.fault is not None


def _is_coupled(tried: Tried) -> bool:
    return bool(tried.coupled)


def _finding(tried: Tried) -> Finding:
    fault = tried.fault
    what, do = (tried.coupled, "Compute each sample by itself.") if fault is None else (fault.what, fault.do)
    return Finding.of(
        tried.reference.module,
        tried.place.path,
        what=what,
        do=do,
        origin=getattr(fault, "origin", None),
        rungs=tuple((each.rung.value, str(each).partition(": ")[2]) for each in tried.rungs),
        exports=tried.agreed,
    )
