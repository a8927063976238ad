import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis.strategies as st
import onnxruntime
import pytest
from hypothesis import given
from onnxruntime import OrtHardwareDeviceType

from runtimes import nvidia_device, ort_device, plugin_providers, registry
from runtimes.base import TensorSpec, check_feeds
from runtimes.errors import BadFeed, BadProviderOption, ProviderUnavailable, UnknownProvider, shortened
from runtimes.ort_session import reason_of

NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
VALUES = st.from_regex(r"[a-z0-9:/{}\". ]*[a-z0-9](,[A-Z0-9]+)*", fullmatch=True)
WEBGPU = registry.PROVIDERS["webgpu"]


def test_an_unknown_provider_lists_the_known() -> None:
    with pytest.raises(UnknownProvider) as caught:
        registry.provider_named("gpu")
    assert "cuda" in caught.value.do


@pytest.mark.parametrize("ort_name", onnxruntime.get_all_providers())
def test_every_provider_of_onnxruntime_has_a_short_name(ort_name: str) -> None:
    name = ort_name.removesuffix("ExecutionProvider").lower()
    assert registry.provider_named(name).ort_name == ort_name
    assert registry.provider_of(ort_name).name == registry.short_name(ort_name) == registry.short_name(name) == name


def test_neither_the_names_nor_the_runtimes_need_more_than_numpy_and_onnxruntime() -> None:
    script = (
        "import sys; from runtimes import registry; registry.parse_provider('cuda:device_id=0'); "
        "assert 'onnxruntime' not in sys.modules; "
        "sys.modules.update(dict.fromkeys(['torch', 'onnx', 'click', 'rich'])); import runtimes.ort"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(registry.__file__).parents[1], check=True)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_options_are_read_as_they_are_written(options: dict[str, str]) -> None:
    text = ",".join(f"{name}={value}" for name, value in options.items())
    expected = (registry.PROVIDERS["cuda"], tuple(options.items()))
    assert registry.parse_provider(f"cuda:{text}" if options else "cuda") == expected


def test_a_value_keeps_its_commas_and_colons() -> None:
    config = 'load_config={"CPU": {"A": "1", "B": "2"}}'
    _, options = registry.parse_provider(f"openvino:device_type=HETERO:GPU,CPU,{config}")
    assert options == (("device_type", "HETERO:GPU,CPU"), ("load_config", '{"CPU": {"A": "1", "B": "2"}}'))


@pytest.mark.parametrize(
    "text",
    ["cuda:", "cuda:x", "cuda:=1", "cuda:x=", "cuda:x=1,", "cuda:,x=1", "cuda:x=1,x=2", "cuda:a b=1", "cuda:x= ,y=1"],
)
def test_options_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(BadProviderOption, match="cuda"):
        registry.parse_provider(text)


def test_options_of_an_unknown_provider_are_not_looked_at() -> None:
    with pytest.raises(UnknownProvider, match="'gpu'"):
        registry.parse_provider("gpu:x")


@dataclass
class Hardware:
    type: OrtHardwareDeviceType


@dataclass
class Device:
    """As onnxruntime's OrtEpDevice, which only a provider's library can make."""

    ep_name: str
    device: Hardware


CPU, GPU, SECOND = (
    Device(WEBGPU.ort_name, Hardware(getattr(OrtHardwareDeviceType, kind))) for kind in ("CPU", "GPU", "GPU")
)


@pytest.mark.parametrize(
    ("options", "chosen"),
    [({}, CPU), ({"device_type": "GPU"}, GPU), ({"device_type": "GPU", "device_id": "1"}, SECOND)],
)
def test_options_choose_a_plugs_device(options: dict[str, str], chosen: Device) -> None:
    device, rest = plugin_providers.choose([CPU, GPU, SECOND], {**options, "precision": "FP16"})
    assert device is chosen
    assert rest == {"precision": "FP16"}


@pytest.mark.parametrize(
    "options",
    [{"device_type": "NPU"}, {"device_id": "3"}, {"device_id": "x"}, {"device_type": "CPU", "device_id": "1"}],
)
def test_a_device_that_is_not_there_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(BadProviderOption, match="there are: CPU, GPU, GPU"):
        plugin_providers.choose([CPU, GPU, SECOND], options)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package like onnxruntime-ep-webgpu, whose library is no library."""
    if WEBGPU.ort_name in plugin_providers.built_in() or importlib.util.find_spec(str(WEBGPU.plugin)):
        pytest.skip("the real one is installed")
    library = tmp_path / "libprovider.so"
    library.write_bytes(b"")
    (tmp_path / f"{WEBGPU.plugin}.py").write_text(f"def get_library_path():\n    return {str(library)!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield library
    sys.modules.pop(str(WEBGPU.plugin), None)


def test_a_plug_whose_library_does_not_load_says_why(plugin: Path) -> None:
    found = registry.available("ort", WEBGPU)
    assert "onnxruntime-ep-webgpu does not load: Failed to load library" in (found.why or "")
    assert str(plugin) in (found.why or "")
    assert found.do


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("devices", "usable"), [([CPU], True), ([], False)])
def test_a_plug_is_available_when_it_has_a_device(
    devices: list[Device], usable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda name, path: None)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices)
    monkeypatch.setattr(plugin_providers, "_registered", set())
    plugin_providers._register.cache_clear()
    found = registry.available("ort", WEBGPU)
    plugin_providers._register.cache_clear()
    assert bool(found) == usable
    assert usable or "finds no device here" in (found.why or "")


@pytest.mark.parametrize(
    ("provider", "options", "device"),
    [
        ("cpu", (), None),
        ("openvino", (), None),
        ("cuda", (("device_id", "1"),), "cuda"),
        ("tensorrt", (), "cuda"),
        ("dml", (), "dml"),
    ],
)
def test_values_lie_where_the_provider_computes(provider: str, options: registry.Options, device: str | None) -> None:
    assert ort_device.device_of(registry.PROVIDERS[provider].ort_name, options) == device


@pytest.mark.parametrize(("provider", "options"), [("coreml", ()), ("openvino", (("device_type", "GPU"),))])
def test_copies_that_cannot_be_left_out_are_said_to_be_so(provider: str, options: registry.Options) -> None:
    with pytest.raises(ProviderUnavailable, match="Nothing can stay"):
        ort_device.device_of(registry.PROVIDERS[provider].ort_name, options)


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knows three devices, and this process."""
    script = tmp_path / "nvidia-smi"
    script.write_text(
        '#!/bin/sh\ncase "$*" in *compute-apps*) echo "1$PPID, 7"; echo "$PPID, 300"; echo "$PPID, [N/A]";; '
        '*) cat <"$0.names";; esac\n'
    )
    script.chmod(0o755)
    (tmp_path / "nvidia-smi.names").write_text("L4\nH200\nT4\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nvidia_smi")
def test_the_driver_tells_this_processs_memory() -> None:
    assert nvidia_device.memory_bytes() == 300 * 2**20


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("order", "visible", "names"),
    [
        (None, None, (None, None, None)),  # the fastest first, which might be any
        ("FASTEST_FIRST", "1", (None, None, None)),
        ("PCI_BUS_ID", None, ("L4", "H200", "T4")),
        ("PCI_BUS_ID", "2, 0", ("T4", "L4", None)),
        ("PCI_BUS_ID", "GPU-5f3c", (None, None, None)),
        ("PCI_BUS_ID", "7", (None, None, None)),
        ("PCI_BUS_ID", "", (None, None, None)),
    ],
)
def test_a_device_is_named_where_it_is_sure_which_one_it_is(
    order: str | None, visible: str | None, names: tuple[str | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CUDA_DEVICE_ORDER", order), ("CUDA_VISIBLE_DEVICES", visible)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert tuple(map(nvidia_device.name, range(3))) == names


@pytest.mark.usefixtures("nvidia_smi")
def test_devices_that_are_all_alike_need_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi.names").write_text("H200\n" * 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5f3c,5")
    assert nvidia_device.name(1) == "H200"


def test_without_a_driver_nobody_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_device.name(0) is None
    assert nvidia_device.memory_bytes() is None


@pytest.mark.parametrize("provider", registry.PROVIDERS.values(), ids=lambda provider: provider.name)
@pytest.mark.parametrize("runtime", registry.RUNTIMES)
def test_availability_is_yes_or_says_why_and_what_to_do(runtime: str, provider: registry.Provider) -> None:
    found = registry.available(runtime, provider)
    assert found or (found.why and found.do)


@pytest.mark.parametrize("runtime", ["eager", "ort"])
def test_cpu_is_available_everywhere(runtime: str) -> None:
    if runtime == "eager":
        pytest.importorskip("torch", reason="needs PyTorch, which is not installed")
    assert registry.available(runtime, registry.PROVIDERS["cpu"])


def test_two_wheels_in_one_folder_are_named_as_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, files in (
        ("onnxruntime-gpu", "onnxruntime/__init__.py,,"),
        ("onnxruntime-openvino", "onnxruntime/__init__.py,,"),
        ("onnxruntime-qnn", "onnxruntime_qnn/__init__.py,,"),
    ):
        folder = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (folder / "RECORD").write_text(files)
        module = tmp_path / files.removesuffix(
            ",,"
        )  # from Python 3.12 on, what RECORD lists and is not there is left out
        module.parent.mkdir(exist_ok=True)
        module.touch()
    here = [*importlib.metadata.distributions(path=[str(tmp_path)])]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: here)
    assert registry.wheels() == {"onnxruntime-gpu": "1.2", "onnxruntime-openvino": "1.2"}
    found = registry.available("ort", registry.PROVIDERS["rocm"])
    assert "onnxruntime-gpu and onnxruntime-openvino overwrite each other" in (found.why or "")
    assert found.do == "pip uninstall onnxruntime-gpu onnxruntime-openvino, then install one of them."


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({"y": "float32(2,3)"}, "takes the inputs"),
        ({}, "takes the inputs"),
        ({"x": "float64(2,3)"}, r"float64\[2, 3\], the model wants float32\[batch, 3\]"),
        ({"x": "float32(2,4)"}, r"float32\[2, 4\]"),
        ({"x": "float32(2,)"}, r"float32\[2\]"),
    ],
)
def test_a_feed_that_does_not_fit_is_described(feed: dict[str, str], message: str) -> None:
    import numpy as np

    arrays = {}
    for name, text in feed.items():
        dtype, _, shape = text.partition("(")
        arrays[name] = np.zeros([int(length) for length in shape.strip("),").split(",")], dtype)
    with pytest.raises(BadFeed, match=message):
        check_feeds([TensorSpec("x", "float32", ("batch", 3))], arrays)


@pytest.mark.parametrize("dtype", ["tensor(bfloat16)", "tensor(string)", "seq(tensor(float))"])
def test_a_type_that_numpy_has_not_is_refused_with_a_way_out(dtype: str) -> None:
    import numpy as np

    with pytest.raises(BadFeed, match=re.escape(f"float32[2], the model wants {dtype}[batch].")) as caught:
        check_feeds([TensorSpec("x", dtype, ("batch",))], {"x": np.zeros(2, np.float32)})
    assert caught.value.do == "Let the model take float32, and cast inside it."


PLACE = "/onnxruntime_src/onnxruntime/core/text/string_normalizer.cc:235 "


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : No graph was found.", "No graph was found"),
        (f"[ONNXRuntimeError] : 1 : FAIL : {PLACE}void ns::F(const std::string&) const No locale.", "No locale"),
        (
            f"[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: {PLACE}"
            "ns::Locale::Locale(const std::string&)::<lambda()> No locale: x",
            "Exception during initialization: No locale: x",
        ),
        (f"{PLACE.replace('.cc', '.cuh')}bool ns::C(T) [with T = int; bool B = true] CUDA failure", "CUDA failure"),
        (f"{'word ' * 80}", " ".join(["word"] * 60)),
    ],
)
def test_a_reason_has_no_places_of_onnxruntimes_source_and_ends_with_a_word(said: str, reason: str) -> None:
    assert reason_of(RuntimeError(said)) == reason


@given(st.lists(st.text("ab", min_size=1, max_size=9)))
def test_a_reason_is_cut_between_words(words: list[str]) -> None:
    cut = shortened(" ".join(words), 10)
    assert len(cut) <= 10
    assert cut.split() == words[: len(cut.split())]
    assert bool(cut) == bool(words)
