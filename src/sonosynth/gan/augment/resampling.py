"""Affine transforms of one-channel images that alias little and reflect at the border, differentiable to any order.

They are the geometric transforms of adaptive discriminator augmentation (Karras et al., Training Generative Adversarial
Networks with Limited Data, NeurIPS 2020, appendix B), whatever decides which image gets which.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Orthonormal low-pass filter of the symlet with 6 vanishing moments (Daubechies, Ten Lectures on Wavelets).
SYM6 = np.array([
    0.015404109327044824, 0.0034907120842221625, -0.11799011114852003, -0.048311742585698055,
    0.49105594192797373, 0.787641141028651, 0.33792942172816583, -0.072637522786376583,
    -0.021060292512370848, 0.044724901770781385, 0.0017677118642540077, -0.0078007083250323804,
])  # fmt: skip


def _source(inverse: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return where ``x [W]`` and ``y [H]`` come from: two ``[N, H, W]``."""
    a = inverse[:, :2, :, None, None]
    source = a[:, :, 0] * x + a[:, :, 1] * y[:, None] + a[:, :, 2]
    return source[:, 0], source[:, 1]


def _reflected(position: Tensor, n: int) -> Tensor:
    """Fold positions into [0, n - 1] as mirrors at the centres of the first and last pixel do, however far out."""
    period = 2 * (n - 1)
    return (n - 1) - (position.remainder(period) - (n - 1)).abs()


def move_pixels(images: Tensor, inverse: Tensor) -> Tensor:
    """Apply flips, quarter turns and whole-pixel shifts exactly, with reflection at the border.

    `inverse` ``[N, 3, 3]`` maps pixels of the result to pixels of the source ``[N, 1, H, W]``, about the centre.
    """
    height, width = images.shape[2:]
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    x, y = (torch.arange(n, dtype=images.dtype, device=images.device) for n in (width, height))
    source_x, source_y = _source(inverse, x - center_x, y - center_y)
    column = _reflected((source_x + center_x).round().long(), width)
    row = _reflected((source_y + center_y).round().long(), height)
    index = (row * width + column).flatten(1)
    return images.flatten(1).gather(1, index).reshape(images.shape)


def resample(images: Tensor, inverse: Tensor) -> Tensor:
    """Apply affine transforms: double the size with an orthogonal filter, interpolate bilinearly, halve it again.

    Reflection continues an image without end, so nothing foreign moves in; where the filter's margin of three pixels
    ends, positions are folded back instead of padding further, and the size of everything is fixed. Arguments are those
    of `move_pixels`.
    """
    (up_y, down_y), (up_x, down_x) = (_resampling_matrices(n, images.dtype, images.device) for n in images.shape[2:])
    # Where the samples of the doubled grid lie, in pixels from the centre.
    y, x = (
        (torch.arange(len(up), dtype=up.dtype, device=up.device) - _DELAY) / 2 - (up.shape[1] - 1) / 2
        for up in (up_y, up_x)
    )
    source_x, source_y = _source(inverse, x, y)
    grid = torch.stack([_grid_coordinate(source_x, up_x), _grid_coordinate(source_y, up_y)], dim=3)
    fine = up_y @ images @ up_x.t()
    warped: Tensor = _Interpolation.apply(fine, grid)  # type: ignore[no-untyped-call]
    return down_y @ warped @ down_x.t()


# Delay of the filter at frequency zero, in samples of the doubled grid. Taking it for the centre keeps straight ramps
# straight and in place; the middle tap 5.5 would move flipped or scaled images by up to 0.4 pixels.
_DELAY = float((np.arange(12) * SYM6).sum() / SYM6.sum())


def _grid_coordinate(position: Tensor, up: Tensor) -> Tensor:
    """Return positions in pixels from the centre as `grid_sample` takes them: -1 the first, 1 the last fine sample."""
    last, position = len(up) - 1, position + (up.shape[1] - 1) / 2
    index = 2 * position + _DELAY
    inside = (index > -0.01) & (index < last + 0.01)  # rounding must not turn the outermost samples away
    index = torch.where(inside, index, 2 * _reflected(position, up.shape[1]) + _DELAY)
    return index * (2 / last) - 1


@lru_cache(maxsize=32)
def _resampling_matrices(n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ``[2n + 10, n]``, which doubles a reflected line, and ``[n, 2n + 10]``, which halves it: its inverse."""
    up, down = np.zeros((2 * n + 10, n)), np.zeros((n, 2 * n + 10))
    for k in range(-5, n + 5):
        for tap, weight in enumerate(SYM6):
            if 0 <= 2 * k + tap < len(up):
                up[2 * k + tap, mirror(k, n)] += math.sqrt(2) * weight
            if 0 <= k < n:
                down[k, 2 * k + tap] = weight / math.sqrt(2)
    return constant(up, dtype, device), constant(down, dtype, device)


def mirror(k: int, n: int) -> int:
    """Fold sample `k` into 0, ..., n - 1 as mirrors at the first and last sample do, however far out."""
    return (n - 1) - abs(k % (2 * (n - 1)) - (n - 1))


def constant(values: NDArray[np.float64], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return `values` as a tensor that may be cached: it does for training even when made in inference mode."""
    with torch.inference_mode(False):
        return torch.as_tensor(values, dtype=dtype, device=device)


class _Interpolation(torch.autograd.Function):
    """Bilinear sampling of ``[N, 1, H, W]`` at ``grid [N, h, w, 2]``, differentiable to any order in the images alone.

    Sampling at fixed positions is linear: its derivative is the transposed sampling, whose derivative is the sampling
    again. PyTorch's own second derivative of `grid_sample` is recent, and computes gradients of the grid as well.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = images.shape
        return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _TransposedInterpolation.apply(gradients[0], grid, ctx.size), None  # type: ignore[no-untyped-call]


class _TransposedInterpolation(torch.autograd.Function):
    """Scatter values at ``grid [N, h, w, 2]`` back into images of `size`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        like = values.new_zeros(1).expand(size)  # the result depends on the size alone, not on what was sampled
        bilinear, border = 0, 1
        result: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            values, like, grid, bilinear, border, True, (True, False)
        )[0]
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Interpolation.apply(gradients[0], grid), None, None  # type: ignore[no-untyped-call]
