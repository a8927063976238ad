"""From options to settings."""

import os
import sys
from typing import Any

import pytest

from runtimes.errors import RuntimesError, UnknownProvider
from toolchain.bench.record import Setting
from toolchain.bench.sweep import Sweep
from toolchain.errors import BadUsage


def test_every_combination_with_the_providers_side_by_side() -> None:
    settings = Sweep(providers=("cpu", "cuda:device_id=1"), batches=(1, 8), threads=(2,), concurrency=(1, 4)).settings()
    assert settings[:2] == [
        Setting(provider="cpu", batch=1, threads=2),
        Setting(provider="cuda", options=(("device_id", "1"),), batch=1, threads=2),
    ]
    assert len(settings) == 8
    assert len({setting.circumstances for setting in settings}) == 4


def test_what_is_named_twice_is_measured_once() -> None:
    assert len(Sweep(providers=("cpu", "cpu"), batches=(1, 1), threads=(1, 1)).settings()) == 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin processes")
def test_threads_follow_the_processors() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    assert Sweep(cpus=cpus[:1]).settings()[0].threads == 1
    assert Sweep().settings()[0].threads == len(cpus)


def test_an_interpreter_is_for_its_provider_or_for_what_is_not_here() -> None:
    named = Sweep(providers=("cpu", "openvino"), pythons=(f"openvino={sys.executable}",)).settings()
    assert [setting.python for setting in named] == [None, sys.executable]
    rest = Sweep(providers=("cpu", "qnn"), pythons=(sys.executable,)).settings()
    assert [setting.python for setting in rest] == [None, sys.executable]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"batches": (0,)}, BadUsage),
        ({"threads": (1, -2)}, BadUsage),
        ({"concurrency": (0,)}, BadUsage),
        ({"copies": "some"}, BadUsage),
        ({"cpus": (4096,)}, BadUsage),
        ({"pythons": ("/nowhere/python",)}, BadUsage),
        ({"pythons": (f"abacus={sys.executable}",)}, UnknownProvider),
        ({"providers": ("abacus",)}, UnknownProvider),
        ({"providers": ("cuda:device_id",)}, RuntimesError),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Sweep(**options).settings()
