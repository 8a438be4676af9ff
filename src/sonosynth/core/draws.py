"""Random draws of training loops: everything a step needs comes from (seed, purpose, step, global sample index)."""

import torch
from torch import Tensor

from sonosynth.core.device import torch_generator
from sonosynth.core.distributed import RankSlice


class Draws:
    """Random tensors for one purpose in one step; the same arguments give the same sequence of draws.

    No generator state outlives a step, so a resumed run draws what an uninterrupted one would have drawn. The first
    axis of every draw counts samples. A process that holds a `share` of them draws for all samples and keeps its own,
    so a sample meets the same draws however many processes there are.
    """

    def __init__(self, seed: int, purpose: str, step: int, device: torch.device, share: RankSlice | None = None):
        self._generator = torch_generator(seed, purpose, step, device=device)
        self._device, self._share = device, share or RankSlice()

    def normal(self, n: int, *shape: int) -> Tensor:
        """Return standard normal float32 values ``[n, *shape]``."""
        return self._own(torch.randn(self._all(n, shape), generator=self._generator, device=self._device))

    def uniform(self, n: int, *shape: int) -> Tensor:
        """Return float32 values ``[n, *shape]``, uniform in [0, 1)."""
        return self._own(torch.rand(self._all(n, shape), generator=self._generator, device=self._device))

    def integers(self, low: int, high: int, n: int, *shape: int) -> Tensor:
        """Return int64 values ``[n, *shape]``, uniform in [low, high)."""
        return self._own(torch.randint(low, high, self._all(n, shape), generator=self._generator, device=self._device))

    def _all(self, n: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (n * self._share.count, *shape)

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn[self._share.of(len(drawn))]


def shuffled_indices(n: int, start: int, count: int, seed: int) -> Tensor:
    """Return the samples ``start .. start + count - 1`` of an endless sequence of shuffled epochs over `n` images.

    Sample s is entry ``s mod n`` of the permutation of epoch ``s // n``. The result is int64 ``[count]`` on the CPU.
    """
    epochs = range(start // n, (start + count - 1) // n + 1)
    order = torch.cat([torch.randperm(n, generator=torch_generator(seed, "order", epoch)) for epoch in epochs])
    offset = start - epochs[0] * n
    return order[offset : offset + count]
