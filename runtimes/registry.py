"""What can run a model here: the runtimes by name, the execution providers, and why one is not available."""

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass

from runtimes.errors import UnknownProvider

RUNTIMES = {"eager": "runtimes.torch_eager", "compiled": "runtimes.torch_compiled", "ort": "runtimes.ort"}
"""Row name -> module; a module is imported only when its runtime is opened."""


@dataclass(frozen=True)
class Provider:
    """An execution provider: its short name, onnxruntime's name, PyTorch's device (None: PyTorch has none for it),
    and the command that installs it."""

    name: str
    ort_name: str
    torch_device: str | None
    install: str


_PROVIDERS = (
    Provider("cpu", "CPUExecutionProvider", "cpu", "pip install 'nnx-toolchain[cpu]'"),
    Provider(
        "cuda",
        "CUDAExecutionProvider",
        "cuda",
        "pip uninstall onnxruntime && pip install 'nnx-toolchain[gpu]', with NVIDIA's driver",
    ),
    Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        None,
        "pip uninstall onnxruntime && pip install 'nnx-toolchain[gpu]' tensorrt",
    ),
    Provider(
        "openvino",
        "OpenVINOExecutionProvider",
        None,
        "pip install onnxruntime-openvino in an environment of its own",
    ),
    Provider("coreml", "CoreMLExecutionProvider", None, "pip install onnxruntime on macOS"),
    Provider("dml", "DmlExecutionProvider", None, "pip install onnxruntime-directml on Windows"),
    Provider("xnnpack", "XnnpackExecutionProvider", None, "a build of onnxruntime with XNNPACK"),
    Provider("qnn", "QNNExecutionProvider", None, "pip install onnxruntime-qnn on a Qualcomm device"),
)
_MEND_CLASH = "pip uninstall onnxruntime onnxruntime-gpu, then install one of the two."
PROVIDERS = {provider.name: provider for provider in _PROVIDERS}


@dataclass(frozen=True)
class Availability:
    """``why`` and ``do`` are None when it can be used, one sentence each when it cannot."""

    why: str | None = None
    do: str | None = None

    def __bool__(self) -> bool:
        return self.why is None


def provider_named(name: str) -> Provider:
    """The provider of that short name; raise UnknownProvider otherwise."""
    if name not in PROVIDERS:
        raise UnknownProvider(f"There is no provider '{name}'.", f"Choose from {', '.join(PROVIDERS)}.")
    return PROVIDERS[name]


def available(runtime: str, provider: Provider) -> Availability:
    """Whether ``runtime`` (a key of RUNTIMES) can use ``provider`` on this machine. Loads the backend to ask it."""
    if runtime == "ort":
        return _ort_available(provider)
    if importlib.util.find_spec("torch") is None:
        return Availability("PyTorch is not installed.", "pip install torch")
    if provider.torch_device is None:
        return Availability(f"PyTorch has no {provider.name} device.", "Bench the .onnx file there instead.")
    if provider.torch_device == "cuda" and not importlib.import_module("torch").cuda.is_available():
        return Availability(
            "PyTorch sees no CUDA device.",
            "Install a CUDA build of torch, on a machine with NVIDIA's driver.",
        )
    if runtime == "compiled":
        missing = importlib.import_module("runtimes.torch_compiler").why_not(provider.torch_device)
        if missing:
            return Availability(f"torch.compile cannot run here: {missing}.", "Install it.")
    return Availability()


def both_wheels_installed() -> bool:
    """Whether onnxruntime and onnxruntime-gpu lie in one environment, where each overwrites files of the other."""
    names = {(found.metadata["Name"] or "").lower() for found in importlib.metadata.distributions()}
    return {"onnxruntime", "onnxruntime-gpu"} <= names


def _ort_available(provider: Provider) -> Availability:
    if importlib.util.find_spec("onnxruntime") is None:
        return Availability("onnxruntime is not installed.", f"{provider.install}.")
    offered = importlib.import_module("onnxruntime").get_available_providers()
    if provider.ort_name not in offered:
        why = f"This onnxruntime has no {provider.ort_name}; it offers {', '.join(offered)}."
        if both_wheels_installed():
            return Availability(f"{why} onnxruntime and onnxruntime-gpu overwrite each other here.", _MEND_CLASH)
        return Availability(why, f"{provider.install}.")
    return Availability()
