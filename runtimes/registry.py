"""What can run a model here: the runtimes by name, the execution providers, and why one is not available."""

import importlib
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass

from runtimes.errors import BadProviderOption, UnknownProvider

RUNTIMES = {"eager": "runtimes.torch_eager", "compiled": "runtimes.torch_compiled", "ort": "runtimes.ort"}
"""Row name -> module; a module is imported only when its runtime is opened."""
Options = tuple[tuple[str, str], ...]
"""A provider's own options, as (name, value)."""


@dataclass(frozen=True)
class Provider:
    """An execution provider: its short name, onnxruntime's name, PyTorch's device (None: PyTorch has none for it), how
    to install it, and the module that brings it to a plain onnxruntime (None: it has to be built in)."""

    name: str
    ort_name: str
    torch_device: str | None
    install: str
    plugin: str | None = None


_GPU = "pip uninstall onnxruntime && pip install 'nnx-toolchain[gpu]'"
_OWN_BUILD = "build onnxruntime from source with it; there is no package"
_PROVIDERS = (
    Provider("cpu", "CPUExecutionProvider", "cpu", "pip install 'nnx-toolchain[cpu]'"),
    Provider("cuda", "CUDAExecutionProvider", "cuda", f"{_GPU}, with NVIDIA's driver"),
    Provider("tensorrt", "TensorrtExecutionProvider", None, f"{_GPU} tensorrt"),
    Provider(
        "nvtensorrtrtx",
        "NvTensorRTRTXExecutionProvider",
        None,
        "pip install onnxruntime-ep-nv-tensorrt-rtx beside onnxruntime, with NVIDIA's driver",
        "onnxruntime_ep_nv_tensorrt_rtx",
    ),
    Provider(
        "openvino",
        "OpenVINOExecutionProvider",
        None,
        "pip install onnxruntime-openvino in an environment of its own, and name its interpreter with --python; "
        "on Intel's processors onnxruntime-ep-openvino beside onnxruntime will do",
        "onnxruntime_ep_openvino",
    ),
    Provider("dml", "DmlExecutionProvider", None, "pip install onnxruntime-directml on Windows, without onnxruntime"),
    Provider("coreml", "CoreMLExecutionProvider", None, "pip install onnxruntime on macOS"),
    Provider(
        "qnn", "QNNExecutionProvider", None, "pip install onnxruntime-qnn beside onnxruntime, on a Qualcomm device",
        "onnxruntime_qnn",
    ),
    Provider(
        "webgpu", "WebGpuExecutionProvider", None, "pip install onnxruntime-ep-webgpu beside onnxruntime",
        "onnxruntime_ep_webgpu",
    ),
    Provider("migraphx", "MIGraphXExecutionProvider", None, "pip install onnxruntime-migraphx in place of onnxruntime"),
    # "cuda" is what a ROCm build of PyTorch calls its device, but on NVIDIA's build it would be another machine's
    Provider("rocm", "ROCMExecutionProvider", None, "pip install onnxruntime-rocm in place of onnxruntime"),
    Provider("cann", "CANNExecutionProvider", None, "pip install onnxruntime-cann in place of onnxruntime"),
    Provider("vitisai", "VitisAIExecutionProvider", None, "install AMD's Ryzen AI software, which brings onnxruntime"),
    Provider("xnnpack", "XnnpackExecutionProvider", None, _OWN_BUILD),
    Provider("dnnl", "DnnlExecutionProvider", None, _OWN_BUILD),
    Provider("acl", "ACLExecutionProvider", None, _OWN_BUILD),
    Provider("nnapi", "NnapiExecutionProvider", None, "run it on Android"),
    Provider("azure", "AzureExecutionProvider", None, "pip install onnxruntime"),
)  # fmt: skip
PROVIDERS = {provider.name: provider for provider in _PROVIDERS}


@dataclass(frozen=True)
class Availability:
    """``why`` and ``do`` are None when it can be used, one sentence each when it cannot."""

    why: str | None = None
    do: str | None = None

    def __bool__(self) -> bool:
        return self.why is None


def short_name(ort_name: str) -> str:
    """A provider as the command takes it, from onnxruntime's name of it; a short name stays as it is."""
    return ort_name.removesuffix("ExecutionProvider").lower()


def provider_named(name: str) -> Provider:
    """The provider of that short name: one of PROVIDERS, or another that the installed onnxruntime knows.

    Loads onnxruntime for a name that is not in PROVIDERS; raise UnknownProvider when it does not know it either.
    """
    known = PROVIDERS.get(name) or _more_providers().get(name)
    if known is None:
        raise UnknownProvider(f"There is no provider '{name}'.", f"Choose from {', '.join(PROVIDERS)}.")
    return known


def provider_of(ort_name: str) -> Provider:
    """The provider that onnxruntime calls ``ort_name``, in PROVIDERS or not."""
    known = {provider.ort_name: provider for provider in _PROVIDERS}
    return known.get(ort_name) or Provider(short_name(ort_name), ort_name, None, _OWN_BUILD)


def parse_provider(text: str) -> tuple[Provider, Options]:
    """``cuda:device_id=0,use_tf32=0`` -> the provider and its options.

    A comma within a value stays there unless a name and ``=`` follow: ``openvino:device_type=HETERO:GPU,CPU``. Raises
    UnknownProvider, BadProviderOption.
    """
    name, colon, listed = text.partition(":")
    provider = provider_named(name)
    if colon and name == "cpu":
        raise BadProviderOption(f"The CPU provider takes no options, given were {listed}.", "Leave them out.")
    options: dict[str, str] = {}
    for part in re.split(r",(?=\w[\w.]*=)", listed) if colon else ():
        option, _, value = part.partition("=")
        if not re.fullmatch(r"\w[\w.]*", option) or not value.strip(", ") or value.endswith(","):
            raise BadProviderOption(
                f"'{part}' in '{text}' is no option of a provider.", f"Write it as {name}:NAME=VALUE,NAME=VALUE."
            )
        if option in options:
            raise BadProviderOption(f"'{text}' gives {option} twice.", "Give it once.")
        options[option] = value
    return provider, tuple(options.items())


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


def wheels() -> dict[str, str]:
    """The distributions that bring the package onnxruntime, with their versions; two overwrite each other's files.

    They are told by their files, not their names: onnxruntime-qnn was one once and is a plug-in beside it now.
    """
    found = {}
    for each in importlib.metadata.distributions():
        name = (each.metadata["Name"] or "").lower()
        if name.startswith(("onnxruntime", "ort-")):
            files = {file.as_posix() for file in each.files or ()}
            if "onnxruntime/__init__.py" in files:
                found[name] = each.version
    return dict(sorted(found.items()))


def _ort_available(provider: Provider) -> Availability:
    if importlib.util.find_spec("onnxruntime") is None:
        return Availability("onnxruntime is not installed.", f"{provider.install}.")
    plugins = importlib.import_module("runtimes.plugin_providers")
    offered = plugins.built_in()
    if provider.name == "azure":
        return Availability(
            "AzureExecutionProvider asks a service for nodes of its own kind, and runs no others.",
            "Choose another provider.",
        )
    if provider.ort_name in offered:
        return Availability()
    if provider.plugin and importlib.util.find_spec(provider.plugin):
        return Availability(*(plugins.why_not(provider.ort_name, provider.plugin) or ()))
    why = f"This onnxruntime has no {provider.ort_name}; it offers {', '.join(offered)}."
    if len(clashing := wheels()) > 1:
        mend = f"pip uninstall {' '.join(clashing)}, then install one of them."
        return Availability(f"{why} {' and '.join(clashing)} overwrite each other here.", mend)
    return Availability(why, f"{provider.install}.")


def _more_providers() -> dict[str, Provider]:
    if importlib.util.find_spec("onnxruntime") is None:
        return {}
    return {
        short_name(ort_name): provider_of(ort_name)
        for ort_name in importlib.import_module("onnxruntime").get_all_providers()
    }
