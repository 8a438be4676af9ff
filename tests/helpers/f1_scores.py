"""Macro F1 of classifiers on one test set, for tests of its statistics: predictions are int ``[draws, seeds, N]``."""

import numpy as np

from sonosynth.statistics.comparisons import Difference, score_difference
from sonosynth.statistics.f1 import fixed_test_f1
from sonosynth.statistics.scores import FixedTestScores, Interval


def simulate(random, n_groups, n_draws, n_seeds, skill=0.8, draw_sd=0.4, n_classes=3):
    """Grouped images with a difficulty per group, predicted by classifiers with a skill per draw."""
    sizes = random.integers(1, 4, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    labels = random.choice(n_classes, n_groups, p=[0.5, 0.3, 0.2])[groups]
    difficulty = random.normal(0, 1, n_groups)[groups]
    skills = skill + random.normal(0, draw_sd, n_draws)
    right = random.random((n_draws, n_seeds, len(groups))) < 1 / (1 + np.exp(-(skills[:, None, None] + difficulty)))
    wrong = (labels + random.integers(1, n_classes, right.shape)) % n_classes
    return labels, groups, np.where(right, labels, wrong)


def macro_f1_scores(labels, groups, predictions, n_classes: int) -> FixedTestScores:
    """Return macro F1, ``[draws]``, and with each test group left out."""
    return fixed_test_f1(labels, groups, predictions, n_classes)[-2]


def macro_f1_interval(labels, groups, predictions, n_classes: int) -> Interval:
    """Return macro F1 with its interval."""
    return macro_f1_scores(labels, groups, predictions, n_classes).estimate().logit_interval()


def macro_f1_difference(labels, groups, a, b, n_classes: int) -> Difference:
    """Return macro F1 of the predictions `b` minus that of `a`."""
    return score_difference(*(macro_f1_scores(labels, groups, p, n_classes) for p in (a, b)))
