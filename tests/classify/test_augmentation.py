import math

import numpy as np
import pytest
import torch

from sonosynth.classify.augmentation import (
    classical_augmentation,
    depth_attenuation,
    gaussian_shadow,
    haze,
    speckle_reduction,
    ultrasound_augmentation,
)
from sonosynth.core.draws import Draws

SIDE = 12


def draws(step: int = 0) -> Draws:
    return Draws(0, "test", step, torch.device("cpu"))


def each(*values: float) -> torch.Tensor:
    return torch.tensor(values)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def by_pixel(x: torch.Tensor, value) -> np.ndarray:
    """Return ``value(image, pixel, depth, lateral)`` of every pixel, with positions from 0 to 1."""
    made = np.empty(x.shape)
    for n, _, i, j in np.ndindex(*x.shape):
        made[n, 0, i, j] = value(n, float(x[n, 0, i, j]), i / (SIDE - 1), j / (SIDE - 1))
    return made


def test_attenuation_haze_and_shadow_are_those_of_the_formulas(x):
    rate = each(0.0, 2.5)
    assert np.allclose(depth_attenuation(x, rate), by_pixel(x, lambda n, p, d, _: p * math.exp(-rate[n] * d)))
    depth, width, noise = each(0.3, 0.9), each(0.02, 0.1), torch.rand_like(x)

    def hazy(n, pixel, d, lateral):
        static = float(noise[n, 0, round(d * (SIDE - 1)), round(lateral * (SIDE - 1))])
        return min(1, pixel + 0.5 * static * math.exp(-((d - depth[n]) ** 2) / (2 * width[n] ** 2)))

    assert np.allclose(haze(x, depth, width, noise), by_pixel(x, hazy), atol=1e-6)
    strength, centre, sigma = each(0.3, 0.8), (each(0.1, 0.5), each(0.9, 0.4)), (each(0.1, 0.2), each(0.05, 0.1))

    def shadowed(n, pixel, d, lateral):
        power = (d - centre[0][n]) ** 2 / (2 * sigma[0][n] ** 2) + (lateral - centre[1][n]) ** 2 / (
            2 * sigma[1][n] ** 2
        )
        return pixel * (1 - strength[n] * math.exp(-power))

    assert np.allclose(gaussian_shadow(x, strength, centre, sigma), by_pixel(x, shadowed), atol=1e-6)


def test_speckle_reduction_is_a_bilateral_filter(x):
    spatial, intensity = each(0.7, 1.9), each(0.1, 0.6)
    made = speckle_reduction(x, spatial, intensity).numpy()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    for n, i, j in np.ndindex(2, SIDE, SIDE):
        window, middle = padded[n, 0, i : i + 5, j : j + 5], float(x[n, 0, i, j])
        distance = np.add.outer(np.arange(-2, 3) ** 2, np.arange(-2, 3) ** 2)
        weight = np.exp(-distance / (2 * float(spatial[n]) ** 2))
        weight = weight * np.exp(-((window - middle) ** 2) / (2 * float(intensity[n]) ** 2))
        assert made[n, 0, i, j] == pytest.approx((weight * window).sum() / weight.sum(), abs=1e-5)


def test_speckle_is_reduced_and_edges_stay():
    edge = torch.cat([torch.full((SIDE, SIDE // 2), 0.2), torch.full((SIDE, SIDE // 2), 0.9)], 1)
    noisy = edge + 0.02 * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    calm = speckle_reduction(noisy, each(2.0), each(0.1))
    assert calm[0, 0, :, :6].std() < 0.5 * noisy[0, 0, :, :6].std()
    assert (calm[0, 0, :, 6] - calm[0, 0, :, 5]).min() > 0.6


def test_one_ultrasound_transform_or_none_is_drawn_for_an_image():
    x = torch.rand(1, 1, 16, 16).expand(400, -1, -1, -1).contiguous()
    made = ultrasound_augmentation(x, draws())
    same = (made == x).all(dim=3).all(dim=2).squeeze(1)
    assert 0.12 < same.float().mean() < 0.28
    assert len({image.numpy().tobytes() for image in made[~same]}) == int((~same).sum())
    assert made.min() >= 0 and made.max() <= 1 and made.isfinite().all()


def test_classical_augmentation_is_drawn_per_image_and_stays_in_range():
    x = torch.rand(1, 1, 32, 32).expand(8, -1, -1, -1).contiguous()
    made = classical_augmentation(x, draws())
    assert made.shape == x.shape
    assert made.min() >= 0 and made.max() <= 1
    assert len({image.numpy().tobytes() for image in made}) == 8
    assert torch.equal(made, classical_augmentation(x, draws()))
    assert not torch.equal(made, classical_augmentation(x, draws(1)))


def test_classical_augmentation_never_turns_depth_upside_down():
    depth = torch.linspace(1, 0, 32)[:, None].expand(32, 32)
    made = classical_augmentation(depth.expand(64, 1, 32, 32).contiguous(), draws())
    assert (made[:, 0, :10].mean(dim=(1, 2)) > made[:, 0, -10:].mean(dim=(1, 2))).float().mean() > 0.95
