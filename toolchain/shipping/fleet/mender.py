"""A Mender artifact for an Update Module of ours: the package, the scripts, and the command that wraps them."""

import shlex
from pathlib import Path

from toolchain.shipping import package, reproducible_tar, sending
from toolchain.shipping.fleet import device
from toolchain.shipping.fleet.device import Device
from toolchain.shipping.folder import files_in

_MODULE = "nnx-package"
_ARTIFACT = """\
#!/bin/sh
# Makes {name}.mender of what lies here, by Northern.tech's mender-artifact; sign it with --key.

cd "$(dirname "$0")" || exit 1
exec mender-artifact write module-image --type nnx-package --artifact-name {artifact} \\
    --device-type {device_type} --software-name {name} --software-version {version} \\
    {files} --compression none --output-path {name}.mender "$@"
"""
_README = """\
# {name} {version} for Mender

    install -m 755 nnx-package /usr/share/mender/modules/v3/nnx-package    # on each device, once
    sh artifact.sh --key private.key                                       # here: makes {name}.mender

On a device the artifact puts the package together in {folder}, holds it against SHA256SUMS{signature}, lets it test
itself where a Python has numpy and onnxruntime, and then `{folder}/current` leads to it, in one step. Otherwise Mender
says that the install failed, and what was live is live. A rollback of Mender's makes the version before live again.
"""


def write(source: Path, there: Device, output: Path, *, device_type: str) -> None:
    """Leave the folder ``output`` for the package ``source``, and for devices of this type.

    Raises what :func:`.sending.verified` raises of a package that is not to be sent.
    """
    with sending.verified(source, there.trust) as folder:
        described = package.read(folder)
        name = device.require_name(described.name)
        inside = there.files() | {"install.sh": device.script("install.sh")}
        words = {
            "name": name,
            "version": described.version,
            "artifact": shlex.quote(f"{name}-{described.version}"),
            "device_type": shlex.quote(device_type),
            "folder": there.folder,
            "files": " ".join(f"--file files/{each}" for each in sorted((*inside, "package.tar"))),
            "signature": "" if there.trust is None else ", which must be signed with trusted.pub",
        }
        files = {f"files/{each}": text for each, text in inside.items()}
        files |= {"artifact.sh": _ARTIFACT.format(**words), "README.md": _README.format(**words)}
        files |= {_MODULE: device.script(_MODULE)}
        with device.written(output, files, programs=(_MODULE, "artifact.sh")) as made:
            reproducible_tar.write(made / "files" / "package.tar", files_in(folder))
