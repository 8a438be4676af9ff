"""The ordinary augmentation of the study: what synthetic images have to beat."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.classify.ultrasound_augment import ultrasound_augmentation
from sonosynth.core.draws import Draws

MAX_ROTATION = math.radians(10)
MAX_SHIFT = 0.1
SCALES = (0.85, 1.15)
MAX_GAIN = 0.2
CONTRASTS = (0.75, 1.25)
GAMMAS = (0.7, 1.4)
MAX_NOISE = 0.05


def classical_augmentation(x: Tensor, draws: Draws) -> Tensor:
    """Augment images ``[N, 1, H, W]`` in [0, 1] as is usual for B-mode, each with draws of its own.

    One of depth attenuation, haze, shadow and speckle reduction, or none; horizontal flip, rotation within ±10°, shift
    within 10 % of the side, zoom 0.85 to 1.15; gamma, contrast, gain (of a log-compressed image: a shift of its values)
    and Gaussian noise. No vertical flip and no large rotation: depth runs down, and shadows with it.
    """
    x = ultrasound_augmentation(x, draws)  # first, while depth runs straight down
    x = _geometry(x, draws)
    n = len(x)
    x = x.clamp(0, 1) ** _between(draws, n, *GAMMAS)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * _between(draws, n, *CONTRASTS) + mean + _between(draws, n, -MAX_GAIN, MAX_GAIN)
    x = x + draws.normal(*x.shape) * _between(draws, n, 0, MAX_NOISE)
    return x.clamp(0, 1)


def _between(draws: Draws, n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * draws.uniform(n, 1, 1, 1)


def _geometry(x: Tensor, draws: Draws) -> Tensor:
    n = len(x)
    angle = (draws.uniform(n) * 2 - 1) * MAX_ROTATION
    zoom = SCALES[0] + (SCALES[1] - SCALES[0]) * draws.uniform(n)
    flip = torch.where(draws.uniform(n) < 0.5, -1.0, 1.0)
    shift = (draws.uniform(n, 2) * 2 - 1) * 2 * MAX_SHIFT  # the grid runs from -1 to 1
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    rows = [torch.stack([cosine * flip, -sine, shift[:, 0]], 1), torch.stack([sine * flip, cosine, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
