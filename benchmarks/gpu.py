"""Everything that only a GPU can prove, in under eight minutes: `make gpu DATA=folder-of-cifar10`.

Runs the tests marked `gpu`, the cifar10 ablation and the side-by-side bench, and leaves their JSON in artifacts/gpu/.
Without a GPU it says so and exits 0; without --data the two cifar10 parts run on digits.
"""

import argparse
import subprocess
import sys
from pathlib import Path

OUT = Path("artifacts") / "gpu"
LIMIT_S = {"tests": 120, "ablation": 180, "run": 180}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CIFAR-10 in either public form")
    data = parser.parse_args().data
    import torch

    if not torch.cuda.is_available():
        print("Skipped: PyTorch sees no CUDA device.")
        return 0
    recipe = ["cifar10", "--data", str(data)] if data else ["digits"]
    OUT.mkdir(parents=True, exist_ok=True)
    nnx = [sys.executable, "-m", "toolchain"]
    steps = {
        "tests": [sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={OUT / 'tests.xml'}"],
        "ablation": [
            *nnx, "train", *recipe, "--ablate", "--device", "cuda", "--rounds", "3", "--out", str(OUT / "ablation"),
        ],
        "run": [
            *nnx, "run", *recipe, "--device", "cuda", "--provider", "cuda", "--provider", "cpu", "--batch", "1,32",
            "--max-time", "5", "--out", str(OUT / "run"),
        ],
    }  # fmt: skip
    failed = []
    for name, command in steps.items():
        print(f"== {name}", flush=True)
        try:
            code = subprocess.run(command, check=False, timeout=LIMIT_S[name]).returncode
        except subprocess.TimeoutExpired:
            code = 124
        if code:
            failed.append(f"{name} (exit {code})")
    print(f"Results lie in {OUT}." + (f" Failed: {', '.join(failed)}." if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
