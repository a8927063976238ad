"""Is an exported file right? Its outputs beside those of a fresh module, by a measure that the zoos share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4


def unlike(names: Sequence[str], right: Sequence[Array], got: Sequence[Array], at: str) -> str:
    """What is wrong with ``got``, a run's outputs, ``right`` being the module's; empty for nothing.

    Each value may differ by 1e-3 of itself, and by 1e-4 of its output's largest, or of 1 where that is less.
    """
    if len(right) != len(got):
        return f"{len(got)} outputs, not {len(right)}"
    for name, a, b in zip(names, right, got, strict=True):
        if a.shape != b.shape:
            return f"{at}: {name} is {b.shape}, not {a.shape}"
        if not np.allclose(a, b, rtol=_RELATIVE, atol=_ABSOLUTE * max(1.0, float(np.abs(a).max(initial=0.0)))):
            return f"{at}: {name} differs by {float(np.abs(a - b).max()):.3g}"
    return ""
