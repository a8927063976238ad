"""``nnx push``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types
from toolchain.cli.fleet_files import Fleet
from toolchain.cli.option_groups import group, option
from toolchain.cli.registry_target import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolchain.shipping.devices import Outcome
    from toolchain.shipping.pushing import Manner


@dataclass(frozen=True, kw_only=True)
class _There:
    """What is done on the device."""

    python: str | None = option(
        "--python", metavar="COMMAND", help="The device's Python with onnxruntime.  [default: its python3 or python]"
    )
    check: str | None = option(
        "--check", metavar="COMMAND",
        help="Run there once it is live; unless it passes, what was live before is live again.",
    )  # fmt: skip
    within_s: float = option(
        "--within", type=types.Duration(), default="5m", show_default=True,
        help="What the self-test and --check may take, each.",
    )  # fmt: skip
    limit_s: float | None = option("--timeout", type=types.Duration(), help="Give up on a device after this long.")


@click.command("push")
@click.argument("words", nargs=-1, required=True, metavar="PACKAGE TARGET...")
@click.option("--trust", type=types.FILE, metavar="KEY.pub", help="The public key that must have signed all of it.")
@click.option("--rollback", is_flag=True, help="No PACKAGE: the version before the live one is live again.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and change nothing.")
@group("there", _There)
@group("registry", Registry)
@group("fleet", Fleet)
@options.as_json
def command(
    words: tuple[str, ...],
    trust: Path | None,
    rollback: bool,
    dry_run: bool,
    there: _There,
    registry: Registry,
    fleet: Fleet,
    as_json: bool,
) -> None:
    """Bring PACKAGE, a folder or a .tar or .zip of it, to each TARGET, where it tests itself and only then is live.
    A TARGET oci://registry/repository:tag is a registry, which keeps it for `nnx pull`. With --emit nothing is pushed:
    files for systemd, which fetches what a tag of a registry leads to, for Mender or for RAUC are written.

    A TARGET is ssh://[user@]host[:port]/folder (/~/folder in the user's home), over this system's ssh with your
    configuration and keys, or file:///folder. The device needs sh and GNU's tools, or BusyBox; nnx is not installed
    there. What it has already is not sent again. The package's files are held against their checksums there, its
    self-test runs where there is a Python with onnxruntime and numpy, and then the link `current` leads to it: at any
    moment to one whole, tested version. The one before stays for --rollback.

    Exits with 1 when any target failed; the others are live.

    \b
    Example:
      nnx push digits.ortpackage ssh://pi@raspberrypi.local/~/digits --trust release.pub
      nnx push --rollback ssh://pi@raspberrypi.local/~/digits
      nnx push digits.ortpackage oci://registry.example/team/digits:1.0
      nnx push oci://registry.example/team/digits:stable file:///var/lib/digits --emit systemd-pull -o fleet
    """
    from toolchain.console import LiveProgress
    from toolchain.shipping import device, pushing

    if rollback:
        options.refuse(("trust", "dry_run"), "with --rollback")
        package, addresses = None, words
    else:
        package, addresses = words[0], words[1:]
    if not addresses:
        raise click.UsageError("Name a target, such as ssh://pi@raspberrypi.local/~/model.")
    if fleet.kind is not None:
        fleet.write(package, addresses, _manner(there), trust, plain_http=registry.plain_http, as_json=as_json)
        return
    options.refuse(("output", "every_s", "device_type"), "without --emit")
    if any(address.startswith("oci://") for address in addresses):
        registry.push(package, addresses, trust, dry_run=dry_run, as_json=as_json)
        return
    options.refuse(("base", "plain_http"), "but for oci://")
    targets = [device.target(address) for address in addresses]
    manner = _manner(there)
    if package is None:
        outcomes = pushing.roll_back(targets, manner)
    else:
        place = types.FILE_OR_FOLDER.convert(package, None, click.get_current_context())
        outcomes = pushing.push(place, targets, manner, trust=trust, dry_run=dry_run, progress=LiveProgress())
    _show(outcomes, did="would be sent" if dry_run else "live", as_json=as_json)


def _manner(there: _There) -> "Manner":
    import math

    from toolchain.shipping.pushing import Manner

    return Manner(python=there.python, check=there.check, within_s=math.ceil(there.within_s), limit_s=there.limit_s)


def _show(outcomes: "Sequence[Outcome]", *, did: str, as_json: bool) -> None:
    from dataclasses import asdict

    from toolchain.console import print_json, print_result
    from toolchain.errors import CheckFailed
    from toolchain.shipping.devices import SCHEMA_VERSION, line

    failed = [outcome for outcome in outcomes if not outcome.done]
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "targets": [asdict(outcome) for outcome in outcomes]})
    else:
        print_result("\n".join(line(outcome, did=did) for outcome in outcomes))
        if len(outcomes) > 1:
            print_result(f"{len(outcomes) - len(failed)} of {len(outcomes)} targets: {did}")
    if failed:
        raise CheckFailed(
            f"{len(failed)} of {len(outcomes)} targets failed: what was live there is live.",
            "Mend what is said of each, then push again: what has arrived is not sent again.",
        )
