"""The inputs that a transformers model is exported with, and seeded values for them: after its forward() and config."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain import regular_file, strict_json
from toolchain.inputs import examples
from toolchain.inputs.examples import Kept
from toolchain.inputs.input_specs import BATCH

_ROWS = 3
_TOKENS, _ANSWER_TOKENS = 16, 10
_SAMPLES, _FRAMES = 16_000, 128
_SIDE = 224
_MAIN = ("input_ids", "pixel_values", "input_features", "input_values", "past_values", "inputs")
"""What models are about; one of several kinds takes all of those that its forward() has."""
_BESIDE = {"input_ids": ("attention_mask", "token_type_ids", "bbox")}
"""What comes with them where forward() takes it: what a tokenizer gives beside the ids."""
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Model:
    """What is asked for sizes: the configuration, those inside it, and what preprocessor_config.json says."""

    config: Any
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def find(self, *names: str, within: tuple[str, ...] = ()) -> Any:
        """The first of ``names`` that the configuration has, or one of those inside it named ``within``."""
        for place in (self.config, *(getattr(self.config, inner, None) for inner in within)):
            for name in names:
                if (value := getattr(place, name, None)) is not None:
                    return value
        return None

    @property
    def text(self) -> Any:
        return self.config.get_text_config()


def proposed(module: Any, folder: Path) -> Kept | None:
    """Seeded inputs for ``module``, with their dynamic axes; None where it takes what is not known here."""
    try:
        return _proposed(module, folder)
    except (AttributeError, TypeError, ValueError):  # the configuration lacks a size, or has two texts, or is odd
        return None


def _proposed(module: Any, folder: Path) -> Kept | None:
    model = _Model(module.config, _preprocessor(folder))
    taken = inspect.signature(module.forward).parameters
    names = _chosen(module, taken)
    if not names or not set(names) <= set(_MAKERS):
        return None
    made: dict[str, Array] = {}
    axes: dict[str, dict[int, str]] = {}
    for name in names:
        array, words = _MAKERS[name](model, made)
        if array is not None:
            made[name], axes[name] = array, dict(enumerate(words))
            axes[name] = {place: word for place, word in axes[name].items() if word}
    if not made:
        return None
    kept = examples.of_arrays(made, "seeded values after the model's configuration", axes=axes)
    return replace(kept, limits=_limits(model))


def _limits(model: _Model) -> dict[str, int]:
    """For how many tokens the model has places: some make more for themselves, which a file cannot."""
    places = getattr(model.text, "max_position_embeddings", None)
    answer = model.find("max_target_positions") or places
    found = {"sequence": places, "decoder_sequence": answer, "frames": _most_frames(model)}
    return {word: limit for word, limit in found.items() if isinstance(limit, int) and limit > 0}


def _most_frames(model: _Model) -> int | None:
    """How many frames of a spectrogram fill the places that an encoder has after its convolutions of stride 2."""
    places, convolutions = model.find("max_source_positions"), model.find("num_conv_layers")
    return int(places) * 2 ** int(convolutions) if places and convolutions else None


def _chosen(module: Any, taken: Mapping[str, inspect.Parameter]) -> list[str]:
    """The inputs' names, in forward()'s order."""
    if any(getattr(module.config, name, None) is not None for name in _PLACEHOLDERS):
        return []  # how many of the tokens stand for an image depends on the image
    main = [name for name in _MAIN if name in taken]
    wanted = {*main, *(beside for name in main for beside in _BESIDE.get(name, ()))}
    wanted |= {
        name for name, one in taken.items() if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    }
    if getattr(module.config, "is_encoder_decoder", False):
        wanted.add("decoder_input_ids")
    return [name for name in taken if name in wanted]


_PLACEHOLDERS = ("image_token_id", "image_token_index", "audio_token_id", "audio_token_index", "video_token_id")


def _preprocessor(folder: Path) -> Mapping[str, Any]:
    """What preprocessor_config.json says, where there is one."""
    try:
        found = strict_json.parsed(regular_file.read_bytes(folder / "preprocessor_config.json"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


_Made = tuple[Array | None, tuple[str, ...]]


def _ids(model: _Model, made: Mapping[str, Array], length: int = _TOKENS, word: str = "sequence") -> _Made:
    """Tokens but for the special ones, an end in each row, padding after it: rows of several lengths."""
    text = model.text
    special = [getattr(text, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "sep", "cls", "mask")]
    flat = {each for ids in special for each in (ids if isinstance(ids, list) else [ids]) if isinstance(each, int)}
    usual = np.setdiff1d(np.arange(int(text.vocab_size)), np.array(sorted(flat), int))
    ids = model.random.choice(usual if len(usual) else np.arange(int(text.vocab_size)), (_ROWS, length))
    kept = _mask(length)
    end, padding = (_one(getattr(text, f"{name}_token_id", None), text.vocab_size) for name in ("eos", "pad"))
    if end is not None:
        ids[np.arange(_ROWS), kept.sum(axis=1) - 1] = end
    if padding is not None:
        ids[kept == 0] = padding
    return ids.astype(np.int64), (BATCH, word)


def _one(ids: Any, vocabulary: int) -> int | None:
    found = ids[0] if isinstance(ids, list) and ids else ids
    return found if isinstance(found, int) and 0 <= found < vocabulary else None


def _mask(length: int) -> Array:
    """Ones with a tail of zeros, another in each row."""
    return np.asarray(np.arange(length) < length - 2 * np.arange(_ROWS)[:, None]).astype(np.int64)


def _attention_mask(model: _Model, made: Mapping[str, Array]) -> _Made:
    if "input_ids" not in made:
        return None, ()
    return _mask(made["input_ids"].shape[1]), (BATCH, "sequence")


def _token_types(model: _Model, made: Mapping[str, Array]) -> _Made:
    kinds = int(getattr(model.text, "type_vocab_size", None) or 0)
    if kinds < 2:
        return None, ()
    types = (np.arange(_TOKENS) >= _TOKENS // 2).astype(np.int64)
    return np.tile(types, (_ROWS, 1)), (BATCH, "sequence")


def _boxes(model: _Model, made: Mapping[str, Array]) -> _Made:
    """Left, top, right, bottom of each token, on a page of 1000 x 1000 or what the table of places has."""
    end = min(int(model.find("max_2d_position_embeddings") or 1000), 1000)
    corners = np.sort(model.random.integers(0, end, (_ROWS, _TOKENS, 2, 2)), axis=2)
    return corners.reshape(_ROWS, _TOKENS, 4).astype(np.int64), (BATCH, "sequence", "")


def _pixels(model: _Model, made: Mapping[str, Array]) -> _Made:
    within = ("vision_config", "encoder", "backbone_config")
    channels = model.find("num_channels", "num_image_channels", "in_channels", within=within) or 3
    height, width = _sides(model.find("image_size", "img_size", "input_size", within=within), model.preprocessor)
    frames = model.find("num_frames", within=within)
    shape = [_ROWS, *([int(frames)] if frames else []), int(channels), height, width]
    return model.random.standard_normal(shape, np.float32), (BATCH,)


def _sides(size: Any, preprocessor: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of an image: what the configuration says, else what the preprocessor makes."""
    for found in (size, preprocessor.get("crop_size"), preprocessor.get("size")):
        if isinstance(found, Mapping):
            side = found.get("shortest_edge")
            found = [found.get("height", side), found.get("width", side)]
        if isinstance(found, int):
            found = [found, found]
        if isinstance(found, (list, tuple)) and len(found) == 2 and all(isinstance(side, int) for side in found):
            return found[0], found[1]
    return _SIDE, _SIDE


def _features(model: _Model, made: Mapping[str, Array]) -> _Made:
    """A spectrogram: of fixed length, bins first, where the encoder has so many places; else frames first."""
    places, bins = model.find("max_source_positions"), model.find("num_mel_bins")
    width = model.find(
        "input_feat_per_channel", "feature_projection_input_dim", "input_dim", within=("encoder_config",)
    )
    if width is None and places and bins:
        return model.random.standard_normal((_ROWS, int(bins), 2 * int(places)), np.float32), (BATCH,)
    width = width or bins or model.find("num_mel_bins", within=("encoder_config", "audio_config")) or 80
    frames = min(_FRAMES, (_most_frames(model) or 2 * _FRAMES) // 2)
    return model.random.standard_normal((_ROWS, frames, int(width)), np.float32), (BATCH, "frames")


def _wave(model: _Model, made: Mapping[str, Array]) -> _Made:
    """A wave; for models of spectrograms one of those, for codecs with its channels."""
    bins, length = model.find("num_mel_bins"), model.find("max_length")
    if bins and length and model.find("patch_size"):
        return model.random.standard_normal((_ROWS, int(length), int(bins)), np.float32), (BATCH,)
    channels = model.find("audio_channels")
    if channels:
        return model.random.standard_normal((_ROWS, int(channels), _SAMPLES), np.float32), (BATCH, "", "samples")
    return model.random.standard_normal((_ROWS, _SAMPLES), np.float32), (BATCH, "samples")


def _series(model: _Model, made: Mapping[str, Array]) -> _Made:
    """Past values of a time series, as many as the model looks back, of each of its channels."""
    length, channels = int(model.find("context_length") or _TOKENS), model.find("num_input_channels")
    lags = model.find("lags_sequence")
    shape = [_ROWS, length + (max(lags) if lags else 0), *([int(channels)] if channels else [])]
    return model.random.standard_normal(shape, np.float32), (BATCH,)


_MAKERS: Mapping[str, Callable[[_Model, Mapping[str, Array]], _Made]] = {
    "input_ids": _ids,
    "attention_mask": _attention_mask,
    "token_type_ids": _token_types,
    "bbox": _boxes,
    "pixel_values": _pixels,
    "input_features": _features,
    "input_values": _wave,
    "past_values": _series,
    "decoder_input_ids": lambda model, made: _ids(model, made, _ANSWER_TOKENS, "decoder_sequence"),
}
