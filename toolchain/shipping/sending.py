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
        verdict_on(package, folder, trust)
        yield folder


def verdict_on(package: Path, folder: Path, trust: Path | None) -> verification.Verdict:
    """That of the files in ``folder``, which is ``package`` unpacked; CheckFailed where it may not leave."""
    verdict = verification.verify(folder, trust)
    for fault in verdict.faults:
        what = f"{package} is not sent: {fault.file} is {fault.kind}, {fault.why}."
        raise CheckFailed(what, f"Look at it with `nnx verify {package}`.")
    return verdict
