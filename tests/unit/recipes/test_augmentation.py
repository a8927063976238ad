import pytest
import torch

from toolchain.recipes.augmentation import random_affine

IMAGES = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_asked_changes_nothing() -> None:
    torch.testing.assert_close(random_affine()(IMAGES, generator()), IMAGES, atol=1e-5, rtol=0)


def test_it_follows_the_generator() -> None:
    change = random_affine(degrees=10, shift=0.1, scale=0.1, flip=True)
    assert torch.equal(change(IMAGES, generator()), change(IMAGES, generator()))
    assert not torch.equal(change(IMAGES, generator()), change(IMAGES, generator(1)))


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    flipped = random_affine(flip=True)(IMAGES, generator())
    mirrored = torch.isclose(flipped, IMAGES.flip(3), atol=1e-5).flatten(1).all(1)
    kept = torch.isclose(flipped, IMAGES, atol=1e-5).flatten(1).all(1)
    assert (mirrored | kept).all()
    assert 2 <= int(mirrored.sum()) <= 14


@pytest.mark.parametrize("shift", [0.125, 0.25])
def test_a_shift_stays_within_its_share(shift: float) -> None:
    spots = torch.zeros(64, 1, 16, 16)
    spots[:, :, 8, 8] = 1
    moved = random_affine(shift=shift)(spots, generator())
    rows, columns = moved.sum((1, 3)), moved.sum((1, 2))
    for weights in (rows, columns):
        centre = (weights * torch.arange(16)).sum(1) / weights.sum(1)
        assert (centre - 8).abs().max() <= 16 * shift + 0.01
        assert (centre - 8).abs().max() > 16 * shift * 0.5
