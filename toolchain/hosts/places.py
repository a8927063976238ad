"""The machines that a bench is asked to run on, this one among them or not, and what each is asked to do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from toolchain import machine
from toolchain.bench.record import LOCAL, Setting
from toolchain.bench.sweep import Place, Sweep
from toolchain.errors import BadUsage
from toolchain.hosts.address import Address, addresses
from toolchain.hosts.host import Host


@dataclass(frozen=True, kw_only=True)
class Places:
    """Whether ``here``, and which ``others``; interpreters as :class:`Sweep` takes them, and there, by address."""

    here: bool
    others: tuple[Address, ...]
    pythons_here: tuple[str, ...]
    pythons_there: Mapping[str, str]

    def settings(self, sweep: Sweep, hosts: Mapping[str, Host]) -> list[Setting]:
        """All combinations on each machine, this one first. Raises as :meth:`Sweep.settings`."""
        found = replace(sweep, pythons=self.pythons_here).settings() if self.here else []
        for address, host in hosts.items():
            place = Place(host=address, cores=host.cores, processors=host.processors)
            found += replace(sweep, place=place).settings()
        return found


def places(hosts: tuple[str, ...], pythons: Sequence[str]) -> Places:
    """What ``--host`` and ``--python`` ask for. Raises BadUsage for what is no host, and what does not fit together."""
    here, others = addresses(hosts)
    own, there = list[str](), dict[str, str]()
    for text in pythons:
        named = next((each.host for each in others if text.startswith(f"{each.host}=")), None)
        if named:
            there[named] = text.removeprefix(f"{named}=")
        elif text.startswith("ssh://"):
            raise BadUsage(f"--python {text} is for a host that is not asked for.", "Name it with --host too.")
        elif others and "=" not in text:
            there = {**dict.fromkeys((each.host for each in others), text), **there}
        elif not here:
            raise BadUsage(f"--python {text} would do nothing: no row runs here.", "Name it as HOST=PATH.")
        else:
            own.append(text)
    return Places(here=here, others=others, pythons_here=tuple(own), pythons_there=there)


def machines(hosts: Mapping[str, Host], *, here: bool) -> dict[str, Mapping[str, Any]]:
    """What each machine is, as :attr:`toolchain.bench.record.Benchmark.machines` names them."""
    own = {LOCAL: asdict(machine.describe())} if here else {}
    return {**own, **{address: host.machine for address, host in hosts.items()}}
