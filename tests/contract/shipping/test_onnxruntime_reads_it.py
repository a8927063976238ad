"""Packages are opened by ONNX Runtime's own API for them: in C, and in Python where that has it (1.32 and later).

The installed wheel has no header. Its tables of functions only ever grow at their end, and are those of
``onnxruntime_c_api.h``: in ``OrtApi`` GetModelPackageApi is the 428th, after which 1.31 has 13 more; what it gives has
16, from CreateModelPackageOptionsFromSessionOptions to CreateSession.
"""

import ctypes
import json
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.contract.shipping.conftest import Pack, write_two

SINCE = 31
"""The API version with the stable table: 1.27 had another, 1.28 to 1.30 functions by name."""
_GET_ERROR_MESSAGE, _CREATE_ENV, _CREATE_SESSION_OPTIONS, _GET_INPUT_COUNT, _GET_PACKAGE_API = 2, 3, 10, 30, 427
_OPTIONS, _CONTEXT, _SCHEMA, _COMPONENTS, _VARIANTS, _RESOLVE, _SELECT, _SELECTED, _SESSION = (
    0,
    2,
    4,
    6,
    8,
    10,
    11,
    13,
    15,
)


class Api:
    """The calls that a program in C makes."""

    def __init__(self, library: Path) -> None:
        class Base(ctypes.Structure):
            _fields_ = [("get_api", ctypes.CFUNCTYPE(c_void_p, ctypes.c_uint32)), ("version", c_void_p)]

        self._library = ctypes.CDLL(str(library))
        self._library.OrtGetApiBase.restype = POINTER(Base)
        table = self._library.OrtGetApiBase().contents.get_api(SINCE)
        self._ort = (c_void_p * (_GET_PACKAGE_API + 1)).from_address(table)
        give = ctypes.CFUNCTYPE(c_void_p)(self._ort[_GET_PACKAGE_API] or 0)
        self._package = (c_void_p * 16).from_address(give())
        self._environment, self._session_options = c_void_p(), c_void_p()
        self._call(self._ort[_CREATE_ENV], c_int(4), c_char_p(b"test"), byref(self._environment))
        self._call(self._ort[_CREATE_SESSION_OPTIONS], byref(self._session_options))

    def _call(self, function: int | None, *arguments: Any) -> None:
        kinds = [c_void_p if type(each).__name__ == "CArgObject" else type(each) for each in arguments]
        if status := ctypes.CFUNCTYPE(c_void_p, *kinds)(function or 0)(*arguments):
            message = ctypes.CFUNCTYPE(c_char_p, c_void_p)(self._ort[_GET_ERROR_MESSAGE] or 0)(status)
            raise RuntimeError(message.decode())

    def opened(self, folder: Path) -> dict[str, Any]:
        """All that a program learns of a package, with the inputs of the session that it starts."""
        context, version = c_void_p(), c_int64()
        self._call(self._package[_CONTEXT], c_char_p(str(folder).encode()), byref(context))
        self._call(self._package[_SCHEMA], context, byref(version))
        (component,) = self._names(_COMPONENTS, context)
        variants = self._names(_VARIANTS, context, c_char_p(component))
        options, selected, name, session, inputs = c_void_p(), c_void_p(), c_char_p(), c_void_p(), c_size_t()
        self._call(self._package[_OPTIONS], self._environment, self._session_options, byref(options))
        self._call(self._package[_SELECT], context, c_char_p(component), options, byref(selected))
        self._call(self._package[_SELECTED], selected, byref(name))
        self._call(self._package[_SESSION], self._environment, selected, c_void_p(), byref(session))
        self._call(self._ort[_GET_INPUT_COUNT], session, byref(inputs))
        return {
            "schema": version.value,
            "component": component.decode(),
            "variants": [each.decode() for each in variants],
            "selected": (name.value or b"").decode(),
            "inputs": inputs.value,
        }

    def _names(self, function: int, *arguments: Any) -> list[bytes]:
        names, count = POINTER(c_char_p)(), c_size_t()
        self._call(self._package[function], *arguments, byref(names), byref(count))
        return [names[place] or b"" for place in range(count.value)]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, SINCE):
        pytest.skip("this ONNX Runtime has no stable API for packages")
    (library,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    yield Api(library)


@pytest.fixture
def two(pack: Pack, tmp_path: Path) -> Path:
    """A package of two variants whose names' order is not that of recommendation, which share their weights."""
    return pack(*write_two(tmp_path)).path


def test_the_c_api_opens_it_and_takes_the_recommended_variant(api: Api, two: Path) -> None:
    assert api.opened(two) == {
        "schema": 1, "component": "net", "variants": ["second", "first"], "selected": "second", "inputs": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("manifest.json", {"surprise": 1}, "surprise"),
        ("manifest.json", {"schema_version": "2.0"}, "version"),
        ("net/component.json", {"surprise": 1}, "surprise"),
    ],
)
def test_the_c_api_would_say_what_is_wrong(api: Api, two: Path, file: str, change: dict[str, Any], said: str) -> None:
    """Else the test above would pass whatever we write."""
    place = two / file
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(RuntimeError, match=said):
        api.opened(two)


def test_a_bad_session_option_would_be_refused(api: Api, two: Path) -> None:
    place = two / "net/component.json"
    place.write_text(place.read_text().replace("enable_basic", "basic"))
    with pytest.raises(RuntimeError, match="graph_optimization_level"):
        api.opened(two)


@pytest.mark.skipif(not hasattr(onnxruntime, "ModelPackage"), reason="this ONNX Runtime has no Python API for packages")
def test_the_python_api_opens_it_too(two: Path) -> None:
    opened = onnxruntime.ModelPackage.open(str(two))
    info = opened.get_info()
    assert info["package_name"] == "net"
    (folder,) = (two / "shared_assets").iterdir()
    hashed: Callable[[str], str] = onnxruntime.ModelPackage.compute_directory_hash
    assert hashed(str(folder)).replace(":", "-") == folder.name
    context = onnxruntime.ModelPackageContext(str(two))
    assert context.get_variant_names("net") == ["second", "first"]
    chosen = context.select_component("net", onnxruntime.ModelPackageOptions(onnxruntime.SessionOptions()))
    assert chosen.get_selected_variant_name() == "second"
    (scores,) = chosen.create_session().run(None, {"x": np.zeros((1, 4), np.float32)})
    assert scores.tolist() == [[0.0, 1.0, 2.0]]
