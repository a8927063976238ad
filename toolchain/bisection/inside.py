"""The inputs of a module inside a model: what reaches it there, at any lengths of the model's own axes."""

from collections.abc import Mapping
from dataclasses import dataclass

from exporters.input_tree import Tree
from toolchain.bisection.calls import Place, Reached, reached
from toolchain.conversion.reference import Arrays, DoesNotRun, Reference
from toolchain.conversion.settling import Settled
from toolchain.errors import BadUsage, NotAvailable
from toolchain.inputs.examples import Axes, Example
from toolchain.inputs.input_specs import BATCH


@dataclass(frozen=True, kw_only=True)
class Inside:
    """An example whose values are real: for each size the model ``whole`` runs anew on ``example``."""

    whole: Reference
    example: Example
    place: Place
    takes: Mapping[str, Tree]
    axes: Axes
    source: str = "what reaches it in the model"

    @property
    def limits(self) -> Mapping[str, int]:
        return self.example.limits

    def at(self, lengths: Mapping[str, int]) -> Arrays:
        """The inputs when the model's own axes have ``lengths``."""
        found = reached(self.whole, self.whole.fed(self.example.at(lengths)), self.place)
        if set(found.arrays) != set(self.axes):
            raise DoesNotRun(
                f"'{self.place.path}' is called in another way at each size.", "Look at the module above it."
            )
        return found.arrays

    def without_batch(self, names: frozenset[str]) -> "Inside":
        return self

    def with_batch_second(self, names: frozenset[str]) -> "Inside":
        return self

    def first_lengths(self) -> Mapping[str, int]:
        return {}

    def second_lengths(self) -> Mapping[str, int]:
        return {}


def inside(whole: Reference, found: Settled, place: Place) -> Inside:
    """The example of the module at ``place`` in ``whole``, which was ``found`` to run.

    Raises BadUsage or BadOption where what reaches it is no input of a file.
    """
    first = reached(whole, whole.fed(found.example.at(found.lengths)), place)
    return Inside(
        whole=whole, example=found.example, place=place, takes=first.takes, axes=_axes(whole, found, place, first)
    )


def _axes(whole: Reference, found: Settled, place: Place, first: Reached) -> Axes:
    """Which axes change with the model's own, by their names where they are as long, else by names of their own."""
    sizes = [found.lengths]
    runs = [first]
    for word, length in found.lengths.items():
        other = {**found.lengths, word: length + (1 if word == BATCH else found.scale)}
        try:
            run = reached(whole, whole.fed(found.example.at(other)), place)
        except (DoesNotRun, NotAvailable, BadUsage):
            continue
        if {name: array.ndim for name, array in run.arrays.items()} == {n: a.ndim for n, a in first.arrays.items()}:
            sizes.append(other)
            runs.append(run)
    names = {tuple(size[word] for size in sizes): word for word in reversed(found.lengths)}
    axes: Axes = {name: {} for name in first.arrays}
    for name, array in first.arrays.items():
        for axis in range(array.ndim):
            lengths = tuple(run.arrays[name].shape[axis] for run in runs)
            if len(set(lengths)) > 1:
                axes[name][axis] = names.setdefault(lengths, f"{name.replace('.', '_')}_{axis}")
    return axes
