"""``timm:NAME``: exported at its own size, refused in a sentence; with the timm that `make zoo-timm` brought."""

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.zoo_timm import environment
from exporters.model_file import ModelFile
from runtimes.base import run
from runtimes.ort import OrtRuntime
from toolchain.cli import nnx
from toolchain.conversion import exporting
from toolchain.conversion.target import Target
from toolchain.errors import BadUsage, NotAvailable
from toolchain.inputs import timm_models
from toolchain.progress import SILENT

FETCHED = Path(__file__).resolve().parents[3] / "build" / "zoo-timm"


@pytest.fixture(scope="module")
def timm() -> Iterator[None]:
    if not (FETCHED / "timm").is_dir() and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not here: make zoo-timm brings it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries below it, while they are imported
        why = environment.bring(FETCHED)
    if why:
        pytest.skip(why)
    yield


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_the_line_that_installs_it_is_said(tmp_path: Path) -> None:
    ended = CliRunner().invoke(nnx, ["export", "timm:resnet18", "-o", str(tmp_path / "m.onnx")])
    assert isinstance(ended.exception, NotAvailable)  # exit code 3
    assert ended.exception.do == "pip install 'nnx-toolchain[timm]'."
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("timm")
def test_a_model_is_exported_at_its_own_size_with_the_arguments_given(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    exporting.export_named(
        "timm:test_resnet", path, arguments={"num_classes": 3, "in_chans": 1}, weights=None, input_specs=(),
        input_data=None, output_names=(), target=Target.of(None, opset=None, ir_version=None), progress=SILENT,
    )  # fmt: skip
    assert [value.shape for value in ModelFile(path).inputs] == [("batch", 1, 160, 160)]
    module = timm_models.made("timm:test_resnet", {"num_classes": 3, "in_chans": 1}).module.eval()
    image = np.random.default_rng(0).standard_normal((3, 1, 160, 160)).astype(np.float32)
    with OrtRuntime(path) as runtime, torch.no_grad():
        (got,) = run(runtime, {"x": image}).values()
        torch.testing.assert_close(torch.tensor(got), module(torch.from_numpy(image)), rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("timm:resnet81", {}, "resnet18"),
        ("timm:resnet18.a9_in1k", {}, "resnet18.a1_in1k"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", {}, "has no model"),
        ("timm:test_resnet", {"pretrained": True}, "--weights"),
        ("timm:test_resnet", {"checkpoint_path": "x.pth"}, "--weights"),
        ("timm:test_resnet", {"widht": 2}, "widht"),
    ],
)
def test_what_timm_does_not_have_or_would_fetch_is_refused(name: str, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(BadUsage) as refused:
        timm_models.made(name, arguments)
    assert said in f"{refused.value.what} {refused.value.do}"
