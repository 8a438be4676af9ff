"""Building blocks of the generators and discriminators, independent of precision.

Parameters are float32. Under `core.device.autocast` convolutions return bfloat16, and every block casts what is small
(styles, biases, filters) to the type of its activations, so the same code runs in either precision.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.core import distributed
from sonosynth.gan.networks.convolution import conv2d, conv_transpose2d

SQRT2 = math.sqrt(2.0)
SMALL = 4  # side of a map of features that is convolved as a matrix product


def stage_widths(size: int, channel_base: int, channel_max: int) -> list[int]:
    """Return the feature maps at 4, 8, ..., `size` pixels: ``min(channel_base / resolution, channel_max)``."""
    return [min(channel_base >> k, channel_max) for k in range(2, size.bit_length())]


def resample_filter(*taps: float) -> Tensor:
    """Return the low-pass filter ``taps ⊗ taps``, summing to one; by default [1, 3, 3, 1] of Karras et al. 2019."""
    line = torch.tensor(taps or (1.0, 3.0, 3.0, 1.0))
    return torch.outer(line, line) / line.sum() ** 2


def _depthwise(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Filter every channel of ``x [N, C, H, W]`` with `kernel`, symmetric and ``taps ⊗ taps``."""
    if x.is_cuda:
        return filter_by_products(x, kernel, padding)
    channels = x.shape[1]
    return F.conv2d(x, kernel.to(x.dtype).expand(channels, 1, *kernel.shape), padding=padding, groups=channels)


def filter_by_products(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Filter as `_depthwise`, by a product with a banded matrix from either side.

    On an H200 cuDNN's depthwise convolution in channels-last bfloat16 takes 25 times as long as one pass over memory,
    and its second derivative a launch a channel; products are fast there, and so are their derivatives of any order.
    """
    n, channels, height, width = x.shape
    taps = kernel.sum(dim=0) * torch.rsqrt(kernel.sum())
    rows = _band(taps, height, padding).to(x.dtype)
    columns = rows if width == height else _band(taps, width, padding).to(x.dtype)
    y = torch.bmm(rows.expand(n, -1, -1), x.permute(0, 2, 3, 1).reshape(n, height, width * channels))
    y = torch.bmm(columns.expand(n * len(rows), -1, -1), y.reshape(n * len(rows), width, channels))
    return y.reshape(n, len(rows), len(columns), channels).permute(0, 3, 1, 2)


def _band(taps: Tensor, side: int, padding: int) -> Tensor:
    """Return ``[side + 2 · padding - len(taps) + 1, side]``, which filters a line continued by zeros."""
    position = torch.arange(side, device=taps.device)
    first = torch.arange(side + 2 * padding - len(taps) + 1, device=taps.device) - padding
    tap = position - first[:, None]
    return torch.where((tap >= 0) & (tap < len(taps)), taps[tap.clamp(0, len(taps) - 1)], 0.0)


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


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Return `F.conv2d`; where at most 4×4 pixels come out, as one matrix product of patches, several times faster."""
    side, kernel = (x.shape[2] + 2 * padding - weight.shape[2]) // stride + 1, weight.shape[2]
    if side > SMALL or kernel == 1:
        return conv2d(x, weight, bias, stride=stride, padding=padding)
    rows = F.pad(x, (padding,) * 4).permute(0, 2, 3, 1)
    span = stride * (side - 1) + 1
    patches = torch.cat(
        [rows[:, i : i + span : stride, j : j + span : stride] for i in range(kernel) for j in range(kernel)], dim=3
    )
    y = F.linear(patches.flatten(0, 2), weight.permute(0, 2, 3, 1).flatten(1), bias)
    return y.reshape(len(x), side, side, -1).permute(0, 3, 1, 2)


def enlarging_taps() -> Tensor:
    """Return ``[16, 9]``: 3×3 weights, seen as 9, to the 4×4 weights of `convolve_enlarged`."""
    line = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    return torch.kron(line, line)


def convolve_enlarged(x: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
    """Double the sides of ``x [N, C, H, W]`` by repeating pixels, then convolve with ``weight [D, C, 3, 3]``.

    A pixel that is repeated is multiplied by a sum of weights: a transposed convolution with 4×4 weights of such sums
    takes 4 products instead of 9 for a pixel that comes out, and no enlarged copy of `x`. `taps` are `enlarging_taps`.
    """
    if x.shape[2] <= SMALL:  # more weights than pixels: larger ones cost more than is gained
        return convolve(F.interpolate(x, scale_factor=2.0), weight, padding=1)
    with full_precision(weight):
        summed = F.linear(weight.flatten(2), taps).reshape(*weight.shape[:2], 4, 4).transpose(0, 1)
    return F.conv_transpose2d(x, summed, stride=2, padding=1)


def leaky_relu(x: Tensor) -> Tensor:
    """Return ``leaky_relu(x, 0.2)``.

    It scales with its input: layers fold the gain √2 that keeps the variance into their weights and biases.
    """
    if torch.compiler.is_compiling() and not x.is_cuda:
        # The same function without a comparison: compiled for a CPU, one stores a byte a value for the way back, which
        # takes longer than the convolution before it. `detach`, because a sign has a gradient of zeros without memory,
        # which compiled products hand on as a buffer to write to (pytorch/pytorch issue 197067).
        return x * (0.6 + 0.4 * x.detach().sign())
    return F.leaky_relu(x, 0.2)


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` as float32 if its type is smaller."""
    return x.float() if x.element_size() < 4 else x


class LeakyReLU(nn.Module):
    """`leaky_relu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``leaky_relu(x, 0.2)``."""
        return leaky_relu(x)


def full_precision(x: Tensor) -> torch.autocast:
    """Return a context in which operations on the device of `x` keep the types of their arguments.

    On a GPU from compute capability 8.0 float32 convolutions are TF32, as is PyTorch's default: 10 bits of mantissa.
    """
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
        gain = SQRT2 if self.activate else 1.0
        x = torch.addmm(self.bias * (self.bias_gain * gain), x, self.weight.t(), alpha=self.weight_gain * gain)
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
        gain = SQRT2 * gain if self.activate else gain
        weight = self.weight * (self.weight_gain * gain)
        bias = None if self.bias is None else self.bias * gain
        if not self.down:
            x = convolve(x, weight, bias, padding=self.kernel // 2)
        elif self.kernel == 1:
            x = convolve(downsample(x, self.resample_filter), weight, bias)
        else:
            x = convolve(_depthwise(x, self.resample_filter, padding=2), weight, bias, stride=2)
        return leaky_relu(x) if self.activate else x


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels are scaled by a style, and whose output is demodulated (Karras et al. 2020).

    Scaling activations instead of weights keeps one weight tensor for the batch: the demodulation factor of sample n
    and output channel j is ``rsqrt(Σ_i s_ni² Σ_k w_jik² + ε)``, a small product of squared styles and squared weights.
    """

    resample_filter: Tensor

    def __init__(self, fan_in: int, fan_out: int, kernel: int, w_dim: int, *, up: bool = False):
        super().__init__()
        self.affine = EqualLinear(w_dim, fan_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, kernel, kernel))
        self.kernel, self.up = kernel, up
        self.register_buffer("resample_filter", resample_filter(), persistent=False)

    def forward(self, x: Tensor, w: Tensor, added: Tensor, gain: float = 1.0) -> Tensor:
        """Return the convolution of ``x [N, fan_in, H, W]`` with style ``w [N, w_dim]``, times `gain`, plus `added`."""
        with full_precision(w):
            styles = self.affine(w)
            energy = self.weight.square().sum(dim=(2, 3))
            demodulation = gain * torch.rsqrt(styles.square() @ energy.t() + 1e-8)
        x = x * styles.to(x.dtype)[:, :, None, None]
        if self.up:
            x = conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = _depthwise(x, 4 * self.resample_filter, padding=1)
        else:
            x = convolve(x, self.weight, padding=self.kernel // 2)
        return torch.addcmul(added.to(x.dtype), x, demodulation.to(x.dtype)[:, :, None, None])


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` by the statistics of the whole batch, also where several processes share it.

    `nn.SyncBatchNorm` does so on GPUs alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x [N, C, H, W]`` normalised."""
        own = self.running_mean is not None and not self.training
        if own or distributed.rank_slice().count == 1:
            return super().forward(x)
        values = x.float()
        mean = distributed.mean(values.mean(dim=(0, 2, 3)))
        variance = distributed.mean((values - mean[:, None, None]).square().mean(dim=(0, 2, 3)))
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None and self.momentum is not None
            count = x.numel() / x.shape[1] * distributed.rank_slice().count
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(variance.detach() * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        gain, bias = torch.rsqrt(variance + self.eps), torch.zeros_like(mean)
        if self.affine:
            gain, bias = gain * self.weight, self.bias
        return ((values - mean[:, None, None]) * gain[:, None, None] + bias[:, None, None]).to(x.dtype)


def minibatch_standard_deviation(x: Tensor, group_size: int) -> Tensor:
    """Append one channel with the standard deviation over groups of the batch (Karras et al. 2018, section 3).

    Groups are contiguous samples of ``x [N, C, H, W]``, so that a process that holds a contiguous slice of the batch
    computes the same groups; their size is the largest divisor of N that does not exceed `group_size`.
    """
    n, c, h, w = x.shape
    size = next(g for g in range(min(group_size, n), 0, -1) if n % g == 0)
    groups = at_least_float32(x).reshape(n // size, size, c, h, w)
    variance = (groups - groups.mean(dim=1, keepdim=True)).square().mean(dim=1)
    deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3)).to(x.dtype)
    return torch.cat([x, deviation[:, None].expand(-1, size).reshape(n, 1, 1, 1).expand(n, 1, h, w)], dim=1)
