"""Ultrasound realism: Wasserstein distances between two sets of B-mode images in speckle, resolution and depth."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from sonosynth.core.errors import ClassError
from sonosynth.core.seeds import numpy_generator
from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.intervals.split_half import Proportion, split_half_intervals
from sonosynth.metrics.intervals.subsampling import SamplingUnits
from sonosynth.metrics.metric import Interval, Metric, Value
from sonosynth.metrics.scores import TRAIN
from sonosynth.metrics.ultrasound.measures import MIN_SIZE, UltrasoundMeasures, ultrasound_measures

_MEASURES = {
    "speckle_contrast_distance": ("speckle_contrast", "Speckle contrast", "speckle contrast", "grey levels", 2),
    "nakagami_distance": ("nakagami_m", "Nakagami shape m", "the Nakagami shape", "", 3),
    "axial_width_distance": ("axial_width", "Axial width", "the axial width of speckle", "pixels", 3),
    "lateral_width_distance": ("lateral_width", "Lateral width", "the lateral width of speckle", "pixels", 3),
    "power_spectrum_distance": ("power_spectrum", "Power spectrum", "the power spectrum", "dB", 2),
    "depth_profile_distance": ("depth_profile", "Depth profile", "the depth profile", "grey levels", 2),
}
"""Distances by name: attribute of `UltrasoundMeasures`, title, subject, unit, and decimals in a report."""
_ABOUT = {
    "speckle_contrast_distance": "Standard deviation of grey levels in small windows, the median over an image.",
    "nakagami_distance": "Shape of the distribution of the envelope in small windows, after undoing a logarithmic "
    "compression of 60 dB.",
    "axial_width_distance": "Full width at half maximum of the autocorrelation of speckle along the beam.",
    "lateral_width_distance": "The same across the beam.",
    "power_spectrum_distance": "Power of speckle in bands of spatial frequency, over that of white noise.",
    "depth_profile_distance": "Mean grey level at 32 depths, less the mean over all depths.",
}
_REFERENCES = {
    "nakagami_distance": "Shankar, IEEE TUFFC 2000",
    "axial_width_distance": "Wagner et al., IEEE Trans. Sonics Ultrason. 1983",
    "lateral_width_distance": "Wagner et al., IEEE Trans. Sonics Ultrason. 1983",
}


def realism_values(measures: UltrasoundMeasures) -> dict[str, np.ndarray]:
    """Return what each distance compares, by its name, ``[N, P]``: P is 1 for a number, more for a curve."""
    n = len(measures.measured)
    return {name: getattr(measures, measure).reshape(n, -1) for name, (measure, *_) in _MEASURES.items()}


def wasserstein_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the Wasserstein-1 distance of samples `x` ``[N, P]`` and `y` ``[M, P]``, averaged over the P columns.

    Exact for any N and M: the area between the two empirical quantile functions, in the unit of the values. Rows with
    NaN, images that have no measures, are left out. The value is biased upwards at small N and M, and never zero for
    two samples of one distribution: compare it with a real baseline at the same sizes.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"values must be [N, P] and [M, P], not {list(x.shape)} and {list(y.shape)}")
    x, y = (np.sort(values[~np.isnan(values).any(axis=1)], axis=0) for values in (x, y))
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ClassError(
            f"{n} and {m} images with speckle that can be measured: a distance needs at least 2 in each set; the "
            "others are black, white or flat"
        )
    of_x, of_y, weights = _quantiles(n, m)
    return float(np.abs(x[of_x] - y[of_y]).mean(1) @ weights)


def realism_intervals(
    sets: Mapping[str, tuple[np.ndarray, np.ndarray]], units: tuple[SamplingUnits, SamplingUnits], seed: int = 0
) -> dict[str, Interval]:
    """Return the interval of `wasserstein_distance` for each of `sets`, two samples by name; none with too few groups.

    Each is meant to hold the expected distance of two such sets of these sizes, small-sample bias included. See
    `split_half_intervals`; none is below zero. `units` are those of both samples.
    """

    def distances(i: np.ndarray, j: np.ndarray) -> dict[str, float]:
        return {name: wasserstein_distance(x[i], y[j]) for name, (x, y) in sets.items()}

    proportions = dict.fromkeys(sets, Proportion(of_first=False, bounded=False))
    return split_half_intervals(distances, proportions, units, numpy_generator(seed, "realism interval"))


@lru_cache(maxsize=8)
def _quantiles(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places among n and among m sorted values where both quantile functions are constant, and how long."""
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)  # in units of 1 / nm
    return levels[:-1] // m, levels[:-1] // n, np.diff(levels) / (n * m)


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
    sets = {name: (v[c.real], v[c.synthetic]) for name, v in realism_values(measures).items()}
    return realism_intervals(sets, c.units, c.seed)


METRICS = tuple(
    Metric(
        name=name,
        part="realism",
        title=title,
        about=_ABOUT[name],
        reference=_REFERENCES.get(name, ""),
        direction="smaller",
        unit=unit,
        space="pixels",
        value=_values,
        interval=_intervals,
        interval_method="disjoint halves, whole groups",
        prepare=lambda c: c.space.shared(measures_of),
        usable=(_measured, "speckle that can be measured"),
        ratio=True,
        headline=True,
        report_decimals=report_decimals,
        subject=subject,
    )
    for name, (_, title, subject, unit, report_decimals) in _MEASURES.items()
)
