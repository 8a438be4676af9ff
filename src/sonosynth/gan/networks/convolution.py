"""Convolutions whose second derivatives are fast on a GPU too: those of StyleGAN2, which is trained through gradients.

Where R1 or path lengths are differentiated, PyTorch's second derivative by a weight is a convolution with a filter as
large as the image. cuDNN has no good kernel for that: on an H200 it took 40 to 60 % of such a phase at 128 and 256
pixels. It is the gradient by the weight of another convolution, for which there are good ones, so all derivatives can
be had from three operations (as NVlabs' `conv2d_gradfix` does).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Return `F.conv2d` of ``x [N, C, H, W]`` and ``weight [D, C, k, k]``."""
    if not _may_be_differentiated_twice(x):
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)
    y: Tensor = _Convolution.apply(x, weight, _Geometry(stride, padding))  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias[:, None, None]


def conv_transpose2d(x: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """Return `F.conv_transpose2d` of ``x [N, C, H, W]`` and ``weight [C, D, k, k]``."""
    if not _may_be_differentiated_twice(x):
        return F.conv_transpose2d(x, weight, stride=stride)
    y: Tensor = _Convolution.apply(x, weight, _Geometry(stride, transposed=True))  # type: ignore[no-untyped-call]
    return y


def _may_be_differentiated_twice(x: Tensor) -> bool:
    """Return whether this is a GPU's full precision: nothing is differentiated twice in another, or compiled there."""
    return x.is_cuda and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cuda")


class _Geometry(NamedTuple):
    """How a convolution moves over its input; of a transposed one, how the convolution that it transposes does."""

    stride: int = 1
    padding: int = 0
    transposed: bool = False
    rest: tuple[int, int] = (0, 0)  # rows and columns that a transposed one adds at the end

    def opposite(self, weight: Tensor, source: torch.Size, result: torch.Size) -> "_Geometry":
        """Return what leads from `result` back to `source`, both ``[N, C, H, W]``, with the same weight."""
        if self.transposed:
            return self._replace(transposed=False, rest=(0, 0))
        height, width = (
            source[axis] - ((result[axis] - 1) * self.stride - 2 * self.padding + weight.shape[axis]) for axis in (2, 3)
        )
        return self._replace(transposed=True, rest=(height, width))

    def arguments(self) -> tuple[Any, ...]:
        """Return stride, padding, dilation, transposed, output padding and groups, as PyTorch's operators take them."""
        return [self.stride] * 2, [self.padding] * 2, [1, 1], self.transposed, list(self.rest), 1


class _Convolution(torch.autograd.Function):
    """Convolve ``x [N, C, H, W]``, with derivatives of any order by `x` and by the weight."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
        return torch.ops.aten.convolution(x, weight, None, *geometry.arguments())  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        by_x = by_weight = None
        if ctx.needs_input_grad[0]:
            opposite = ctx.geometry.opposite(weight, x.shape, gradients[0].shape)
            by_x = _Convolution.apply(gradients[0], weight, opposite)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            by_weight = _WeightGradient.apply(gradients[0], x, weight, ctx.geometry)  # type: ignore[no-untyped-call]
        return by_x, by_weight, None


class _WeightGradient(torch.autograd.Function):
    """The gradient of a convolution by its weight: linear in the gradient of its result, and in `x`."""

    @staticmethod
    def forward(gradient: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
        operator = torch.ops.aten.convolution_backward
        return operator(gradient, x, weight, None, *geometry.arguments(), (False, True, False))[1]  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        gradient, x, _, ctx.geometry = inputs
        ctx.save_for_backward(gradient, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        gradient, x = ctx.saved_tensors
        (weight,) = gradients  # it has the weight's place now
        by_gradient = by_x = None
        if ctx.needs_input_grad[0]:
            by_gradient = _Convolution.apply(x, weight, ctx.geometry)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            opposite = ctx.geometry.opposite(weight, x.shape, gradient.shape)
            by_x = _Convolution.apply(gradient, weight, opposite)  # type: ignore[no-untyped-call]
        return by_gradient, by_x, None, None
