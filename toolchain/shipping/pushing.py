"""From a package to devices where it is live: sent, tested there, and switched to at once, or not at all."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from toolchain.errors import BadUsage, CheckFailed
from toolchain.progress import SILENT, Progress
from toolchain.shipping import archive, blocks
from toolchain.shipping.device import Connection, Lost, Refused, Target
from toolchain.shipping.devices import Devices, Outcome, Told, require_distinct
from toolchain.shipping.folder import files_in, sha256_of


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
    with (
        archive.opened(package) as folder,
        Devices(targets, python=how.python, limit_s=how.limit_s) as devices,
        ThreadPoolExecutor(1) as beside,
    ):
        sendable = _sendable(package, folder, trust, beside)

        def one(connection: Connection, told: Told, name: str) -> None:
            _push(connection, sendable, how, told, dry_run=dry_run, note=lambda text: progress.note(f"{name}: {text}"))

        return devices.do(one)


@dataclass(frozen=True)
class _Sendable:
    """A package's files, found to be right; ``sha256`` is the hex one of their list, ``split`` comes by and by."""

    files: Sequence[blocks.Whole]
    sha256: str
    split: Future[blocks.Split]


def _sendable(package: Path, folder: Path, trust: Path | None, beside: Executor) -> _Sendable:
    from toolchain.shipping import checksums, sending  # they take a while, in which ssh gets through
    from toolchain.shipping.package import CHECKSUMS, SIGNATURE

    verdict = sending.verdict_on(package, folder, trust)
    there = {file.name: file for file in files_in(folder)}
    listed = checksums.parsed(there[CHECKSUMS].path.read_bytes())
    own = {name: sha256_of(there[name]) for name in (CHECKSUMS, SIGNATURE) if name in there}
    if own[CHECKSUMS] != verdict.sha256 or there.keys() != listed.keys() | own.keys():
        raise CheckFailed(f"{package} was changed while it was read.", "Push it when it is done.")
    digests = {**listed, **own}
    files = tuple(blocks.Whole(name, digests[name], file.path, file.size_bytes) for name, file in there.items())
    return _Sendable(files, own[CHECKSUMS], beside.submit(blocks.split, files))


def roll_back(targets: Sequence[Target], manner: Manner | None = None) -> tuple[Outcome, ...]:
    """Make the version that was live before the present one live again, after its self-test."""
    how = manner or Manner()
    require_distinct(targets)

    def one(connection: Connection, told: Told, name: str) -> None:
        connection.ask("open")
        _set_check(connection, how)
        told.hear(connection.ask(f"back {how.within_s}"))

    with Devices(targets, python=how.python, limit_s=how.limit_s) as devices:
        return devices.do(one)


def _push(
    connection: Connection,
    package: _Sendable,
    how: Manner,
    told: Told,
    *,
    dry_run: bool,
    note: Callable[[str], None],
) -> None:
    told.package_bytes = sum(file.size_bytes for file in package.files)
    if dry_run:
        there = blocks.listed(connection.ask("look"))
        told.sent_bytes = blocks.delivery(package.files, there, split_of=package.split.result).size_bytes
        told.hear([f"live {there.live}"])
        return
    connection.send("open")
    there = _looked(connection, after=1)
    due = blocks.delivery(package.files, there, split_of=package.split.result)
    note(f"sends {due.size_bytes / 1e6:.3f} of {told.package_bytes / 1e6:.3f} MB")
    wrong = _made(connection, package, due, told)
    if wrong:  # what its lists tell is not there any more
        due = blocks.delivery(package.files, _looked(connection), split_of=package.split.result, wrong=wrong)
        note(f"sends {due.size_bytes / 1e6:.3f} MB more: {len(wrong)} files there are not what they were")
        if _made(connection, package, due, told):
            raise Refused("what arrived is not what was sent")
    note("tests itself there")
    told.hear(connection.ask(f"test {how.within_s}"))
    _set_check(connection, how)
    try:
        told.hear(connection.ask(f"go {how.within_s}"))
    except Lost as lost:
        raise Refused(f"{lost}; whether it went live was not heard", lost.said) from lost


def _looked(connection: Connection, *, after: int = 0) -> blocks.There:
    """What is there; ``after`` steps were sent before, whose answers are not awaited first."""
    connection.send("look")
    for _ in range(after):
        connection.answer()
    return blocks.listed(connection.answer())


def _made(connection: Connection, package: _Sendable, due: blocks.Delivery, told: Told) -> frozenset[str]:
    """Send what is due; the names of the files that the package then does not have as they should be."""
    connection.send(f"take {len(due.missing)}", blocks.sent(due.missing))
    split = blocks.split_lines(package.split.result())
    connection.send(f"split {len(split)}", [split])
    connection.send(f"make {len(due.recipe)} {package.sha256}", [due.recipe])
    *_, made = [connection.answer() for _ in ("take", "split", "make")]
    told.sent_bytes += due.size_bytes
    return blocks.others(package.files, made)


def _set_check(connection: Connection, how: Manner) -> None:
    if how.check:
        connection.ask(f"check {how.check}")
