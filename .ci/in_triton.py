"""Start Triton itself on repositories of `nnx pack --target triton`, and let NVIDIA's client ask it the golden inputs.

The server comes from the wheel of nvidia-pytriton (55 MB), which brings it without the backend for ONNX Runtime: that
is stood in for by `triton_onnxruntime`, in Triton's Python backend. What is tried is all that Triton does itself: it
reads config.pbtxt and completes nothing, makes the warm-up requests of the golden inputs, puts batches together and
takes them apart, and speaks the protocol to the client that also asks `nnx serve` in the tests.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnx import parser

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
from tests.contract.serving.test_repository import NUMBERS, SCALED  # noqa: E402
from tests.contract.serving.test_tritonclient import write_copies  # noqa: E402
from tests.contract.shipping.conftest import write_net  # noqa: E402
from toolchain.serving import repository  # noqa: E402
from toolchain.shipping import contents, golden_values, packing  # noqa: E402
from toolchain.shipping.packing import Title  # noqa: E402

PLACE = ROOT / "build" / "triton"
WHEEL, SITE, BACKENDS, LOG = (PLACE / name for name in ("wheel", "site", "backends", "calls.jsonl"))
SERVER = WHEEL / "pytriton" / "tritonserver"
HTTP, GRPC, METRICS = 8433, 8434, 8435
_ALLOWED = 1e-6
"""Triton's reader of JSON loses the last bit of some numbers; as bytes they are equal."""


MODELS: dict[str, Callable[[Path], object]] = {
    "net": write_net,
    "every-type": write_copies,
    "no-batch": lambda path: onnx.save(parser.parse_model(SCALED), path),
    "a-number-a-sample": lambda path: onnx.save(parser.parse_model(NUMBERS), path),
}


def install() -> None:
    """The server, and the ONNX Runtime that its Python backend takes: its bindings want a numpy before 2."""
    for target, *packages in (
        (WHEEL, "--no-deps", "nvidia-pytriton==0.7.0"),
        (SITE, "numpy==1.26.4", "ml-dtypes==0.5.4", "onnxruntime==1.31.1"),
    ):
        if not target.is_dir():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--target", str(target), *packages], check=True)
    shutil.rmtree(BACKENDS, ignore_errors=True)
    shutil.copytree(SERVER / "backends" / "python", BACKENDS / "python")
    stub = (
        SERVER / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}" / "triton_python_backend_stub"
    )
    shutil.copy(stub, BACKENDS / "python")
    shutil.copytree(ROOT / ".ci" / "triton_onnxruntime", BACKENDS / "onnxruntime")
    for program in (SERVER / "bin" / "tritonserver", BACKENDS / "python" / stub.name):
        program.chmod(0o755)


@contextmanager
def triton(models: Path) -> Iterator[None]:
    """Triton, ready, on the repository ``models``."""
    command = [str(SERVER / "bin" / "tritonserver"), f"--model-repository={models}", f"--backend-directory={BACKENDS}"]
    command += [f"--http-port={HTTP}", f"--grpc-port={GRPC}", f"--metrics-port={METRICS}"]
    home = Path(sys.base_prefix)
    environment = os.environ | {
        "PYTHONHOME": str(home),
        "LD_LIBRARY_PATH": f"{home / 'lib'}:{WHEEL / 'nvidia_pytriton.libs'}",
        "NNX_TRITON_SITE": str(SITE),
        "NNX_TRITON_LOG": str(LOG),
    }
    environment.pop("PYTHONPATH", None)
    LOG.unlink(missing_ok=True)
    said = PLACE / "triton.log"
    with (
        said.open("w") as log,
        subprocess.Popen(
            [*command, "--disable-auto-complete-config"], env=environment, stdout=log, stderr=log
        ) as server,
    ):
        try:
            for _ in range(300):
                if server.poll() is not None:
                    raise SystemExit(f"Triton ended:\n{said.read_text()}")
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{HTTP}/v2/health/ready").close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield
        finally:
            server.send_signal(signal.SIGTERM)


def tried(name: str, model: Path, python: str) -> dict[str, Any]:
    """What came of one model."""
    folder = model.parent
    package = packing.pack(contents.of_models([model]), folder / "net.ortpackage", Title(name="net")).path
    made = repository.write(package, "triton", folder / "repository")
    first = golden_values.read(package, made.variant).calls[0]
    with triton(made.path):
        if not LOG.exists():
            raise SystemExit(f"{name}: there was no warm-up.")
        warmed = [json.loads(line) for line in LOG.read_text().splitlines()]
        if any(call != {each: array.tolist() for each, array in first.items()} for calls in warmed for call in calls):
            raise SystemExit(f"{name}: the warm-up was not of the golden inputs.")
        script = ROOT / "tests" / "contract" / "serving" / "by_tritonclient.py"
        ended = subprocess.run(
            [python, str(script), "infer", f"127.0.0.1:{HTTP}", str(package)],
            capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
    if ended.returncode:
        raise SystemExit(f"{name}: {ended.stderr}")
    said = json.loads(ended.stdout)
    if said["largest"] > _ALLOWED:
        raise SystemExit(f"{name}: an answer is off by {said['largest']:.3g}.")
    return {"model": name, "warm-ups": [len(calls) for calls in warmed], **said}


def main() -> None:
    (python,) = sys.argv[1:]
    install()
    folder = PLACE / "models"
    shutil.rmtree(folder, ignore_errors=True)
    for name, write in MODELS.items():
        (folder / name).mkdir(parents=True)
        write(folder / name / "net.onnx")
        print(json.dumps(tried(name, folder / name / "net.onnx", python)))


if __name__ == "__main__":
    main()
