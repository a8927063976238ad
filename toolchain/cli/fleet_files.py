"""What ``nnx push --emit`` writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import option

if TYPE_CHECKING:
    from toolchain.shipping.pushing import Manner


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What others carry it with."""

    kind: str | None = option(
        "--emit", type=click.Choice(["systemd-pull", "mender", "rauc"]),
        help="Push nothing: write what carries it to a fleet, whose devices have the folder TARGET.",
    )  # fmt: skip
    output: Path | None = option("-o", "--output", type=types.OUTPUT_FOLDER, help="Where --emit writes.")
    every_s: float = option(
        "--every", type=types.Duration(), default="1h", show_default=True, help="How often systemd-pull looks."
    )
    device_type: str | None = option(
        "--device-type", metavar="NAME", help="Mender's device type, or RAUC's compatible."
    )

    def write(
        self,
        package: str | None,
        addresses: Sequence[str],
        manner: "Manner",
        trust: Path | None,
        *,
        plain_http: bool,
        as_json: bool,
    ) -> None:
        """For the one folder that is the target, and say where it is."""
        from toolchain.console import print_json, print_result
        from toolchain.shipping import device as targets
        from toolchain.shipping.fleet import device, mender, rauc, systemd_pull
        from toolchain.shipping.registry.address import address

        options.refuse(("limit_s", "dry_run", "base", "rollback"), "with --emit")
        if package is None or len(addresses) > 1 or self.output is None:
            raise click.UsageError("Name what is carried, one file:///folder, and with -o where this is written.")
        there = device.of(targets.target(addresses[0]), manner, trust)
        if self.kind == "systemd-pull":
            options.refuse(("device_type",), "with systemd-pull")
            systemd_pull.write(address(package), there, self.output, every_s=self.every_s, plain_http=plain_http)
        else:
            options.refuse(("every_s", "plain_http"), f"with {self.kind}")
            if self.device_type is None:
                raise click.UsageError(
                    "Name with --device-type what it is for: Mender's device type, RAUC's compatible."
                )
            place = types.FILE_OR_FOLDER.convert(package, None, click.get_current_context())
            if self.kind == "mender":
                mender.write(place, there, self.output, device_type=self.device_type)
            else:
                rauc.write(place, there, self.output, compatible=self.device_type)
        if as_json:
            print_json({"kind": self.kind, "folder": str(self.output)})
        else:
            print_result(f"{self.output}: for {self.kind}; {self.output / 'README.md'} says where it goes")
