"""The protocol that every runtime follows, and the one check of its inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from runtimes.errors import BadFeed

Arrays = dict[str, npt.NDArray[np.generic]]
FEEDABLE = frozenset(
    {"bool", "float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
)
"""The types, as numpy names them, in which every runtime takes its inputs."""
STRINGS = "tensor(string)"
"""The type of texts: numpy has several for them."""
MEND_TYPE = "Let the model take float32, and cast inside it."
"""What to do about an input of any other type."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: ``shape`` holds a number for a fixed axis, a name for a dynamic one.

    ``dtype`` is numpy's name, or the backend's own where numpy has none, as for bfloat16.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def accepts(self, array: npt.NDArray[np.generic]) -> bool:
        of_type = array.dtype.kind in "OU" if self.dtype == STRINGS else str(array.dtype) == self.dtype
        return (
            of_type
            and array.ndim == len(self.shape)
            and all(
                not isinstance(axis, int) or axis == length
                for axis, length in zip(self.shape, array.shape, strict=True)
            )
        )

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(axis) for axis in self.shape)}]"


@dataclass(frozen=True)
class Placement:
    """How many graph nodes the backend gave to each provider. Empty where the backend has no graph."""

    nodes: Mapping[str, int]

    def share(self, provider: str) -> float | None:
        """The share of nodes on ``provider``, 0 to 1; None where the backend cannot tell."""
        total = sum(self.nodes.values())
        return self.nodes.get(provider, 0) / total if total else None


class Runtime(Protocol):
    """One model made ready to run, open inside a ``with`` block. Nothing heavy happens before :meth:`open`."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]

    def open(self) -> None:
        """Load the model; raise ProviderUnavailable, NotLoadable, or leave it ready."""

    def bind(self, feeds: Mapping[str, npt.NDArray[np.generic]]) -> Callable[[], Arrays]:
        """Check ``feeds`` once and return a call that runs the model on them, copies to and from a device included."""

    def timed(self, feeds: Mapping[str, npt.NDArray[np.generic]], *, copies: bool) -> Callable[[], object]:
        """Check ``feeds`` once and return the call that a benchmark times: it ends when the answer is there.

        With ``copies`` inputs come from the host's memory and outputs go back to it; without, both lie on the device
        before and after. On the CPU that is the same. Each call is for one thread at a time; several calls of one
        runtime may run in threads side by side.
        """

    def placement(self) -> Placement:
        """Where the graph's nodes were placed."""

    def facts(self) -> dict[str, str]:
        """What the backend says of itself, in a few words: its version; on CUDA "tf32", "cuda graphs", "device"."""

    def device_memory_bytes(self) -> int | None:
        """What this process holds on a device of its own; None on the CPU, and where nobody can tell."""

    def close(self) -> None:
        """Free the model; a second call does nothing."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()


def run(runtime: Runtime, feeds: Mapping[str, npt.NDArray[np.generic]]) -> Arrays:
    """Run once."""
    return runtime.bind(feeds)()


def check_feeds(specs: Sequence[TensorSpec], feeds: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Raise BadFeed unless ``feeds`` has exactly the inputs of ``specs``, each of its dtype and shape."""
    wanted = [spec.name for spec in specs]
    if sorted(feeds) != sorted(wanted):
        raise BadFeed(
            f"The model takes the inputs {wanted}, given were {sorted(feeds)}.",
            "Name them as the model does.",
        )
    for spec in specs:
        array = feeds[spec.name]
        if not spec.accepts(array):
            raise BadFeed(
                f"Input '{spec.name}' is {array.dtype}{list(array.shape)}, the model wants {spec}.",
                "Convert or reshape it." if spec.dtype in FEEDABLE else MEND_TYPE,
            )
