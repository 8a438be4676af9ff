"""Kernel distance (KID) between two sets of features: the unbiased estimate on the full sets, and its interval."""

import numpy as np

from sonosynth.metrics.frechet import checked
from sonosynth.metrics.subsampling import MIN_GROUPS, around


def polynomial_kernel(gram: np.ndarray, dimension: int) -> np.ndarray:
    """Return ``(x . y / D + 1)^3`` elementwise from inner products `gram` of features of length D = `dimension`."""
    return np.asarray((gram / dimension + 1.0) ** 3)


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased squared maximum mean discrepancy between `x` ``[N, D]`` and `y` ``[M, D]``.

    The U-statistic over all pairs with the cubic polynomial kernel, in float64 (Bińkowski et al., "Demystifying MMD
    GANs", ICLR 2018, section 4). It is computed once on the full sets, not as a mean over random subsets: the same
    expectation, less noise, no subset size to choose. Its expectation is zero for equal distributions at any size, so
    single values may be negative.

    Raises:
        ClassError: fewer than two rows in either set.
        ValueError: arrays that are not 2-D, differ in D, or are not finite.
    """
    kernel, i, j = _joined(x, y)
    return kernel_from_matrix(kernel, i, j)


def kernel_from_matrix(kernel: np.ndarray, i: np.ndarray, j: np.ndarray) -> float:
    """Return the unbiased squared discrepancy between rows `i` and rows `j` of a kernel matrix, float64 ``[N, N]``."""
    n, m = len(i), len(j)
    within_x = kernel[np.ix_(i, i)].sum() - kernel[i, i].sum()
    within_y = kernel[np.ix_(j, j)].sum() - kernel[j, j].sum()
    return float(_discrepancy(within_x, within_y, kernel[np.ix_(i, j)].sum(), n, m))


def kernel_interval(
    x: np.ndarray,
    y: np.ndarray,
    groups_x: np.ndarray | None = None,
    groups_y: np.ndarray | None = None,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return the interval of the kernel distance of `x` ``[N, D]`` and `y` ``[M, D]``, or None with too few groups.

    The two-sample jackknife over groups: the variances from leaving out one group of `x` and one group of `y` add up.
    Groups of unequal size are weighted (Busing, Meijer, van der Leeden, "Delete-m jackknife for unequal m", Statistics
    and Computing 9:3, 1999). The interval is the estimate plus and minus Student's t times the standard error. Without
    groups each row is one. Where the two distributions are nearly equal the interval is too wide.

    Raises:
        ClassError: fewer than two rows in either set.
        ValueError: as `kernel_distance`.
    """
    kernel, i, j = _joined(x, y)
    groups = (i if groups_x is None else groups_x, j if groups_y is None else groups_y)
    return kernel_interval_from_matrix(kernel, i, j, *groups, level)


def kernel_interval_from_matrix(
    kernel: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    groups_x: np.ndarray,
    groups_y: np.ndarray,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return what `kernel_interval` does, from a kernel matrix (see `kernel_from_matrix`); groups are of i and j."""
    n_groups = min(len(np.unique(groups_x)), len(np.unique(groups_y)))
    if n_groups < MIN_GROUPS:
        return None
    xx, yy, xy = kernel[np.ix_(i, i)], kernel[np.ix_(j, j)], kernel[np.ix_(i, j)]
    variance = _jackknife_variance(xx, yy, xy, groups_x) + _jackknife_variance(yy, xx, xy.T, groups_y)
    return around(kernel_from_matrix(kernel, i, j), float(np.sqrt(variance)), n_groups, level)


def _jackknife_variance(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, groups: np.ndarray) -> float:
    """Return the variance that comes from the first set, from sums over its groups instead of recomputation."""
    n, m = xy.shape
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    off_diagonal = xx - np.diag(np.diag(xx))
    member = (number[:, None] == np.arange(len(sizes))).astype(np.float64)
    touching = member.T @ off_diagonal.sum(axis=1)
    inside = np.einsum("ng,ng->g", member, off_diagonal @ member)
    within_x = off_diagonal.sum() - 2 * touching + inside
    within_y = yy.sum() - np.trace(yy)
    without = _discrepancy(within_x, within_y, xy.sum() - member.T @ xy.sum(axis=1), n - sizes, m)
    whole = _discrepancy(off_diagonal.sum(), within_y, xy.sum(), n, m)
    centre = len(sizes) * whole - ((1 - sizes / n) * without).sum()
    ratio = n / sizes
    pseudo_values = ratio * whole - (ratio - 1) * without
    return float(((pseudo_values - centre) ** 2 / (ratio - 1)).mean())


def _discrepancy(
    within_x: np.ndarray, within_y: np.ndarray, between: np.ndarray, n: int | np.ndarray, m: int
) -> np.ndarray:
    return np.asarray(within_x / (n * (n - 1.0)) + within_y / (m * (m - 1.0)) - 2 * between / (n * m))


def _joined(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = np.concatenate(checked(x, y))
    kernel = polynomial_kernel(both @ both.T, both.shape[1])
    return kernel, np.arange(len(x)), np.arange(len(x), len(both))
