"""`nnx push` over a real sshd in a network of its own, whose packets are late and get lost."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import loopback_sshd, slow_network
from tests.device_folder import live, python_of_the_device, sha256, version

Nnx = Callable[..., tuple[int, str, str]]
DELAY_S, LOSS = 0.05, 0.01


@pytest.fixture
def far_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An `ssh` that reaches `device` through it."""
    (tmp_path / "ssh").mkdir()
    try:
        with (
            slow_network.between(delay_s=DELAY_S, loss=LOSS) as within,
            loopback_sshd.serving(tmp_path / "ssh", address=slow_network.FAR, within=within) as programs,
        ):
            monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
            yield
    except (slow_network.NoNetwork, loopback_sshd.NoServer) as why:
        pytest.skip(str(why))


@pytest.mark.slow
@pytest.mark.usefixtures("far_away")
def test_a_push_arrives_waits_for_few_answers_and_gives_up_in_time(tmp_path: Path, nnx: Nnx) -> None:
    a, b = (version(tmp_path / name, name) for name in "ab")
    at, python = tmp_path / "device", python_of_the_device(tmp_path)
    target = (f"ssh://device{at}", "--python", python, "--json")
    code, out, err = nnx("push", a, *target)
    assert code == 0, err
    assert live(at) == sha256(a)
    code, out, err = nnx("push", b, *target)
    assert code == 0, err
    assert live(at) == sha256(b)
    (told,) = json.loads(out)["targets"]

    assert told["sent_bytes"] < 1.1 * 2**20
    code, out, err = nnx("push", a, *target, "--timeout", "0.3s")
    assert code == 1
    assert json.loads(out)["targets"][0]["why"] == "it took longer than 0.3 s"
    assert live(at) == sha256(b)
    code, out, err = nnx("push", a, *target)  # nothing is left there that is in the way
    assert code == 0, err
    assert live(at) == sha256(a)
