"""Building blocks of the generators and discriminators, independent of precision.

Parameters are float32. Under `engine.autocast` convolutions return bfloat16, and every block casts what is small
(styles, biases, filters) to the type of its activations, so the same code runs in either precision.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQRT2 = math.sqrt(2.0)


def resample_filter(*taps: float) -> Tensor:
    """Return the low-pass filter ``taps ⊗ taps``, summing to one; by default [1, 3, 3, 1] of Karras et al. 2019."""
    line = torch.tensor(taps or (1.0, 3.0, 3.0, 1.0))
    return torch.outer(line, line) / line.sum() ** 2


def _depthwise(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    channels = x.shape[1]
    return F.conv2d(x, kernel.to(x.dtype).expand(channels, 1, *kernel.shape), padding=padding, groups=channels)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Double the size of ``x [N, C, H, W]``: insert zeros, then filter with `kernel` at gain 4."""
    channels = x.shape[1]
    weight = (4 * kernel).to(x.dtype).expand(channels, 1, *kernel.shape)
    return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


def downsample(x: Tensor, smoothing: Tensor) -> Tensor:
    """Halve the size of ``x [N, C, H, W]``: filter with [1, 3, 3, 1], then keep every second pixel.

    [1, 3, 3, 1] is [1, 2, 1] convolved with [1, 1]. So `smoothing`, the 3×3 filter of [1, 2, 1], and a mean over 2×2
    pixels give the same, without a strided depthwise convolution, whose gradient is ten times slower on a CPU.
    """
    return F.avg_pool2d(_depthwise(x, smoothing, padding=1), 2)


def leaky_relu(x: Tensor, gain: float = SQRT2) -> Tensor:
    """Return ``gain · leaky_relu(x, 0.2)``; a gain of √2 keeps the variance of a normal input."""
    return F.leaky_relu(x, 0.2) * gain


def full_precision(x: Tensor) -> torch.autocast:
    """Return a context in which operations on the device of `x` keep the types of their arguments."""
    return torch.autocast(x.device.type, enabled=False)


class EqualLinear(nn.Module):
    """Fully connected layer with an equalised learning rate (Karras et al. 2018, section 4.1).

    The stored weight has unit variance divided by `lr_multiplier`; ``lr_multiplier / √fan_in`` is applied at run time.
    """

    def __init__(
        self, fan_in: int, fan_out: int, *, bias: float = 0.0, lr_multiplier: float = 1.0, activate: bool = False
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((fan_out,), float(bias)))
        self.weight_gain = lr_multiplier / math.sqrt(fan_in)
        self.bias_gain = lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, fan_out]`` of ``x [N, fan_in]``."""
        x = torch.addmm(self.bias * self.bias_gain, x, self.weight.t(), alpha=self.weight_gain)
        return leaky_relu(x) if self.activate else x


class EqualConv2d(nn.Module):
    """Convolution with an equalised learning rate, optionally preceded by a low-pass filter and a stride of two."""

    resample_filter: Tensor

    def __init__(
        self, fan_in: int, fan_out: int, kernel: int, *, bias: bool = True, activate: bool = True, down: bool = False
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(fan_out)) if bias else None
        self.weight_gain = 1 / math.sqrt(fan_in * kernel**2)
        self.kernel, self.activate, self.down = kernel, activate, down
        taps = (1.0, 2.0, 1.0) if kernel == 1 else (1.0, 3.0, 3.0, 1.0)
        self.register_buffer("resample_filter", resample_filter(*taps), persistent=False)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Return the convolution of ``x [N, fan_in, H, W]``, multiplied by `gain`."""
        weight = self.weight * self.weight_gain
        if not self.down:
            x = F.conv2d(x, weight, padding=self.kernel // 2)
        elif self.kernel == 1:
            x = F.conv2d(downsample(x, self.resample_filter), weight)
        else:
            x = F.conv2d(_depthwise(x, self.resample_filter, padding=2), weight, stride=2)
        if self.bias is not None:
            x = x + self.bias.to(x.dtype)[:, None, None]
        if self.activate:
            return leaky_relu(x, SQRT2 * gain)
        return x if gain == 1.0 else x * gain


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels are scaled by a style, and whose output is demodulated (Karras et al. 2020).

    Scaling activations instead of weights keeps one weight tensor for the batch: the demodulation factor of sample n
    and output channel j is ``rsqrt(Σ_i s_ni² Σ_k w_jik² + ε)``, a small product of squared styles and squared weights.
    """

    resample_filter: Tensor

    def __init__(
        self, fan_in: int, fan_out: int, kernel: int, w_dim: int, *, demodulate: bool = True, up: bool = False
    ):
        super().__init__()
        self.affine = EqualLinear(w_dim, fan_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, kernel, kernel))
        self.kernel, self.demodulate, self.up = kernel, demodulate, up
        self.style_gain = 1.0 if demodulate else 1 / math.sqrt(fan_in * kernel**2)
        self.register_buffer("resample_filter", resample_filter(), persistent=False)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the convolution of ``x [N, fan_in, H, W]`` with style ``w [N, w_dim]``."""
        with full_precision(w):
            styles = self.affine(w) * self.style_gain
            if self.demodulate:
                energy = self.weight.square().sum(dim=(2, 3))
                demodulation = torch.rsqrt(styles.square() @ energy.t() + 1e-8)
        x = x * styles.to(x.dtype)[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = _depthwise(x, 4 * self.resample_filter, padding=1)
        else:
            x = F.conv2d(x, self.weight, padding=self.kernel // 2)
        return x * demodulation.to(x.dtype)[:, :, None, None] if self.demodulate else x


def minibatch_standard_deviation(x: Tensor, group_size: int) -> Tensor:
    """Append one channel with the standard deviation over groups of the batch (Karras et al. 2018, section 3).

    Args:
        x: ``[N, C, H, W]``. Groups are contiguous samples, so that a process that holds a contiguous slice of the batch
            computes the same groups as one that holds all of it.
        group_size: samples a group; the largest divisor of N that does not exceed it is used.
    """
    n, c, h, w = x.shape
    size = next(g for g in range(min(group_size, n), 0, -1) if n % g == 0)
    groups = x.reshape(n // size, size, c, h, w)
    variance = (groups - groups.mean(dim=1, keepdim=True)).square().mean(dim=1)
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return torch.cat([x, deviation.repeat_interleave(size).reshape(n, 1, 1, 1).expand(n, 1, h, w)], dim=1)
