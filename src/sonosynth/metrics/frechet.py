"""Fréchet distance between two sets of features, right for fewer images than features, and its interval."""

import numpy as np

from sonosynth.engine import numpy_generator
from sonosynth.errors import ClassError
from sonosynth.metrics.subsampling import DRAWS, subsampling_interval


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the squared Fréchet distance between normal distributions fitted to `x` ``[N, D]`` and `y` ``[M, D]``.

    ``|mean_x - mean_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))`` with unbiased covariances, in float64 (Heusel et al.,
    "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017). The last trace is the sum of the singular values of
    ``X_c Y_c^T / sqrt((N - 1)(M - 1))`` for centred features, an N × M problem that needs no root of a singular matrix
    and no added epsilon. The value is biased upwards at small N and M: compare equal sizes only.

    Raises:
        ClassError: fewer than two rows in either set.
        ValueError: arrays that are not 2-D, differ in D, or are not finite.
    """
    x, y = checked(x, y)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    centred_x, centred_y = x - mean_x, y - mean_y
    scale = np.sqrt((len(x) - 1.0) * (len(y) - 1.0))
    spread = (centred_x**2).sum() / (len(x) - 1) + (centred_y**2).sum() / (len(y) - 1)
    cross = np.linalg.svd(_reduced(centred_x) @ _reduced(centred_y).T, compute_uv=False).sum() / scale
    return max(float(((mean_x - mean_y) ** 2).sum() + spread - 2 * cross), 0.0)


def frechet_from_gram(gram: np.ndarray, i: np.ndarray, j: np.ndarray) -> float:
    """Return the squared Fréchet distance between rows `i` and rows `j` of features whose inner products are `gram`.

    Args:
        gram: float64 ``[N, N]``, inner products of all features.
        i: indices of the first set, at least two.
        j: indices of the second set, at least two.
    """
    xx, yy, xy = gram[np.ix_(i, i)], gram[np.ix_(j, j)], gram[np.ix_(i, j)]
    n, m = xy.shape
    means = xx.mean() + yy.mean() - 2 * xy.mean()
    spread = (np.trace(xx) - n * xx.mean()) / (n - 1) + (np.trace(yy) - m * yy.mean()) / (m - 1)
    centred = xy - xy.mean(axis=0) - xy.mean(axis=1, keepdims=True) + xy.mean()
    cross = np.linalg.svd(centred, compute_uv=False).sum() / np.sqrt((n - 1.0) * (m - 1.0))
    return max(float(means + spread - 2 * cross), 0.0)


def frechet_interval(
    x: np.ndarray,
    y: np.ndarray,
    groups_x: np.ndarray | None = None,
    groups_y: np.ndarray | None = None,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the interval of the Fréchet distance of `x` ``[N, D]`` and `y` ``[M, D]``, or None with too few groups.

    It is meant to hold the expected distance of two such sets of these sizes, small-sample bias included, and not the
    distance at infinite size. See `subsampling_interval`; without groups each row is one. Never below zero.

    Raises:
        ClassError: fewer than two rows in either set.
        ValueError: as `frechet_distance`.
    """
    both = np.concatenate(checked(x, y))
    i, j = np.arange(len(x)), np.arange(len(x), len(both))
    groups = (i if groups_x is None else groups_x, j if groups_y is None else groups_y)
    return frechet_interval_from_gram(both @ both.T, i, j, *groups, level, draws, seed)


def frechet_interval_from_gram(
    gram: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    groups_x: np.ndarray,
    groups_y: np.ndarray,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return what `frechet_interval` does, from inner products (see `frechet_from_gram`); groups are of i and j."""
    interval = subsampling_interval(
        frechet_from_gram(gram, i, j),
        lambda a, b: frechet_from_gram(gram, i[a], j[b]),
        groups_x,
        groups_y,
        numpy_generator(seed, "frechet interval"),
        level,
        draws,
    )
    return interval and (max(interval[0], 0.0), interval[1])


def checked(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both feature arrays as float64.

    Raises:
        ClassError: fewer than two rows in either.
        ValueError: arrays that are not 2-D, differ in their number of columns, or hold NaN or infinity.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D], not {list(x.shape)} and {list(y.shape)}")
    if min(len(x), len(y)) < 2:
        raise ClassError(f"sets of {len(x)} and {len(y)} images: a distance needs at least 2 images in each")
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features must be finite")
    return x, y


def _reduced(x: np.ndarray) -> np.ndarray:
    # The R of x = QR has the same x^T x, hence the same covariance, with at most D rows.
    return x if x.shape[0] <= x.shape[1] else np.asarray(np.linalg.qr(x, mode="r"))
