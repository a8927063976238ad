"""The error about a package that is not to be looked into any further."""

from toolchain.errors import BadUsage


class BadPackage(BadUsage):
    """It is no package, or made to do harm: what is said completes "PACKAGE ..."."""

    def __init__(self, package: object, why: str) -> None:
        super().__init__(f"{package} {why}.", "Leave it, and ask its sender for a whole one.")
