"""Random draws of training loops: everything a step needs comes from (seed, purpose, step, global sample index)."""

import torch
from torch import Tensor

from sonosynth.engine import generator


class Draws:
    """Random tensors for one purpose in one step; the same arguments give the same sequence of draws.

    No generator state outlives a step, so a resumed run draws what an uninterrupted one would have drawn.
    """

    def __init__(self, seed: int, purpose: str, step: int, device: torch.device):
        self._generator = generator(seed, purpose, step, device=device)
        self._device = device

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal float32 values."""
        return torch.randn(shape, generator=self._generator, device=self._device)

    def uniform(self, *shape: int) -> Tensor:
        """Return float32 values uniform in [0, 1)."""
        return torch.rand(shape, generator=self._generator, device=self._device)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return int64 values uniform in [low, high)."""
        return torch.randint(low, high, shape, generator=self._generator, device=self._device)


def shuffled_indices(n: int, start: int, count: int, seed: int) -> Tensor:
    """Return the samples ``start .. start + count - 1`` of an endless sequence of shuffled epochs over `n` images.

    Sample s is entry ``s mod n`` of the permutation of epoch ``s // n``. The result is int64 ``[count]`` on the CPU.
    """
    epochs = range(start // n, (start + count - 1) // n + 1)
    order = torch.cat([torch.randperm(n, generator=generator(seed, "order", epoch)) for epoch in epochs])
    offset = start - epochs[0] * n
    return order[offset : offset + count]
