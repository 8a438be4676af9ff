"""Two learners of equal skill on repeated grouped splits of one simulated data set."""

import numpy as np

from simulated_outcomes import GROUP_SIZES, N_CLASSES, PROPORTIONS, macro_f1
from sonosynth.statistics.scores import RepeatedSplits

_FEATURES = 6
_APART = 0.55  # distance of class means a feature, in standard deviations of a group


def split_scores(
    random: np.random.Generator, repeats: int, size: int = 0, n: int = 780
) -> tuple[np.ndarray, np.ndarray, RepeatedSplits]:
    """Return macro F1 of either learner in each split, and the splits.

    Each learner has features of its own, drawn alike, and takes the nearest class mean: neither is better. A quarter of
    the groups is the test set; of the others `size` images are drawn to train on, all of them if 0.
    """
    groups = np.repeat(np.arange(n), random.choice(list(GROUP_SIZES), n, p=_shares()))[:n]
    labels = random.choice(N_CLASSES, groups[-1] + 1, p=PROPORTIONS)[groups]
    means = _APART * random.standard_normal((N_CLASSES, _FEATURES))
    features = means[labels] + random.standard_normal((2, groups[-1] + 1, _FEATURES))[:, groups]
    features += 0.5 * random.standard_normal(features.shape)
    scores: list[np.ndarray] = []
    tests, parts = [], []
    for _ in range(repeats):
        held_out = random.random(groups[-1] + 1) < 0.25
        test, part = np.flatnonzero(held_out[groups]), np.flatnonzero(~held_out[groups])
        train = random.choice(part, size, replace=False) if size else part
        centres = np.stack([features[:, train[labels[train] == c]].mean(axis=1) for c in range(N_CLASSES)], axis=1)
        distance = ((features[:, test, None] - centres[:, None]) ** 2).sum(axis=-1)
        scores.append(macro_f1(labels[test], distance.argmin(axis=-1), N_CLASSES))
        tests.append(tuple(test.tolist()))
        parts.append(len(part))
    a, b = np.transpose(scores)
    return a, b, RepeatedSplits(tuple(tests), min(parts))


def _shares() -> np.ndarray:
    counts = np.array(list(GROUP_SIZES.values()))
    return np.asarray(counts / counts.sum())
