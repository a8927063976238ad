"""Where nnx's packages lie, and how a Python started by us finds them, and nothing else, before all others."""

import os
from pathlib import Path

PARENT = Path(__file__).resolve().parents[2]
"""The folder that holds our packages: a clone, or where nnx is installed."""


def environment(folder: Path = PARENT, *, inherited: bool = True) -> dict[str, str]:
    """This process's environment for ``python -m MODULE`` with ``folder`` as its working folder.

    ``-m`` imports from the working folder first: it must be neither the user's, where a file may be named like ours,
    nor one of our own packages, whose rooms are named like libraries of others (``datasets``). Without ``inherited``
    PYTHONPATH leads to ``folder`` alone.
    """
    more = os.environ.get("PYTHONPATH") if inherited else None
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [more])])}
