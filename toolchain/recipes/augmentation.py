"""Random changes to whole batches of images at once: one call per batch instead of one per image."""

import math

import torch
import torch.nn.functional as F


def random_affine(
    *, degrees: float = 0.0, shift: float = 0.0, scale: float = 0.0, flip: bool = False
) -> "RandomAffine":
    """Rotate up to ``degrees`` either way, shift up to that share of the image, scale 1 +- ``scale``, mirror."""
    return RandomAffine(degrees, shift, scale, flip)


class RandomAffine:
    """Calls grid_sample once on a float batch ``(N, C, H, W)``; outside the image is 0, the mean after scaling."""

    def __init__(self, degrees: float, shift: float, scale: float, flip: bool) -> None:
        self._degrees, self._shift, self._scale, self._flip = degrees, shift, scale, flip

    def __call__(self, batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        count = len(batch)

        def uniform(limit: float) -> torch.Tensor:
            return (torch.rand(count, generator=generator) * 2 - 1) * limit

        angle, zoom = uniform(math.radians(self._degrees)), 1 + uniform(self._scale)
        mirror = 1 - 2 * torch.randint(0, 2 if self._flip else 1, (count,), generator=generator)
        cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        # grid_sample's coordinates run from -1 to 1, so a shift by a share of the image is twice that
        rows = [
            cosine * mirror,
            -sine,
            uniform(2 * self._shift),
            sine * mirror,
            cosine,
            uniform(2 * self._shift),
        ]
        matrices = torch.stack(rows, dim=1).view(count, 2, 3).to(batch.device, batch.dtype, non_blocking=True)
        grid = F.affine_grid(matrices, list(batch.shape), align_corners=False)
        return F.grid_sample(batch, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
