"""Texture statistics that a person can name: grey-level co-occurrence and local binary patterns, by scikit-image.

No weights and no training: what a distance in these features says does not depend on photographs. They do not see the
mean brightness, nor where in the image something is.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from sonosynth.features.base import FeatureNetwork

LEVELS = 32
"""Grey levels of co-occurrence matrices: 256 / 32 = 8 grey values each."""
DISTANCES = (1, 2, 4)
"""Pixels between the two of a pair."""
DIRECTIONS = (("lateral", 0.0), ("axial", np.pi / 2))
"""Name and angle. Sound travels down, so both directions differ in an ultrasound image and are kept apart."""
PATTERNS = ((8, 1), (16, 2))
"""Points on the circle and its radius in pixels."""

STATISTICS = {
    "contrast": "square root of the mean squared difference of the pair, in levels",
    "dissimilarity": "mean absolute difference of the pair, in levels",
    "homogeneity": "mean of 1 / (1 + squared difference)",
    "energy": "square root of the sum of squared probabilities",
    "correlation": "of the two levels; 1 where all pixels are of one level",
    "entropy": "of the joint probabilities, in bits",
}
"""What is taken from each co-occurrence matrix (Haralick, Shanmugam, Dinstein, IEEE Trans. SMC 3(6):610, 1973)."""

# Mean and standard deviation of every feature over the 780 breast images of BUSI at 128 × 128 pixels.
# fmt: off
_MEANS = np.array((
    1.31, 2.35, 2.09, 3.38, 2.95, 3.99,
    0.837, 1.51, 1.37, 2.24, 1.98, 2.77,
    0.659, 0.532, 0.541, 0.435, 0.452, 0.373,
    0.15, 0.131, 0.13, 0.117, 0.118, 0.108,
    0.976, 0.918, 0.938, 0.831, 0.877, 0.767,
    6.52, 7.13, 7.08, 7.57, 7.5, 7.81,
    0.243, 0.297, 0.251, 0.322, 0.417, 0.336, 0.276, 0.3, 0.315, 0.358,
    0.25, 0.211, 0.193, 0.166, 0.149, 0.151, 0.166, 0.203, 0.238,
    0.212, 0.174, 0.158, 0.156, 0.169, 0.195, 0.212, 0.295, 0.573,
))
_DEVIATIONS = np.array((
    0.216, 0.44, 0.357, 0.642, 0.498, 0.702,
    0.16, 0.34, 0.271, 0.511, 0.393, 0.587,
    0.0517, 0.0709, 0.0626, 0.0768, 0.0689, 0.076,
    0.056, 0.0588, 0.0573, 0.059, 0.0578, 0.058,
    0.0123, 0.049, 0.032, 0.0987, 0.0623, 0.124,
    0.506, 0.577, 0.551, 0.609, 0.579, 0.608,
    0.0124, 0.0141, 0.0117, 0.0121, 0.0271, 0.0124, 0.0116, 0.0135, 0.0578, 0.0181,
    0.0123, 0.0131, 0.0091, 0.00806, 0.00993, 0.0112, 0.0119, 0.0137, 0.0213,
    0.0155, 0.0117, 0.0104, 0.0095, 0.00814, 0.00827, 0.0112, 0.056, 0.0251,
))
# fmt: on


class TextureFeatures(nn.Module):
    """36 statistics of co-occurrence and 28 shares of local binary patterns, in fixed units.

    The shares are those of uniform, rotation-invariant patterns (Ojala, Pietikäinen, Mäenpää, IEEE Trans. PAMI
    24(7):971, 2002), as square roots, which evens out the noise of counting. From every feature its mean over the
    images of one public set, BUSI, is subtracted, and its deviation there divides it. Both are constants of this file,
    as the means and deviations of ImageNet are of other networks: features of one set never depend on another.
    """

    dimension = len(STATISTICS) * len(DISTANCES) * len(DIRECTIONS) + sum(points + 2 for points, _ in PATTERNS)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 ``[N, 64]`` of images ``x [N, 1, H, W]`` with grey values of 0 to 255, rounded."""
        pixels = x[:, 0].round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        features = np.array([texture_statistics(image) for image in pixels]).reshape(len(pixels), self.dimension)
        return torch.from_numpy(((features - _MEANS) / _DEVIATIONS).astype(np.float32))


def texture_statistics(image: np.ndarray) -> np.ndarray:
    """Return the features ``[64]`` of one uint8 image ``[H, W]``, before centring and scaling, as float64."""
    return np.concatenate([_co_occurrence(image), *_patterns(image)])


def _co_occurrence(image: np.ndarray) -> np.ndarray:
    from skimage.feature import graycomatrix, graycoprops

    levels = image // (256 // LEVELS)
    angles = [angle for _, angle in DIRECTIONS]
    matrices = graycomatrix(levels, DISTANCES, angles, levels=LEVELS, symmetric=True, normed=True)
    found = {name: graycoprops(matrices, name) for name in STATISTICS if name != "entropy"}
    bits = np.log2(matrices, where=matrices > 0, out=np.zeros_like(matrices))
    found["entropy"] = -(matrices * bits).sum(axis=(0, 1))
    found["contrast"] = np.sqrt(found["contrast"])
    return np.concatenate([found[name].ravel() for name in STATISTICS])


def _patterns(image: np.ndarray) -> Iterator[np.ndarray]:
    from skimage.feature import local_binary_pattern

    for points, radius in PATTERNS:
        codes = local_binary_pattern(image, points, radius, method="uniform").astype(np.int64)
        codes = codes[radius:-radius, radius:-radius]  # whose circle lies inside the image
        yield np.sqrt(np.bincount(codes.ravel(), minlength=points + 2) / codes.size)


NETWORK = FeatureNetwork(
    name="texture",
    about="36 statistics of grey-level co-occurrence and 28 shares of local binary patterns, by scikit-image",
    weights=None,
    licence="none needed",
    input_px=128,
    channels=1,
    dimension=TextureFeatures.dimension,
    mean=(0.0,),
    std=(1.0,),
    scaling="ours; statistics are taken of grey values rounded to whole numbers",
    build=TextureFeatures,
)
