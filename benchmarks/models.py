"""The four nets of the int8 benchmarks, and inputs for them: ResNet-18, MobileNetV2, an encoder, the SST-2 perceptron.

The two image nets have torchvision's layers and names. Weights are random from a seed; BatchNorm statistics are
gathered on seeded images, so activations have the sizes that those of a trained net have. That is enough for speed and
for SQNR; accuracies are measured on trained recipes.

Each ends in a recipe that nnx takes as ``benchmarks/models.py:resnet18_recipe``; it cannot be trained.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from exporters import torch_onnx
from toolchain.datasets import image_tree
from toolchain.datasets.dataset import DataSource
from toolchain.errors import BadUsage
from toolchain.recipes.recipe import Recipe
from toolchain.recipes.sst2 import sentiment_mlp

Array = npt.NDArray[np.generic]

_SIZE = 224
# ImageNet's, which images for these nets are normalised with
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
_SEED = 42
_STATISTICS_IMAGES = 32
_VOCABULARY, _TOKENS, _HIDDEN, _HEADS, _LAYERS, _FEED_FORWARD = 30522, 128, 384, 12, 6, 1536
_TERMS, _TERMS_PER_TEXT = 5000, 12


class ResNet18(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000), 11.7 million parameters (He et al. 2015); torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_BasicBlock(64, 64, 1), _BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(_BasicBlock(64, 128, 2), _BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(_BasicBlock(128, 256, 2), _BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(_BasicBlock(256, 512, 2), _BasicBlock(512, 512, 1))
        self.fc = nn.Linear(512, 1000)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, stride=2, padding=1)
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        scores: torch.Tensor = self.fc(F.adaptive_avg_pool2d(features, 1).flatten(1))
        return scores


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(features)))))
        return F.relu(result + self.downsample(features))


class MobileNetV2(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000), 3.5 million parameters (Sandler et al. 2018); torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        # expansion, channels out, blocks, stride of the first
        stages = (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        )  # fmt: skip
        layers: list[nn.Module] = [_convolution(3, 32, kernel=3, stride=2)]
        width = 32
        for expansion, outputs, blocks, stride in stages:
            for index in range(blocks):
                layers.append(_InvertedResidual(width, outputs, stride if index == 0 else 1, expansion))
                width = outputs
        self.features = nn.Sequential(*layers, _convolution(width, 1280))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(image), 1).flatten(1))
        return scores


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([_convolution(inputs, hidden)] if expansion != 1 else []),
            _convolution(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.conv(features)
        return features + result if self.residual else result


def _convolution(inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class Encoder(nn.Module):
    """Token ids (N, 128) int64 -> (N, 384), the mean over the tokens: all-MiniLM-L6 in size, post-norm as BERT is."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_VOCABULARY, _HIDDEN)
        self.positions = nn.Parameter(torch.zeros(_TOKENS, _HIDDEN))
        self.norm = nn.LayerNorm(_HIDDEN, eps=1e-12)
        self.layers = nn.Sequential(*(_EncoderLayer() for _ in range(_LAYERS)))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.layers(self.norm(self.words(input_ids) + self.positions))
        return states.mean(dim=1)


class _EncoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(_HIDDEN, _HIDDEN) for _ in range(3))
        self.out = nn.Linear(_HIDDEN, _HIDDEN)
        self.attention_norm = nn.LayerNorm(_HIDDEN, eps=1e-12)
        self.up, self.down = nn.Linear(_HIDDEN, _FEED_FORWARD), nn.Linear(_FEED_FORWARD, _HIDDEN)
        self.feed_forward_norm = nn.LayerNorm(_HIDDEN, eps=1e-12)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            project(states).unflatten(-1, (_HEADS, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        states = self.attention_norm(states + self.out(attended))
        result: torch.Tensor = self.feed_forward_norm(states + self.down(F.gelu(self.up(states))))
        return result


def resnet18() -> nn.Module:
    """ResNet-18 in eval mode, the same at every call."""
    return _image_net(ResNet18)


def mobilenetv2() -> nn.Module:
    """MobileNetV2 in eval mode, the same at every call."""
    return _image_net(MobileNetV2)


def encoder() -> nn.Module:
    """The encoder in eval mode, the same at every call; weights as BERT draws them."""
    with _seeded():
        module = Encoder()
        for parameter in module.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
    return module.eval()


def sst2() -> nn.Module:
    """The recipe's perceptron, untrained, in eval mode, the same at every call."""
    with _seeded():
        return sentiment_mlp().eval()


def _image_net(kind: Callable[[], nn.Module]) -> nn.Module:
    """Weights as He et al. draw them, then BatchNorm statistics averaged over seeded images."""
    with _seeded():
        module = kind()
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # a plain average over all batches
        images = torch.from_numpy(
            np.stack(list(itertools.islice(_noise_images(np.random.default_rng(_SEED)), _STATISTICS_IMAGES)))
        )
        module.train()
        with torch.inference_mode():
            for batch in torch.split(images, 16):
                module(batch)
    return module.eval()


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """PyTorch's generator at a fixed seed inside the block, and as it was after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        yield


@dataclass(frozen=True, kw_only=True)
class Net:
    """One net of the benchmarks; ``samples`` draws endless inputs without the batch axis.

    It is called with a generator, the folder of images (None without one) and the split, train or test.
    """

    recipe: Recipe
    opset: int
    samples: Callable[[np.random.Generator, Path | None, str], Iterator[Array]]


def export(name: str, folder: Path, *, opset: int | None = None) -> Path:
    """Write the net ``name`` to ``folder`` as nnx exports it, at its own opset unless told, and return the path."""
    net = NETS[name]
    path = folder / f"{name}-opset{opset or net.opset}.onnx"
    example = {key: torch.from_numpy(array) for key, array in inputs(name, 2).items()}
    names = [net.recipe.output_name]
    torch_onnx.export(net.recipe.model(), path, example_inputs=example, output_names=names, opset=opset or net.opset)
    return path


def inputs(
    name: str, count: int, *, seed: int = 0, data: Path | None = None, split: str = "train", path: Path | None = None
) -> dict[str, Array]:
    """Input name -> ``(count, ...)``, as the net takes it; the same for the same arguments.

    ``data`` is an image tree ``train/<class>/*``, ``test/<class>/*`` (CIFAR-10's, say): image nets get its images,
    enlarged; without it smooth noise. No two samples are alike, and none is in both splits. With ``path`` the array is
    a ``.npy`` file there, mapped into memory and filled sample by sample, so that it may be larger than the memory.
    """
    net = NETS[name]
    draw = np.random.default_rng([seed, split == "test"])
    samples = itertools.islice(net.samples(draw, data, split), count)
    if path is None:
        array: Array = np.stack(list(samples))
    else:
        first = next(samples)
        array = np.lib.format.open_memmap(path, "w+", first.dtype, (count, *first.shape))
        for row, sample in enumerate(itertools.chain([first], samples)):
            array[row] = sample
        array.flush()
    if len(array) < count:
        raise BadUsage(f"{data} has {len(array)} images in {split}, {count} were asked for.", "Ask for fewer.")
    return {net.recipe.input_name: array}


def _images(draw: np.random.Generator, data: Path | None, split: str) -> Iterator[Array]:
    return _noise_images(draw) if data is None else _photographs(draw, data / split)


def _photographs(draw: np.random.Generator, folder: Path) -> Iterator[Array]:
    """The tree's images in random order, each once, enlarged to (3, 224, 224)."""
    classes = sorted(path for path in folder.glob("*") if path.is_dir())
    files = [file for path in classes for file in image_tree.images_in(path)]
    if not files:
        raise BadUsage(f"{folder} has no class folders with images.", "Unpack CIFAR-10 as an image tree.")
    for index in draw.permutation(len(files)):
        with Image.open(files[index]) as image:
            large = image.convert("RGB").resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
        yield ((np.asarray(large, np.float32).transpose(2, 0, 1) / 255 - _MEAN) / _STD).astype(np.float32)


def _noise_images(draw: np.random.Generator) -> Iterator[npt.NDArray[np.float32]]:
    """Endless images (3, 224, 224) whose amplitudes fall with frequency as those of photographs do (Field 1987)."""
    rows, columns = np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1 / _SIZE)
    while True:
        spectrum = draw.normal(size=(2, 3, _SIZE, _SIZE // 2 + 1)) / frequency
        image = np.fft.irfft2(spectrum[0] + 1j * spectrum[1], s=(_SIZE, _SIZE))
        # the three colours of a photograph go together
        image = 0.8 * image[:1] + 0.4 * image
        image = 0.45 + 0.25 * (image - image.mean()) / image.std()
        yield ((np.clip(image, 0, 1) - _MEAN) / _STD).astype(np.float32)


def _token_ids(draw: np.random.Generator, data: Path | None, split: str) -> Iterator[Array]:
    """Texts (128,) of token ids whose frequencies fall as those of words do (Zipf)."""
    while True:
        yield (draw.zipf(1.2, size=_TOKENS) % _VOCABULARY).astype(np.int64)


def _term_weights(draw: np.random.Generator, data: Path | None, split: str) -> Iterator[Array]:
    """TF-IDF vectors (5000,) of unit length: a few terms a text, the rest 0, as a review has."""
    while True:
        vector = np.zeros(_TERMS, np.float32)
        vector[draw.choice(_TERMS, _TERMS_PER_TEXT, replace=False)] = draw.uniform(0.2, 1.0, _TERMS_PER_TEXT)
        yield vector / np.linalg.norm(vector)


def _untrainable(data: Path | None) -> DataSource:
    raise BadUsage("The nets of benchmarks/models.py have no training data.", "Train one of nnx's recipes.")


def _recipe(name: str, model: Callable[[], nn.Module], input_name: str) -> Recipe:
    return Recipe(name=name, model=model, data=_untrainable, epochs=1, batch_size=32, lr=0.1, input_name=input_name)


resnet18_recipe = _recipe("resnet18", resnet18, "image")
mobilenetv2_recipe = _recipe("mobilenetv2", mobilenetv2, "image")
encoder_recipe = _recipe("encoder", encoder, "input_ids")
sst2_recipe = _recipe("sst2", sst2, "tfidf")

NETS = {
    "resnet18": Net(recipe=resnet18_recipe, opset=torch_onnx.DEFAULT_OPSET, samples=_images),
    "mobilenetv2": Net(recipe=mobilenetv2_recipe, opset=torch_onnx.DEFAULT_OPSET, samples=_images),
    # opset 23 has Attention as one operator
    "encoder": Net(recipe=encoder_recipe, opset=23, samples=_token_ids),
    "sst2": Net(recipe=sst2_recipe, opset=torch_onnx.DEFAULT_OPSET, samples=_term_weights),
}
"""By name."""
