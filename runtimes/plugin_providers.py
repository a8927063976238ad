"""Execution providers that come as packages of their own, beside the plain onnxruntime.

Such a package is a shared library with two functions in front of it, ``get_library_path`` and ``get_ep_name``. Once it
is registered, onnxruntime lists the devices that it can use; asked for by name without one, it falls back in silence.
"""

import functools
import importlib
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as pybind

from runtimes.errors import BadProviderOption, ProviderUnavailable

_CHOICES = {"device_type", "device_id"}
"""Options that choose among the devices; the rest are the provider's own."""
_registered: set[str] = set()


def built_in() -> list[str]:
    """The providers that onnxruntime offers by itself; a registered package joins ``get_available_providers()``."""
    return [name for name in onnxruntime.get_available_providers() if name not in _registered]


def devices(ort_name: str, plugin: str) -> list[Any]:
    """Register the library of the module ``plugin`` and list the devices (OrtEpDevice) that it can use here.

    Raises ProviderUnavailable when the library does not load.
    """
    _register(ort_name, plugin)
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == ort_name]


def why_not(ort_name: str, plugin: str) -> tuple[str, str] | None:
    """What happened and what to do, one sentence each; None when a device is there."""
    try:
        if devices(ort_name, plugin):
            return None
    except ProviderUnavailable as error:
        return error.what, error.do
    return (
        f"{package(plugin)} finds no device here that it can use.",
        "Run it on a machine with one, or install a build of onnxruntime that has the provider inside in an "
        "environment of its own, and name its interpreter with --python.",
    )


def package(plugin: str) -> str:
    """The package's name and version."""
    name = plugin.replace("_", "-")
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:  # a package of another name, such as one for each CUDA, has it
        return name


def choose(found: Sequence[Any], options: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """One of ``found``, and the options that are left.

    The option ``device_type`` (CPU, GPU, NPU) chooses, and ``device_id``, a number among those of that type. Raises
    BadProviderOption when there is none such.
    """
    wanted, number = options.get("device_type"), options.get("device_id", "0")
    fitting = [device for device in found if wanted in (None, device.device.type.name)]
    if not number.isdecimal() or int(number) >= len(fitting):
        there = ", ".join(device.device.type.name for device in found)
        raise BadProviderOption(
            f"There is no device {wanted or ''} {number}".replace("  ", " ") + f"; there are: {there}.",
            "Choose with device_type (CPU, GPU, NPU) and device_id, counted from 0 among those.",
        )
    return fitting[int(number)], {name: value for name, value in options.items() if name not in _CHOICES}


@functools.cache
def _register(ort_name: str, plugin: str) -> None:
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise ProviderUnavailable(
            f"onnxruntime {onnxruntime.__version__} takes no providers from other packages.", "Update onnxruntime."
        )
    try:
        library = importlib.import_module(plugin).get_library_path()
        # QNN's library takes this very name for its provider, the others have one of their own
        onnxruntime.register_execution_provider_library(ort_name, library)
    except (ImportError, OSError, RuntimeError, pybind.Fail) as error:
        reason = str(error).rpartition(" : ")[2].strip().partition("\n")[0].rstrip(".")
        raise ProviderUnavailable(
            f"{package(plugin)} does not load: {reason}.", "Install what it wants, such as the device's driver."
        ) from error
    _registered.add(ort_name)
