"""What carries packages to a fleet: files for systemd, Mender or RAUC, which nnx writes and does not run.

Each ends in ``package.sh`` and receive.sh on the device, as ``nnx push`` does: hashes, self-test, one switch.
``device`` says how a package is treated there; ``systemd_pull`` fetches from a registry by ``fetch.sh``, ``mender`` and
``rauc`` wrap a package with ``install.sh``. The scripts are data, and nothing here runs them.
"""
