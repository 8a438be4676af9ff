"""Classifier networks by name."""

from collections.abc import Callable

from monai.networks.nets import resnet18
from torch import nn

from sonosynth.errors import SonosynthError, nearest


class NetworkError(SonosynthError):
    """A classifier network is unknown."""


def _resnet18(n_classes: int) -> nn.Module:
    # MONAI's stem keeps full resolution by default; the standard stem of He et al. 2016 has stride two.
    network: nn.Module = resnet18(spatial_dims=2, n_input_channels=1, num_classes=n_classes, conv1_t_stride=2)
    return network


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"resnet18": _resnet18}
"""Name of a network to a function from the number of classes to the freshly initialised network on one channel."""


def build_network(name: str, n_classes: int) -> nn.Module:
    """Return the network `name`, taking ``[N, 1, H, W]`` to logits ``[N, n_classes]``. Raises NetworkError."""
    if name not in NETWORKS:
        raise NetworkError(
            f"no classifier network '{name}'{nearest(name, list(NETWORKS))}; known: {', '.join(NETWORKS)}"
        )
    return NETWORKS[name](n_classes)
