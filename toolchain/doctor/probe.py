"""What starts here, tried in a process of its own, since a broken backend crashes or prints.

``python -m toolchain.doctor.probe onnxruntime PROVIDER``, or ``torch``, writes one JSON object to stdout; whatever the
backends print goes to stderr. What they raise ends the process with a traceback, whose last line the parent reads.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtimes import registry
from toolchain import streams

# One Relu on float32[1], opset 13, IR version 7: no need of the onnx package, which may be what is broken.
RELU = bytes.fromhex(
    "08073a330a0c0a0178120179220452656c751201675a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a00100d"
)
_LATER = {"cuda": ["libcudnn.so.9"]}  # what a provider opens when it first needs it, and is not linked with


def main() -> None:
    """Answer the question on the command line."""
    answers = streams.answers_alone()
    backend, *provider = sys.argv[1:]
    answers.write(json.dumps(ask_torch() if backend == "torch" else ask_onnxruntime(*provider)))


def ask_onnxruntime(name: str) -> dict[str, Any]:
    """Start the provider of that short name on a one-node model.

    ``trial`` has fields of :class:`toolchain.doctor.facts.Trial`, ``offered`` are the providers built into this
    onnxruntime or installed beside it, ``cuda`` is the CUDA that it was built with.
    """
    import onnxruntime

    ort: Any = onnxruntime
    built_in = ort.get_available_providers()
    offered = [each.name for each in registry.PROVIDERS.values() if each.ort_name in built_in or _is_beside(each)]
    cuda = getattr(ort, "cuda_version", "")
    if cuda and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(sys.stderr):
            ort.preload_dlls()
    provider = registry.PROVIDERS[name]
    found = registry.available("ort", provider)
    trial: dict[str, Any] = {"runs": _starts(provider)} if found else {"runs": False, "why": found.why, "do": found.do}
    library = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    wanted = [*_linked(library), *_LATER.get(name, [])] if library.exists() else []
    trial["libraries"] = {each: _version(each) for each in wanted}
    return {"trial": trial, "offered": offered, "cuda": cuda}


def _is_beside(provider: registry.Provider) -> bool:
    """Whether the provider comes as a package of its own, and that is installed."""
    return provider.plugin is not None and importlib.util.find_spec(provider.plugin) is not None


def _starts(provider: registry.Provider) -> bool:
    """Whether a session is really on ``provider``: onnxruntime falls back to the CPU with no more than a warning."""
    import numpy as np
    import onnxruntime

    from runtimes import plugin_providers

    ort: Any = onnxruntime
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if provider.ort_name in plugin_providers.built_in():
        names = list(dict.fromkeys([provider.ort_name, registry.PROVIDERS["cpu"].ort_name]))
        session = ort.InferenceSession(RELU, options, providers=names)
    else:
        assert provider.plugin is not None
        options.add_provider_for_devices(plugin_providers.devices(provider.ort_name, provider.plugin)[:1], {})
        session = ort.InferenceSession(RELU, options)
    session.run(None, {"x": np.ones(1, np.float32)})
    return provider.ort_name in session.get_providers()


def ask_torch() -> dict[str, Any]:
    """Whether PyTorch sees a CUDA device; why not is among what it prints."""
    torch = importlib.import_module("torch")
    sees = torch.cuda.is_available()
    return {"trial": {"runs": sees, "device": torch.cuda.get_device_name() if sees else ""}}


def _linked(library: Path) -> list[str]:
    """NVIDIA's libraries that ``library`` is linked with, as ldd lists them."""
    ldd = shutil.which("ldd")
    if ldd is None:
        return []
    listed = subprocess.run([ldd, str(library)], capture_output=True, text=True, check=False).stdout
    names = [line.split()[0] for line in listed.splitlines() if line.split()]
    return [name for name in names if name.startswith(("libcu", "libnv"))]


def _version(library: str) -> str | None:
    """The version that a CUDA library tells, "" for one that tells none, None for one that does not load.

    A name that is loaded already is found wherever it lies, as onnxruntime's provider will find it.
    """
    try:
        loaded = ctypes.CDLL(library)
    except OSError:
        return None
    tell = _VERSIONS.get(library.partition(".")[0])
    return tell(loaded) if tell else ""


def _cudart_version(loaded: ctypes.CDLL) -> str:
    """cudaRuntimeGetVersion: 1000 major + 10 minor."""
    number = ctypes.c_int()
    loaded.cudaRuntimeGetVersion(ctypes.byref(number))
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _driver_version(loaded: ctypes.CDLL) -> str:
    """cuDriverGetVersion: the newest CUDA that the driver can run, written as cudart's."""
    number = ctypes.c_int()
    loaded.cuDriverGetVersion(ctypes.byref(number))
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _cudnn_version(loaded: ctypes.CDLL) -> str:
    """cudnnGetVersion: 10000 major + 100 minor + patch, since cuDNN 9."""
    loaded.cudnnGetVersion.restype = ctypes.c_size_t
    number = loaded.cudnnGetVersion()
    return f"{number // 10000}.{number % 10000 // 100}.{number % 100}"


_VERSIONS: dict[str, Callable[[ctypes.CDLL], str]] = {
    "libcudart": _cudart_version, "libcuda": _driver_version, "libcudnn": _cudnn_version,
}  # fmt: skip


if __name__ == "__main__":
    main()
