"""Fréchet distance (FID in Inception features), right for fewer images than features, and its limit of many images."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from sonosynth.core.seeds import numpy_generator
from sonosynth.core.text import counted
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.intervals.split_half import Part, split_half_interval
from sonosynth.metrics.intervals.subsampling import MIN_GROUPS, SamplingUnits, sample_groups
from sonosynth.metrics.metric import Interpretation, Interval, Metric, Value
from sonosynth.metrics.neighbours import block, checked_features

IMAGES_PER_FEATURE = 2  # below so many images, and groups of them, per feature in either set, nothing is extrapolated
SIZES = 5  # sizes, from half the images to all, that an extrapolation rests on
DRAWS_PER_SIZE = 5  # subsamples of each size but the whole
DRAWS = 40  # random halves an interval is made from: fewer than elsewhere, as each takes six matrices apart


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the squared Fréchet distance between normal distributions fitted to `x` ``[N, D]`` and `y` ``[M, D]``.

    ``|mean_x - mean_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))`` with unbiased covariances, in float64 (Heusel et al.,
    "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017). The last trace is the sum of the singular values of
    ``X_c Y_c^T / sqrt((N - 1)(M - 1))`` for centred features, an N × M problem that needs no root of a singular matrix
    and no added epsilon. The value is biased upwards at small N and M: compare equal sizes only.
    """
    x, y = checked_features(x, y)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    centred_x, centred_y = x - mean_x, y - mean_y
    scale = np.sqrt((len(x) - 1.0) * (len(y) - 1.0))
    spread = (centred_x**2).sum() / (len(x) - 1) + (centred_y**2).sum() / (len(y) - 1)
    cross = np.linalg.svd(_reduced(centred_x) @ _reduced(centred_y).T, compute_uv=False).sum() / scale
    return max(float(((mean_x - mean_y) ** 2).sum() + spread - 2 * cross), 0.0)


def _distance(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> float:
    """Return `frechet_distance` from inner products of features within and between the sets."""
    (apart,), (cross,) = _terms(xx, yy, xy, [(np.arange(len(xx)), np.arange(len(yy)))])
    return max(float(apart - 2 * np.linalg.svd(cross, compute_uv=False).sum()), 0.0)


def _distances(c: Comparison, parts: Sequence[Part]) -> list[float]:
    """Return the distances of parts of both sets, the way that takes least time for so many features."""
    x, y = c.features
    if x.shape[1] < min(len(part) for both in parts for part in both):
        return [frechet_distance(x[i], y[j]) for i, j in parts]
    return _rough_distances(*c.blocks(c.space.gram), parts)


def _rough_distances(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, parts: Sequence[Part]) -> list[float]:
    """Return the distances of parts in half the time, each singular value right to 1e-8 of the largest.

    The matrices are stacked, since NumPy holds up other threads for 500 rows or fewer in all.
    """
    apart, crosses = _terms(xx, yy, xy, parts)
    side = max(min(cross.shape) for cross in crosses)
    squares = np.zeros((len(crosses), side, side))
    for square, cross in zip(squares, crosses, strict=True):
        wide = cross if len(cross) <= cross.shape[1] else cross.T
        square[: len(wide), : len(wide)] = wide @ wide.T  # the rest stays 0 and adds nothing
    nuclear_norms = np.sqrt(np.maximum(np.linalg.eigvalsh(squares), 0)).sum(axis=1)
    return [max(float(distance), 0.0) for distance in apart - 2 * nuclear_norms]


def _terms(
    xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, parts: Sequence[Part]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return, for each of `parts`, the distance but for its last trace, and the matrix whose nuclear norm that is."""
    of_x, of_y = zip(*parts, strict=True)
    means_x, spreads_x = _moments(xx, of_x)
    means_y, spreads_y = _moments(yy, of_y)
    means, crosses = np.empty(len(parts)), []
    for part, (i, j) in enumerate(parts):
        cross = block(xy, i, j)
        means[part] = cross.mean()
        cross -= cross.mean(axis=0)
        cross -= cross.mean(axis=1, keepdims=True)
        cross /= np.sqrt((len(i) - 1.0) * (len(j) - 1.0))
        crosses.append(cross)
    return means_x + means_y - 2 * means + spreads_x + spreads_y, crosses


def _moments(gram: np.ndarray, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the squared lengths of the means of parts of a set, and the traces of their unbiased covariances."""
    weights, sizes = np.zeros((len(gram), len(parts))), np.array([len(part) for part in parts])
    for column, part in enumerate(parts):
        weights[part, column] = 1 / len(part)
    means = (weights * (gram @ weights)).sum(axis=0)
    return means, (np.diag(gram) @ weights - means) * sizes / (sizes - 1)


def _value(c: Comparison) -> float:
    """Return the distance; that of a draw of the real baseline, of which there are many, by `_distances`."""
    if c.whole is c:
        return _distance(*c.blocks(c.space.gram))
    return _distances(c, [(np.arange(len(c.real)), np.arange(len(c.synthetic)))])[0]


def frechet_interval(estimate: float, c: Comparison, units: tuple[SamplingUnits, SamplingUnits], seed: int) -> Interval:
    """Return the interval around the distance `estimate` of the sets of a comparison, which `units` are drawn from.

    It is meant to hold the expected distance of two such sets of these sizes, small-sample bias included, and not the
    distance at infinite size. See `split_half_interval`. Never below zero.
    """
    rng = numpy_generator(seed, "frechet interval")
    interval = split_half_interval(estimate, partial(_distances, c), units, rng, DRAWS, extrapolate=True)
    return interval and (max(interval[0], 0.0), interval[1])


def frechet_infinity(c: Comparison) -> Value:
    """Return the Fréchet distance extrapolated to infinitely many images.

    The bias of the distance is nearly proportional to 1 / N (Chong and Forsyth, "Effectively Unbiased FID and Inception
    Score", CVPR 2020). Both sets are subsampled together without replacement, by whole groups, to `SIZES` sizes from a
    half to all, equally spaced in 1 / N; the value at 1 / N = 0 of the line of least squares through the mean distance
    at each size is returned. Below ``IMAGES_PER_FEATURE * D`` images or groups in either set the bias is no longer so
    simple, and there is no value; the note says so. Near zero the limit may be negative.
    """
    (x, y), units = c.features, c.units
    needed = IMAGES_PER_FEATURE * x.shape[1]
    if min(len(x), len(y)) < needed:
        return Value(None, f"{len(x)} and {len(y)} images, but {x.shape[1]} features need {needed} images in each set")
    few, enough = min(map(len, units)), max(needed, MIN_GROUPS)
    if few < enough:
        return Value(None, f"{counted(few, 'group')} of images in a set, but {x.shape[1]} features need {enough}")
    rng = numpy_generator(c.root_seed, "frechet infinity")
    inverse, distances = [1.0], [frechet_distance(x, y)]
    for size in np.linspace(2, 1, SIZES)[:-1]:
        drawn = [[sample_groups(one, 1 / size, rng) for one in units] for _ in range(DRAWS_PER_SIZE)]
        if any(len(part) < 2 for parts in drawn for part in parts):
            return Value(None, "a group of images is too large to draw half of the images without it")
        # Whole groups rarely make up the exact number, so the size is what was drawn.
        inverse.append(float(np.mean([len(x) / len(i) + len(y) / len(j) for i, j in drawn]) / 2))
        distances.append(float(np.mean([frechet_distance(x[i], y[j]) for i, j in drawn])))
    return Value(float(np.polyfit(inverse, distances, 1)[1]))


def _reduced(x: np.ndarray) -> np.ndarray:
    # The R of x = QR has the same x^T x, hence the same covariance, with at most D rows.
    return x if x.shape[0] <= x.shape[1] else np.asarray(np.linalg.qr(x, mode="r"))


METRICS = (
    Metric(
        name="frechet_distance",
        part="distances",
        title="Fréchet distance",
        aliases={"inception": "FID"},
        about="Distance between the means and covariances of features; in Inception features this is the FID. Biased "
        "upwards, the more so the fewer images.",
        reference="Heusel et al., NeurIPS 2017",
        direction="smaller",
        value=_value,
        interval=lambda c, value: frechet_interval(value, c, c.units, c.seed),
        interval_method="disjoint halves and quarters, whole groups",
        prepare=lambda c: c.space.gram,
        ratio=True,
    ),
    Metric(
        name="frechet_distance_infinity",
        part="distances",
        title="Fréchet distance, n → ∞",
        aliases={"inception": "FID, n → ∞"},
        about="The Fréchet distance extrapolated to infinitely many images, only where each set has twice as many "
        "images, and groups of them, as there are features.",
        reference="Chong and Forsyth, CVPR 2020",
        direction="smaller",
        range=(None, None),
        value=frechet_infinity,
        baseline=False,
        interpret=lambda score: Interpretation("none", "extrapolated to infinitely many images; has no real baseline"),
    ),
)
