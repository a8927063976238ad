"""What a machine says of itself, read from files made here."""

import subprocess
import sys
from pathlib import Path

import pytest

from toolchain.hosts import portrait

X86, ARM64 = 62, 183


def elf(path: Path, machine: int) -> Path:
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little") + bytes(44))
    return path


@pytest.mark.parametrize(
    ("runs", "own", "said"),
    [(X86, X86, ""), (X86, ARM64, "x86_64"), (ARM64, X86, "aarch64"), (1234, X86, "another processor"), (40, 40, "")],
)
def test_it_is_emulated_where_another_kind_of_program_runs_it(
    runs: int, own: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, place = portrait.elf_machine, elf(tmp_path / "own", own)
    monkeypatch.setattr(portrait, "of_a_fork", lambda: read(elf(tmp_path / "runs", runs)))
    monkeypatch.setattr(
        portrait, "elf_machine", lambda path: read(place if path == Path("/proc/self/exe") else path / "no")
    )
    assert portrait.emulated_on() == said


def test_this_machine_is_not_emulated_and_a_script_is_no_program(tmp_path: Path) -> None:
    # in a process without threads, as there: this one may not be forked
    code = "from toolchain.hosts import portrait; print(portrait.of_a_fork(), portrait.emulated_on())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(portrait.elf_machine(Path(sys.executable)))]
    (tmp_path / "script").write_text("#!/bin/sh\n" + "#" * 40)
    assert portrait.elf_machine(tmp_path / "script") is None


@pytest.mark.parametrize(
    ("cpuinfo", "board", "said"),
    [
        ("processor\t: 0\nmodel name\t: Intel(R) N100\nmodel name\t: Intel(R) N100\n", "", "Intel(R) N100"),
        (
            "CPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nCPU part\t: 0xd08\n",
            "Raspberry Pi 4 Model B Rev 1.4",
            "Raspberry Pi 4 Model B Rev 1.4, Cortex-A72",
        ),
        ("CPU part\t: 0xd0b\nCPU part\t: 0xd05\n", "", "Cortex-A55, Cortex-A76"),
    ],
)
def test_a_processor_has_the_name_that_people_know(cpuinfo: str, board: str, said: str) -> None:
    assert portrait.processor(cpuinfo, board) == said


def test_how_it_does_is_read_where_linux_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portrait, "LOOK_S", 0.0)
    for name, text in {
        "proc/stat": "cpu  10 0 10 80 0 0 0 5 0 0\ncpu0 1 2\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/class/thermal/thermal_zone1/temp": "61000\n",
        "sys/class/thermal/cooling_device0/temp": "999000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu11/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpufreq/scaling_governor": "other\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert portrait.look(tmp_path) == {
        "busy": 0.0,
        "times": [10, 0, 10, 80, 0, 0, 0, 5],
        "temperature_c": 61.0,
        "governors": ["ondemand"],
        "throttled": "50005",
    }
    nothing = {"busy": 0.0, "times": [], "temperature_c": None, "governors": [], "throttled": ""}
    assert portrait.look(tmp_path / "elsewhere") == nothing
