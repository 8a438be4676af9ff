"""What is known of a frozen feature network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sonosynth.features.weights import Weights

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FeatureNetwork:
    """What is known of one frozen network.

    Attributes:
        name: how users call it.
        about: what it is, for people.
        weights: where they come from; None if there are none.
        licence: of the weights, then of the package.
        input_px: height and width of the images that the network sees.
        channels: 3, all equal, or 1.
        dimension: length of a feature vector.
        mean: subtracted from pixels of 0 to 255; one number, or one per channel.
        std: divides them after that; as `mean`.
        scaling: where `input_px`, `mean` and `std` are from.
        build: weights file (nothing, if there are none) -> module from float32 ``[N, channels, input_px, input_px]`` to
            ``[N, dimension]``.
        version: part of the key of cached features; raise it when anything here or in `FeatureExtractor`
            changes them.
    """

    name: str
    about: str
    weights: Weights | None
    licence: str
    input_px: int
    channels: int
    dimension: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scaling: str
    build: "Callable[..., nn.Module]"
    version: int = 1

    @property
    def sha256(self) -> str:
        """Checksum of the weights; empty if there are none."""
        return self.weights.sha256 if self.weights else ""
