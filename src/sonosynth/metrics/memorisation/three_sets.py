"""Training, held-out and synthetic images by features: the distances and cells that metrics of memorisation share."""

import numpy as np

from sonosynth.core.seeds import seed_of
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.metric import Value
from sonosynth.metrics.neighbours import block, euclidean_distances
from sonosynth.metrics.scores import Score

NO_HELD_OUT = "needs held-out images: real ones that the generator did not see"


class ThreeSets:
    """Distances of a comparison's held-out and synthetic images to its real images.

    Images go by their index in the space of the comparison, so that draws of it share the distances.
    """

    def __init__(self, whole: Comparison):
        self._order = np.concatenate([whole.real, whole.held_out, whole.synthetic])  # ascending
        self._n_train, n_real = len(whole.real), len(whole.real) + len(whole.held_out)
        features = whole.space.features[self._order]
        self._distances = euclidean_distances(features[self._n_train :], features[:n_real])

    @staticmethod
    def prepare(c: Comparison) -> None:
        """Compute the distances, where there are held-out images to compare with."""
        if len(c.held_out) >= 2:
            c.whole.shared(ThreeSets)

    def between(self, images: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Return distances ``[len(images), len(real)]`` of held-out or synthetic images to real ones."""
        rows, columns = (np.searchsorted(self._order, part) for part in (images, real))
        return block(self._distances, rows - self._n_train, columns)


def cells_of(whole: Comparison, n_cells: int) -> np.ndarray:
    """Return the cell, of so many, of each image of the space that takes part in `whole`; -1 for others."""
    order = np.concatenate([whole.real, whole.held_out, whole.synthetic])
    features = whole.space.features[order]
    found = np.full(len(whole.space.groups), -1)
    found[order] = assign_cells(features[: len(whole.real)], features, n_cells, whole.seed)
    return found


def assign_cells(train: np.ndarray, features: np.ndarray, n_cells: int, seed: int = 0) -> np.ndarray:
    """Return the cell of each row of `features` ``[N, D]``, int ``[N]``: the nearest centre of k-means on `train`."""
    if n_cells == 1:
        return np.zeros(len(features), dtype=np.int64)
    from sklearn.cluster import KMeans  # takes a second

    means = KMeans(n_cells, n_init=3, random_state=seed_of(seed, "cells") % 2**32).fit(train)
    return np.asarray(means.predict(features), dtype=np.int64)


def without_held_out(c: Comparison) -> Value | None:
    """Return what a comparison without two held-out images has instead of a value; None where it has them."""
    return Value(None, NO_HELD_OUT, len(c.real)) if len(c.held_out) < 2 else None


def baseline_caution(score: Score, expected: float, tolerance: float) -> str:
    """Return a caution where held-out images in place of synthetic ones do not give what is `expected`."""
    if score.real_baseline is None or abs(score.real_baseline - expected) <= tolerance:
        return ""
    return f"; but training and held-out images differ (real baseline {score.real_baseline:.2f}), which can do this too"
