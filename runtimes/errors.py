"""What can go wrong while a model is run.

RuntimesError
├── UnknownProvider       no runtime has a provider of that name
├── BadProviderOption     an option of a provider cannot be read, or the backend refuses it
├── ProviderUnavailable   known, but not usable on this machine; says why and how to get it
├── NotLoadable           the backend refuses this model
├── BadFeed               an input's name, dtype or shape does not fit the model
└── RunFailed             the backend failed while it ran
"""


class RuntimesError(Exception):
    """A failure that a user can act on: ``what`` happened, and what to ``do``, one sentence each."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what = what
        self.do = do


class UnknownProvider(RuntimesError):
    """No runtime has a provider of that name."""


class BadProviderOption(RuntimesError):
    """An option of a provider cannot be read, or the backend refuses it."""


class ProviderUnavailable(RuntimesError):
    """The provider exists but cannot be used on this machine."""


class NotLoadable(RuntimesError):
    """The backend refuses this model."""


class BadFeed(RuntimesError):
    """An input's name, dtype or shape does not fit the model."""


class RunFailed(RuntimesError):
    """The backend failed while it ran the model."""


def shortened(reason: str, most: int = 300) -> str:
    """What a backend says, cut between words to at most that many characters, without a full stop."""
    whole = reason if len(reason) <= most else reason[: most + 1].rpartition(" ")[0] or reason[:most]
    return whole.rstrip(". ")
