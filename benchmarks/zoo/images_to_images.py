"""Of the zoo: a U-Net for masks, a VAE, and a U-Net that takes a step of a diffusion, conditioned on a text."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.zoo.attention import Attention, seeded
from benchmarks.zoo.image_classifiers import convolution

Tensor = torch.Tensor


class UNet(nn.Module):
    """(N, 3, H, W) -> (N, 2, H, W), any size (Ronneberger et al. 2015)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(_double(*pair) for pair in zip([3, *widths], widths, strict=False))
        self.bottom = _double(widths[-1], widths[-1])
        self.up = nn.ModuleList(_double(2 * each, each // 2 if each > width else each) for each in reversed(widths))
        self.mask = nn.Conv2d(width, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = []
        for layer in self.down:
            image = layer(image)
            skips.append(image)
            image = F.max_pool2d(image, 2)
        image = self.bottom(image)
        for layer, skip in zip(self.up, reversed(skips), strict=True):
            image = F.interpolate(image, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            image = layer(torch.cat([skip, image], 1))
        mask: Tensor = self.mask(image)
        return mask


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(convolution(inputs, outputs), convolution(outputs, outputs))


def unet() -> nn.Module:
    return seeded(UNet, 8, 3, 32, 48)


class VAE(nn.Module):
    """(N, 3, H, W) -> its reconstruction from the mean of what it is coded as, that mean and the log variance."""

    def __init__(self, width: int = 16, latent: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.GroupNorm(4, width), nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.GroupNorm(4, 2 * width), nn.SiLU(),
            nn.Conv2d(2 * width, 2 * latent, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, 2 * width, 1), nn.SiLU(), nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.GroupNorm(4, width), nn.SiLU(), nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self.encoder(image).chunk(2, 1)
        log_variance = log_variance.clamp(-30, 20)
        code = mean
        if self.training:
            code = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return {"image_again": self.decoder(code), "mean": mean, "log_variance": log_variance}


def vae() -> nn.Module:
    return seeded(VAE)


class TimedBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice, the time added in between."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(4, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.time = nn.Linear(time_width, outputs)
        self.second = nn.Sequential(nn.GroupNorm(4, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        hidden = self.first(features) + self.time(F.silu(time))[:, :, None, None]
        result: Tensor = self.second(hidden) + self.skip(features)
        return result


class ToText(nn.Module):
    """Cross-attention of the places of an image to a text."""

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.attention = Attention(width, 4, text_width)

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        places = self.norm(features).flatten(2).transpose(1, 2)
        result: Tensor = features + self.attention(places, text).transpose(1, 2).reshape(features.shape)
        return result


class DiffusionUNet(nn.Module):
    """``sample`` (N, 4, H, W), ``timestep`` (N,), ``text`` (N, T, 32) -> the noise (N, 4, H, W)."""

    def __init__(self, width: int = 16, text_width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        self.enter, self.leave = nn.Conv2d(4, width, 3, padding=1), nn.Conv2d(width, 4, 3, padding=1)
        self.down = TimedBlock(width, 2 * width, 2 * width)
        self.to_text = ToText(2 * width, text_width)
        self.up = TimedBlock(3 * width, width, 2 * width)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        half = self.width // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half, device=sample.device) / half)
        angles = timestep[:, None].float() * rates
        time = self.time(torch.cat([angles.cos(), angles.sin()], -1))
        features = self.enter(sample)
        inner = self.to_text(self.down(F.avg_pool2d(features, 2, ceil_mode=True), time), text)
        inner = F.interpolate(inner, size=features.shape[-2:], mode="nearest")
        noise: Tensor = self.leave(self.up(torch.cat([features, inner], 1), time))
        return noise


def diffusion_unet() -> nn.Module:
    return seeded(DiffusionUNet)
