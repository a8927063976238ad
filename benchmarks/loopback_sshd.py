"""A real sshd on this machine's loopback, with keys of its own, for what is measured and tested over ssh."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SERVER = """
Port {port}
ListenAddress {address}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
Subsystem sftp {sftp}
"""
_SFTP = Path("/usr/lib/openssh/sftp-server")
"""Where Debian's sshd has it in a process of its own."""
_CLIENT = """
Host device
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {folder}/user
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
"""


class NoServer(Exception):
    """Why there is none."""


@contextmanager
def serving(
    folder: Path, *, address: str = "127.0.0.1", within: tuple[str, ...] = (), settings: str = ""
) -> Iterator[Path]:
    """A folder with `ssh` and `scp`, the system's, which know the host `device`, while the block lasts.

    ``within`` is the command that leads to where the server runs, as `ip netns exec NAME`; ``settings`` are lines of
    its own. Raises NoServer.
    """
    server = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    clients = {name: shutil.which(name) for name in ("ssh", "scp")}
    if server is None or None in clients.values():
        raise NoServer("no sshd, ssh or scp here: openssh-server and openssh-client have them")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    facts = {"port": port, "folder": folder, "address": address, "user": getpass.getuser()}
    sftp = _SFTP if _SFTP.exists() else "internal-sftp"
    (folder / "sshd_config").write_text(_SERVER.format(**facts, sftp=sftp) + settings)
    (folder / "config").write_text(_CLIENT.format(**facts))
    (folder / "known_hosts").write_text(f"[{address}]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "bin").mkdir()
    for name, client in clients.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {client} -F {folder}/config "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # it insists
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*within, server, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        try:
            if not _answers(process, address, port):
                raise NoServer(f"sshd does not start here: {(folder / 'log').read_text()[-200:]}")
            yield folder / "bin"
        finally:
            process.terminate()
            process.wait()


def _answers(process: "subprocess.Popen[bytes]", address: str, port: int) -> bool:
    for _ in range(100):
        with socket.socket() as trial:
            trial.settimeout(1)
            if process.poll() is not None or trial.connect_ex((address, port)) == 0:
                break
        time.sleep(0.05)
    return process.poll() is None
