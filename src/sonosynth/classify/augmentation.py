"""The ordinary augmentation of the study, which synthetic images have to beat: geometry, grey values, and ultrasound.

Of the ultrasound transforms, depth attenuation and haze are after Østvik et al., Myocardial Function Imaging in
Echocardiography Using Deep Learning, IEEE TMI 40(5):1340-1351, 2021; shadows and bilateral filtering after Smistad et
al., Highlighting nerves and blood vessels for ultrasound-guided axillary nerve block procedures using neural networks,
J. Medical Imaging 5(4):044004, 2018. Formulas and ranges are those in which Tupper & Gagné (Revisiting Data
Augmentation for Ultrasound Images, 2025, arXiv 2501.13193) published them as ``usaugment``. Two things differ: they
measure the way of the sound from the middle of the upper border, the apex of a sector, and here it is the depth below a
linear array, as breasts are scanned; and images have no scan mask, so all of an image is changed.

All functions take images ``[N, 1, H, W]`` in [0, 1]; parameters are ``[N]``, one value per image.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.core.draws import Draws

MAX_ROTATION = math.radians(10)
MAX_SHIFT = 0.1
SCALES = (0.85, 1.15)
MAX_GAIN = 0.2
CONTRASTS = (0.75, 1.25)
GAMMAS = (0.7, 1.4)
MAX_NOISE = 0.05

ATTENUATION_RATES = (0.0, 3.0)
HAZE_DEPTHS, HAZE_WIDTHS = (0.05, 0.95), (0.001, 0.1)  # theirs begin at 0, where the formula divides by it
SHADOW_STRENGTHS, SHADOW_WIDTHS = (0.25, 0.8), (0.01, 0.2)
SPATIAL_SIGMAS, INTENSITY_SIGMAS = (0.1, 2.0), (0.01, 1.0)  # theirs begin at 0, likewise
WINDOW = 5
_KINDS = 4


def classical_augmentation(x: Tensor, draws: Draws) -> Tensor:
    """Augment images ``[N, 1, H, W]`` in [0, 1] as is usual for B-mode, each with draws of its own.

    One of depth attenuation, haze, shadow and speckle reduction, or none; horizontal flip, rotation within ±10°, shift
    within 10 % of the side, zoom 0.85 to 1.15; gamma, contrast, gain (of a log-compressed image: a shift of its values)
    and Gaussian noise. No vertical flip and no large rotation: depth runs down, and shadows with it.
    """
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * draws.uniform(n, 1, 1, 1)

    x = _geometry(ultrasound_augmentation(x, draws), draws)  # ultrasound first, while depth runs straight down
    x = x.clamp(0, 1) ** uniform(*GAMMAS)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * uniform(*CONTRASTS) + mean + uniform(-MAX_GAIN, MAX_GAIN)
    x = x + draws.normal(*x.shape) * uniform(0, MAX_NOISE)
    return x.clamp(0, 1)


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


def depth_attenuation(x: Tensor, rate: Tensor) -> Tensor:
    """Multiply by exp(-rate · depth), with depth from 0 at the upper border to 1 at the lower."""
    return x * torch.exp(-_each(rate) * _axis(x, 2))


def haze(x: Tensor, depth: Tensor, width: Tensor, noise: Tensor) -> Tensor:
    """Add half of `noise` ``[N, 1, H, W]`` in [0, 1), weighted by a Gaussian band at `depth`; clip to [0, 1]."""
    band = torch.exp(-((_axis(x, 2) - _each(depth)) ** 2) / (2 * _each(width) ** 2))
    return (x + 0.5 * noise * band).clamp(0, 1)


def gaussian_shadow(x: Tensor, strength: Tensor, centre: tuple[Tensor, Tensor], sigma: tuple[Tensor, Tensor]) -> Tensor:
    """Darken by up to `strength` around `centre` with Gaussian widths `sigma`, both (depth, lateral) in sides."""
    depth = (_axis(x, 2) - _each(centre[0])) ** 2 / (2 * _each(sigma[0]) ** 2)
    lateral = (_axis(x, 3) - _each(centre[1])) ** 2 / (2 * _each(sigma[1]) ** 2)
    return x * (1 - _each(strength) * torch.exp(-(depth + lateral)))


def speckle_reduction(x: Tensor, sigma_spatial: Tensor, sigma_intensity: Tensor) -> Tensor:
    """Filter bilaterally (Tomasi & Manduchi 1998) in a window of 5 × 5; the border is repeated outwards."""
    reach = WINDOW // 2
    height, width = x.shape[2:]
    padded = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    space, intensity = (-0.5 / _each(sigma) ** 2 for sigma in (sigma_spatial, sigma_intensity))
    total, weights = torch.zeros_like(x), torch.zeros_like(x)
    for i in range(WINDOW):
        for j in range(WINDOW):
            neighbour = padded[:, :, i : i + height, j : j + width]
            distance = (i - reach) ** 2 + (j - reach) ** 2
            weight = torch.exp(distance * space + (neighbour - x) ** 2 * intensity)
            total += weight * neighbour
            weights += weight
    return total / weights


def ultrasound_augmentation(x: Tensor, draws: Draws) -> Tensor:
    """Change each image ``[N, 1, H, W]`` in [0, 1] by one of the four transforms, or by none: one in five each."""
    n = len(x)
    kind = draws.integers(0, _KINDS + 1, n)
    first, second, third, fourth, fifth = draws.uniform(n, 5).unbind(1)
    noise = draws.uniform(*x.shape)
    made = x.clone()
    for number in range(_KINDS):
        at = torch.nonzero(kind == number).flatten()
        if len(at) == 0:
            continue
        a, b, c, d, e = (value[at] for value in (first, second, third, fourth, fifth))
        if number == 0:
            made[at] = depth_attenuation(x[at], _scaled(a, ATTENUATION_RATES))
        elif number == 1:
            made[at] = haze(x[at], _scaled(a, HAZE_DEPTHS), _scaled(b, HAZE_WIDTHS), noise[at])
        elif number == 2:
            sigma = (_scaled(d, SHADOW_WIDTHS), _scaled(e, SHADOW_WIDTHS))
            made[at] = gaussian_shadow(x[at], _scaled(a, SHADOW_STRENGTHS), (b, c), sigma)
        else:
            made[at] = speckle_reduction(x[at], _scaled(a, SPATIAL_SIGMAS), _scaled(b, INTENSITY_SIGMAS))
    return made


def _each(value: Tensor) -> Tensor:
    return value[:, None, None, None]


def _axis(x: Tensor, dimension: int) -> Tensor:
    """Return positions of 0 to 1 along a dimension of `x`, shaped to be combined with it."""
    position = torch.linspace(0, 1, x.shape[dimension], device=x.device)
    return position[:, None] if dimension == 2 else position


def _scaled(uniform: Tensor, between: tuple[float, float]) -> Tensor:
    return between[0] + (between[1] - between[0]) * uniform
