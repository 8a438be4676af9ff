"""Distances between two sets of B-mode images in what makes them ultrasound, each with its interval."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from sonosynth.core.errors import ClassError
from sonosynth.core.seeds import numpy_generator
from sonosynth.metrics.intervals.split_half import DRAWS, Share, split_half_intervals
from sonosynth.metrics.ultrasound.speckle import Realism

UNITS: Mapping[str, str] = MappingProxyType(
    {
        "speckle_contrast_distance": "grey levels",
        "nakagami_distance": "m",
        "axial_width_distance": "pixels",
        "lateral_width_distance": "pixels",
        "power_spectrum_distance": "dB",
        "depth_profile_distance": "grey levels",
    }
)
"""The distances and the unit of each, which is that of its measure."""

_MEASURES = {
    "speckle_contrast_distance": "speckle_contrast",
    "nakagami_distance": "nakagami_m",
    "axial_width_distance": "axial_width",
    "lateral_width_distance": "lateral_width",
    "power_spectrum_distance": "power_spectrum",
    "depth_profile_distance": "depth_profile",
}


def realism_values(measures: Realism) -> dict[str, np.ndarray]:
    """Return what each distance in `UNITS` compares, ``[N, P]``: P is 1 for a number, more for a curve."""
    return {name: getattr(measures, measure).reshape(len(measures.measured), -1) for name, measure in _MEASURES.items()}


def wasserstein_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the Wasserstein-1 distance of samples `x` ``[N, P]`` and `y` ``[M, P]``, averaged over the P columns.

    Exact for any N and M: the area between the two empirical quantile functions, in the unit of the values. Rows with
    NaN, images that have no measures, are left out. The value is biased upwards at small N and M, and never zero for
    two samples of one distribution: compare it with a real baseline at the same sizes.

    Raises:
        ClassError: fewer than two rows without NaN in either sample.
        ValueError: arrays that are not 2-D or differ in P.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"values must be [N, P] and [M, P], not {list(x.shape)} and {list(y.shape)}")
    x, y = (np.sort(values[_complete(values)], axis=0) for values in (x, y))
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ClassError(
            f"{n} and {m} images with speckle that can be measured: a distance needs at least 2 in each set; the "
            "others are black, white or flat"
        )
    of_x, of_y, weights = _quantiles(n, m)
    return float(np.abs(x[of_x] - y[of_y]).mean(1) @ weights)


def realism_distance(values: np.ndarray, i: np.ndarray, j: np.ndarray) -> float:
    """Return the distance between images `i` and images `j` of those with `values` (see `realism_values`).

    Raises:
        ClassError: fewer than two images with measures in either set.
    """
    return wasserstein_distance(values[i], values[j])


def realism_intervals(
    values: Mapping[str, np.ndarray],
    i: np.ndarray,
    j: np.ndarray,
    groups_x: np.ndarray,
    groups_y: np.ndarray,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, tuple[float, float]] | None:
    """Return the interval of `realism_distance` for each of `values`, or None with too few groups; none is below zero.

    Each is meant to hold the expected distance of two such sets of these sizes, small-sample bias included. See
    `split_half_intervals`; images without all measures are left out.

    Args:
        values: see `realism_values`.
        i: indices of the images of one set.
        j: indices of the images of the other.
        groups_x: of the images `i`; images of one number count as one.
        groups_y: of the images `j`.
        level: of confidence.
        draws: halvings.
        seed: of these.

    Raises:
        ClassError: as `realism_distance`.
    """
    complete = np.logical_and.reduce([_complete(of_images) for of_images in values.values()])
    kept_x, kept_y = i[complete[i]], j[complete[j]]
    return split_half_intervals(
        lambda a, b: {name: realism_distance(of_images, kept_x[a], kept_y[b]) for name, of_images in values.items()},
        dict.fromkeys(values, Share(of_first=False, bounded=False)),
        groups_x[complete[i]],
        groups_y[complete[j]],
        numpy_generator(seed, "realism interval"),
        level,
        draws,
    )


@lru_cache(maxsize=8)
def _quantiles(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places among n and among m sorted values where both quantile functions are constant, and how long."""
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)  # in units of 1 / nm
    return levels[:-1] // m, levels[:-1] // n, np.diff(levels) / (n * m)


def _complete(values: np.ndarray) -> np.ndarray:
    return np.asarray(~np.isnan(values).any(axis=1))
