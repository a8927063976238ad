"""Session settings: kept in the file, obeyed by the session, printed as code."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from onnx import TensorProto, helper, numpy_helper

from exporters import onnx_file, provenance
from exporters.model_file import ModelFile
from runtimes.base import run
from runtimes.errors import NotLoadable
from runtimes.model_metadata import metadata_of
from runtimes.ort import OrtRuntime
from runtimes.session_settings import KEY, LEVELS, MODES, OPTIMIZERS, SessionSettings, code, stored_in

SIZE = 16
NO_SKIP = SessionSettings(disabled_optimizers=("SkipLayerNormFusion",))
BASIC = SessionSettings(graph_level="basic", memory_pattern=False, spinning=False)
PARALLEL = SessionSettings(graph_level="disabled", execution_mode="parallel", spinning=False)
settings = st.builds(
    SessionSettings,
    graph_level=st.sampled_from(sorted(LEVELS)),
    disabled_optimizers=st.lists(st.sampled_from(OPTIMIZERS), unique=True).map(tuple),
    memory_pattern=st.booleans(),
    spinning=st.booleans(),
    execution_mode=st.sampled_from(sorted(MODES)),
)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """x + bias -> layer norm: what SkipLayerNormFusion makes one node of."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Add", ["h", "x"], ["sum"], "residual"),
        helper.make_node("LayerNormalization", ["sum", "scale", "bias"], ["y"], "norm"),
    ]
    shapes = {"w": (SIZE, SIZE), "scale": (SIZE,), "bias": (SIZE,)}
    weights = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4, SIZE]) for name in "xy")
    graph = helper.make_graph(nodes, "encoder", [x], [y], weights)
    path = tmp_path / "encoder.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx_file.save(model, path)
    return path


def store(path: Path, text: str) -> None:
    model = ModelFile(path).proto
    provenance.write(model, {"session_settings": text})
    onnx_file.save(model, path)


@pytest.fixture
def optimized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The operators of the graph that the last session really ran, which onnxruntime writes when asked to."""
    written = tmp_path / "optimized.onnx"

    class Writing(onnxruntime.SessionOptions):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.optimized_model_filepath = str(written)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Writing)
    return lambda: [node.op_type for node in onnx.load(written).graph.node]


@given(settings)
def test_json_gives_the_same_settings_back(chosen: SessionSettings) -> None:
    assert SessionSettings.from_json(chosen.to_json()) == chosen


def test_fields_that_are_missing_are_at_their_defaults() -> None:
    assert SessionSettings.from_json("{}") == SessionSettings()
    before_there_were_modes = '{"graph_level": "basic", "memory_pattern": false, "spinning": false}'
    assert SessionSettings.from_json(before_there_were_modes) == BASIC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"graph_level": "most"}',
        '{"graph_level": []}',
        '{"disabled_optimizers": "SkipLayerNormFusion"}',
        '{"disabled_optimizers": [1]}',
        '{"disabled_optimizers": ["NoSuchFusion"]}',
        '{"spinning": 1}',
        '{"execution_mode": "both"}',
        '{"execution_mode": ["parallel"]}',
        '{"from_the_future": true}',
    ],
)
def test_what_is_not_known_is_refused_in_one_sentence(text: str, encoder: Path) -> None:
    with pytest.raises(NotLoadable):
        SessionSettings.from_json(text)
    store(encoder, text)
    with pytest.raises(NotLoadable, match=r"encoder\.onnx") as caught:
        OrtRuntime(encoder).open()
    assert "\n" not in caught.value.what + caught.value.do


def test_every_optimizer_that_can_be_named_is_one_of_onnxruntimes(encoder: Path) -> None:
    """Its verbose log names each; it would ignore another name in silence."""
    script = (
        "import onnxruntime, sys; options = onnxruntime.SessionOptions(); options.log_severity_level = 0; "
        "onnxruntime.InferenceSession(sys.argv[1], options, providers=['CPUExecutionProvider'])"
    )
    told = subprocess.run([sys.executable, "-c", script, str(encoder)], capture_output=True, text=True, check=True)
    missing = [name for name in OPTIMIZERS if f"GraphTransformer {name} modified" not in told.stderr]
    assert missing == []


@pytest.mark.parametrize("where", ["given", "stored", "neither", "given over stored"])
def test_a_session_disables_what_it_is_told_to(where: str, encoder: Path, optimized: Callable[[], list[str]]) -> None:
    if where == "stored":
        store(encoder, NO_SKIP.to_json())
    if where == "given over stored":
        store(encoder, SessionSettings().to_json())
    OrtRuntime(encoder, settings=NO_SKIP if where.startswith("given") else None).open()
    fused = "SkipLayerNormalization" in optimized()
    assert fused == (where == "neither")


def test_every_setting_reaches_the_session(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[onnxruntime.SessionOptions] = []

    class Seen(onnxruntime.SessionOptions):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            seen.append(self)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Seen)
    OrtRuntime(encoder, settings=BASIC).open()
    assert seen[0].graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert not seen[0].enable_mem_pattern
    assert seen[0].get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert (seen[0].execution_mode, seen[0].inter_op_num_threads) == (onnxruntime.ExecutionMode.ORT_SEQUENTIAL, 1)
    OrtRuntime(encoder, settings=PARALLEL, threads=2).open()
    assert seen[1].graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert (seen[1].execution_mode, seen[1].inter_op_num_threads) == (onnxruntime.ExecutionMode.ORT_PARALLEL, 2)
    assert seen[1].get_session_config_entry("session.inter_op.allow_spinning") == "0"


@pytest.mark.parametrize(
    "chosen",
    [SessionSettings(), NO_SKIP, BASIC, PARALLEL],
    ids=["default", "no skip", "basic", "parallel"],
)
def test_the_code_for_a_user_opens_the_same_session(
    chosen: SessionSettings, encoder: Path, optimized: Callable[[], list[str]]
) -> None:
    OrtRuntime(encoder, settings=chosen).open()
    expected = optimized()
    names: dict[str, Any] = {}
    exec(code(chosen, encoder, 1), names)
    assert optimized() == expected
    x = np.random.default_rng(0).normal(size=(2, 4, SIZE)).astype(np.float32)
    runtime = OrtRuntime(encoder, settings=chosen)
    runtime.open()
    np.testing.assert_array_equal(names["session"].run(None, {"x": x})[0], run(runtime, {"x": x})["y"])


def test_the_code_says_no_more_than_it_must() -> None:
    assert code(NO_SKIP, Path("it's.onnx"), 2) == (
        "import onnxruntime\n"
        "\n"
        "options = onnxruntime.SessionOptions()\n"
        "options.intra_op_num_threads = 2\n"
        'session = onnxruntime.InferenceSession("it\'s.onnx", options, providers=["CPUExecutionProvider"], '
        "disabled_optimizers=['SkipLayerNormFusion'])\n"
    )


def test_the_code_sets_all_that_is_not_a_default() -> None:
    assert code(PARALLEL, Path("m.onnx"), 2) == (
        "import onnxruntime\n"
        "\n"
        "options = onnxruntime.SessionOptions()\n"
        "options.intra_op_num_threads = 2\n"
        "options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL\n"
        "options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL\n"
        "options.inter_op_num_threads = 2\n"
        'options.add_session_config_entry("session.intra_op.allow_spinning", "0")\n'
        'options.add_session_config_entry("session.inter_op.allow_spinning", "0")\n'
        "session = onnxruntime.InferenceSession('m.onnx', options, providers=[\"CPUExecutionProvider\"])\n"
    )


@given(st.dictionaries(st.text(max_size=200), st.text(max_size=400), max_size=5), st.integers(0, 2**62))
def test_metadata_is_read_as_onnx_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, str], version: int
) -> None:
    model = onnx.ModelProto(ir_version=10, model_version=version, producer_name="nnx", doc_string="words " * 50)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(300, np.float32), KEY))
    helper.set_model_props(model, entries)
    path = tmp_path_factory.getbasetemp() / "metadata.onnx"
    path.write_bytes(model.SerializeToString())
    assert metadata_of(path) == entries


@given(st.binary(max_size=60))
def test_what_is_no_model_has_no_settings_and_does_no_harm(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.onnx"
    path.write_bytes(content)
    assert stored_in(path) is None


def test_a_file_that_is_no_model_has_no_settings(tmp_path: Path) -> None:
    assert stored_in(tmp_path / "absent.onnx") is None
    assert stored_in(tmp_path) is None
