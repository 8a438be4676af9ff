"""Training, held-out and synthetic images by features: the distances and cells that metrics of memorisation share."""

from threading import Lock

import numpy as np

from sonosynth.core.seeds import seed_of
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.metric import Value
from sonosynth.metrics.neighbours import euclidean_distances
from sonosynth.metrics.scores import Score

NO_HELD_OUT = "needs held-out images: real ones that the generator did not see"


class ThreeSets:
    """The features of a comparison's training, held-out and synthetic images, and what comes of them.

    Images go by their index in the space of the comparison, so that draws of it share the distances.
    """

    def __init__(self, whole: Comparison):
        self._order = np.concatenate([whole.real, whole.held_out, whole.synthetic])  # ascending
        self._features, self._seed = whole.space.features[self._order], whole.seed
        self._n_train, n_real = len(whole.real), len(whole.real) + len(whole.held_out)
        self._distances = euclidean_distances(self._features[self._n_train :], self._features[:n_real])
        self._cells: dict[int, np.ndarray] = {}
        self._lock = Lock()

    @staticmethod
    def prepare(c: Comparison) -> None:
        """Compute the distances, where there are held-out images to compare with."""
        if len(c.held_out) >= 2:
            c.whole.shared(ThreeSets)

    def between(self, images: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Return distances ``[len(images), len(real)]`` of held-out or synthetic images to real ones."""
        rows, columns = (np.searchsorted(self._order, part) for part in (images, real))
        return np.asarray(self._distances[np.ix_(rows - self._n_train, columns)])

    def cells(self, images: np.ndarray, n_cells: int) -> np.ndarray:
        """Return the cell of each of `images`, of so many cells."""
        with self._lock:
            if n_cells not in self._cells:
                train = self._features[: self._n_train]
                self._cells[n_cells] = assign_cells(train, self._features, n_cells, self._seed)
        return np.asarray(self._cells[n_cells][np.searchsorted(self._order, images)])


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
