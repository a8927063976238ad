"""``nnx verify``."""

from pathlib import Path

import click

from toolchain.cli import options, types


@click.command("verify")
@click.argument("package", type=types.FILE_OR_FOLDER)
@click.option("--trust", type=types.FILE, metavar="KEY.pub", help="The public key that must have signed all of it.")
@options.as_json
def command(package: Path, trust: Path | None, as_json: bool) -> None:
    """Say whether PACKAGE, a folder or a .tar or .zip of it, is whole, in good form, and signed by whom you trust.

    Every file is held against SHA256SUMS, descriptions against their format, models' weights against the package's
    bounds. With --trust (extra sign) each file must be signed with that key too, and what is not signed is refused.
    What is missing, extra or changed is named. Nothing in the package is run, no link or device is followed, and an
    archive is unpacked, into a temporary folder, only when all of it may be. Exits with 1 for a package that is not
    what it should be, with 2 for one that is not to be looked into.

    \b
    Example:
      nnx verify digits.ortpackage
      nnx verify digits.ortpackage.tar --trust release.pub --json
    """
    from toolchain.console import print_result
    from toolchain.shipping import verification

    verdict = verification.verify(package, trust)
    print_result(verdict.to_json() if as_json else "\n".join(verification.lines(verdict)))
    verification.require(verdict)
