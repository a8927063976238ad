"""``.ort`` files beside the models, and the operators that a build of ONNX Runtime needs for them: minimal builds.

ONNX Runtime's own tool writes them, and gives other bytes each time: flatbuffers in the order of its hash tables. They
hold what was optimized for a kind of processor, and are read by this release and later ones.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from exporters.model_file import ModelFile
from runtimes.base import run
from runtimes.ort import OrtRuntime
from runtimes.session_settings import SessionSettings
from toolchain.errors import CheckFailed
from toolchain.shipping.tolerance import Answers, Call

PLATFORMS = {"x86_64": "amd64", "aarch64": "arm"}
_CONFIG = "required_operators.config"


def add(
    places: Mapping[str, Path],
    config: Path,
    files: Mapping[str, ModelFile],
    calls: Sequence[Call],
    answers: Mapping[str, Answers],
    *,
    platform: str,
) -> None:
    """Write what is made of ``files`` to ``places``, both by variant, and ``config`` for all of them.

    Raises CheckFailed for one that cannot be converted, or that is further from the variant's golden outputs than its
    tolerance.
    """
    with tempfile.TemporaryDirectory() as temporary:
        taken, made = Path(temporary, "in"), Path(temporary, "out")
        for variant, file in files.items():
            for part in (file.path, *file.external_files):
                name = "model.onnx" if part is file.path else part.relative_to(file.path.parent)
                (taken / variant / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(part, taken / variant / name)
        _convert(taken, made, platform)
        for variant, place in places.items():
            found = made / variant / "model.ort"
            _require_answers(found, variant, calls, answers[variant])
            shutil.copyfile(found, place)
        lines = (made / _CONFIG).read_text(encoding="utf-8").splitlines(keepends=True)
        config.write_text(
            "".join(line for line in lines if not line.startswith("#")), encoding="utf-8"
        )  # paths of ours


def _convert(taken: Path, made: Path, platform: str) -> None:
    command = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", str(taken)]
    command += ["--output_dir", str(made), "--optimization_style", "Fixed", "--target_platform", platform]
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        last = " ".join(ended.stderr.strip().splitlines()[-1:])
        raise CheckFailed(f"ONNX Runtime makes no .ort file of these models: {last}", "Leave .ort files out.")


def _require_answers(path: Path, variant: str, calls: Sequence[Call], wanted: Answers) -> None:
    with OrtRuntime(path, settings=SessionSettings()) as runtime:
        for call, expected in zip(calls, wanted.outputs, strict=True):
            for name, value in run(runtime, call).items():
                limit = wanted.tolerances[name].absolute
                if not np.allclose(value, expected[name], rtol=0.0, atol=limit, equal_nan=True):
                    raise CheckFailed(f"The .ort file of {variant} gives other values.", "Leave .ort files out.")
