"""Numbers of what can be wrong with a single image, and which images are outliers of their set."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, laplace

from sonosynth.core.types import Array
from sonosynth.data.resize import resize_longest_side

_SIDE = 256  # pixels of the longest side at which blur is measured


@dataclass(frozen=True)
class Quality:
    """Numbers of one image."""

    width: int  # pixels
    height: int  # pixels
    mean: float  # grey levels, 0 to 255
    contrast: float  # grey levels, standard deviation
    saturated: float  # share of white pixels (255)
    black: float  # share of black pixels (at most 2)
    # mean size of the Laplacian over the standard deviation, at a longest side of 256 pixels; low is blurred. 0 for an
    # image of one grey level
    sharpness: float
    constant_rows: float  # rows inside the picture that hold a single grey level, as a share of its height

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height


def measure_quality(grey: Array) -> Quality:
    """Return the numbers of uint8 `grey` ``[H, W]``."""
    height, width = grey.shape
    small = resize_longest_side(grey, _SIDE).astype(np.float32)
    spread = float(small.std())
    sharpness = float(np.abs(laplace(gaussian_filter(small, 0.7))).mean()) / spread if spread > 0 else 0.0
    constant = grey.max(axis=1) == grey.min(axis=1)
    shown = np.flatnonzero(~constant)
    inside = int(constant[shown[0] : shown[-1]].sum()) if len(shown) else 0
    white, black = float((grey == 255).mean()), float((grey <= 2).mean())
    mean, contrast = float(grey.mean()), float(grey.std())
    return Quality(width, height, mean, contrast, white, black, sharpness, inside / height)


def robust_outliers(values: Array, limit: float = 6.0) -> Array:
    """Return which of `values` ``[N]`` lie more than `limit` robust standard deviations above the median."""
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return values > middle + limit * max(float(spread), 1e-9) if len(values) else np.zeros(0, bool)


def knn_outlier_scores(features: Array, groups: Array, k: int = 5) -> Array:
    """Return the mean distance of each image to its `k` nearest in ``features [N, D]``, none of its own group.

    Divided by the median over all images, so that 1 is ordinary. Raises ValueError if there are fewer than two groups.
    """
    n = len(features)
    if len(np.unique(groups)) < 2:
        raise ValueError("outliers need images of at least two groups")
    squares = (features.astype(np.float64) ** 2).sum(axis=1)
    found = np.empty(n)
    for part in (slice(start, start + 512) for start in range(0, n, 512)):
        distances = squares[part, None] + squares[None] - 2 * features[part].astype(np.float64) @ features.T
        distances[groups[part, None] == groups[None]] = np.inf
        nearest = np.sort(distances, axis=1)[:, :k]
        nearest = np.where(np.isfinite(nearest), np.maximum(nearest, 0), np.nan)
        found[part] = np.nanmean(np.sqrt(nearest), axis=1)
    return found / max(float(np.median(found)), 1e-12)
