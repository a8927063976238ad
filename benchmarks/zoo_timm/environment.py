"""timm in a folder of its own, beside the environment that nnx is tested in.

timm imports torchvision, of which there may be no build for the torch that is here; then PyPI's is taken as it is. Its
own operators (for boxes: nms, roi_align and so on) have no code that this torch could load: they are declared to torch
by name, which is enough to import it, and no model of timm's calls one.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import torch

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (
    "timm", "torchvision", "huggingface_hub", "httpx2", "httpcore2", "h11", "anyio", "truststore", "tqdm", "hf-xet",
)  # fmt: skip
"""timm and what it imports, as constraints.txt pins them; PyYAML, safetensors, Pillow are here already."""
_SECONDS = 600.0
_OPERATORS: list[torch.library.Library] = []


def bring(folder: Path) -> str:
    """Put timm on the path, fetched into ``folder`` where it is not there; why that failed, "" where it did not."""
    if importlib.util.find_spec("timm") is None:
        if not (folder / "timm").is_dir() and (why := _fetched(folder)):
            return why
        sys.path.append(str(folder))
    try:
        _declare_operators()
        import timm
    except Exception as error:  # noqa: BLE001 - whatever the import of timm and torchvision ends in
        return f"timm cannot be imported: {' '.join(str(error).split())[:200]}"
    return "" if timm.list_models() else "timm lists no models"


def _fetched(folder: Path) -> str:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "-c", str(_ROOT / "constraints.txt"), "--target", str(folder), *_PACKAGES]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return f"timm could not be fetched: {str(error.stderr or error).strip().splitlines()[-1]}"
    return ""


def _declare_operators() -> None:
    """Those that torchvision registers shapes for, where its own code did not."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None or _OPERATORS:
        return
    source = Path(found.origin).with_name("_meta_registrations.py").read_text(encoding="utf-8")
    names = sorted(set(re.findall(r'register_(?:meta|fake)\("(?:torchvision::)?(\w+)"', source)))
    try:
        import torchvision  # noqa: F401  # its own code loads them
    except RuntimeError:
        for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        operators = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in names:
            operators.define(f"{name}(...) -> ...")  # type: ignore[no-untyped-call]
        _OPERATORS.append(operators)
