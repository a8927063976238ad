"""Runs of an ONNX Runtime session whose inputs and outputs have a fixed place on a device."""

from collections.abc import Callable, Mapping
from itertools import count

import numpy as np
import numpy.typing as npt
import onnxruntime

from runtimes.errors import ProviderUnavailable
from runtimes.registry import Options

_DEVICES = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "NvTensorRTRTXExecutionProvider": "cuda",
    "CANNExecutionProvider": "cann",
    "DmlExecutionProvider": "dml",
}
"""Providers on whose device Python can put a value, and onnxruntime's name of the device."""
_ON_HOST = {
    "CPUExecutionProvider",
    "OpenVINOExecutionProvider",
    "XnnpackExecutionProvider",
    "DnnlExecutionProvider",
    "ACLExecutionProvider",
}
"""Providers that compute in the host's memory: there are no copies to leave out."""
_GRAPHS = ("enable_cuda_graph", "trt_cuda_graph_enable")
_GRAPH_ID, NO_GRAPH = "gpu_graph_id", "-1"
_ids = count()


def device_of(provider: str, options: Options) -> str | None:
    """onnxruntime's name of the device on which the provider's values can lie, None where that is the host's memory.

    Raises ProviderUnavailable where they lie on a device that Python cannot reach.
    """
    elsewhere = dict(options).get("device_type", "CPU") != "CPU"  # OpenVINO's GPU and NPU
    if provider in _ON_HOST and not elsewhere:
        return None
    if provider in _DEVICES:
        return _DEVICES[provider]
    raise ProviderUnavailable(
        f"Nothing can stay on the device of {provider} between two runs.", "Bench it with the copies included."
    )


def uses_graphs(options: Mapping[str, str]) -> bool:
    """Whether these options of a provider turn CUDA graphs on."""
    return any(options.get(name, "0").lower() in ("1", "true") for name in _GRAPHS)


def run_options(graph: str) -> onnxruntime.RunOptions:
    """Under CUDA graphs a run captures or replays the graph of that number; NO_GRAPH does neither."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(_GRAPH_ID, graph)
    return options


def bound(
    session: onnxruntime.InferenceSession,
    feeds: Mapping[str, npt.NDArray[np.generic]],
    *,
    device: str,
    device_id: int,
    copies: bool,
) -> Callable[[], object]:
    """A call that runs ``session`` on ``feeds``, which lie on the device, and returns when the device is done.

    ``copies`` brings ``feeds`` there in every call and gives the outputs back as a list of host arrays. The first run
    places the outputs, and later ones write to the same addresses, which a CUDA graph has to find again; so no two
    threads may share the call.
    """
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array, device, device_id) for name, array in feeds.items()}
    moved = [(values[name], array) for name, array in feeds.items()]
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name, device, device_id)
    # an own number for each call: a graph replays the addresses that it was captured with
    options = run_options(str(next(_ids)))
    run, fence, fetch = session.run_with_iobinding, binding.synchronize_outputs, binding.copy_outputs_to_cpu

    def stay() -> None:
        run(binding, options)
        fence()

    def travel() -> object:
        for value, array in moved:
            value.update_inplace(array)
        run(binding, options)
        return fetch()

    return travel if copies else stay
