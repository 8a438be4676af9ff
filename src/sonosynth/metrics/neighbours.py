"""Squared distances between all images, and the nearest neighbours in parts of two sets, sorted only once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sonosynth.core.errors import ClassError


def checked_features(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def squared_distances(features: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances between the rows of `features` ``[N, D]``: float64 ``[N, N]``, at least zero.

    They come from inner products in float64, right to about 1e-15 of the squared length of the features. Equal rows
    have distance zero and bitwise equal distances to all others, so ties with copies do not depend on rounding.

    Raises:
        ValueError: features that are not 2-D, or not finite.
    """
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(f"features must be finite [N, D], not {list(features.shape)} or with NaN or infinity")
    rows = np.asarray(features, dtype=np.float64)
    lengths = (rows**2).sum(axis=1)
    distances = rows @ rows.T
    distances *= -2
    distances += lengths[:, None] + lengths
    np.maximum(distances, 0, out=distances)
    np.fill_diagonal(distances, 0)
    first: dict[bytes, int] = {}
    same = [first.setdefault(row.tobytes(), n) for n, row in enumerate(rows + 0.0)]  # of -0 and 0 only 0 is left
    return distances if len(first) == len(rows) else np.asarray(distances[np.ix_(same, same)])


def euclidean_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, float64 ``[N, M]``, of rows of `x` ``[N, D]`` and `y` ``[M, D]``; 0 if equal."""
    centre = x.mean(axis=0)
    x, y = x - centre, y - centre
    norms = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    squared = norms - 2 * (x @ y.T)
    # What cancels to less than rounding leaves is nothing.
    return np.asarray(np.sqrt(np.where(squared > 1e-12 * norms, squared, 0.0)))


def joined(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `squared_distances` over `x` ``[N, D]`` and `y` ``[M, D]`` together, and the indices of either's rows.

    Raises:
        ClassError: fewer than two rows in either set.
        ValueError: arrays that are not 2-D, differ in D, or are not finite.
    """
    both = np.concatenate(checked_features(x, y))
    return squared_distances(both), np.arange(len(x)), np.arange(len(x), len(both))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Squared distances within and between two sets, with each image's neighbours in its own set in order.

    Attributes:
        xx: ``[N, N]``, within the first set.
        yy: ``[M, M]``, within the second set.
        xy: ``[N, M]``, between them.
    """

    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray

    @classmethod
    def of(cls, distances: np.ndarray, i: np.ndarray, j: np.ndarray) -> "Neighbours":
        """Return those of rows `i` and rows `j` of `distances` (see `squared_distances`)."""
        return cls(distances[np.ix_(i, i)], distances[np.ix_(j, j)], distances[np.ix_(i, j)])

    @cached_property
    def order_xx(self) -> np.ndarray:
        """Int ``[N, N]``: in each row the images of the first set, nearest first; sorted when first asked for."""
        return np.argsort(self.xx, axis=1)

    @cached_property
    def order_yy(self) -> np.ndarray:
        """Int ``[M, M]``: the same of the second set."""
        return np.argsort(self.yy, axis=1)

    def radii_x(self, part: np.ndarray, k: int) -> np.ndarray:
        """Return squared distances of the images `part` of the first set to their k-th nearest others in `part`.

        Raises:
            ValueError: k not from 1 to ``len(part) - 1``.
        """
        return _radii(self.xx, lambda: self.order_xx, part, k)

    def radii_y(self, part: np.ndarray, k: int) -> np.ndarray:
        """Return what `radii_x` does, for the second set."""
        return _radii(self.yy, lambda: self.order_yy, part, k)


def _radii(distances: np.ndarray, ordered: Callable[[], np.ndarray], part: np.ndarray, k: int) -> np.ndarray:
    """Walk each row of the order past images outside `part`; an image is the first of the k + 1 to be found itself.

    Where `part` is the whole set nothing is passed by, and nothing need be in order.
    """
    if not 0 < k < len(part):
        raise ValueError(f"k = {k}: among {len(part)} images it must be from 1 to {len(part) - 1}")
    if len(part) == len(distances):
        return np.asarray(np.partition(distances, k, axis=1)[part, k])
    order = ordered()
    chosen = np.zeros(len(order), dtype=bool)
    chosen[part] = True
    width = 8 * (k + 1)
    passed = chosen[order[part, :width]].cumsum(axis=1)
    while passed[:, -1].min() <= k:
        width *= 2
        passed = chosen[order[part, :width]].cumsum(axis=1)
    return np.asarray(distances[part, order[part, (passed > k).argmax(axis=1)]])
