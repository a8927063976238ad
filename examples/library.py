"""The library called from Python: a module becomes an fp32 file, then an int8 one that must keep 20 dB, and is run.

python examples/library.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from exporters import torch_onnx
from exporters.model_file import ModelFile
from runtimes.base import run
from runtimes.ort import OrtRuntime
from toolchain.accuracy.gate import Requirement
from toolchain.conversion import fitting
from toolchain.conversion.given import Given
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Int8Static, format_for
from toolchain.inputs.samples import Samples
from toolchain.progress import SILENT


def perceptron() -> nn.Module:
    """(N, 64) -> (N, 10)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))


def samples(count: int, seed: int) -> Samples:
    """Real data in earnest; a name for them, which errors and the file's provenance will use."""
    drawn = np.random.default_rng(seed).normal(size=(count, 64)).astype(np.float32)
    return Samples(inputs={"values": drawn}, labels=None, source=f"normal noise of seed {seed}")


def main(folder: Path) -> None:
    fp32, int8 = folder / "perceptron.onnx", folder / "perceptron.int8.onnx"
    examples = {"values": torch.zeros(2, 64)}
    made = torch_onnx.export(perceptron(), fp32, example_inputs=examples, output_names=["scores"])
    print(f"{made.path.name}: {made.size_bytes:,} bytes, opset {made.opset}")

    # calibration and judgement share no sample; nothing is left under the name `int8` unless the requirement is met
    given = Given(calibration=samples(256, seed=1), judged_on=samples(256, seed=2))
    proven = fitting.convert(
        ModelFile(fp32),
        int8,
        Int8Static(int8=format_for("auto"), use_cache=False),
        given=lambda model, calibrates: given,
        goal=Goal(requirement=Requirement(min_sqnr_db=20.0), budget_s=60.0),
        progress=SILENT,
    )
    assert proven.verdict is not None  # there was a requirement
    print(f"{proven.artifact.path.name}: {proven.artifact.size_bytes:,} bytes; {proven.verdict.brief}")

    with OrtRuntime(int8, threads=1) as runtime:
        scores = run(runtime, samples(4, seed=3).call(4))["scores"]
    print(f"four answers: {scores.argmax(axis=1).tolist()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
