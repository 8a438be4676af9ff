"""Distances between two sets of B-mode images in what makes them ultrasound, each with its interval."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from sonosynth.errors import ClassError
from sonosynth.metrics.halving import DRAWS, halving_interval
from sonosynth.metrics.speckle import Realism
from sonosynth.metrics.subsampling import Interval
from sonosynth.seeds import numpy_generator

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
    two samples of one distribution: compare it with a floor at the same sizes.

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
            f"{n} and {m} images with speckle that can be measured: a distance needs at least 2 in each set; are the "
            "others black, white or flat?"
        )
    # Levels of the quantile functions in units of 1 / nm: the values are constant between them.
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    gaps = np.abs(x[levels[:-1] // m] - y[levels[:-1] // n]).mean(1)
    return float(gaps @ np.diff(levels) / (n * m))


def realism_distance(values: np.ndarray, i: np.ndarray, j: np.ndarray) -> float:
    """Return the distance between images `i` and images `j` of those with `values` (see `realism_values`).

    Raises:
        ClassError: fewer than two images with measures in either set.
    """
    return wasserstein_distance(values[i], values[j])


def realism_interval(
    values: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    groups_x: np.ndarray,
    groups_y: np.ndarray,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Return the interval of `realism_distance`, or None with too few groups; groups are of i and j. Never below zero.

    It is meant to hold the expected distance of two such sets of these sizes, small-sample bias included. See
    `halving_interval`; images without measures are left out.

    Raises:
        ClassError: as `realism_distance`.
    """
    estimate = realism_distance(values, i, j)
    in_x, in_y = _complete(values[i]), _complete(values[j])
    i, j = i[in_x], j[in_y]
    interval = halving_interval(
        estimate,
        lambda a, b: realism_distance(values, i[a], j[b]),
        (groups_x[in_x], groups_y[in_y]),
        numpy_generator(seed, "realism interval"),
        level,
        draws,
    )
    return interval and (max(interval[0], 0.0), interval[1])


def _complete(values: np.ndarray) -> np.ndarray:
    return np.asarray(~np.isnan(values).any(axis=1))
