"""How much memory a process may have, on made-up machines; and that this one is left as it was."""

import resource
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import EncodeError

from tests.unit.test_control_groups import linux
from toolchain.machine import memory_limit

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def there_are(folder: Path, *, status: str, more: str = "", groups: dict[str, str] | None = None) -> int | None:
    proc, sys = linux(folder, "0::/" if groups else "", groups or {})
    (proc / "self").mkdir(exist_ok=True)
    (proc / "self/status").write_text(status)
    with (proc / "meminfo").open("a") as meminfo:
        meminfo.write(more)
    return memory_limit.bytes_there_are(proc, sys)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Those that a process without any was given, one after the other."""
    given = [UNLIMITED]
    monkeypatch.setattr(resource, "getrlimit", lambda _: given[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: given.append(limit))
    return given


def test_what_is_held_and_what_is_free(tmp_path: Path, limits: list[tuple[int, int]]) -> None:
    assert there_are(tmp_path, status="Name: nnx\nVmPeak:\t 9 kB\nVmData:\t 24 kB\n") == 1024 * 1024


def test_swap_counts(tmp_path: Path, limits: list[tuple[int, int]]) -> None:
    assert there_are(tmp_path, status="VmData: 24 kB\n", more="SwapFree: 1000 kB\n") == 2024 * 1024


def test_a_control_group_counts(tmp_path: Path, limits: list[tuple[int, int]]) -> None:
    groups = {"memory.max": "50000", "memory.current": "20000"}
    assert there_are(tmp_path, status="VmData: 1 kB\n", groups=groups) == 31_024


def test_a_limit_that_is_there_is_not_exceeded(tmp_path: Path, limits: list[tuple[int, int]]) -> None:
    limits.append((5000, resource.RLIM_INFINITY))
    assert there_are(tmp_path, status="VmData: 24 kB\n") == 5000


def test_elsewhere_nothing_is_known(tmp_path: Path) -> None:
    assert memory_limit.bytes_there_are(tmp_path, tmp_path) is None


def test_the_limit_ends_with_its_block(monkeypatch: pytest.MonkeyPatch, limits: list[tuple[int, int]]) -> None:
    monkeypatch.setattr(memory_limit, "bytes_there_are", lambda: 1000)
    with memory_limit.held():
        assert limits[-1] == (1000, resource.RLIM_INFINITY)
    assert limits[-1] == UNLIMITED


def test_more_than_there_is_is_refused_and_then_to_be_had_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "free_memory_bytes", lambda *_: 2**26)
    monkeypatch.setattr(memory_limit, "_kilobytes", lambda name, file: _own() if name == "VmData" else 0)
    more = 2**31  # than a heap holds that other tests have left free
    with memory_limit.held(), pytest.raises(MemoryError):
        np.empty(more, np.uint8)
    assert np.empty(more, np.uint8).nbytes == more


def _own() -> int:
    return next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")
    )


def test_a_child_has_the_limits_that_were_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            with memory_limit.held():
                resource.prlimit(child.pid, resource.RLIMIT_DATA, (2**30, resource.RLIM_INFINITY))
                memory_limit.lift_from(child.pid)
                assert resource.prlimit(child.pid, resource.RLIMIT_DATA) == UNLIMITED
        finally:
            child.kill()


@pytest.mark.parametrize(("left", "raised"), [(2**20, MemoryError), (2**32, EncodeError)])
def test_what_protobuf_did_not_get_is_memory_where_there_is_none(
    left: int, raised: type[Exception], monkeypatch: pytest.MonkeyPatch, limits: list[tuple[int, int]]
) -> None:
    """The message alone does not tell; where there is room for any it is another failure."""
    monkeypatch.setattr(memory_limit, "bytes_there_are", lambda: 1024 * _own() + left)
    with pytest.raises(raised), memory_limit.held():
        raise EncodeError("Failed to serialize proto")


def test_what_is_started_in_between_is_given_what_we_were(tmp_path: Path, limits: list[tuple[int, int]]) -> None:
    with memory_limit.lifted():
        assert limits == [UNLIMITED]
    with memory_limit.held():
        ours = limits[-1]
        assert ours != UNLIMITED
        with memory_limit.lifted():
            assert limits[-1] == UNLIMITED
        assert limits[-1] == ours
