"""What networks and losses work on: the interface of generators, a batch, and a phase of a training step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sonosynth.core.draws import Draws


class GeneratorNetwork(nn.Module, ABC):
    """A generator of one-channel images. Everything random is an argument: the same tensors give the same image.

    Attributes:
        size: image side in pixels.
        z_dim: length of the latent.
    """

    size: int
    z_dim: int

    @property
    @abstractmethod
    def noise_length(self) -> int:
        """Number of noise values an image takes besides its latent; may be 0."""

    @abstractmethod
    def forward(self, z: Tensor, labels: Tensor | None, noise: Tensor, truncation: float = 1.0) -> Tensor:
        """Return float32 images ``[N, 1, size, size]`` in about [-1, 1].

        Args:
            z: standard normal latents ``[N, z_dim]``.
            labels: classes, int64 ``[N]``; None for an unconditional generator.
            noise: standard normal ``[N, noise_length]``.
            truncation: ψ in [0, 1]; below 1 images are less diverse and more typical.
        """


@dataclass(frozen=True)
class Batch:
    """What one phase of one step works on: real images, the classes of generated ones, and its random draws.

    `real` is float32 ``[N, 1, H, W]`` in [-1, 1]; labels are int64 ``[N]``, or None for an unconditional GAN.
    """

    real: Tensor
    real_labels: Tensor | None
    fake_labels: Tensor | None
    draws: Draws

    @property
    def both_labels(self) -> Tensor | None:
        """The classes of generated images, then those of real ones, int64 ``[2 N]``."""
        if self.fake_labels is None or self.real_labels is None:
            return None
        return torch.cat([self.fake_labels, self.real_labels])


@dataclass(frozen=True)
class Phase:
    """One optimiser step of one network: its loss is minimised every `interval` steps.

    `loss` returns the scalar to minimise and detached statistics to log.
    """

    name: str
    network: Literal["generator", "discriminator"]
    interval: int
    loss: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]
