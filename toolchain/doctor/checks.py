"""Facts -> checks: what is well, what could be better, what is missing, and the command that mends it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from exporters.int8 import targets
from runtimes.registry import PROVIDERS
from toolchain.doctor.facts import Facts, Need, Temporary, Trial
from toolchain.machine.description import BF16_FLAGS

_BUSY_SHARE, _STOLEN_SHARE = 0.1, 0.01
_LEAST_FREE_BYTES = 2 * 2**30
_INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
_FAST_TARGETS = ("x86-vnni", "x86-amx", "arm64-dotprod")
_ARM = ("aarch64", "arm64")
_INSTALL_COMPILER = {
    "apt-get": "sudo apt-get install g++ python3-dev",
    "dnf": "sudo dnf install gcc-c++ python3-devel",
    "apk": "sudo apk add g++ python3-dev",
    "pacman": "sudo pacman -S gcc python",
    "xcode-select": "xcode-select --install",
}
_MEND_DRIVER = "Install NVIDIA's driver; start a container with --gpus all."
_INSTALL_CUDA = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
_OWN_EXTRAS = ("cpu", "gpu", "dev")  # the wheels have checks of their own; a user has no need of dev


class Health(StrEnum):
    """``warn``: nnx works, though slower, less evenly, or without a part that is optional; ``missing``: it does not."""

    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


OK, WARN, MISSING = Health


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    ``mend`` is the command or the advice that changes its status, None for one that is ok.
    """

    name: str
    status: Health
    found: str
    mend: str | None = None


def judge(facts: Facts) -> tuple[Check, ...]:
    """All checks, the machine first."""
    parts = (_processor, _surroundings, _gpu, _python, _libraries, _onnxruntime, _providers, _torch, _extras)
    return tuple(check for part in parts for check in part(facts))


def _processor(facts: Facts) -> Iterator[Check]:
    machine = facts.machine
    yield Check("processor", OK, f"{machine.processor}, {machine.architecture}, {machine.system}")
    if not machine.isa and not machine.system.startswith("Linux"):
        yield Check("int8", WARN, "the instruction sets cannot be read here", "nnx quantize --target list, and choose")
        return
    yield int8(machine.architecture, machine.isa, "`--target auto`")
    flags = ", ".join(flag for flag in BF16_FLAGS if flag in machine.isa)
    none = "none: training on the processor stays in fp32"
    slow = "Train on a GPU, or on a processor with avx512_bf16, amx_bf16 or Arm's bf16."
    yield judged("bf16", bool(flags), f"{flags}: training uses it" if flags else none, slow)


def int8(architecture: str, isa: Sequence[str], target: str = "the right --target") -> Check:
    """Whether a processor is fast in it; ``target`` is what the format that suits it is called."""
    chosen = targets.format_for(architecture=architecture, isa=isa)
    flags = ", ".join(flag for flag in _INT8_FLAGS if flag in isa)
    made = f"{flags or 'no VNNI, AMX or dot product'}; {target} is {chosen.target}: {chosen.reason}"
    slow = "int8 gains less here; it is fast where there is VNNI (Intel Ice Lake, AMD Zen 4) or Arm's dot product."
    return judged("int8", chosen.target in _FAST_TARGETS, made, slow)


def _surroundings(facts: Facts) -> Iterator[Check]:
    """What the process may use, and what would make a measurement uneven."""
    yield _cores(facts)
    here = facts.conditions
    if here.free_memory_bytes is not None:
        found = f"{_gib(here.free_memory_bytes)} free of {_gib(facts.machine.memory_bytes)}"
        enough = here.free_memory_bytes >= _LEAST_FREE_BYTES
        yield judged("memory", enough, found, "Close other programs, or raise the container's limit.")
    if facts.free_disk_bytes:
        found = ", ".join(f"{_gib(free)} free in {folder}" for folder, free in facts.free_disk_bytes.items())
        enough = min(facts.free_disk_bytes.values()) >= _LEAST_FREE_BYTES
        yield judged("disk", enough, found, "Free some space.")
    yield _temporary(facts.temporary)
    yield _clock(facts)
    if len(here.memory_nodes) > 1:
        found = f"{len(here.memory_nodes)} nodes ({'; '.join(here.memory_nodes)}): threads on two wait for each other"
        yield Check("memory nodes", WARN, found, f"nnx bench --cpus {here.memory_nodes[0]}")
    if facts.machine.system.startswith("Linux"):
        found = f"{here.busy:.0%} of the processor time is in use now"
        yield judged("load", here.busy <= _BUSY_SHARE, found, "Stop other programs, or bench later.")
    if here.stolen > _STOLEN_SHARE:
        found = f"{here.stolen:.0%} of the time that this virtual machine wanted went to others"
        yield Check("steal", WARN, found, "Bench on a machine that is not shared.")


def _cores(facts: Facts) -> Check:
    here, allowed = facts.conditions, len(facts.conditions.allowed)
    found = f"{allowed} of {here.processors} processors may be used"
    if here.cores is not None and here.cores < allowed:
        found += f", on {here.cores} cores: as many threads are onnxruntime's own default"
    if here.quota is None or here.quota >= allowed:
        return Check("cores", OK, found)
    mend = f"Keep to --threads {facts.machine.cores}, or raise the container's limit: more threads are stopped in turn."
    return Check("cores", WARN, f"{found}, a control group grants the time of {here.quota:g}", mend)


def _temporary(found: Temporary) -> Check:
    name = "temporary folder"
    named = f"TMPDIR is {found.named}, where no file can be made: {found.lacks}" if found.lacks else ""
    if not found.used:
        return Check(name, MISSING, named or "none can be used", "Set TMPDIR to a folder with space.")
    if named:
        mend = "Make it, free some space in it, or set TMPDIR to another folder."
        return Check(name, WARN, f"{named}; {found.used} is used instead", mend)
    return Check(name, OK, found.used)


def _clock(facts: Facts) -> Check:
    boost = {None: "", True: "; boost is on", False: "; boost is off"}[facts.conditions.boost]
    governors = ", ".join(facts.conditions.governors)
    if not governors:
        return Check("clock", OK, f"the governor is not to be read here: a virtual machine's host keeps it{boost}")
    steady = governors == "performance"
    return judged("clock", steady, f"governor {governors}{boost}", "sudo cpupower frequency-set -g performance")


def _gpu(facts: Facts) -> Iterator[Check]:
    devices = facts.gpus.devices
    if devices:
        yield Check("gpu", OK, "; ".join(f"{device}, {_gib(device.memory_bytes)}" for device in devices))
    elif facts.gpus.problem:
        yield Check("gpu", WARN, facts.gpus.problem, "Install NVIDIA's driver again, then restart.")
    elif facts.nvidia_on_bus:
        yield Check("gpu", WARN, "an NVIDIA device without nvidia-smi", _MEND_DRIVER)
    else:
        yield Check("gpu", OK, "no NVIDIA device")


def _python(facts: Facts) -> Iterator[Check]:
    version, wanted = facts.machine.python, facts.python_wanted
    fits = SpecifierSet(wanted).contains(_release(version) or version)
    yield judged("python", fits, version, f"Make an environment with a Python {wanted}.", worse=MISSING)


def _libraries(facts: Facts) -> Iterator[Check]:
    if not facts.python_wanted:
        found = "nnx itself is not installed, so the versions that it needs are not known"
        yield Check("libraries", WARN, found, "pip install -e . in its folder")
    for need in facts.needs:
        if need.extra is None:
            lacks = _lacks(need, facts.installed.get(need.name))
            found = lacks or facts.installed[need.name]
            yield judged(need.name, lacks is None, found, f"pip install '{need}'", worse=MISSING)


def _onnxruntime(facts: Facts) -> Iterator[Check]:
    install, found = _install_wheel(facts), ", ".join(f"{name} {version}" for name, version in facts.wheels.items())
    if len(facts.wheels) > 1:
        yield Check("onnxruntime", WARN, f"{found}: they overwrite each other's files", install)
    elif not facts.wheels:
        built = "cpu" in facts.trials and facts.trials["cpu"].runs
        found = "not from a wheel, so its version is not known" if built else "not installed"
        yield judged("onnxruntime", built, found, install, worse=MISSING)
    else:
        bound = next((need for need in facts.needs if need.extra == "cpu"), None)
        lacks = bound and _lacks(bound, next(iter(facts.wheels.values())))
        mend = f"pip install --upgrade {next(iter(facts.wheels))}"
        yield judged("onnxruntime", not lacks, f"{found} ({lacks})" if lacks else found, mend, worse=MISSING)


def _install_wheel(facts: Facts) -> str:
    """Two wheels must both go: uninstalling one takes files of the other along."""
    first = f"pip uninstall -y {' '.join(facts.wheels)} && " if len(facts.wheels) > 1 else ""
    return f"{first}pip install 'nnx-toolchain[{'gpu' if facts.has_gpu else 'cpu'}]'"


def _providers(facts: Facts) -> Iterator[Check]:
    """One check for each provider that onnxruntime offers and this machine can have, one for all others."""
    if not facts.trials:
        return
    told = [name for name in PROVIDERS if _is_told(name, facts)]
    for name in told:
        trial = facts.trials.get(name)
        yield _provider(name, trial, facts)
        if trial and trial.libraries:
            yield _cuda_libraries(name, trial, facts.ort_cuda)
    possible = [name for name in PROVIDERS if name not in told and _fits(name, facts)]
    if found := "; ".join(f"{name}: {PROVIDERS[name].install}" for name in possible):
        yield Check("could be added", OK, found)
    if others := [name for name in PROVIDERS if name not in (*told, *possible)]:
        yield Check("other providers", OK, f"{', '.join(others)}: for other machines, or in builds of their own")


def _is_told(name: str, facts: Facts) -> bool:
    """Whether it is worth a check: it runs, or should.

    A wheel with CUDA always offers TensorRT, whose libraries are a package of their own: no fault if they are absent.
    """
    trial = facts.trials.get(name)
    if trial is None:
        return name == "cuda" and facts.has_gpu
    return trial.runs or bool(trial.do) or (name != "tensorrt" and _fits(name, facts))


def _fits(name: str, facts: Facts) -> bool:
    """Whether a machine such as this can have that provider from a package."""
    system, architecture = facts.machine.system.partition(" ")[0], facts.machine.architecture.lower()
    return {
        "cpu": True,
        "cuda": facts.has_gpu,
        "tensorrt": facts.has_gpu,
        "nvtensorrtrtx": facts.has_gpu,
        "webgpu": facts.has_gpu or system in ("Darwin", "Windows"),
        "openvino": architecture not in _ARM and system != "Darwin",
        "coreml": system == "Darwin",
        "dml": system == "Windows",
        "qnn": architecture in _ARM and system != "Darwin",
    }.get(name, False)


def _provider(name: str, trial: Trial | None, facts: Facts) -> Check:
    label, install = f"provider {name}", PROVIDERS[name].install
    if trial is None:
        mend = _install_wheel(facts) if len(facts.wheels) > 1 else install
        return Check(label, WARN, "this onnxruntime does not have it", mend)
    if trial.runs:
        return Check(label, OK, "runs")
    found = f"does not start: {trial.why.rstrip('.') or 'onnxruntime fell back to the CPU without a word'}"
    if name == "cpu":
        return Check(label, MISSING, found, "pip install --force-reinstall 'nnx-toolchain[cpu]'")
    return Check(label, WARN, found, trial.do or _mend_libraries(trial, facts.ort_cuda) or install)


def _cuda_libraries(name: str, trial: Trial, cuda: str) -> Check:
    """CUDA and cuDNN as onnxruntime finds them, after it looked into the packages of NVIDIA beside it."""
    loaded = [f"{library} {version}".strip() for library, version in trial.libraries.items() if version is not None]
    missing = [library for library, version in trial.libraries.items() if version is None]
    found = "; ".join(filter(None, (f"onnxruntime is built for CUDA {cuda}", ", ".join(loaded))))
    mend = _mend_libraries(trial, cuda)
    return Check(
        f"{name} libraries",
        WARN if mend else OK,
        f"{found}; not found: {', '.join(missing)}" if missing else found,
        mend,
    )


def _mend_libraries(trial: Trial, cuda: str) -> str | None:
    """libcuda comes with the driver and must know CUDA's major version; all others come as packages."""
    missing = [library for library, version in trial.libraries.items() if version is None]
    if any(library.partition(".")[0] != "libcuda" for library in missing):
        return _INSTALL_CUDA
    if missing:
        return _MEND_DRIVER
    driver = next((version for library, version in trial.libraries.items() if library.startswith("libcuda.")), None)
    if driver and cuda and Version(driver).major < Version(cuda).major:
        return f"Update NVIDIA's driver: it knows CUDA {driver}, and {cuda} is wanted."
    return None


def _torch(facts: Facts) -> Iterator[Check]:
    """What PyTorch can use, where it is there at all."""
    if "torch" not in facts.installed:
        return
    trial = facts.torch_trial
    if trial is not None:
        found = f"built for CUDA {facts.torch_cuda}, " + (f"uses {trial.device}" if trial.runs else "sees no device")
        found = f"{found}: {trial.why}" if trial.why else found
        mend = "Update NVIDIA's driver, or install a torch that is built for the CUDA that nvidia-smi shows."
        yield judged("torch on CUDA", trial.runs, found, mend)
    elif facts.has_gpu:
        found = f"torch {facts.installed['torch']} is built without CUDA"
        yield Check("torch on CUDA", WARN, found, "Install a torch with CUDA: pytorch.org/get-started has the command.")
    for device, lacks in facts.compiler_lacks.items():
        install = _INSTALL_COMPILER.get(facts.package_manager or "", "Install a C++ compiler and Python's headers.")
        mend = "pip install triton" if device == "cuda" else install
        yield judged(f"torch.compile {device}", lacks is None, lacks or "has the compiler that it needs", mend)


def _extras(facts: Facts) -> Iterator[Check]:
    """The optional libraries, by the extra that brings them."""
    extras = dict.fromkeys(need.extra for need in facts.needs if need.extra and need.extra not in _OWN_EXTRAS)
    for extra in extras:
        needs = [need for need in facts.needs if need.extra == extra]
        states = [(need.name, _lacks(need, facts.installed.get(need.name))) for need in needs]
        found = ", ".join(f"{name} {lacks or facts.installed[name]}" for name, lacks in states)
        fine = not any(lacks for _, lacks in states)
        yield judged(f"extra {extra}", fine, found, f"pip install 'nnx-toolchain[{extra}]'")


def judged(name: str, good: bool, found: str, mend: str, worse: Health = WARN) -> Check:
    """``ok`` for what is good, else ``worse`` with what mends it."""
    return Check(name, OK, found) if good else Check(name, worse, found, mend)


def _lacks(need: Need, version: str | None) -> str | None:
    """What is wrong with the version that is installed; None when nothing is."""
    if version is None:
        return "not installed"
    release = _release(version)
    if release is None or not need.at_least or release >= Version(need.at_least):
        return None
    return f"{version} is too old: nnx needs {need.at_least}"


def _release(version: str) -> Version | None:
    """The release that a version belongs to, as a pre-release of 2.7 does to 2.7; None for what keeps to no rule."""
    try:
        return Version(Version(version.removesuffix("+")).base_version)  # Python built from its sources ends in +
    except InvalidVersion:
        return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size < 10 * 2**30 else f"{size / 2**30:.0f} GiB"
