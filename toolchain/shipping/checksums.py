"""``SHA256SUMS``: every file of a package, for those who have coreutils alone: ``sha256sum -c SHA256SUMS``."""

from pathlib import Path

from exporters.atomic_file import sha256_of
from toolchain.shipping.package import CHECKSUMS, SIGNATURE


def write(folder: Path) -> None:
    """List all that lies in the package, but the list itself and a signature of it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in names if name not in (CHECKSUMS, SIGNATURE)]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
