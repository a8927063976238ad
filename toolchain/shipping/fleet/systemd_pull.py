"""A systemd service and its timer that fetch what a tag of a registry leads to, and make it live once it is tested."""

import math
from pathlib import Path

from toolchain.errors import BadUsage
from toolchain.shipping.fleet import device
from toolchain.shipping.fleet.device import Device
from toolchain.shipping.registry.address import Address

_PLACE = "/usr/local/lib/{unit}"
_SERVICE = """\
[Unit]
Description=Fetches the package at {source}, and makes it live once it is tested
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/bin/sh {place}/fetch.sh
TimeoutStartSec=6h
Nice=10
IOSchedulingClass=idle
# the package tests itself here, and that is code; the folder must be there
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths={folder}
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
SystemCallArchitectures=native
"""
_TIMER = """\
[Unit]
Description=Looks for a new package at {source}

[Timer]
OnBootSec=1min
OnUnitInactiveSec={every_s}s
# so that not all of a fleet ask at once
RandomizedDelaySec={spread_s}s

[Install]
WantedBy=timers.target
"""
_README = """\
# {unit}

Fetches the package that {source} leads to into {folder}, every {every_s} s. On each device:

    install -d {place} {folder}
    install -m 644 {unit}/* {place}/
    install -m 644 {unit}.service {unit}.timer /etc/systemd/system/
    systemctl daemon-reload
    systemctl enable --now {unit}.timer

A device needs sh, curl, sha256sum{openssl} and what `nnx push` needs. The registry's user, if it wants one, stands in
`{place}/login`, which only root may read, as curl has it: `user = "name:password"`.

What is fetched is held against SHA256SUMS{signature}, tests itself where a Python has
numpy and onnxruntime, and then `{folder}/current` leads to it, in one step. Open models by that link. What fails its
test or check is not tried again before the tag leads elsewhere, or {folder}/.nnx/refused is removed. `systemctl status
{unit}` and `journalctl -u {unit}` tell what happened; `systemctl start {unit}` looks at once.
{caution}
"""
_UNSIGNED = """
No key is trusted: whoever may push to the registry decides what runs here. Write these files with --trust.
"""
_SIGNED = """
The key that signed an older package has signed it for good: whoever may move the tag can bring it back.
"""


def write(source: Address, there: Device, output: Path, *, every_s: float, plain_http: bool = False) -> None:
    """Leave the folder ``output``: units, scripts, and a README that says where they go.

    The registry is asked every ``every_s`` seconds, without TLS where ``plain_http`` says so. BadUsage for an address
    with a digest: what it leads to never changes.
    """
    if source.tag is None or source.digest is not None:
        raise BadUsage(f"{source} never leads to anything else.", "Name a tag, which you then move.")
    name = device.require_name(source.repository.rpartition("/")[2])
    unit = f"nnx-{name}"
    scheme = "http" if plain_http else "https"
    words = {
        "unit": unit,
        "source": str(source),
        "place": _PLACE.format(unit=unit),
        "folder": there.folder,
        "every_s": str(math.ceil(every_s)),
        "spread_s": str(math.ceil(every_s / 10)),
        "openssl": "" if there.trust is None else ", openssl",
        "signature": "" if there.trust is None else ", which must be signed with trusted.pub",
        "caution": (_UNSIGNED if there.trust is None else _SIGNED).rstrip(),
    }
    settings = {
        "registry": f"{scheme}://{source.host}",
        "protocols": "http,https" if plain_http else "https",
        "repository": source.repository,
        "tag": source.tag,
    }
    files = {f"{unit}/{file}": text for file, text in there.files(**settings).items()}
    files |= {f"{unit}/fetch.sh": device.script("fetch.sh"), "README.md": _README.format(**words)}
    files |= {f"{unit}.service": _SERVICE.format(**words), f"{unit}.timer": _TIMER.format(**words)}
    with device.written(output, files):
        pass
