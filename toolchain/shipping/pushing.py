"""From a package to devices where it is live: sent, tested there, and switched to at once, or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolchain.errors import BadUsage, CheckFailed
from toolchain.progress import SILENT, Progress
from toolchain.shipping import archive, blocks, verification
from toolchain.shipping.device import Connection, Lost, Refused, Target
from toolchain.shipping.devices import Outcome, Told, at_all, require_distinct
from toolchain.shipping.folder import files_in
from toolchain.shipping.package import CHECKSUMS


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a device is treated.

    ``python`` is the command there that has numpy and onnxruntime, by default its python3 or python. ``check`` is a
    command of the device's shell that must pass, in the folder, once the package is live. ``within_s`` is what the
    self-test and the check may take each, in whole seconds, ``limit_s`` what all may take on a device.
    """

    python: str | None = None
    check: str | None = None
    within_s: int = 300
    limit_s: float | None = None

    def __post_init__(self) -> None:
        for text, option in ((self.python, "--python"), (self.check, "--check")):
            if text is not None and not text.isprintable():
                raise BadUsage(f"{option} takes one line that is printed.", "Put more into a file on the device.")


def push(
    package: Path,
    targets: Sequence[Target],
    manner: Manner | None = None,
    *,
    trust: Path | None = None,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> tuple[Outcome, ...]:
    """Bring ``package``, a folder, .tar or .zip, to all ``targets``; with ``dry_run`` only look at what it would take.

    Nothing is sent of a package that is not whole, in good form and, with ``trust``, signed by that key: CheckFailed.
    Raises BadPackage and BadUsage as :func:`.verification.verify` does. A device that fails does not stop the others.
    """
    how = manner or Manner()
    require_distinct(targets)
    if not package.exists():
        raise BadUsage(f"There is no package {package}.", "Look at its name.")
    with archive.opened(package) as folder:
        verdict = verification.verify(folder, trust)
        if verdict.faults:
            first = verdict.faults[0]
            what = f"{package} is not sent: {first.file} is {first.kind}, {first.why}."
            raise CheckFailed(what, f"Look at it with `nnx verify {package}`.")
        split = blocks.split(files_in(folder))
        if next((each.sha256 for each in split if each.name == CHECKSUMS), None) != verdict.sha256:
            raise CheckFailed(f"{package} was changed while it was read.", "Push it when it is done.")

        def one(connection: Connection, told: Told, name: str) -> None:
            _push(connection, split, how, told, dry_run=dry_run, note=lambda text: progress.note(f"{name}: {text}"))

        return at_all(targets, one, python=how.python, limit_s=how.limit_s)


def roll_back(targets: Sequence[Target], manner: Manner | None = None) -> tuple[Outcome, ...]:
    """Make the version that was live before the present one live again, after its self-test."""
    how = manner or Manner()
    require_distinct(targets)

    def one(connection: Connection, told: Told, name: str) -> None:
        connection.ask("open")
        _set_check(connection, how)
        told.hear(connection.ask(f"back {how.within_s}"))

    return at_all(targets, one, python=how.python, limit_s=how.limit_s)


def _push(
    connection: Connection,
    package: Sequence[blocks.Blocks],
    how: Manner,
    told: Told,
    *,
    dry_run: bool,
    note: Callable[[str], None],
) -> None:
    told.package_bytes = sum(block.size_bytes for file in package for block in file.blocks)
    if not dry_run:
        connection.ask("open")
    there = blocks.listed(connection.ask("look"))

    def blocks_of(path: str) -> list[str]:
        return [line.removeprefix("block ").partition(" ")[0] for line in connection.ask(f"blocks {path}")]

    due = blocks.delivery(package, there, blocks_of)
    if dry_run:
        told.sent_bytes = due.size_bytes
        told.hear([f"live {there.live}"])
        return
    note(f"sends {due.size_bytes / 1e6:.3f} of {told.package_bytes / 1e6:.3f} MB")
    if due.missing:
        connection.ask(f"take {blocks.archive_bytes(due.missing)}", blocks.archive(due.missing))
    told.sent_bytes = due.size_bytes
    connection.ask(f"make {len(due.recipe)}", [due.recipe])
    note("tests itself there")
    told.hear(connection.ask(f"test {how.within_s}"))
    _set_check(connection, how)
    try:
        told.hear(connection.ask(f"go {how.within_s}"))
    except Lost as lost:
        raise Refused(f"{lost}; whether it went live was not heard", lost.said) from lost


def _set_check(connection: Connection, how: Manner) -> None:
    if how.check:
        connection.ask(f"check {how.check}")
