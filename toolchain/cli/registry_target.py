"""A registry as the target of ``nnx push``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import option


@dataclass(frozen=True, kw_only=True)
class Registry:
    """How a package lies in a registry."""

    base: str | None = option(
        "--modelcar", metavar="BASE",
        help="As an image for KServe, on top of the image oci://BASE, which has a shell, such as busybox; of PACKAGE, "
        "or of what `nnx pack --target kserve` made.",
    )  # fmt: skip
    plain_http: bool = option("--plain-http", is_flag=True, help="The registry has no TLS, and who listens may listen.")

    def push(
        self, package: str | None, addresses: Sequence[str], trust: Path | None, *, dry_run: bool, as_json: bool
    ) -> None:
        """To the one address, and say what came of it."""
        from dataclasses import asdict

        from toolchain.console import LiveProgress, print_json, print_result
        from toolchain.shipping.registry import pushing
        from toolchain.shipping.registry.address import address

        options.refuse(("python", "check", "within_s", "limit_s", "rollback"), "with oci://: it is for devices")
        if package is None or len(addresses) > 1:
            raise click.UsageError("A package goes to one registry at a time: name it and one oci:// address.")
        place = types.FILE_OR_FOLDER.convert(package, None, click.get_current_context())
        target, base = address(addresses[0]), None if self.base is None else address(self.base)
        how: dict[str, Any] = {"plain_http": self.plain_http, "dry_run": dry_run, "progress": LiveProgress()}
        if base is not None and (made := _repository(place)) is not None:
            options.refuse(("trust",), "with an engine's repository: `nnx pack --target kserve --trust` looks")
            pushed = pushing.push_models(made.models, target, base, title=made.name, version=made.version, **how)
        else:
            pushed = pushing.push(place, target, base=base, trust=trust, **how)
        if as_json:
            print_json({"schema_version": pushing.SCHEMA_VERSION, **asdict(pushed)})
        else:
            print_result(pushing.line(pushed, did="would be sent" if dry_run else "sent"))


class _Made(NamedTuple):
    models: Path
    name: str
    version: str


def _repository(place: Path) -> _Made | None:
    """What `nnx pack --target kserve` made, where that is what lies there; BadUsage for another engine's."""
    if not (place / "nnx.json").is_file():
        return None
    from toolchain.errors import BadUsage
    from toolchain.serving import repository

    receipt = repository.receipt_of(place)
    if receipt["engine"] != "kserve":
        raise BadUsage(f"{place} is for {receipt['engine']}.", "Make one for KServe: `nnx pack --target kserve`.")
    return _Made(place / repository.MODELS, str(receipt["package"]), str(receipt["package_version"]))
