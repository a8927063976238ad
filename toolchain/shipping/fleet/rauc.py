"""What `rauc bundle` makes a bundle of: a manifest, a hook, and the package as the image of a slot."""

import shutil
from pathlib import Path

from toolchain.errors import BadUsage
from toolchain.shipping import package, reproducible_tar, sending
from toolchain.shipping.fleet import device
from toolchain.shipping.fleet.device import Device
from toolchain.shipping.folder import files_in

_IMAGE = "package.image.tar"
_MANIFEST = """\
[update]
compatible={compatible}
version={version}
description=The package {name}, which tests itself before it is live

[bundle]
format=verity

[hooks]
filename=hook.sh

[image.{slot}]
filename={image}
hooks=install
"""
_README = """\
# {name} {version} for RAUC

    rauc bundle --cert=release.cert.pem --key=release.key.pem bundle {name}.raucb

Each device has a slot for it, whose device is the folder, which is there, in /etc/rauc/system.conf:

    [slot.{slot}.0]
    device={folder}
    type=raw

The hook puts the package together in {folder}, holds it against SHA256SUMS{signature}, lets it test itself where a
Python has numpy and onnxruntime, and then `{folder}/current` leads to it, in one step; the device is not started anew.
Otherwise RAUC says that the install failed, and what was live is live. RAUC does not bring back the version before: a
bundle of that one does, or `nnx push --rollback`.
"""


def write(source: Path, there: Device, output: Path, *, compatible: str) -> None:
    """Leave the folder ``output``, in which ``bundle`` is for `rauc bundle`, for systems that are ``compatible``.

    Raises what :func:`.sending.verified` raises of a package that is not to be sent.
    """
    if not compatible.isprintable() or not compatible.strip():
        raise BadUsage("A compatible of RAUC's is a line that is printed.", "Name what system.conf says.")
    with sending.verified(source, there.trust) as folder:
        described = package.read(folder)
        name = device.require_name(described.name)
        words = {
            "name": name,
            "slot": name.replace(".", "-"),  # a dot would begin the number of a slot
            "version": described.version,
            "compatible": compatible,
            "folder": there.folder,
            "image": _IMAGE,
            "signature": "" if there.trust is None else ", which must be signed with trusted.pub",
        }
        inside = there.files() | {"install.sh": device.script("install.sh")}
        files = {f"image/{each}": text for each, text in inside.items()}
        files |= {"bundle/manifest.raucm": _MANIFEST.format(**words), "bundle/hook.sh": device.script("hook.sh")}
        files |= {"README.md": _README.format(**words)}
        with device.written(output, files, programs=("bundle/hook.sh",)) as made:
            reproducible_tar.write(made / "image" / "package.tar", files_in(folder))
            reproducible_tar.write(made / "bundle" / _IMAGE, files_in(made / "image"))
            shutil.rmtree(made / "image")
