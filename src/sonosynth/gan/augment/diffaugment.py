"""Differentiable augmentation of real and generated images alike (Zhao et al., Differentiable Augmentation for
Data-Efficient GAN Training, NeurIPS 2020), for one channel: brightness and contrast stand for its colour operations.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sonosynth.core.draws import Draws
from sonosynth.gan.networks.layers import full_precision

TRANSLATION_RATIO = 1 / 8
CUTOUT_RATIO = 0.5  # of Zhao et al.


def brightness(x: Tensor, draws: Draws) -> Tensor:
    """Add a constant uniform in [-0.5, 0.5) to each image ``[N, 1, H, W]`` of range [-1, 1]."""
    return x + (draws.uniform(len(x), 1, 1, 1) - 0.5)


def contrast(x: Tensor, draws: Draws) -> Tensor:
    """Scale each image about its own mean by a factor uniform in [0.5, 1.5)."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (draws.uniform(len(x), 1, 1, 1) + 0.5) + mean


def translation(x: Tensor, draws: Draws) -> Tensor:
    """Shift each image by up to an eighth of its side in both directions; zero (mid-grey) moves in.

    A shift is a product with a 0/1 matrix from either side, which is exact and differentiable to any order.
    """
    n, _, height, width = x.shape
    rows = _shift_matrix(draws, n, height).to(x.dtype)
    columns = _shift_matrix(draws, n, width).to(x.dtype)
    with full_precision(x):
        return rows @ x @ columns.transpose(2, 3)


def _shift_matrix(draws: Draws, n: int, side: int) -> Tensor:
    reach = int(side * TRANSLATION_RATIO + 0.5)
    shift = draws.integers(-reach, reach + 1, n, 1, 1, 1)
    position = torch.arange(side, device=shift.device)
    return (position[:, None] + shift == position).float()


def cutout(x: Tensor, draws: Draws, ratio: float = CUTOUT_RATIO) -> Tensor:
    """Set a square of `ratio` of the side, at a random place that may reach over the border, to zero in each image."""
    n, _, height, width = x.shape
    inside_rows = _window(draws, n, height, ratio)[:, None, :, None]
    inside_columns = _window(draws, n, width, ratio)[:, None, None, :]
    return x * (1 - inside_rows * inside_columns).to(x.dtype)


def _window(draws: Draws, n: int, side: int, ratio: float) -> Tensor:
    length = int(side * ratio + 0.5)
    start = draws.integers(0, side + (1 - length % 2), n, 1) - length // 2
    position = torch.arange(side, device=start.device)
    return ((position >= start) & (position < start + length)).float()


OPERATIONS: dict[str, Callable[[Tensor, Draws], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "translation": translation,
    "cutout": cutout,
}
ALL_OPERATIONS = tuple(OPERATIONS)
"""The policy of Zhao et al.: colour (here brightness and contrast), translation and cutout."""


def diffaugment(x: Tensor, policy: tuple[str, ...], draws: Draws, cutout_ratio: float = CUTOUT_RATIO) -> Tensor:
    """Apply the operations of `policy` in order to images ``[N, 1, H, W]`` in [-1, 1], each with draws of its own.

    `cutout_ratio` is the side of the square that cutout hides, as a share of the image.
    """
    for name in policy:
        x = cutout(x, draws, cutout_ratio) if name == "cutout" else OPERATIONS[name](x, draws)
    return x
