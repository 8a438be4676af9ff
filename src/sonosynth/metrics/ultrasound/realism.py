"""Ultrasound realism: Wasserstein distances between two sets of B-mode images in speckle, resolution and depth."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from sonosynth.core.errors import ClassError
from sonosynth.core.seeds import numpy_generator
from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.intervals.split_half import DRAWS, Proportion, split_half_intervals
from sonosynth.metrics.metric import Interval, Metric, Value
from sonosynth.metrics.scores import TRAIN
from sonosynth.metrics.ultrasound.measures import MIN_SIZE, UltrasoundMeasures, ultrasound_measures

_MEASURES = {
    "speckle_contrast_distance": "speckle_contrast",
    "nakagami_distance": "nakagami_m",
    "axial_width_distance": "axial_width",
    "lateral_width_distance": "lateral_width",
    "power_spectrum_distance": "power_spectrum",
    "depth_profile_distance": "depth_profile",
}


def realism_values(measures: UltrasoundMeasures) -> dict[str, np.ndarray]:
    """Return what each distance compares, by its name, ``[N, P]``: P is 1 for a number, more for a curve."""
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
    """Return the interval of `wasserstein_distance` for each of `values`, or None with too few groups.

    Each is meant to hold the expected distance of two such sets of these sizes, small-sample bias included. See
    `split_half_intervals`; none is below zero, and images without all measures are left out.

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
        ClassError: as `wasserstein_distance`.
    """
    complete = np.logical_and.reduce([_complete(of_images) for of_images in values.values()])
    kept_x, kept_y = i[complete[i]], j[complete[j]]
    return split_half_intervals(
        lambda a, b: {
            name: wasserstein_distance(of_images[kept_x[a]], of_images[kept_y[b]]) for name, of_images in values.items()
        },
        dict.fromkeys(values, Proportion(of_first=False, bounded=False)),
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


def measures_of(space: Space) -> UltrasoundMeasures | None:
    """Return the measures of all images of `space`; None where these are too small."""
    if min(space.sets[TRAIN].size) < MIN_SIZE:
        return None
    return UltrasoundMeasures.joined(
        [ultrasound_measures(part.images, cache=space.cache) for part in space.sets.values()]
    )


def _measured(c: Comparison) -> np.ndarray:
    measures = c.space.shared(measures_of)
    return np.ones(len(c.space.groups), bool) if measures is None else measures.measured


def _values(c: Comparison) -> dict[str, Value]:
    measures = c.space.shared(measures_of)
    if measures is None:
        height, width = c.space.sets[TRAIN].size
        why = f"images of {height} × {width} pixels are too small to measure speckle in"
        return dict.fromkeys(_MEASURES, Value(None, why))
    try:
        values = realism_values(measures)
        return {name: Value(wasserstein_distance(v[c.real], v[c.synthetic])) for name, v in values.items()}
    except ClassError as error:
        return dict.fromkeys(_MEASURES, Value(None, str(error)))


def _intervals(c: Comparison, _: Mapping[str, float]) -> Mapping[str, Interval]:
    measures = c.space.shared(measures_of)
    assert measures is not None  # or there would be no values
    return realism_intervals(realism_values(measures), c.real, c.synthetic, *c.groups, seed=c.seed) or {}


def _metric(**words: Any) -> Metric:
    return Metric(
        part="realism",
        direction="smaller",
        space="pixels",
        value=_values,
        interval=_intervals,
        interval_method="disjoint halves, whole groups",
        prepare=lambda c: c.space.shared(measures_of),
        usable=(_measured, "speckle that can be measured"),
        ratio=True,
        headline=True,
        **words,
    )


METRICS = (
    _metric(
        name="speckle_contrast_distance",
        title="Speckle contrast",
        subject="speckle contrast",
        unit="grey levels",
        about="Standard deviation of grey levels in small windows, the median over an image.",
        report_decimals=2,
    ),
    _metric(
        name="nakagami_distance",
        title="Nakagami shape m",
        subject="the Nakagami shape",
        about="Shape of the distribution of the envelope in small windows, after undoing a logarithmic compression of "
        "60 dB.",
        reference="Shankar, IEEE TUFFC 2000",
        report_decimals=3,
    ),
    _metric(
        name="axial_width_distance",
        title="Axial width",
        subject="the axial width of speckle",
        unit="pixels",
        about="Full width at half maximum of the autocorrelation of speckle along the beam.",
        reference="Wagner et al., IEEE Trans. Sonics Ultrason. 1983",
        report_decimals=3,
    ),
    _metric(
        name="lateral_width_distance",
        title="Lateral width",
        subject="the lateral width of speckle",
        unit="pixels",
        about="The same across the beam.",
        reference="Wagner et al., IEEE Trans. Sonics Ultrason. 1983",
        report_decimals=3,
    ),
    _metric(
        name="power_spectrum_distance",
        title="Power spectrum",
        subject="the power spectrum",
        unit="dB",
        about="Power of speckle in bands of spatial frequency, over that of white noise.",
        report_decimals=2,
    ),
    _metric(
        name="depth_profile_distance",
        title="Depth profile",
        subject="the depth profile",
        unit="grey levels",
        about="Mean grey level at 32 depths, less the mean over all depths.",
        report_decimals=2,
    ),
)
