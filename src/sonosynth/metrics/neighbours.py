"""Squared distances between all images, and the nearest neighbours in parts of a set, sorted only once."""

from functools import cached_property

import numpy as np

from sonosynth.core.errors import ClassError


def checked_features(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both feature arrays as float64."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D], not {list(x.shape)} and {list(y.shape)}")
    if min(len(x), len(y)) < 2:
        raise ClassError(f"sets of {len(x)} and {len(y)} images: a distance needs at least 2 images in each")
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features must be finite")
    return x, y


def block(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the `rows` and `columns` of `matrix`, as ``matrix[np.ix_(rows, columns)]`` does in twice the time."""
    return np.asarray(matrix.take(rows, axis=0).take(columns, axis=1))


def squared_distances(features: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances between the rows of `features` ``[N, D]``: float64 ``[N, N]``, at least zero.

    They come from inner products in float64, right to about 1e-15 of the squared length of the features. Equal rows
    have distance zero and bitwise equal distances to all others, so ties with copies do not depend on rounding.
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
    return distances if len(first) == len(rows) else block(distances, np.array(same), np.array(same))


def euclidean_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, float64 ``[N, M]``, of rows of `x` ``[N, D]`` and `y` ``[M, D]``; 0 if equal."""
    centre = x.mean(axis=0)
    x, y = x - centre, y - centre
    norms = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    squared = norms - 2 * (x @ y.T)
    # What cancels to less than rounding leaves is nothing.
    return np.asarray(np.sqrt(np.where(squared > 1e-12 * norms, squared, 0.0)))


class Neighbours:
    """Squared distances ``[N, N]`` within a set, and the neighbours of each image in order."""

    def __init__(self, distances: np.ndarray):
        self.distances = distances

    @cached_property
    def order(self) -> np.ndarray:
        """Int ``[N, N]``: in each row the images, nearest first."""
        return np.argsort(self.distances, axis=1)

    def radii(self, part: np.ndarray, k: int) -> np.ndarray:
        """Return squared distances of the images `part` to their k-th nearest others in `part`."""
        if not 0 < k < len(part):
            raise ValueError(f"k = {k}: among {len(part)} images it must be from 1 to {len(part) - 1}")
        if len(part) == len(self.distances):  # nothing need be in order
            return np.asarray(np.partition(self.distances, k, axis=1)[part, k])
        # Pass by images outside `part`; an image is the first of the k + 1 to be found itself.
        chosen = np.zeros(len(self.order), dtype=bool)
        chosen[part] = True
        width = 8 * (k + 1)
        passed = chosen[self.order[part, :width]].cumsum(axis=1)
        while passed[:, -1].min() <= k:
            width *= 2
            passed = chosen[self.order[part, :width]].cumsum(axis=1)
        return np.asarray(self.distances[part, self.order[part, (passed > k).argmax(axis=1)]])
