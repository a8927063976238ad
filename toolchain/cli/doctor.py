"""``nnx doctor``."""

from typing import TYPE_CHECKING

import click

from toolchain.cli import options

if TYPE_CHECKING:
    from toolchain.doctor.checks import Check


@click.command("doctor")
@click.option("--host", metavar="ssh://[USER@]HOST[:PORT]", help="Look at another machine, over ssh.")
@click.option("--python", metavar="PATH", help="The Python there.  [default: its python3]")
@options.as_json
def command(host: str | None, python: str | None, as_json: bool) -> None:
    """Look at this machine: what nnx can use, what makes it slow or uneven, what is missing and how to get it.

    With --host, at a device: what `nnx bench --host` and `nnx push` find there.

    Each check is ok, warn (nnx works, though not at its best) or missing (it does not), with the command that mends it.
    Nothing is changed. Exits with 3 when something is missing.

    \b
    Example:
      nnx doctor
      nnx doctor --json
      nnx doctor --host ssh://pi@raspberrypi.local
    """
    from toolchain.console import print_result
    from toolchain.doctor import diagnosis

    if host is None:
        options.refuse(("python",), "without --host")
        checks = diagnosis.diagnose()
    else:
        from toolchain.hosts.address import address
        from toolchain.hosts.examination import examined

        checks = examined(address(host), python)
    if as_json:
        print_result(diagnosis.to_json(checks, host))
    else:
        show(checks)
    diagnosis.require_essentials(checks)


def show(checks: "tuple[Check, ...]") -> None:
    """A line a check, for a person."""
    from toolchain.console import print_result, results_width
    from toolchain.doctor import diagnosis

    print_result("\n".join(diagnosis.lines(checks, results_width())))
