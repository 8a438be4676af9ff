"""A small convolutional network with random weights that are the same everywhere: a baseline for feature spaces.

A distance in the features of a trained network should tell more than one in these. Weights are the raw integers of a
counter-based generator (Philox, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), whose stream
numpy guarantees, turned into uniform numbers by one exact multiplication; no torch generator is involved.
"""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.core.seeds import seed_of
from sonosynth.features.base import FeatureNetwork

WIDTHS = (1, 16, 32, 64, 128)
KERNEL = 5


class RandomConvolutions(nn.Module):
    """Four 5×5 convolutions of stride 2 with ReLU; the features are the means of every map of every layer.

    Weights are uniform in ±sqrt(6 / fan_in), which keeps the size of activations (He et al., "Delving Deep into
    Rectifiers", ICCV 2015); there are no biases.
    """

    dimension = sum(WIDTHS[1:])

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList()
        for layer, (fan_in, fan_out) in enumerate(pairwise(WIDTHS)):
            shape = (fan_out, fan_in, KERNEL, KERNEL)
            raw = np.random.Philox(key=seed_of("random-conv", layer)).random_raw(int(np.prod(shape)))
            uniform = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1  # of 53 bits, in [-1, 1)
            weight = (uniform * np.sqrt(6 / (fan_in * KERNEL**2))).astype(np.float32)
            self.weights.append(torch.from_numpy(weight.reshape(shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 240]`` of float32 images ``x [N, 1, H, W]``."""
        means = []
        for weight in self.weights:
            x = F.relu(F.conv2d(x, weight, stride=2, padding=KERNEL // 2))
            means.append(x.mean(dim=(2, 3)))
        return torch.cat(means, dim=1)


NETWORK = FeatureNetwork(
    name="random-conv",
    about="four convolutions with fixed random weights; the means of their maps: an untrained baseline",
    weights=None,
    licence="none needed",
    input_px=128,
    channels=1,
    dimension=RandomConvolutions.dimension,
    mean=(127.5,),
    std=(64.0,),
    scaling="ours",
    build=RandomConvolutions,
)
