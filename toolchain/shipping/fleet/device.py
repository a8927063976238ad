"""How a device of a fleet treats a package, and the files that say so to its scripts."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from toolchain.errors import BadUsage
from toolchain.shipping import keys, staged_folder
from toolchain.shipping.device import Target
from toolchain.shipping.pushing import Manner

_FOLDER = re.compile(r"(/[A-Za-z0-9._-]+)+")  # units and configurations name it as it is
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_KEY = "trusted.pub"


@dataclass(frozen=True, kw_only=True)
class Device:
    """Packages live in ``folder``, are treated in a ``manner``, and signed by ``trust`` where it is given.

    A signature is looked at with the device's openssl. ``Manner.limit_s`` does not hold: who carries it has his own.
    """

    folder: str
    manner: Manner
    trust: Path | None = None

    def __post_init__(self) -> None:
        if not _FOLDER.fullmatch(self.folder) or {".", ".."} & set(self.folder.split("/")):
            what = f"'{self.folder}' is no folder that every carrier can name."
            raise BadUsage(what, "Take letters, digits, dots, - and _ between slashes, such as /var/lib/digits.")

    def files(self, **more: str) -> dict[str, str]:
        """``package.sh`` and what it reads, by name; ``more`` are settings of others."""
        key = None if self.trust is None else keys.public(self.trust)
        settings = {
            "dir": self.folder,
            "python": self.manner.python or "",
            "within": str(self.manner.within_s),
            "after": self.manner.check or "",
            "key": "" if key is None else _KEY,
            "hash": "" if key is None else keys.hash_name(key),
            **more,
        }
        lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
        found = {"settings": lines, "package.sh": script("package.sh"), "receive.sh": receive()}
        return found if key is None else found | {_KEY: keys.pem(key).decode()}


def of(target: Target, manner: Manner, trust: Path | None) -> Device:
    """The folder that ``file:///folder`` names, on each device; BadUsage for one of a machine."""
    if target.is_remote:
        what = f"{target.address} is one machine, and not a folder that every device has."
        raise BadUsage(what, "Name the folder, as file:///var/lib/digits.")
    return Device(folder=target.folder.rstrip("/"), manner=manner, trust=trust)


def require_name(name: str) -> str:
    """BadUsage for what units and artifacts cannot be called."""
    if not _NAME.fullmatch(name):
        raise BadUsage(f"'{name}' is no name for it.", "Use letters, digits, dots, - and _.")
    return name


def script(name: str) -> str:
    return (resources.files("toolchain.shipping.fleet") / name).read_text(encoding="utf-8")


def receive() -> str:
    return (resources.files("toolchain.shipping") / "receive.sh").read_text(encoding="utf-8")


@contextmanager
def written(output: Path, files: Mapping[str, str], programs: Sequence[str] = ()) -> Iterator[Path]:
    """The folder ``output`` with these files, which is there when the block succeeds; BadUsage where something is."""
    if output.exists() or output.is_symlink():
        raise BadUsage(f"{output} is there already.", "Choose another place, or remove it.")
    with staged_folder.staged(output) as folder:
        for name, text in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
            if name in programs:
                place.chmod(0o755)
        yield folder
