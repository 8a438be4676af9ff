"""Adaptive discriminator augmentation for one image channel (Karras et al., Training Generative Adversarial Networks
with Limited Data, NeurIPS 2020, here "the paper"): the transforms of its appendix B, at an adaptive probability.

Every transform is affine in the images, so it is differentiable to any order, and all of it stays on the device.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache, reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonosynth.core import distributed
from sonosynth.core.draws import Draws
from sonosynth.core.errors import RecipeError
from sonosynth.gan.augment.resampling import constant, mirror, move_pixels, resample
from sonosynth.gan.networks.layers import full_precision

# Orthonormal low-pass filter of the symlet with 2 vanishing moments (Daubechies, Ten Lectures on Wavelets).
SYM2 = np.array([1 + math.sqrt(3), 3 + math.sqrt(3), 3 - math.sqrt(3), 1 - math.sqrt(3)]) / (4 * math.sqrt(2))


@dataclass(frozen=True)
class AdaPolicy:
    """Which transforms `ada_augment` draws, and how strongly; False or 0 leaves one out.

    Strengths are those of the paper, except for rotation. Off by default is what a B-mode image cannot undergo, because
    depth runs down and bright means echo (`y_flip`, `rot90`, large rotations, `luma_flip`), and what the paper leaves
    out in the end (`filtering`, `noise`, `cutout`). Hue and saturation do not exist for one channel.
    Leaving out one of the first eleven does not change the draws of the others.

    Attributes:
        x_flip: mirror left and right, in half of the cases.
        y_flip: turn upside down, in half of the cases (not in the paper, where `rot90` and `x_flip` contain it).
        rot90: turn by 0, 90, 180 or 270 degrees.
        integer_translation: largest shift by whole pixels, as a share of the side; uniform.
        isotropic_scaling: standard deviation of log2 of the magnification; normal.
        rotation_degrees: each of two rotations, before and after anisotropic scaling, is uniform in ± this angle. The
            paper has 180; 5 keeps the sum within 10 degrees, what a tilted probe or a steered beam may do.
        anisotropic_scaling: standard deviation of log2 of s, which stretches s times across and 1/s times along depth.
        fractional_translation: standard deviation of a shift as a share of the side; normal.
        brightness: standard deviation of an added constant; normal. On log-compressed data this is gain.
        contrast: standard deviation of log2 of a factor about mid-grey; normal. On such data, dynamic range.
        luma_flip: invert grey values, in half of the cases.
        filtering: standard deviation of log2 of the gain of each of four frequency bands (the paper: 1).
        noise: scale of the half-normal standard deviation of added white noise (the paper: 0.1).
        cutout: side of the square set to mid-grey, as a share of the image (the paper: 0.5).
    """

    x_flip: bool = True
    y_flip: bool = False
    rot90: bool = False
    integer_translation: float = 0.125
    isotropic_scaling: float = 0.2
    rotation_degrees: float = 5.0
    anisotropic_scaling: float = 0.2
    fractional_translation: float = 0.125
    brightness: float = 0.2
    contrast: float = 0.5
    luma_flip: bool = False
    filtering: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0

    def __post_init__(self) -> None:
        limits = {"integer_translation": 1.0, "rotation_degrees": 180.0, "cutout": 1.0}
        for field in fields(self):
            value, limit = getattr(self, field.name), limits.get(field.name, math.inf)
            if field.type is not bool and not (0 <= value <= limit and math.isfinite(value)):
                upper = f"between 0 and {limit:g}" if math.isfinite(limit) else "0 or more"
                raise RecipeError(f"augmentation setting '{field.name}' = {value}: must be {upper}")


PUBLISHED = AdaPolicy(rot90=True, rotation_degrees=180.0, luma_flip=True)
"""What the paper uses (pixel blitting, geometry and colour, "bgc"), as far as it exists for one channel."""


def ada_augment(images: Tensor, p: Tensor | float, policy: AdaPolicy, draws: Draws) -> Tensor:
    """Apply every transform of `policy` to each image with probability `p`, independently, in the order of the paper.

    At p = 0 the values of `images` come back unchanged, bit for bit. Values are not clamped: they may leave [-1, 1].

    Args:
        images: ``[N, 1, H, W]`` in [-1, 1], float32 or float64; H and W at least 2.
        p: probability in [0, 1]; a scalar tensor on the device of the images is never read by the host.
        policy: transforms and their strengths.
        draws: where all randomness comes from.
    """
    gated = _Gated(draws, p, images)
    with full_precision(images):
        images = _geometry(images, policy, gated)
        images = images + _per_image(gated.normal(policy.brightness))
        images = images * _per_image(torch.exp2(gated.normal(policy.contrast)))
        images = images * _per_image(1 - 2 * gated.integers(2, policy.luma_flip))
        return _corruption(images, policy, gated)


class _Gated:
    """Parameters of one transform, one row an image: zero, which is neutral, except with probability p."""

    def __init__(self, draws: Draws, p: Tensor | float, images: Tensor):
        self.draws, self.p, self.n, self.dtype = draws, p, len(images), images.dtype

    def __call__(self, value: Tensor, p: Tensor | float | None = None) -> Tensor:
        gate = self.draws.uniform(self.n) < (self.p if p is None else p)
        return torch.where(gate.reshape(-1, *[1] * (value.ndim - 1)), value.to(self.dtype), 0.0)

    def normal(self, scale: float, *shape: int) -> Tensor:
        return self(self.draws.normal(self.n, *shape) * scale)

    def uniform(self, limit: float, *shape: int, p: Tensor | float | None = None) -> Tensor:
        return self((self.draws.uniform(self.n, *shape) * 2 - 1) * limit, p)

    def integers(self, end: int, wanted: bool) -> Tensor:
        return self(self.draws.integers(0, end, self.n) * wanted)


# Geometry. A transform is a matrix [N, 3, 3] on (x right, y down, 1), in pixels from the centre of the image. What is
# composed are the inverses: they say where in the source a pixel of the result comes from.


def _geometry(images: Tensor, policy: AdaPolicy, gated: _Gated) -> Tensor:
    """Compose all geometric transforms of an image into one, and resample once.

    Images that drew nothing but flips, quarter turns and whole-pixel shifts are moved exactly instead.
    """
    blit = _blitting(images, policy, gated)
    warp, warped = _warping(images, policy, gated)
    exact = move_pixels(images, blit)
    scaling = policy.isotropic_scaling or policy.anisotropic_scaling
    if not (scaling or policy.rotation_degrees or policy.fractional_translation):
        return exact
    return torch.where(warped[:, None, None, None], resample(images, blit @ warp), exact)


def _blitting(images: Tensor, policy: AdaPolicy, gated: _Gated) -> Tensor:
    """Return the inverse of flips, quarter turns and whole-pixel shifts."""
    height, width = images.shape[2:]
    mirror_x, mirror_y = (1 - 2 * gated.integers(2, wanted) for wanted in (policy.x_flip, policy.y_flip))
    quarter = gated.integers(4, policy.rot90)
    cosine, sine = ((quarter == k).to(quarter) - (quarter == k + 2).to(quarter) for k in (0, 1))
    x, y = gated.uniform(policy.integer_translation, 2).unbind(1)
    flips = _matrix(mirror_x, 0, 0, mirror_y)
    turn = _matrix(cosine, sine, -sine, cosine)
    return flips @ turn @ _matrix(1, 0, 0, 1, -(x * width).round(), -(y * height).round())


def _warping(images: Tensor, policy: AdaPolicy, gated: _Gated) -> tuple[Tensor, Tensor]:
    """Return the inverse of scalings, rotations and fractional shifts, and which images drew any, bool ``[N]``."""
    height, width = images.shape[2:]
    limit = math.radians(policy.rotation_degrees)
    # With this probability for each of the two rotations, an image is rotated at all with probability p.
    p_rotation = 1 - (1 - gated.p) ** 0.5
    zoom = gated.normal(policy.isotropic_scaling)
    before = gated.uniform(limit, p=p_rotation)
    stretch = gated.normal(policy.anisotropic_scaling)
    after = gated.uniform(limit, p=p_rotation)
    x, y = gated.normal(policy.fractional_translation, 2).unbind(1)
    steps = (
        _matrix(torch.exp2(-zoom), 0, 0, torch.exp2(-zoom)),
        _matrix(before.cos(), before.sin(), -before.sin(), before.cos()),
        _matrix(torch.exp2(-stretch), 0, 0, torch.exp2(stretch)),
        _matrix(after.cos(), after.sin(), -after.sin(), after.cos()),
        _matrix(1, 0, 0, 1, -x * width, -y * height),
    )
    return reduce(torch.matmul, steps), torch.stack([zoom, before, stretch, after, x, y]).ne(0).any(dim=0)


def _matrix(*entries: Tensor | float) -> Tensor:
    """Return ``[N, 3, 3]`` of xx, xy, yx, yy and the shifts x, y (0 if not given), at least one of them ``[N]``."""
    like = next(e for e in entries if isinstance(e, Tensor))
    xx, xy, yx, yy, x, y = (e if isinstance(e, Tensor) else torch.full_like(like, e) for e in (*entries, 0.0, 0.0)[:6])
    zero, one = torch.zeros_like(like), torch.ones_like(like)
    return torch.stack([xx, xy, x, yx, yy, y, zero, zero, one], dim=1).reshape(-1, 3, 3)


def _corruption(images: Tensor, policy: AdaPolicy, gated: _Gated) -> Tensor:
    """Filtering by frequency bands, white noise and a square of mid-grey."""
    n, _, height, width = images.shape
    if policy.filtering:
        images = _filtered(images, policy, gated)
    if policy.noise:
        sigma = gated(gated.draws.normal(n).abs() * policy.noise)
        images = images + _per_image(sigma) * gated.draws.normal(*images.shape).to(images.dtype)
    if policy.cutout:
        half = gated(torch.full((n,), policy.cutout / 2, device=images.device))
        x, y = gated.draws.uniform(n, 2).to(images.dtype).unbind(1)
        images = images * ~(_within(width, x, half)[:, None, None, :] & _within(height, y, half)[:, None, :, None])
    return images


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _within(n: int, center: Tensor, half: Tensor) -> Tensor:
    """Return which pixel centres of a line lie closer than `half` to `center` (shares of the side), ``[N, n]``."""
    position = (torch.arange(n, device=center.device, dtype=center.dtype) + 0.5) / n
    return (position - center[:, None]).abs() < half[:, None]


def _filtered(images: Tensor, policy: AdaPolicy, gated: _Gated) -> Tensor:
    """Amplify or damp each of four octave bands, keeping the power expected of an image; rows and columns alike."""
    log_gains = torch.stack([gated.normal(policy.filtering) for _ in range(4)], dim=1)
    own = torch.exp2(torch.diag_embed(log_gains))  # [N, which band is changed, band]
    power = own.square() @ _band_power(images.dtype, images.device)
    gains = own.prod(dim=1) / power.sqrt().prod(dim=1, keepdim=True)
    rows, columns = (
        torch.einsum("nb,bij->nij", gains, _band_matrices(side, images.dtype, images.device))[:, None]
        for side in images.shape[2:]
    )
    changed = _per_image(log_gains.ne(0).any(dim=1))
    return torch.where(changed, rows @ images @ columns.transpose(2, 3), images)


@lru_cache(maxsize=32)
def _band_power(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the expected share of an image's power in each band, low to high: that of natural images (the paper)."""
    return constant(np.array([10.0, 1.0, 1.0, 1.0]) / 13, dtype, device)


@lru_cache(maxsize=32)
def _band_matrices(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``[4, n, n]``, which split a reflected line into bands [0, π/8], [π/8, π/4], [π/4, π/2], [π/2, π].

    The zero-phase filters of an undecimated transform with SYM2: low-pass L(z) = H(z) H(1/z) / 2 and high-pass 1 - L(z)
    at spacings of 1, 2 and 4 pixels. They add up to the identity.
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    high = -low
    high[len(low) // 2] += 1
    spaced = [[_spread(taps, 2**octave) for octave in range(3)] for taps in (low, high)]
    bands = [
        reduce(np.convolve, spaced[0]),
        reduce(np.convolve, [*spaced[0][:2], spaced[1][2]]),
        np.convolve(spaced[0][0], spaced[1][1]),
        spaced[1][0],
    ]
    matrices = np.zeros((len(bands), n, n))
    for matrix, taps in zip(matrices, bands, strict=True):
        for i in range(n):
            for k, weight in enumerate(taps):
                matrix[i, mirror(i + k - len(taps) // 2, n)] += weight
    return constant(matrices, dtype, device)


def _spread(taps: NDArray[np.float64], spacing: int) -> NDArray[np.float64]:
    """Return `taps` with zeros between them."""
    spread = np.zeros((len(taps) - 1) * spacing + 1)
    spread[::spacing] = taps
    return spread


# How strongly to augment.


def scaled_ada_kimg(total_kimg: float) -> float:
    """Return the `ada_kimg` for a run of `total_kimg`: the paper's 500, or a quarter of the run where that is less.

    p rises by at most 1 in `ada_kimg`, so at 500 a few-shot run of 300 kimg would end before p passes 0.6, and the
    discriminator would have memorised its images long before. A quarter lets p reach any value while three quarters of
    the run are left.
    """
    return min(500.0, total_kimg / 4)


class AdaController:
    """Adjusts p so that ``r_t = E[sign(D(x))]`` over real images stays at `target`, between -1 and 1 (section 3).

    With `batch` real images per step, p moves by ``batch · interval_steps / (1000 · ada_kimg)`` every `interval_steps`
    updates: up while r_t exceeds the target, down while it is below. All state is in tensors on `device` that are
    updated in place, without waiting for it.
    """

    def __init__(
        self,
        batch: int,
        *,
        ada_kimg: float = 500.0,
        target: float = 0.6,
        interval_steps: int = 4,
        p: float = 0.0,
        device: torch.device | None = None,
    ):
        self.target, self.interval_steps = target, interval_steps
        self.increment = batch * interval_steps / (ada_kimg * 1000)
        self._state = {
            name: torch.tensor(value, dtype=torch.float64, device=device)
            for name, value in {"p": p, "sign_sum": 0.0, "sign_count": 0.0, "updates": 0.0}.items()
        }

    @property
    def p(self) -> Tensor:
        """The probability, a float64 scalar on the device; later updates change this very tensor."""
        return self._state["p"]

    @torch.no_grad()
    def update(self, logits_real: Tensor) -> dict[str, Tensor]:
        """Take in the logits ``[N]`` of augmented real images, once a step; adjust p when it is due.

        Return p and the mean sign r_t of this step, to log.
        """
        state = self._state
        count = logits_real.numel() * distributed.rank_slice().count
        state["sign_sum"].add_(distributed.mean(logits_real.sign().mean(dtype=torch.float64)) * count)
        state["sign_count"].add_(count)
        state["updates"].add_(1)
        due = state["updates"] >= self.interval_steps
        direction = (state["sign_sum"] / state["sign_count"] - self.target).sign()
        state["p"].add_(due * direction * self.increment).clamp_(0, 1)
        for name in ("sign_sum", "sign_count", "updates"):
            state[name].mul_(~due)
        return {"augment_p": self.p.clone(), "r_t": logits_real.sign().mean()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of p and of the statistics since the last adjustment."""
        return {name: value.clone() for name, value in self._state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        for name, value in self._state.items():
            value.copy_(state[name])
