import importlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from toolchain import machine
from toolchain.doctor import diagnosis
from toolchain.doctor import facts as doctor_facts
from toolchain.doctor.checks import MISSING, OK, WARN, Check, judge
from toolchain.doctor.facts import Facts, Need, Temporary, Trial, last_words, parse_need
from toolchain.doctor.probe import RELU
from toolchain.errors import NotAvailable
from toolchain.machine import conditions
from toolchain.machine.conditions import Conditions
from toolchain.machine.description import Gpu, Gpus, Machine

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden"
GIB = 2**30
MACHINE = Machine(
    system="Linux 6.1", architecture="x86_64", processor="AMD EPYC", cores=8, memory_bytes=32 * GIB,
    isa=("avx2", "avx512f", "avx512_vnni", "avx512_bf16"), gpu=None, python="3.11.7", libraries={},
)  # fmt: skip
CONDITIONS = Conditions(
    processors=8, allowed=tuple(range(8)), cores=8, free_memory_bytes=20 * GIB, governors=("performance",),
    boost=True, memory_nodes=("0-7",), busy=0.02, stolen=0.001,
)  # fmt: skip
NEEDS = (
    Need("torch", "2.7"), Need("click", "8.1"), Need("onnxruntime", "1.24", "cpu"),
    Need("onnxruntime-gpu", "1.24", "gpu"), Need("pillow", "10", "recipes"), Need("ruff", "0.11", "dev"),
)  # fmt: skip
HEALTHY = Facts(
    machine=MACHINE,
    conditions=CONDITIONS,
    free_disk_bytes={"/home/me": 70 * GIB},
    temporary=Temporary(used="/tmp"),
    python_wanted=">=3.11,<3.14",
    needs=NEEDS,
    installed={"torch": "2.13.0+cpu", "click": "8.1", "onnxruntime": "1.31.1", "pillow": "10.0.0"},
    wheels={"onnxruntime": "1.31.1"},
    trials={"cpu": Trial(runs=True)},
    compiler_lacks={"cpu": None},
    package_manager="apt-get",
)
H200 = Gpus(devices=(Gpu(name="NVIDIA H200", driver="550.54", memory_bytes=140 * GIB),))
LOADED = {"libcublas.so.13": "", "libcudart.so.13": "13.0", "libcuda.so.1": "13.1", "libcudnn.so.9": "9.10.2"}
ON_GPU = replace(
    HEALTHY,
    gpus=H200,
    wheels={"onnxruntime-gpu": "1.31.1"},
    trials={"cpu": Trial(runs=True), "cuda": Trial(runs=True, libraries=LOADED)},
    ort_cuda="13.0",
    torch_cuda="12.8",
    torch_trial=Trial(runs=True, device="NVIDIA H200"),
    compiler_lacks={"cpu": None, "cuda": None},
)
NOT_INSTALLED = replace(
    HEALTHY, python_wanted="", needs=(Need("torch", ""), Need("click", "")), installed={"click": "8.1"}
)
SICK = replace(
    HEALTHY,
    machine=replace(MACHINE, isa=("avx2",), cores=2),
    conditions=replace(CONDITIONS, quota=2.5, governors=("powersave",), free_memory_bytes=GIB, busy=0.5, stolen=0.2),
    installed={"click": "8.1.8"},
    wheels={},
    trials={},
    temporary=Temporary(used="/var/tmp", named="/tmp", lacks="No space left on device"),
)


def check(facts: Facts, name: str) -> Check:
    return next(each for each in judge(facts) if each.name == name)


def of_machine(**changes: Any) -> Facts:
    return replace(HEALTHY, machine=replace(MACHINE, **changes))


def of_conditions(**changes: Any) -> Facts:
    return replace(HEALTHY, conditions=replace(CONDITIONS, **changes))


def on_cuda(trial: Trial) -> Facts:
    return replace(ON_GPU, trials={"cpu": Trial(runs=True), "cuda": trial})


@pytest.mark.parametrize("facts", [HEALTHY, ON_GPU], ids=["cpu", "gpu"])
def test_a_healthy_machine_gets_no_warning(facts: Facts) -> None:
    assert [each for each in judge(facts) if each.status != OK] == []


@pytest.mark.parametrize("facts", [HEALTHY, ON_GPU, SICK], ids=["cpu", "gpu", "sick"])
def test_names_are_told_once_and_what_is_not_well_has_a_mend(facts: Facts) -> None:
    checks = judge(facts)
    assert len({each.name for each in checks}) == len(checks)
    assert all((each.mend is None) == (each.status == OK) for each in checks)


def test_the_text_and_the_json_are_the_golden_ones() -> None:
    checks = judge(SICK)
    assert "\n".join(diagnosis.lines(checks, 80)) + "\n" == (GOLDEN / "doctor.txt").read_text(encoding="utf-8")
    assert diagnosis.to_json(checks) == (GOLDEN / "doctor.json").read_text(encoding="utf-8")


def test_a_pipe_gets_a_line_a_check() -> None:
    checks = judge(SICK)
    lines = diagnosis.lines(checks)
    assert len(lines) == len(checks) + 2
    assert "✗ missing  onnxruntime" in "\n".join(lines)
    assert lines[-1] == "16 checks: 2 missing, 9 warnings."


@given(st.integers(60, 200))
def test_a_terminal_breaks_lines_between_words(width: int) -> None:
    checks = judge(SICK)
    lines = diagnosis.lines(checks, width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert all(word in words for each in checks for word in each.found.split())


@pytest.mark.parametrize(
    ("facts", "name", "status", "found", "mend"),
    [
        (of_machine(isa=("avx2", "avx_vnni")), "int8", OK, "avx_vnni; `--target auto` is x86-vnni", ""),
        (of_machine(isa=("avx512_vnni", "amx_int8")), "int8", OK, "is x86-amx", ""),
        (of_machine(isa=("avx2",)), "int8", WARN, "`--target auto` is x86-avx2", "VNNI"),
        (of_machine(isa=("avx2",)), "bf16", WARN, "none", "avx512_bf16"),
        (of_machine(architecture="aarch64", isa=("asimddp", "i8mm", "bf16")), "int8", OK, "asimddp, i8mm; ", ""),
        (of_machine(architecture="aarch64", isa=("bf16",)), "int8", WARN, "is arm64: ", "dot product"),
        (of_machine(architecture="aarch64", isa=("bf16",)), "bf16", OK, "bf16: ", ""),
        (of_machine(system="Darwin 24", isa=()), "int8", WARN, "cannot be read", "--target"),
        (of_machine(python="3.10.13"), "python", MISSING, "3.10.13", "<3.14"),
        (of_machine(python="3.14.0"), "python", MISSING, "3.14.0", "<3.14"),
        (of_machine(python="3.11.0"), "python", OK, "3.11.0", ""),
        (of_machine(python="3.13.0b1"), "python", OK, "3.13.0b1", ""),
        (of_machine(python="3.12.1+"), "python", OK, "3.12.1+", ""),
        (of_conditions(cores=4), "cores", OK, "8 of 8 processors may be used, on 4 cores", ""),
        (of_conditions(allowed=(0, 1), quota=2.0), "cores", OK, "2 of 8", ""),
        (of_conditions(quota=7.9), "cores", WARN, "grants the time of 7.9", "--threads 8"),
        (of_conditions(governors=("performance", "powersave")), "clock", WARN, "performance, powersave", "cpupower"),
        (of_conditions(governors=(), boost=None), "clock", OK, "virtual machine", ""),
        (of_conditions(boost=False), "clock", OK, "boost is off", ""),
        (of_conditions(memory_nodes=("0-3", "4-7")), "memory nodes", WARN, "2 nodes", "--cpus 0-3"),
        (of_conditions(free_memory_bytes=2 * GIB - 1), "memory", WARN, "2.0 GiB free of 32 GiB", "Close"),
        (of_conditions(busy=0.11), "load", WARN, "11%", "Stop"),
        (of_conditions(stolen=0.02), "steal", WARN, "2%", "not shared"),
        (replace(HEALTHY, free_disk_bytes={"/a": 9 * GIB, "/b": GIB}), "disk", WARN, "1.0 GiB free in /b", "Free"),
        (replace(HEALTHY, temporary=Temporary(used="")), "temporary folder", MISSING, "none can be used", "Set TMPDIR"),
        (
            replace(HEALTHY, temporary=Temporary(used="/tmp", named="/gone", lacks="No such file or directory")),
            "temporary folder", WARN, "TMPDIR is /gone, where no file can be made: No such", "Make it",
        ),
        (replace(HEALTHY, compiler_lacks={"cpu": "no g++"}), "torch.compile cpu", WARN, "no g++", "apt-get install"),
        (replace(HEALTHY, python_wanted=""), "libraries", WARN, "not installed", "pip install -e"),
        (NOT_INSTALLED, "torch", MISSING, "not installed", "pip install 'torch'"),
        (NOT_INSTALLED, "click", OK, "8.1", ""),
        (replace(HEALTHY, installed={"torch": "2.6.1"}), "torch", MISSING, "2.6.1 is too old: nnx needs 2.7", "2.7"),
        (replace(HEALTHY, installed={"torch": "2.10.0a0+git1f2e"}), "torch", OK, "2.10.0a0+git1f2e", ""),
        (replace(HEALTHY, installed={"torch": "2.7.0rc1"}), "torch", OK, "2.7.0rc1", ""),
        (replace(HEALTHY, installed={"torch": "own build"}), "torch", OK, "own build", ""),
        (replace(HEALTHY, installed={}), "extra recipes", WARN, "pillow not installed", "nnx-toolchain[recipes]"),
        (replace(HEALTHY, wheels={"onnxruntime": "1.23.9"}), "onnxruntime", MISSING, "needs 1.24", "--upgrade"),
        (replace(HEALTHY, wheels={}), "onnxruntime", OK, "not from a wheel", ""),
        (replace(HEALTHY, gpus=Gpus(problem="no driver")), "gpu", WARN, "no driver", "driver"),
        (replace(HEALTHY, nvidia_on_bus=True), "gpu", WARN, "without nvidia-smi", "--gpus all"),
        (replace(HEALTHY, gpus=H200), "provider cuda", WARN, "does not have it", "nnx-toolchain[gpu]"),
        (replace(HEALTHY, gpus=H200), "torch on CUDA", WARN, "built without CUDA", "pytorch.org"),
        (replace(HEALTHY, trials={"cpu": Trial(runs=False, why="it died")}), "provider cpu", MISSING, "died", "pip"),
    ],
)  # fmt: skip
def test_each_check(facts: Facts, name: str, status: str, found: str, mend: str) -> None:
    told = check(facts, name)
    assert told.status == status
    assert found in told.found
    assert mend in (told.mend or "")


def test_two_wheels_in_one_folder_must_both_go() -> None:
    both = replace(ON_GPU, wheels={"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}, trials=HEALTHY.trials)
    mend = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'nnx-toolchain[gpu]'"
    assert check(both, "onnxruntime").mend == mend
    assert check(both, "provider cuda").mend == mend


@pytest.mark.parametrize(
    ("changed", "mend"),
    [
        ({}, None),
        ({"libcuda.so.1": None}, "NVIDIA's driver"),
        ({"libcudnn.so.9": None}, "onnxruntime-gpu[cuda,cudnn]"),
        ({"libcuda.so.1": None, "libcudnn.so.9": None}, "onnxruntime-gpu[cuda,cudnn]"),
        ({"libcuda.so.1": "12.8"}, "it knows CUDA 12.8, and 13.0 is wanted"),
    ],
)
def test_cuda_and_cudnn_as_onnxruntime_sees_them(changed: dict[str, str | None], mend: str | None) -> None:
    facts = on_cuda(Trial(runs=mend is None, why="it says so", libraries={**LOADED, **changed}))
    libraries, provider = check(facts, "cuda libraries"), check(facts, "provider cuda")
    assert "libcudart.so.13 13.0" in libraries.found
    for told in (libraries, provider):
        assert told.status == (WARN if mend else OK)
        assert (mend or "") in (told.mend or "")
    for name, version in changed.items():
        assert version is not None or name in libraries.found.partition("not found: ")[2]


def test_what_another_machine_has_is_no_fault_of_this_one() -> None:
    facts = replace(
        HEALTHY, wheels=ON_GPU.wheels, trials={**HEALTHY.trials, "cuda": Trial(runs=False, why="no libcuda")}
    )
    told = check(facts, "other providers")
    assert told.status == OK
    assert {"cuda", "tensorrt", "coreml", "dml"} <= set(told.found.partition(":")[0].split(", "))
    assert "provider cuda" not in [each.name for each in judge(facts)]


def test_a_plugin_that_finds_no_device_says_so_itself() -> None:
    trial = Trial(runs=False, why="The plug-in finds no device.", do="Run it elsewhere.")
    facts = replace(HEALTHY, trials={**HEALTHY.trials, "openvino": trial})
    told = check(facts, "provider openvino")
    assert (told.status, told.found, told.mend) == (WARN, "does not start: The plug-in finds no device", trial.do)


def test_only_what_is_missing_ends_in_an_error() -> None:
    diagnosis.require_essentials([Check("load", WARN, "busy", "wait")])
    with pytest.raises(NotAvailable, match=r"^Missing: onnxruntime, torch\.$"):
        diagnosis.require_essentials([Check("onnxruntime", MISSING, "", ""), Check("torch", MISSING, "", "")])


@pytest.mark.parametrize(
    ("requirement", "need"),
    [
        ("torch>=2.7", Need("torch", "2.7")),
        ('onnxruntime-gpu>=1.24; extra == "gpu"', Need("onnxruntime-gpu", "1.24", "gpu")),
        ("pillow>=10; python_version > '3' and extra == 'recipes'", Need("pillow", "10", "recipes")),
        ("scipy<2,>=1.11", Need("scipy", "1.11")),
        ("tomli>=2; python_version < '3'", None),
        ("anything", None),
    ],
)
def test_requirements_are_read(requirement: str, need: Need | None) -> None:
    assert parse_need(requirement, ["gpu", "recipes"]) == need


@pytest.mark.parametrize(
    ("log", "status", "words"),
    [
        ("\x1b[1;31m2026 [E:onnxruntime:Default, x.cc:2 f] x.cc:4 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load"
         " library /a/libx.so with error: libcuda.so.1: cannot open\n\x1b[m", 0, "libcuda.so.1: cannot open"),
        ("[E:onnxruntime:Default, x.cc:2 f] CUDA failure : driver too old.\nnoise\n", 0, "driver too old"),
        ("a.py:1: UserWarning: CUDA initialization: no driver.\n  return f()\n", 0, "CUDA initialization: no driver"),
        ("Traceback:\n  File\nImportError: libx.so.\n", 1, "ImportError: libx.so"),
        ("whatever", -11, "it crashed (SIGSEGV)"),
        ("", 0, ""),
    ],
)  # fmt: skip
def test_the_last_words_of_a_backend(log: str, status: int, words: str) -> None:
    assert last_words(log, status) == words


def test_the_model_without_onnx_is_what_onnx_would_write() -> None:
    helper = importlib.import_module("onnx.helper")
    ends = [helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    assert model.SerializeToString() == RELU


def test_asking_does_not_load_what_may_be_broken() -> None:
    code = "import sys, toolchain.doctor.diagnosis as d; d.diagnose(); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "onnxruntime", "onnx", "numpy"} & set(ended.stdout.split())


@given(st.sets(st.integers(0, 64)))
def test_lists_of_processors_are_read(numbers: set[int]) -> None:
    assert conditions.processors_in(",".join(map(str, sorted(numbers)))) == numbers
    ranges = ",".join(f"{number}-{number + 1}" for number in numbers)
    assert conditions.processors_in(ranges) == numbers | {number + 1 for number in numbers}


@pytest.mark.parametrize("text", ["0-9999999999", "70000", "5-2", "-1", "x", "1-2-3"])
def test_what_is_no_list_of_processors_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match=r"no range|invalid literal"):
        conditions.processors_in(text)


def test_where_nnx_is_not_installed_the_libraries_are_those_of_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    monkeypatch.setattr(doctor_facts, "DISTRIBUTION", "not-installed-anywhere")
    wanted, named = doctor_facts.requirements()
    assert wanted == ""
    assert {need.name for need in named} == {Requirement(each).name for each in listed}


@pytest.mark.parametrize("installed", [False, True])
def test_the_probe_starts_from_wherever_the_user_stands(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a clone that is on no path, and as installed; beside a user's own `toolchain` and with a `datasets`."""
    place, away = tmp_path / "place", tmp_path / "away"
    for package in ("toolchain", "exporters", "runtimes"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "datasets.py").write_text("import sys; sys.exit('the right one')")
    (place / "onnxruntime.py").write_text("import datasets")
    away.mkdir()
    (away / "toolchain.py").write_text("raise ImportError('the user’s')")
    start = (
        f"import sys; sys.path[:0] = [{str(place)!r}]\n"
        "from toolchain.doctor import facts\n"
        "print(facts._ask('onnxruntime', 'cpu'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(place)} if installed else os.environ
    ended = subprocess.run(
        [sys.executable, "-c", start], cwd=away, env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "(None, 'the right one')"


def test_a_disk_that_cannot_be_asked_is_passed_over() -> None:
    assert "disk" not in [each.name for each in judge(replace(HEALTHY, free_disk_bytes={}))]


def test_the_versions_name_nnx_itself() -> None:
    versions = machine.library_versions()
    assert versions["nnx-toolchain"] == importlib.metadata.version("nnx-toolchain")
    assert "-" not in [versions.get(name) for name in ("onnxruntime-openvino", "onnxruntime-qnn")]


def test_steal_is_a_share_of_the_time_that_was_wanted() -> None:
    user, idle, waiting, steal = 60, 800, 100, 40
    assert conditions.stolen_share([user, 0, 0, idle, waiting, 0, 0, steal]) == 0.4
    assert conditions.stolen_share([]) == 0


@pytest.mark.parametrize(
    ("script", "devices", "problem"),
    [
        (
            "echo 'NVIDIA H200, 550.54, 143771'; echo 'NVIDIA GB10, 580.1, [N/A]'",
            [("NVIDIA H200", "550.54", 143771 * 2**20), ("NVIDIA GB10", "580.1", 0)],
            "",
        ),
        ("echo 'It has failed.'; echo 'Is the driver there?'; exit 9", [], "It has failed. Is the driver there?"),
        ("exit 1", [], "nvidia-smi failed"),
    ],
)
def test_what_nvidia_smi_says(
    script: str,
    devices: list[tuple[str, str, int]],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    machine.gpus.cache_clear()
    try:
        found = machine.gpus()
    finally:
        machine.gpus.cache_clear()
    assert [(each.name, each.driver, each.memory_bytes) for each in found.devices] == devices
    assert found.problem == problem


def test_json_tells_the_worst() -> None:
    worst = [
        json.loads(diagnosis.to_json(judge(facts)))["status"] for facts in (HEALTHY, of_conditions(busy=1.0), SICK)
    ]
    assert worst == [OK, WARN, MISSING]
