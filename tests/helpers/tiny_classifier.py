"""A network that learns in a moment, for tests of what stands around networks."""

import pytest
from torch import nn

from sonosynth.classify.networks import NETWORKS, Network


def _tiny(n_classes: int, dropout: float) -> nn.Module:
    stem = [nn.Conv2d(1, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(8, n_classes))


TINY = Network("tiny", _tiny, learning_rate=1e-2)
QUICK = {"networks": ["tiny"], "seeds": [0], "steps": 20, "batch": 4}  # the section `classifiers` of a study


@pytest.fixture(scope="module", autouse=True)
def tiny_network():
    """Make the network "tiny" known in a file that imports this, before its own fixtures."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(NETWORKS, TINY.name, TINY)
        yield
