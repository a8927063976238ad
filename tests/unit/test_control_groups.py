"""What made-up control groups grant of processors and of memory."""

from pathlib import Path

import pytest

from exporters import processors
from toolchain.machine import conditions


def linux(folder: Path, listed: str, groups: dict[str, str], *, available_kb: int = 1000) -> tuple[Path, Path]:
    """A /proc and a /sys with those control groups."""
    files = {
        "proc/meminfo": f"MemTotal: 9999 kB\nMemFree: 10 kB\nMemAvailable:    {available_kb} kB",
        "proc/self/cgroup": listed,
        **{f"sys/fs/cgroup/{name}": text for name, text in groups.items()},
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return folder / "proc", folder / "sys"


@pytest.mark.parametrize(
    ("listed", "groups", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "cpu.max": "400000 100000"}, 2.0),
        ("0::/of/the/host", {"cpu.max": "300000 100000"}, 3.0),
        ("2:cpu,cpuacct:/d", {"cpu/d/cpu.cfs_quota_us": "50000", "cpu/d/cpu.cfs_period_us": "100000"}, 0.5),
        ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
    ],
)
def test_a_quota_of_processors(listed: str, groups: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    assert processors.processor_quota(*linux(tmp_path, listed, groups)) == quota


def test_a_quota_bounds_the_cores(tmp_path: Path) -> None:
    allowed = len(processors.allowed_processors())
    for percent, cores in ((50, 1), (190, min(allowed, 1)), (100 * allowed + 50, allowed)):
        assert processors.usable_cores(*linux(tmp_path, "0::/", {"cpu.max": f"{percent}000 100000"})) == cores
    assert processors.usable_cores(*linux(tmp_path, "0::/", {"cpu.max": "max 100000"})) == allowed


@pytest.mark.parametrize(
    ("listed", "groups", "free"),
    [
        pytest.param("", {}, 1_024_000, id="no control groups"),
        pytest.param("0::/a", {"a/memory.max": "max", "memory.max": "max"}, 1_024_000, id="no limit"),
        pytest.param("0::/", {"memory.max": "9999999999", "memory.current": "5"}, 1_024_000, id="more than there is"),
        pytest.param("0::/", {"memory.max": "50000"}, 50_000, id="use not told"),
        pytest.param("0::/", {"memory.max": "50000", "memory.current": "20000"}, 30_000, id="what is used is gone"),
        pytest.param(
            "0::/",
            {"memory.max": "50000", "memory.current": "20000", "memory.stat": "anon 9\ninactive_file 15000\nfile 1"},
            45_000,
            id="pages of files are given up",
        ),
        pytest.param(
            "0::/a/b",
            {
                "a/b/memory.max": "30000", "a/b/memory.current": "1000",
                "a/memory.max": "40000", "a/memory.current": "38000",
            },
            2_000,
            id="neighbours in the group above",
        ),
        pytest.param("0::/", {"memory.max": "50000", "memory.current": "50001"}, 0, id="over the limit"),
        pytest.param("0::/", {"memory.max": "5", "memory.current": "1", "memory.stat": "inactive_file 3"}, 5, id="all"),
        pytest.param("4:memory:/d", {"memory/d/memory.limit_in_bytes": "9223372036854771712"}, 1_024_000, id="1: none"),
        pytest.param(
            "4:memory:/d",
            {
                "memory/d/memory.limit_in_bytes": "4096", "memory/d/memory.usage_in_bytes": "2000",
                "memory/d/memory.stat": "inactive_file 7\ntotal_inactive_file 500",
                "memory/memory.limit_in_bytes": "8192", "memory/memory.usage_in_bytes": "2000",
            },
            2_596,
            id="1: with what the groups below hold",
        ),
    ],
)  # fmt: skip
def test_free_memory_is_what_is_left(listed: str, groups: dict[str, str], free: int, tmp_path: Path) -> None:
    assert conditions.free_memory_bytes(*linux(tmp_path, listed, groups)) == free


def test_free_memory_is_not_known_without_linux(tmp_path: Path) -> None:
    assert conditions.free_memory_bytes(tmp_path, tmp_path) is None


def test_a_part_of_the_cores_may_be_left_to_others(tmp_path: Path) -> None:
    plenty = linux(tmp_path, "0::/", {"cpu.max": "max 100000"})
    all_of_them = processors.usable_cores(*plenty)
    with processors.limited_to(1):
        assert processors.usable_cores(*plenty) == 1
        with processors.limited_to(1000):
            assert processors.usable_cores(*plenty) == all_of_them
    assert processors.usable_cores(*plenty) == all_of_them
