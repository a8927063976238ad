"""``timm:NAME``: a model of timm's, whose own configuration says what size of image it takes; nothing is fetched."""

import difflib
import inspect
import io
import json
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch

from exporters.errors import in_words
from toolchain.errors import BadUsage, NotAvailable
from toolchain.inputs import examples
from toolchain.inputs.factories import Made

PREFIX = "timm:"
_SEED = 0
_MOST_NEAR = 5
_FETCHING = ("pretrained", "checkpoint_path", "cache_dir")
"""How arguments of timm's begin that would load weights."""


def is_named(name: str) -> bool:
    return name.startswith(PREFIX)


def fetching(arguments: Mapping[str, Any]) -> str | None:
    """The first of ``arguments`` for timm.create_model with which it would load weights, if one would."""
    return next((each for each in arguments if each.startswith(_FETCHING)), None)


def made(name: str, arguments: Mapping[str, Any]) -> Made:
    """The model ``timm:NAME`` with weights from a seed, made with timm's own ``arguments``, as num_classes or img_size.

    Its one input is a batch of images (N, C, H, W). Raises NotAvailable where timm cannot be imported, BadUsage for a
    name that it does not have, with the nearest that it has, and for arguments that it does not take.
    """
    timm = _timm()
    wanted = name.removeprefix(PREFIX)
    _require_known(timm, wanted)
    if loading := fetching(arguments):
        raise BadUsage(f"--arg {loading} would load weights.", "Give their file with --weights.")
    torch.manual_seed(_SEED)
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            module: torch.nn.Module = timm.create_model(wanted, pretrained=False, **arguments)
    except Exception as error:
        raise BadUsage(f"{name} could not be made: {in_words(error)}.", "Mend the --arg.") from error
    image = f"{next(iter(inspect.signature(module.forward).parameters))}=float32[1,{_size(module, arguments)}]"
    facts = {"timm": str(timm.__version__)}
    if arguments:
        facts["arguments"] = json.dumps(arguments, sort_keys=True)
    return Made(name=name, module=module, proposed=examples.of_specs([image]), facts=facts)


def _timm() -> Any:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise NotAvailable(
            f"timm: names a model of timm's, which needs {error.name}, and that is not installed.",
            "pip install 'nnx-toolchain[timm]'.",
        ) from error
    except Exception as error:  # torchvision raises what it likes where it was built for another torch
        raise NotAvailable(
            f"timm cannot be imported: {in_words(error)}.",
            f"Install the torchvision that was built for torch {torch.__version__}.",
        ) from error
    return timm


def _require_known(timm: Any, name: str) -> None:
    architectures, tagged = timm.list_models(), timm.list_pretrained()
    if name in architectures or name in tagged:
        return
    near = difflib.get_close_matches(name, [*architectures, *tagged], n=_MOST_NEAR, cutoff=0.5)
    raise BadUsage(
        f"timm {timm.__version__} has no model '{name}'.",
        f"Near it are {', '.join(near)}." if near else "timm.list_models() lists them.",
    )


def _size(module: torch.nn.Module, arguments: Mapping[str, Any]) -> str:
    """Channels, height and width: those asked for, else the model's own."""
    channels, height, width = getattr(module, "pretrained_cfg", {}).get("input_size") or (3, 224, 224)
    side = arguments.get("img_size", (height, width))
    height, width = side if isinstance(side, (list, tuple)) else (side, side)
    return f"{arguments.get('in_chans', channels)},{height},{width}"
