"""What every runtime promises, on every tiny model. One that is not available here is skipped with its reason."""

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from exporters.model_file import ModelFile
from runtimes import ort_device, registry
from runtimes.base import Runtime, TensorSpec, run
from runtimes.errors import BadFeed, BadProviderOption, NotLoadable, ProviderUnavailable, RunFailed
from runtimes.ort import OrtRuntime
from runtimes.ort_session import own_threads
from runtimes.torch_compiled import TorchCompiled
from runtimes.torch_eager import TorchEager
from tests.contract.tiny_models import MODELS
from toolchain.errors import BadUsage
from toolchain.inputs import made_up

Exported = Callable[[str], Path]
PAIRS = [
    (runtime, provider.name)
    for runtime in registry.RUNTIMES
    for provider in registry.PROVIDERS.values()
    if runtime == "ort" or provider.torch_device
]


def build(runtime: str, provider: str, name: str, exported: Exported) -> Runtime:
    known = registry.provider_named(provider)
    there = registry.available(runtime, known)
    if not there:
        pytest.skip(f"{runtime} on {provider}: {there.why}")
    if runtime == "ort":
        return OrtRuntime(exported(name), provider=known.ort_name)
    kind = TorchCompiled if runtime == "compiled" else TorchEager
    spec = TensorSpec("x", "float32", ("batch", *MODELS[name].shape))
    return kind(
        MODELS[name].module(),
        inputs=[spec],
        outputs=[TensorSpec("scores", "float32", ("batch", 5))],
        device=str(known.torch_device),
    )


@pytest.mark.parametrize(("runtime", "provider"), PAIRS)
@pytest.mark.parametrize("name", MODELS)
def test_a_runtime_gives_pytorchs_answers(runtime: str, provider: str, name: str, exported: Exported) -> None:
    if runtime == "compiled" and name != "mlp":
        pytest.skip("compiling one model is proof enough, and takes seconds")
    opened = build(runtime, provider, name, exported)
    opened.open()
    samples = MODELS[name].samples(7)
    with torch.inference_mode():
        expected = MODELS[name].module()(torch.from_numpy(samples["x"])).numpy()
    result: dict[str, Any] = dict(run(opened, samples))
    assert list(result) == ["scores"]
    np.testing.assert_allclose(result["scores"], expected, atol=1e-4 if provider == "cpu" else 1e-2)
    share = opened.placement().share(registry.provider_named(provider).ort_name)
    assert share is None or share > 0
    opened.close()
    opened.close()


@pytest.mark.parametrize(("runtime", "provider"), PAIRS)
def test_a_bound_call_runs_again_and_again(runtime: str, provider: str, exported: Exported) -> None:
    opened = build(runtime, provider, "mlp", exported)
    opened.open()
    call = opened.bind(MODELS["mlp"].samples(3))
    first, second = call()["scores"].copy(), call()["scores"].copy()
    np.testing.assert_array_equal(first, second)
    opened.close()


@pytest.mark.parametrize(("runtime", "provider"), PAIRS)
def test_a_feed_that_does_not_fit_is_refused(runtime: str, provider: str, exported: Exported) -> None:
    opened = build(runtime, provider, "mlp", exported)
    opened.open()
    for feeds in ({}, {"y": np.zeros((1, 12), np.float32)}, {"x": np.zeros((1, 13), np.float32)}):
        with pytest.raises(BadFeed):
            opened.bind(feeds)
    with pytest.raises(BadFeed, match="float64"):
        opened.bind({"x": np.zeros((1, 12))})
    opened.close()


@pytest.mark.parametrize(("runtime", "provider"), PAIRS)
def test_timed_calls_answer_side_by_side(runtime: str, provider: str, exported: Exported) -> None:
    """Three streams of one runtime, each a call of its own in a thread of its own."""
    opened = build(runtime, provider, "mlp", exported)
    opened.open()
    feeds = [MODELS["mlp"].samples(3, seed) for seed in range(3)]
    calls = [opened.timed(feed, copies=True) for feed in feeds]
    calls[0]()  # what is compiled, is compiled for all
    with ThreadPoolExecutor(3) as pool:
        streams = [pool.submit(lambda call: [call() for _ in range(20)], call) for call in calls]
    for feed, stream in zip(feeds, streams, strict=True):
        with torch.inference_mode():
            expected = MODELS["mlp"].module()(torch.from_numpy(feed["x"])).numpy()
        for answer in stream.result():
            first: Any = answer[0] if isinstance(answer, list) else answer
            np.testing.assert_allclose(first, expected, atol=1e-4 if provider == "cpu" else 1e-2)
    opened.close()


@pytest.mark.parametrize(("runtime", "provider"), [pair for pair in PAIRS if pair[0] != "compiled"])
def test_a_timed_call_without_copies_runs_and_checks_its_feeds(runtime: str, provider: str, exported: Exported) -> None:
    opened = build(runtime, provider, "mlp", exported)
    opened.open()
    call = opened.timed(MODELS["mlp"].samples(3), copies=False)
    call()
    call()
    with pytest.raises(BadFeed, match="float64"):
        opened.timed({"x": np.zeros((1, 12))}, copies=False)
    held = opened.device_memory_bytes()
    assert held is None if provider == "cpu" else held is None or held > 0
    opened.close()


@pytest.mark.parametrize(("runtime", "provider"), [pair for pair in PAIRS if pair[0] != "compiled"])
def test_a_runtime_names_its_version(runtime: str, provider: str, exported: Exported) -> None:
    opened = build(runtime, provider, "mlp", exported)
    opened.open()
    facts = opened.facts()
    version = onnxruntime.__version__ if runtime == "ort" else torch.__version__
    assert facts["onnxruntime" if runtime == "ort" else "torch"] == version
    assert "placement" not in facts
    if provider == "cuda":
        assert {"tf32", "cuda graphs", "device"} <= set(facts)
    opened.close()


@pytest.mark.parametrize("copies", [True, False])
def test_values_keep_their_place_on_the_device(copies: bool, exported: Exported) -> None:
    """With the processor as the device: what is bound, moved and fenced is the same on another."""
    path, feeds = exported("mlp"), MODELS["mlp"].samples(3)
    plain = OrtRuntime(path)
    plain.open()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    call = ort_device.bound(session, feeds, device="cpu", device_id=0, copies=copies)
    answers = [call() for _ in range(3)]
    if not copies:
        assert answers == [None] * 3
        return
    for answer in answers:
        assert isinstance(answer, list)
        np.testing.assert_array_equal(answer[0], run(plain, feeds)["scores"])
    np.add(feeds["x"], 1, out=feeds["x"])  # inputs are read anew in every call
    moved = call()
    assert isinstance(moved, list)
    np.testing.assert_array_equal(moved[0], run(plain, feeds)["scores"])


@pytest.mark.parametrize("options", [{"enable_cuda_graph": "1"}, {"trt_cuda_graph_enable": "True"}])
def test_cuda_graphs_are_seen_in_either_spelling(options: dict[str, str]) -> None:
    assert ort_device.uses_graphs(options)
    assert not ort_device.uses_graphs(dict.fromkeys(options, "0"))


def test_options_that_the_cpu_would_ignore_are_refused(exported: Exported) -> None:
    with pytest.raises(BadProviderOption, match="takes no options, given were device_id=1"):
        OrtRuntime(exported("mlp"), options=(("device_id", "1"),)).open()


@pytest.mark.parametrize("provider", ["openvino", "xnnpack"])
def test_a_row_has_the_threads_of_its_label(provider: str, exported: Exported) -> None:
    name = {"openvino": "num_of_threads", "xnnpack": "intra_op_num_threads"}[provider]
    known = registry.PROVIDERS[provider]
    with pytest.raises(BadProviderOption, match=f"{name}=2 contradicts the number of threads asked for, 1"):
        OrtRuntime(exported("mlp"), provider=known.ort_name, options=((name, "2"),)).open()
    if not registry.available("ort", known):
        return
    OrtRuntime(exported("mlp"), provider=known.ort_name, options=((name, "1"),)).open()
    if provider == "openvino":
        config = ("load_config", '{"CPU": {"INFERENCE_NUM_THREADS": "2"}}')
        opened = OrtRuntime(exported("mlp"), provider=known.ort_name, options=(config,))
        opened.open()
        assert opened.facts()["threads"] == "as load_config says"


def test_only_a_file_of_settings_says_the_threads_itself() -> None:
    config = (("load_config", "{}"),)
    assert own_threads("OpenVINOExecutionProvider", config) == "as load_config says"
    assert own_threads("OpenVINOExecutionProvider", (("device_type", "CPU"),)) is None
    assert own_threads("CUDAExecutionProvider", config) is None


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_what_is_no_model_is_not_loadable(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(NotLoadable) as caught:
        OrtRuntime(tmp_path / "m.onnx").open()
    assert "onnx.checker" in caught.value.do


class Returns(torch.nn.Module):
    """Returns what ``make`` makes of its input."""

    def __init__(self, make: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> object:
        return self.make(x)


def eager(make: Callable[[torch.Tensor], object]) -> TorchEager:
    opened = TorchEager(
        Returns(make),
        inputs=[TensorSpec("x", "int64", ("batch",))],
        outputs=[TensorSpec("y", "float32", ("batch",))],
    )
    opened.open()
    return opened


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda x: torch.nn.functional.embedding(x, torch.ones(2, 2)), "index out of range"),
        (lambda x: x.nowhere, "nowhere"),
        (lambda x: (x, x), "returns 2 tensors, its outputs are named y"),
        (lambda x: {"y": x, "z": "word"}, "returns a str"),
        (lambda x: {"y": x, "z": [x, x]}, "returns 3 tensors, its outputs are named y"),
        (lambda x: None, "returns a NoneType"),
    ],
)
def test_what_a_module_does_wrong_is_a_run_that_failed(make: Callable[[torch.Tensor], object], reason: str) -> None:
    with pytest.raises(RunFailed, match=reason):
        run(eager(make), {"x": np.array([7])})


@pytest.mark.parametrize("make", [lambda x: {"y": x}, lambda x: (x, None), lambda x: [(x,)]])
def test_outputs_may_lie_in_dicts_and_lists(make: Callable[[torch.Tensor], object]) -> None:
    assert run(eager(make), {"x": np.array([7])})["y"].tolist() == [7]


def test_what_numpy_has_not_becomes_float32() -> None:
    answer = run(eager(lambda x: x.to(torch.bfloat16)), {"x": np.array([7])})["y"]
    assert answer.dtype == np.float32
    assert answer.tolist() == [7.0]


def test_a_closed_runtime_lets_go_of_its_module() -> None:
    opened = eager(lambda x: x)
    module = weakref.ref(opened._opened())
    opened.close()
    gc.collect()
    assert module() is None


@pytest.mark.parametrize(("kind", "dtype"), [("BFLOAT16", "bfloat16"), ("STRING", "string")])
def test_a_model_that_takes_what_nnx_cannot_feed_says_so(kind: str, dtype: str, tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, getattr(TensorProto, kind), [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    opened = OrtRuntime(tmp_path / "m.onnx")
    opened.open()
    with pytest.raises(BadFeed, match=dtype):
        opened.bind({"x": np.zeros(2, np.float32)})
    if kind == "STRING":  # texts can be made up, and fed
        assert made_up.samples_for(ModelFile(tmp_path / "m.onnx"), 2).inputs["x"][0].dtype.kind in "OU"
        return
    with pytest.raises(BadUsage, match=rf"'x' is tensor\({dtype}\), which nnx cannot feed"):
        made_up.samples_for(ModelFile(tmp_path / "m.onnx"), 2)


@pytest.mark.parametrize(
    ("device", "option"),
    [("cpu", ("use_tf32", "0")), ("cuda", ("use_tf32", "no")), ("cuda", ("device_id", "x")), ("cuda", ("arena", "1"))],
)
def test_options_that_pytorch_would_ignore_are_refused(device: str, option: tuple[str, str]) -> None:
    module = TorchEager(MODELS["mlp"].module(), inputs=[], outputs=[], device=device, options=(option,))
    with pytest.raises(BadProviderOption, match=f"{option[0]}={option[1]}"):
        module.open()


def test_a_provider_that_is_not_here_is_refused_before_a_session_falls_back(exported: Exported) -> None:
    with pytest.raises(ProviderUnavailable, match="has no RknpuExecutionProvider"):
        OrtRuntime(exported("mlp"), provider="RknpuExecutionProvider").open()


@pytest.mark.gpu
@pytest.mark.parametrize("copies", [True, False])
def test_cuda_graphs_answer_and_keep_to_one_stream(copies: bool, exported: Exported) -> None:
    cuda = registry.PROVIDERS["cuda"]
    if not (there := registry.available("ort", cuda)):
        pytest.skip(f"ort on cuda: {there.why}")
    graphs = (("enable_cuda_graph", "1"), ("use_tf32", "0"))
    opened = OrtRuntime(exported("mlp"), provider=cuda.ort_name, options=graphs)
    opened.open()
    assert (opened.facts()["cuda graphs"], opened.facts()["tf32"]) == ("on", "off")
    feeds = MODELS["mlp"].samples(3)
    call = opened.timed(feeds, copies=copies)
    answers = [call() for _ in range(4)]
    with pytest.raises(BadProviderOption, match="one stream"):
        opened.timed(feeds, copies=copies)
    expected: Any = run(opened, feeds)["scores"]
    for answer in answers:
        if isinstance(answer, list):
            np.testing.assert_allclose(answer[0], expected, atol=1e-5)
    opened.close()
