"""The 24, and what each takes as a user says it to `nnx export`: names are dynamic axes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toolchain.inputs import input_specs
from toolchain.inputs.input_specs import BATCH, Spec

FOLDER = Path(__file__).resolve().parent
Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """``factory`` in ``file`` makes it; ``multiple`` is what lengths of its axes but the batch must be multiples of."""

    name: str
    file: str
    factory: str
    inputs: tuple[str, ...]
    lengths: Mapping[str, int]
    multiple: int = 1

    @property
    def source(self) -> str:
        """As `nnx export` takes it."""
        return f"{FOLDER / self.file}.py:{self.factory}"

    @property
    def specs(self) -> tuple[Spec, ...]:
        """A number on axis 0 is meant as it stands: where there is a batch it has its name."""
        parsed = input_specs.parsed(self.inputs)[0]
        return tuple(replace(each, shape=(each.first, *each.shape[1:])) if each.first else each for each in parsed)

    def at(self, lengths: Mapping[str, int], random: np.random.Generator) -> Arrays:
        """Values for one call."""
        return {
            spec.name: spec.drawn(
                random, tuple(axis if isinstance(axis, int) else lengths[axis] for axis in spec.shape)
            ).astype(spec.dtype)
            for spec in self.specs
        }

    def samples(self, count: int, random: np.random.Generator) -> Arrays:
        """As `nnx quantize --calibration` takes them: one axis in front counts samples."""
        parts = [self.at({**self.lengths, BATCH: 1}, random) for _ in range(count)]
        made: Arrays = {}
        for spec in self.specs:
            values = [part[spec.name] for part in parts]
            axis = spec.shape.index(BATCH) if BATCH in spec.shape else None
            stacked = np.stack([value if axis is None else value.squeeze(axis) for value in values])
            made[spec.name] = _unlike_each_other(stacked, random)
        return made

    def calls(self) -> list[dict[str, int]]:
        """Lengths that the export is judged at, none of which its own proof needs to have tried."""
        others = list(self.lengths)
        made = []
        for batch, more in ((1, 0), (3, 1), (5, 2)):
            longer = {
                name: self.lengths[name] + more * self.multiple * (place + 1) for place, name in enumerate(others)
            }
            made.append({BATCH: batch, **longer})
        return made


def _unlike_each_other(values: npt.NDArray[Any], random: np.random.Generator) -> npt.NDArray[Any]:
    """Each channel of each sample brighter or darker: a net that averages over noise alone gives one answer for all."""
    if values.dtype != np.float32 or values.ndim < 3:
        return values
    level = random.standard_normal((*values.shape[:2], *(1 for _ in values.shape[2:])))
    return (values + level).astype(np.float32)


_IMAGE = ("image=float32[batch,3,height,width]",)
_IMAGE_LENGTHS = {"height": 32, "width": 48}
_TEXT = {"sequence": 12}
_MASK = "attention_mask=int64[batch,sequence]>=0<2"
_IDS = "input_ids=int64[batch,sequence]<200"
_PAST = tuple(f"past.{layer}.{part}=float32[batch,4,past,12]" for layer in range(2) for part in range(2))


def _image(name: str, file: str, factory: str, *, multiple: int = 1) -> Architecture:
    return Architecture(name=name, file=file, factory=factory, inputs=_IMAGE, lengths=_IMAGE_LENGTHS, multiple=multiple)


ARCHITECTURES = (
    Architecture(name="MLP", file="tables_and_series", factory="mlp", inputs=("x=float32[batch,64]",), lengths={}),
    _image("ResNet", "image_classifiers", "resnet"),
    _image("MobileNetV3", "image_classifiers", "mobilenetv3"),
    _image("EfficientNet", "image_classifiers", "efficientnet"),
    _image("ConvNeXt", "image_classifiers", "convnext"),
    _image("U-Net", "images_to_images", "unet"),
    Architecture(
        name="ViT", file="image_attention", factory="vit", inputs=("image=float32[batch,3,32,32]",), lengths={}
    ),
    Architecture(
        name="Swin", file="image_attention", factory="swin", inputs=("image=float32[batch,3,36,44]",), lengths={}
    ),
    _image("DETR", "detectors", "detr"),
    _image("YOLO", "detectors", "yolo", multiple=8),
    Architecture(
        name="BERT", file="encoders", factory="bert", lengths=_TEXT,
        inputs=(_IDS, _MASK, "token_type_ids=int64[batch,sequence]<2"),
    ),
    Architecture(name="DistilBERT", file="encoders", factory="distilbert", inputs=(_IDS, _MASK), lengths=_TEXT),
    Architecture(
        name="GPT-2", file="decoders", factory="gpt2", inputs=("ids=int64[batch,sequence]<200", *_PAST),
        lengths={"sequence": 4, "past": 9},
    ),
    Architecture(
        name="T5", file="decoders", factory="t5", lengths={"source": 12, "target": 7},
        inputs=(
            "input_ids=int64[batch,source]<200", "attention_mask=int64[batch,source]>=0<2",
            "decoder_input_ids=int64[batch,target]<200",
        ),
    ),
    Architecture(
        name="Whisper", file="audio", factory="whisper", lengths={"frames": 40, "tokens": 6},
        inputs=("features=float32[batch,16,frames]", "ids=int64[batch,tokens]<200"),
    ),
    Architecture(
        name="CLIP", file="encoders", factory="clip", lengths={"texts": 3, "sequence": 9},
        inputs=("image=float32[batch,3,32,32]", "ids=int64[texts,sequence]<200"),
    ),
    Architecture(
        name="wav2vec2", file="audio", factory="wav2vec2", lengths={"samples": 3200},
        inputs=("wave=float32[batch,samples]",),
    ),
    Architecture(
        name="LSTM", file="tables_and_series", factory="lstm", inputs=("series=float32[batch,time,8]",),
        lengths={"time": 20},
    ),
    Architecture(
        name="GRU", file="tables_and_series", factory="gru", lengths={"time": 20},
        inputs=("series=float32[batch,time,8]", "state=float32[2,batch,32]"),
    ),
    Architecture(
        name="TCN", file="tables_and_series", factory="tcn", inputs=("series=float32[batch,4,time]",),
        lengths={"time": 30},
    ),
    Architecture(
        name="PointNet", file="sets", factory="pointnet", inputs=("points=float32[batch,3,points]",),
        lengths={"points": 50},
    ),
    Architecture(
        name="GNN", file="sets", factory="gnn", lengths={"nodes": 20, "edges": 60},
        inputs=("nodes=float32[nodes,8]", "edges=int64[2,edges]<12"),
    ),
    _image("VAE", "images_to_images", "vae", multiple=4),
    Architecture(
        name="diffusion U-Net", file="images_to_images", factory="diffusion_unet",
        lengths={"height": 16, "width": 24, "tokens": 7},
        inputs=(
            "sample=float32[batch,4,height,width]", "timestep=int64[batch]<1000", "text=float32[batch,tokens,32]",
        ),
    ),
)  # fmt: skip


def module_of(architecture: Architecture) -> torch.nn.Module:
    """The module, fresh."""
    from toolchain.inputs import sources

    made = sources.attribute_named(architecture.source)()
    assert isinstance(made, torch.nn.Module)
    return made
