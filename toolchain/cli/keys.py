"""``nnx keys``."""

from dataclasses import asdict
from pathlib import Path

import click

from toolchain.cli import options, types


@click.command("keys")
@click.argument("action", type=click.Choice(["new"]))
@click.argument("name", type=types.Named())
@options.as_json
def command(action: str, name: Path, as_json: bool) -> None:
    """Make a pair of keys to sign packages with: NAME.key, which only you may read, and NAME.pub, for all who verify.

    The keys are P-256, as OpenSSF's model signing wants them (extra sign). What is there already is never replaced.
    Whoever has NAME.key signs in your name: keep it out of packages, images and repositories.

    \b
    Example:
      nnx keys new release
    """
    from toolchain.console import print_json, print_result
    from toolchain.shipping import keys

    pair = keys.new(name)
    if as_json:
        print_json({key: str(value) for key, value in asdict(pair).items()})
        return
    print_result(f"{pair.private}: keep it to yourself, it signs\n{pair.public}: give it to all who verify")
    print_result(f"fingerprint {pair.fingerprint}")
