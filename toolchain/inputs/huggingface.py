"""A folder as transformers' save_pretrained leaves it, as a module: its own classes, no code from it, no network."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from exporters.atomic_file import sha256_of
from exporters.errors import in_words
from exporters.replaced import replaced
from toolchain import regular_file, strict_json
from toolchain.errors import BadUsage, NotAvailable
from toolchain.inputs import huggingface_inputs, huggingface_past, timm_models
from toolchain.inputs.examples import Kept
from toolchain.inputs.factories import Made

_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SAVE = "Load it with transformers once and write it anew with save_pretrained()."
_MOST_SHOWN = 10
_TOKENIZERS = ("tokenizer", "vocab", "spiece", "sentencepiece", "source.spm", "bpe", "merges")
_OF_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
_KERNELS = {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}
"""Keys that may name code to be fetched for attention and experts; without them a model takes PyTorch's own."""


def is_folder(name: str) -> bool:
    """Whether ``name`` is a folder, which can only be meant as such a one."""
    return Path(name).is_dir()


def load(folder: Path, arguments: Mapping[str, Any]) -> Made:
    """The model in ``folder``, in fp32, with inputs made up after its configuration.

    ``arguments`` are values of the configuration that shall be others. Raises NotAvailable without transformers,
    BadUsage for a folder that does not hold a whole model that transformers knows, and for one with code of its own.
    """
    written = _configuration(folder)
    _require_allowed(arguments)
    with _silent():
        model_class, config = _classes(folder, written, arguments)
        weights = _weights_of(folder)
        module, notes = _loaded(folder, weights, model_class, config)
        example = huggingface_inputs.proposed(module, folder)
        step = _step(module, example) if arguments.get("use_cache") else None
    if example is not None and "input_ids" in example.arrays and not any(map(_is_tokenizer, folder.iterdir())):
        notes.append(f"{folder} has no tokenizer: how text becomes input_ids is not known there.")
    facts = {
        "model_type": str(written["model_type"]),
        "architecture": model_class.__name__,
        "config_sha256": sha256_of(folder / _CONFIG),
    }
    if arguments:
        facts["arguments"] = json.dumps(arguments, sort_keys=True)
    if step is not None:
        module, examples, axes = step
        return Made(
            name=str(folder), module=module, examples=examples, axes=axes, facts=facts, is_untrained=False,
            notes=tuple(notes), surroundings=offline,
        )  # fmt: skip
    return Made(
        name=str(folder), module=module, proposed=example, facts=facts, is_untrained=False, notes=tuple(notes),
        surroundings=offline,
    )  # fmt: skip


def _step(module: torch.nn.Module, example: Kept | None) -> huggingface_past.Step:
    """``module`` with its past, where it is a decoder of tokens."""
    if example is None or "input_ids" not in example.arrays or len(set(example.arrays) - set(_OF_TOKENS)):
        raise BadUsage(f"{type(module).__name__} takes more than tokens.", "Leave --arg use_cache out.")
    return huggingface_past.step_of(module, torch.from_numpy(example.arrays["input_ids"]))


def _configuration(folder: Path) -> dict[str, Any]:
    """What config.json says; refused where it is not whole, or wants code or quantized weights."""
    path = folder / _CONFIG
    if (folder / _ADAPTER).exists():  # from_pretrained would put it, or another model that it names, into this one
        raise BadUsage(f"{folder} holds an adapter.", "Merge it (merge_and_unload) and save that.")
    if not path.is_file():
        raise BadUsage(f"{folder} has no config.json.", "Name a folder that save_pretrained() wrote.")
    try:
        written = strict_json.parsed(regular_file.read_bytes(path), infinities=True)
    except ValueError as error:
        raise BadUsage(f"{path} is no JSON: {in_words(error)}.", _SAVE) from error
    if not isinstance(written, dict) or not isinstance(written.get("model_type"), str):
        raise BadUsage(f"{path} names no model_type.", "Name a folder that save_pretrained() wrote.")
    keys = set(_keys(written))
    if "auto_map" in keys:
        raise BadUsage(
            f"{folder} wants Python code of its own (auto_map in config.json), which nnx never runs.",
            "Import that model in a file of yours and export it as file.py:NAME.",
        )
    if "quantization_config" in keys:
        raise BadUsage(
            f"The weights in {folder} are quantized.", "Take the original ones, then `nnx quantize` the file."
        )
    _require_nothing_fetched(written, str(path))
    return written


def _require_allowed(arguments: Mapping[str, Any]) -> None:
    """Refuses --arg that would have code fetched, other weights loaded, or outputs without their names."""
    if fixed := [name for name in _keys(arguments) if name in _KERNELS | {"return_dict"}]:
        raise BadUsage(
            f"'{fixed[0]}' cannot be set: nnx exports PyTorch's own code, with named outputs.", "Leave it out."
        )
    _require_nothing_fetched(arguments, "--arg")


def _require_nothing_fetched(value: Any, where: str) -> None:
    """Refuses ``model_args``, at any depth, with which a model of timm's inside this one would load other weights."""
    for name, inner in _pairs(value):
        if name == "model_args" and isinstance(inner, Mapping) and (loading := timm_models.fetching(inner)):
            raise BadUsage(f"'{loading}' in model_args of {where} would load other weights.", "Take it out.")


def _keys(value: Any) -> Iterator[str]:
    return (name for name, _ in _pairs(value))


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield name, inner
            yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _without(inner, names) for name, inner in value.items() if name not in names}
    return [_without(inner, names) for inner in value] if isinstance(value, list) else value


def _with_floats(value: Any) -> Any:
    """Infinity and NaN, which JSON lacks and transformers writes as ``{"__float__": "Infinity"}``."""
    if isinstance(value, Mapping):
        if value.keys() == {"__float__"} and value["__float__"] in ("Infinity", "-Infinity", "NaN"):
            return float(value["__float__"])
        return {name: _with_floats(inner) for name, inner in value.items()}
    return [_with_floats(inner) for inner in value] if isinstance(value, list) else value


def _is_tokenizer(path: Path) -> bool:
    return path.name.startswith(_TOKENIZERS)


def _classes(folder: Path, written: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    """transformers' class for the model, and its configuration, which keeps no past unless it is asked to."""
    import transformers

    kind = written["model_type"]
    if kind not in transformers.CONFIG_MAPPING:
        raise BadUsage(
            f"transformers {transformers.__version__} knows no model_type '{kind}'.",
            "Update transformers, or export the model as file.py:NAME.",
        )
    given = _with_floats(_without(written, _KERNELS))
    try:
        config = transformers.CONFIG_MAPPING[kind].from_dict(given)
    except Exception as error:  # whatever a configuration's own checks raise
        raise BadUsage(f"{folder / _CONFIG} does not fit '{kind}': {in_words(error)}.", _SAVE) from error
    names = written.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    found: Any = getattr(transformers, name, None) if isinstance(name, str) else None
    if name is None and type(config) in transformers.MODEL_MAPPING:
        found = transformers.MODEL_MAPPING[type(config)]
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        said = f"names the architecture '{name}', which" if name else "names no architecture, and"
        raise BadUsage(f"{folder / _CONFIG} {said} transformers {transformers.__version__} does not have.", _SAVE)
    if (wanted := getattr(found, "config_class", None)) is not None and not isinstance(config, wanted):
        raise BadUsage(f"{folder / _CONFIG} is of the type '{kind}', and {name} is of another.", _SAVE)
    for key, value in {"use_cache": False, "return_dict": True, **arguments}.items():
        if hasattr(config, key):
            try:
                setattr(config, key, value)
            except Exception as error:  # as above
                raise BadUsage(f"--arg {key} does not fit '{kind}': {in_words(error)}.", "Mend the --arg.") from error
        elif key in arguments:
            raise BadUsage(f"The configuration of '{kind}' has no '{key}'.", "Mend the --arg.")
    return found, config


def _weights_of(folder: Path) -> str:
    """The name of the file in which the weights are, or are listed; those that it lists lie in the folder."""
    name = next((name for name in _WEIGHTS if (folder / name).is_file()), None)
    if name is None:
        raise BadUsage(f"{folder} has no model.safetensors.", _SAVE)
    if name.endswith(".index.json"):
        try:
            listed = set(strict_json.parsed(regular_file.read_bytes(folder / name))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadUsage(f"{folder / name} lists no weights.", _SAVE) from error
        if outside := next((each for each in listed if not isinstance(each, str) or Path(each).name != each), None):
            raise BadUsage(f"{folder / name} names {outside!r}, which is no file of this folder.", _SAVE)
        if missing := sorted(each for each in listed if not (folder / each).is_file()):
            raise BadUsage(f"{folder} lacks {_listed(missing)} of its weights.", "Fetch the folder whole.")
    return name


def _loaded(folder: Path, weights: str, model_class: Any, config: Any) -> tuple[torch.nn.Module, list[str]]:
    """The model with every weight from its file, in fp32, and what is to be said of it."""
    try:
        module, told = model_class.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=weights.startswith("model."),  # else .bin, which is read with weights_only
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # what it raises is the library's, the reader's, or the model's own
        raise BadUsage(f"{folder} cannot be loaded: {in_words(error)}.", _SAVE) from error
    if missing := sorted(told["missing_keys"]):
        raise BadUsage(
            f"{folder / weights} lacks weights of {model_class.__name__}: {_listed(missing)}.",
            "Train them first, or let architectures in config.json name the class that was saved.",
        )
    for name, value in module.state_dict().items():
        if value.is_floating_point() and torch.isnan(value).any():
            raise BadUsage(f"The weight '{name}' in {folder} holds NaN.", "Look at the training.")
    unread = sorted(told["unexpected_keys"])
    notes = [f"{model_class.__name__} does not use these weights of {folder}: {_listed(unread)}."] if unread else []
    return module.eval(), notes


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Nothing is fetched in the block: all that transformers takes from the network comes by huggingface_hub."""
    import huggingface_hub.constants

    with replaced(huggingface_hub.constants, "HF_HUB_OFFLINE", True):
        yield


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """:func:`offline`, and transformers silent: what it has to say it raises, or tells when it is asked."""
    try:
        import transformers
    except ImportError as error:
        raise NotAvailable(
            "A Hugging Face folder takes transformers, which is not installed.",
            "pip install -c constraints.txt 'nnx-toolchain[hf]'",
        ) from error
    previous, bars = logging.root.manager.disable, transformers.utils.logging.is_progress_bar_enabled()
    logging.disable(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    heard = io.StringIO()
    try:
        with (
            offline(),
            contextlib.redirect_stdout(heard),
            contextlib.redirect_stderr(heard),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"{', '.join(names[:_MOST_SHOWN])}{more}"
