"""Blocks of FastGAN, of which Projected GAN is made too (Liu et al., Towards Faster and Stabilized GAN Training for
High-fidelity Few-shot Image Synthesis, ICLR 2021).

The two families draw their initial weights differently, as their authors do: where a block takes `initial_std`, that is
the standard deviation of normal weights, and None stands for PyTorch's own, uniform in ± 1 / √fan_in.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.gan.networks.layers import BatchNorm2d, convolve, convolve_enlarged, enlarging_taps, full_precision
from sonosynth.gan.recipe import GeneratorNetwork

GENERATOR_WIDTHS = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 0.5, 512: 0.25}
"""Feature maps of a generator at a resolution, as multiples of its width setting."""


def powers(first: int, last: int) -> list[int]:
    """Return first, 2 · first, ..., last; nothing if `last` is smaller than `first`."""
    return [first << k for k in range((last // first).bit_length())] if last >= first else []


def scaled(multiples: dict[int, float], width: int) -> dict[int, int]:
    """Return feature maps at every resolution, of multiples of `width`."""
    return {resolution: int(multiple * width) for resolution, multiple in multiples.items()}


class SpectralNorm(nn.Module):
    """Largest singular value of a weight by power iteration (Miyato et al., Spectral Normalization, ICLR 2018).

    In training mode every call takes one step of the iteration. Both vectors are buffers, so a resumed run goes on
    exactly, and a moving average of the weights takes them from the live network.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", F.normalize(torch.randn(matrix.shape[0]), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(matrix.shape[1]), dim=0))
        if not matrix.is_meta:  # which has a shape alone, as where parameters are counted
            for _ in range(15):  # a usable value before the first step of training
                self._iterate(matrix)

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        u = F.normalize(matrix @ self.v, dim=0)
        v = F.normalize(matrix.t() @ u, dim=0)
        self.u.copy_(u)
        self.v.copy_(v)
        return u, v

    def forward(self, weight: Tensor) -> Tensor:
        """Return σ, a float32 scalar, of ``weight [M, ...]`` seen as a matrix of M rows; differentiable in `weight`."""
        with full_precision(weight):
            matrix = weight.flatten(1)
            u, v = self._iterate(matrix.detach()) if self.training else (self.u, self.v)
            return torch.dot(u, matrix @ v)


class SpectralConv2d(nn.Module):
    """Convolution, its weight divided by its largest singular value; without bias unless asked for.

    With `up` it is a 3×3 convolution of what comes in, doubled in size by repeating pixels.
    """

    taps: Tensor

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        up: bool = False,
        bias: bool = False,
        initial_std: float | None = 0.02,
    ):
        super().__init__()
        shape, limit = (fan_out, fan_in, kernel, kernel), 1 / math.sqrt(fan_in * kernel**2)
        drawn = torch.empty(shape).uniform_(-limit, limit) if initial_std is None else torch.randn(shape) * initial_std
        self.weight = nn.Parameter(drawn)
        self.bias = nn.Parameter(torch.empty(fan_out).uniform_(-limit, limit)) if bias else None
        self.norm = SpectralNorm(self.weight)
        self.stride, self.padding, self.up = stride, padding, up
        if up:
            self.register_buffer("taps", enlarging_taps(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x [N, fan_in, H, W]``."""
        sigma = self.norm(self.weight)
        y: Tensor
        # What is divided is the smaller of the two, as if there were 16 images: always the same, however many come.
        if 16 * x[0, 0].numel() < self.stride**2 * self.weight[0].numel():
            y = self._convolve(x, self.weight) / sigma
        else:
            y = self._convolve(x, self.weight / sigma)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.up:
            return convolve_enlarged(x, weight, self.taps)
        return convolve(x, weight, stride=self.stride, padding=self.padding)


def batch_norm(channels: int) -> BatchNorm2d:
    """Return FastGAN's batch normalisation: initial gains are normal around 1."""
    norm = BatchNorm2d(channels)
    nn.init.normal_(norm.weight, 1.0, 0.02)
    return norm


class Style(NamedTuple):
    """What the families do differently: how they normalise so many channels, and `initial_std`."""

    norm: Callable[[int], nn.Module] = batch_norm
    initial_std: float | None = 0.02


FASTGAN = Style()


def gated(x: Tensor) -> Tensor:
    """Gated linear unit: ``[N, 2C, H, W]`` to ``[N, C, H, W]``, the first half times the sigmoid of the second."""
    value, gate = x.chunk(2, dim=1)  # F.glu gives up the memory format channels last
    return value * torch.sigmoid(gate)


class GatedConv2d(nn.Module):
    """3×3 convolution to twice the channels, noise if asked for, normalisation, gated linear unit.

    With `up` what comes in is doubled in size first, by repeating pixels.
    """

    def __init__(self, fan_in: int, fan_out: int, *, up: bool = False, noisy: bool = False, style: Style = FASTGAN):
        super().__init__()
        self.conv = SpectralConv2d(fan_in, 2 * fan_out, 3, padding=1, up=up, initial_std=style.initial_std)
        self.noise_strength = nn.Parameter(torch.zeros([])) if noisy else None
        self.norm = style.norm(2 * fan_out)

    def forward(self, x: Tensor, noise: Tensor | None = None, *condition: Tensor | None) -> Tensor:
        """Return ``[N, fan_out, H, W]`` of ``x [N, fan_in, H, W]``, or twice that high and wide.

        A noisy block takes noise ``[N, 1, H, W]`` of the size that comes out; `condition` is for the normalisation.
        """
        x = self.conv(x)
        if self.noise_strength is not None:
            assert noise is not None
            x = x + (noise * self.noise_strength).to(x.dtype)
        return gated(self.norm(x, *condition))


class UpBlock(nn.Module):
    """Nearest-neighbour upsampling and one gated convolution, or two with noise."""

    def __init__(self, fan_in: int, fan_out: int, *, noisy: bool = False, style: Style = FASTGAN):
        super().__init__()
        fans = [fan_in, fan_out] if noisy else [fan_in]
        self.layers = nn.ModuleList(
            GatedConv2d(fan, fan_out, up=not i, noisy=noisy, style=style) for i, fan in enumerate(fans)
        )

    def forward(self, x: Tensor, noises: Sequence[Tensor] = (), *condition: Tensor | None) -> Tensor:
        """Return ``[N, fan_out, 2H, 2W]`` of ``x [N, fan_in, H, W]``; two noise maps ``[N, 1, 2H, 2W]`` where noisy."""
        for i, layer in enumerate(self.layers):
            x = layer(x, noises[i] if noises else None, *condition)
        return x


class SkipLayerExcitation(nn.Module):
    """Channel gates of a large feature map computed from a small one (Liu et al. 2021, section 3.1).

    Between the two convolutions stands the SiLU of the published networks, where the text has a leaky ReLU.
    """

    def __init__(self, fan_in: int, fan_out: int, *, initial_std: float | None = 0.02):
        super().__init__()
        self.conv = SpectralConv2d(fan_in, fan_out, 4, initial_std=initial_std)
        self.gate = SpectralConv2d(fan_out, fan_out, 1, initial_std=initial_std)

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        """Return ``large [N, fan_out, H, W]`` with each channel scaled by a gate from ``small [N, fan_in, h, w]``."""
        pooled = F.avg_pool2d(small, small.shape[2] // 4)
        return large * torch.sigmoid(self.gate(F.silu(self.conv(pooled))))


class BlockGenerator(GeneratorNetwork):
    """What the generators of the two families share: a block per side, late sides gated by early ones."""

    noisy_sides: Sequence[int]
    blocks: nn.Module
    excitations: nn.ModuleDict

    @property
    def noise_length(self) -> int:
        """Number of noise values an image takes: two a pixel of every noisy side."""
        return sum(2 * side**2 for side in self.noisy_sides)

    def grow(self, x: Tensor, noise: Tensor, *condition: Tensor | None) -> dict[int, Tensor]:
        """Return the features at every side, of those at 4 × 4; `condition` is for the normalisation."""
        sizes = [2 * side**2 for side in self.noisy_sides]
        parts = torch.split(noise, sizes, dim=1) if sizes else ()
        features = {4: x}
        noises = {
            side: part.reshape(-1, 2, 1, side, side).unbind(1)
            for side, part in zip(self.noisy_sides, parts, strict=True)
        }
        for block in self.blocks.children():
            side = 2 * max(features)
            x = block(x, noises.get(side, ()), *condition)
            if str(side) in self.excitations:
                x = self.excitations[str(side)](features[side // 16], x)
            features[side] = x
        return features
