"""A package that may leave: whole, in good form, and signed by whom it should be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolchain.errors import BadUsage, CheckFailed
from toolchain.shipping import archive, verification


@contextmanager
def verified(package: Path, trust: Path | None) -> Iterator[Path]:
    """The folder of ``package``, a folder, .tar or .zip.

    CheckFailed for one that is not whole, in good form and, with ``trust``, signed by that key; BadPackage and BadUsage
    as :func:`.verification.verify` raises them.
    """
    if not package.exists():
        raise BadUsage(f"There is no package {package}.", "Look at its name.")
    with archive.opened(package) as folder:
        verdict = verification.verify(folder, trust)
        for fault in verdict.faults:
            what = f"{package} is not sent: {fault.file} is {fault.kind}, {fault.why}."
            raise CheckFailed(what, f"Look at it with `nnx verify {package}`.")
        yield folder
