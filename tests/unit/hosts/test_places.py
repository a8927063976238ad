"""What ``--host`` and ``--python`` ask for."""

import re

import pytest

from toolchain.bench.sweep import Place, Sweep
from toolchain.errors import BadUsage
from toolchain.hosts.address import address
from toolchain.hosts.places import places

PI, OTHER = "ssh://pi@one.local", "ssh://two.local:2222"


@pytest.mark.parametrize(
    ("text", "host", "folder", "shown"),
    [
        (PI, PI, "", "pi@one.local"),
        (f"{PI}/", PI, "", "pi@one.local"),
        (f"{PI}/~/bench", PI, "bench", "pi@one.local"),
        (f"{OTHER}/srv/my%20bench", OTHER, "/srv/my bench", "two.local:2222"),
        ("ssh://[::1]/b", "ssh://[::1]", "/b", "[::1]"),
    ],
)
def test_an_address_is_a_host_and_perhaps_a_folder(text: str, host: str, folder: str, shown: str) -> None:
    found = address(text)
    assert (found.host, found.folder, str(found)) == (host, folder, shown)
    assert found.reach[:2] == ("ssh", "-T")


@pytest.mark.parametrize("text", ["", "pi@one", "http://one", "file:///tmp", "ssh://", "ssh:///x", "ssh://-oProxy=x"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(BadUsage, match="is no host"):
        address(text)


def test_hosts_and_interpreters_are_told_apart() -> None:
    found = places((), ["openvino=/env/python", "/other/python"])
    assert (found.here, found.others, found.pythons_here) == (True, (), ("openvino=/env/python", "/other/python"))
    found = places((PI, "local", OTHER), [f"{PI}=~/a", "~/b", "cuda=/env/python"])
    assert (found.here, [each.host for each in found.others]) == (True, [PI, OTHER])
    assert (found.pythons_here, found.pythons_there) == (("cuda=/env/python",), {PI: "~/a", OTHER: "~/b"})
    assert not places((PI,), []).here


@pytest.mark.parametrize(
    ("hosts", "pythons", "said"),
    [
        ((PI, PI), [], "A host is named twice"),
        ((PI, f"{PI}/~/bench"), [], "A host is named twice"),
        (("local", "local"), [], "A host is named twice"),
        ((PI,), ["cuda=/env/python"], "--python cuda=/env/python would do nothing: no row runs here"),
        ((PI,), [f"{OTHER}=/env/python"], "is for a host that is not asked for"),
    ],
)
def test_what_does_not_fit_together_is_refused(hosts: tuple[str, ...], pythons: list[str], said: str) -> None:
    with pytest.raises(BadUsage, match=re.escape(said)):
        places(hosts, pythons)


def test_threads_and_processors_are_those_of_the_host() -> None:
    place = Place(host=PI, cores=4, processors=(0, 1, 2, 3))
    (setting,) = Sweep(place=place).settings()
    assert (setting.host, setting.threads) == (PI, 4)
    (setting,) = Sweep(place=place, cpus=(2, 3)).settings()
    assert (setting.cpus, setting.threads) == ((2, 3), 2)
    with pytest.raises(BadUsage, match=r"may not run on processor 7 on pi@one\.local"):
        Sweep(place=place, cpus=(7,)).settings()
