"""Ask the wheels of ONNX Runtime's releases what they read and compute, for ``nnx check --target-ort``.

    .venv/bin/python .ci/ask_ort_releases.py

Each release is installed into a folder of its own, asked in a process of its own, and thrown away. Leaves
toolchain/inspection/releases.json: for each release the newest IR version and operator set that it opens, and the CPU
kernels that it has: domain, operator, first and last version of the operator, types, first and last release.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

OUT = Path(__file__).parents[1] / "toolchain" / "inspection" / "releases.json"
RELEASES = (
    "1.16.3", "1.17.3", "1.18.1", "1.19.2", "1.20.1", "1.21.1", "1.22.1", "1.23.2", "1.24.4", "1.25.1",
    "1.26.0", "1.27.0", "1.28.0", "1.29.0", "1.30.0", "1.31.1", "1.32.0",
)  # fmt: skip
"""The last of each minor release, from the first on that tells its kernels."""
_NUMPY = "numpy==1.26.4"  # with which releases before 1.19 were built; later ones take it too
_OPEN = 2**31 - 1
_ASK = """
import base64, json, sys
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

def opens(model):
    try:
        onnxruntime.InferenceSession(base64.b64decode(model), providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True

onnxruntime.set_default_logger_severity(4)
asked = json.load(sys.stdin)
kernels = [
    [each.domain, each.op_name, *each.version_range,
     {name: sorted(kinds) for name, kinds in each.type_constraints.items()}]
    for each in state.get_all_opkernel_def() if each.provider == "CPUExecutionProvider"
]
print(json.dumps({
    "ir": max((int(ir) for ir, model in asked["ir"].items() if opens(model)), default=0),
    "opset": max((int(opset) for opset, model in asked["opset"].items() if opens(model)), default=0),
    "kernels": kernels,
}))
"""


def main() -> int:
    asked = json.dumps({
        "ir": {ir: _tiny(ir=ir, opset=7) for ir in range(3, int(onnx.IR_VERSION) + 1)},
        "opset": {opset: _tiny(ir=4, opset=opset) for opset in range(7, onnx.defs.onnx_opset_version() + 1)},
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as text:
        numpy = _installed(_NUMPY, Path(text) / "numpy")
        found = {_minor(release): _answer(release, Path(text) / release, numpy, asked) for release in RELEASES}
    table = {
        "releases": {release: {"ir": each["ir"], "opset": each["opset"]} for release, each in found.items()},
        "kernels": _kernels(found),
    }
    OUT.write_text(_one_line_each(table), encoding="utf-8")
    print(f"{len(table['kernels'])} kernels of {len(found)} releases, {OUT.stat().st_size / 1e3:,.0f} kB")
    return 0


def _tiny(*, ir: int, opset: int) -> str:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    return base64.b64encode(model.SerializeToString()).decode()


def _installed(what: str, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), what], check=True)
    return folder


def _answer(release: str, folder: Path, numpy: Path, asked: str) -> dict[str, Any]:
    _installed(f"onnxruntime=={release}", folder)
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{numpy}", "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-S", "-c", _ASK]  # -S: without what is installed beside this script
    ended = subprocess.run(command, input=asked, env=environment, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(ended.stdout)
    print(f"{release}: IR {answer['ir']}, opset {answer['opset']}, {len(answer['kernels'])} kernels", flush=True)
    return answer


def _minor(release: str) -> str:
    return release.rpartition(".")[0]


def _kernels(found: dict[str, dict[str, Any]]) -> list[list[Any]]:
    """Each kernel once for each row of releases that has it."""
    releases = list(found)
    had: dict[str, list[int]] = {}
    for place, release in enumerate(releases):
        for kernel in found[release]["kernels"]:
            places = had.setdefault(
                json.dumps([*kernel[:3], None if kernel[3] == _OPEN else kernel[3], _short(kernel[4])]), []
            )
            if place not in places:
                places.append(place)
    rows = []
    for text, places in had.items():
        begins = [place for place in places if place - 1 not in places]
        ends = [place for place in places if place + 1 not in places]
        rows += [[*json.loads(text), releases[a], releases[b]] for a, b in zip(begins, ends, strict=True)]
    return sorted(rows, key=json.dumps)


def _short(types: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: [_plain(kind) for kind in kinds] for name, kinds in sorted(types.items())}


def _plain(kind: str) -> str:
    return kind[len("tensor(") : -1] if kind.startswith("tensor(") else kind


def _one_line_each(table: dict[str, Any]) -> str:
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in table["kernels"])
    return f'{{"releases": {json.dumps(table["releases"])},\n"kernels": [\n{rows}\n]}}\n'


if __name__ == "__main__":
    raise SystemExit(main())
