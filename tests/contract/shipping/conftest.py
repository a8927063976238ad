"""Tiny models that are packed in a second, and ONNX Runtime's own view of a package."""

import importlib
import itertools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from runtimes.session_settings import KEY, SessionSettings
from toolchain.shipping import contents, packing
from toolchain.shipping.packing import Packed, Title

Pack = Callable[..., Packed]
_NET = """
<ir_version: 9, opset_import: ["": 18]>
net (float[N, 4] x) => (float[N, 3] scores) {
    product = MatMul(x, w)
    scores = Add(product, b)
}
"""


def write_net(path: Path, *, scale: float = 1.0, external: bool = False, shift: float = 0.0) -> Path:
    """``x @ w * scale + b``; an ``external`` w lies in a file beside it."""
    model = parser.parse_model(_NET)
    random = np.random.default_rng(0)
    weights = random.normal(size=(4, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    bias = (np.arange(3) * scale + shift).astype(np.float32)
    onnx.save(model_with(model, bias), path, save_as_external_data=external, location="weights.bin", size_threshold=60)
    return path


def write_two(folder: Path) -> list[Path]:
    """Two nets with weights beside them that are equal, the first with every session setting that nnx stores."""
    paths = []
    for name in ("second", "first"):
        (folder / name).mkdir()
        paths.append(write_net(folder / name / f"{name}.onnx", external=True, shift=float(name == "first")))
    model = onnx.load(paths[0], load_external_data=False)
    settings = SessionSettings(
        graph_level="basic", disabled_optimizers=("GeluFusionL1", "GeluFusionL2"), memory_pattern=False,
        spinning=False, execution_mode="parallel",
    )  # fmt: skip
    onnx.helper.set_model_props(model, {KEY: settings.to_json()})
    paths[0].write_bytes(model.SerializeToString())
    return paths


def model_with(model: onnx.ModelProto, bias: np.ndarray[tuple[int], np.dtype[np.float32]]) -> onnx.ModelProto:
    model.graph.initializer.append(numpy_helper.from_array(bias, "b"))
    return model


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """pack(file, ...) -> a package of these, with seeded golden inputs."""
    count = itertools.count()

    def make(*paths: Path, samples: str | None = None, **more: object) -> Packed:
        given = contents.of_models(paths, samples_source=samples)
        return packing.pack(given, tmp_path / f"net{next(count)}" / "net.ortpackage", Title(name="net"), **more)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def _packed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    given = contents.of_models([write_net(folder / "net.onnx")])
    return packing.pack(given, folder / "net.ortpackage", Title(name="net")).path


@pytest.fixture
def packed(_packed_once: Path, tmp_path: Path) -> Path:
    """A package to be harmed: a copy of one that was packed once."""
    return Path(shutil.copytree(_packed_once, tmp_path / "copy" / "net.ortpackage"))


def runner_of(package: Path, name: str) -> ModuleType:
    """A file of the package's own runner, loaded: tests look at single functions of it."""
    folder = package / "runners" / "python"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(sys, "dont_write_bytecode", True)  # every file in a package is listed
        module = importlib.import_module(name)
    for each in folder.glob("*.py"):
        sys.modules.pop(each.stem, None)  # the next package has files of the same names
    return module
