"""Classifier scores on one fixed, grouped test set, with hierarchical-bootstrap intervals."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sonosynth.engine import numpy_generator

_CHUNK = 2**21  # resampling weights held at once


@dataclass(frozen=True)
class Interval:
    """A value with the limits of its interval; the limits are NaN where there is nothing to resample."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval; False where the limits are NaN."""
        return bool(self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class ClassifierIntervals:
    """Macro F1, the F1 of each class and balanced accuracy, all from the same resamples.

    Means are over the classes with true images; the F1 of a class without any is NaN.
    """

    macro_f1: Interval
    class_f1: tuple[Interval, ...]
    balanced_accuracy: Interval


@dataclass(frozen=True)
class Difference:
    """Score b minus score a, and that difference divided by a; `relative` is None where a can be zero."""

    absolute: Interval
    relative: Interval | None


def class_f1(labels: np.ndarray, predictions: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the F1 of each class: ``predictions`` int ``[..., N]`` give float ``[..., n_classes]``.

    A class without true images has NaN.
    """
    predictions = np.asarray(predictions)
    flat = predictions.reshape(1, -1, predictions.shape[-1])
    counts = _count(np.asarray(labels), np.zeros(len(labels), dtype=np.int64), flat, n_classes)
    f1, _ = _scores(np.ones((1, 1)), counts)
    return f1.reshape(*predictions.shape[:-1], n_classes)


def macro_f1(labels: np.ndarray, predictions: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the unweighted mean F1 of the classes with true images: int ``[..., N]`` gives float ``[...]``."""
    return np.asarray(np.nanmean(class_f1(labels, predictions, n_classes), axis=-1))


def classifier_intervals(
    labels: np.ndarray,
    groups: np.ndarray,
    predictions: np.ndarray,
    n_classes: int,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> ClassifierIntervals:
    """Return scores averaged over seeds, then over draws, with hierarchical-bootstrap percentile intervals.

    In each resample the test groups are drawn with replacement, one set of groups for all draws and seeds (the test
    set is fixed), and, where there are several draws, ``draws - 1`` of them with replacement, which makes the
    variance of a mean over few draws unbiased (McCarthy and Snowden 1985). With one draw only test groups are
    resampled: the interval then says nothing about other training subsets, which the caller must state. Percentile
    limits run somewhat narrow on small test sets: in simulation with 60 groups, 95 % intervals held the truth in 0.89
    to 0.93 of 400 repeats, whether with one draw or five.

    Args:
        labels: int ``[n_test]``, 0 to ``n_classes - 1``.
        groups: int ``[n_test]``; images of one group are drawn together.
        predictions: int ``[draws, seeds, n_test]``.
        n_classes: number of classes.
        level: coverage aimed at.
        n_resamples: number of resamples.
        seed: seed of the resampling; equal seeds give paired resamples for equal `groups` and number of draws.

    Raises:
        ValueError: shapes do not fit.
    """
    point, resampled = _resample(labels, groups, predictions, n_classes, n_resamples, seed)
    intervals = [_percentile(value, column, level) for value, column in zip(point, resampled.T, strict=True)]
    return ClassifierIntervals(intervals[-2], tuple(intervals[:-2]), intervals[-1])


def f1_interval(
    labels: np.ndarray,
    groups: np.ndarray,
    predictions: np.ndarray,
    n_classes: int,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return macro F1 with its interval; see `classifier_intervals`."""
    return classifier_intervals(labels, groups, predictions, n_classes, level, n_resamples, seed).macro_f1


def f1_difference(
    labels: np.ndarray,
    groups: np.ndarray,
    predictions_a: np.ndarray,
    predictions_b: np.ndarray,
    n_classes: int,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Return macro F1 of b minus that of the baseline a, absolute and relative to a, paired by draw and test group.

    Args:
        labels: int ``[n_test]``.
        groups: int ``[n_test]``.
        predictions_a: int ``[draws, seeds, n_test]``, the baseline.
        predictions_b: int ``[draws, seeds, n_test]``; the same draws in the same order, any number of seeds.
        n_classes: number of classes.
        level: coverage aimed at.
        n_resamples: number of resamples.
        seed: seed of the resampling.

    Raises:
        ValueError: shapes do not fit, or the numbers of draws differ.
    """
    if len(predictions_a) != len(predictions_b):
        raise ValueError(f"a has {len(predictions_a)} draws and b {len(predictions_b)}; pairs need equal numbers")
    point_a, resampled_a = _resample(labels, groups, predictions_a, n_classes, n_resamples, seed)
    point_b, resampled_b = _resample(labels, groups, predictions_b, n_classes, n_resamples, seed)
    a, b, sampled_a, sampled_b = point_a[-2], point_b[-2], resampled_a[:, -2], resampled_b[:, -2]
    absolute = _percentile(b - a, sampled_b - sampled_a, level)
    if a == 0 or (sampled_a == 0).any():
        return Difference(absolute, None)
    return Difference(absolute, _percentile(b / a - 1, sampled_b / sampled_a - 1, level))


def _resample(
    labels: np.ndarray, groups: np.ndarray, predictions: np.ndarray, n_classes: int, n_resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``[S]`` and ``[n_resamples, S]``: the F1 of each class, macro F1, balanced accuracy."""
    labels, groups, predictions = (np.asarray(array) for array in (labels, groups, predictions))
    if predictions.ndim != 3 or labels.shape != groups.shape or predictions.shape[-1:] != labels.shape:
        raise ValueError(f"labels {labels.shape}, groups {groups.shape} and predictions {predictions.shape} do not fit")
    if 0 in predictions.shape:
        raise ValueError(f"predictions {predictions.shape} hold nothing")
    names, members = np.unique(groups, return_inverse=True)
    n_groups, n_draws = len(names), len(predictions)
    counts = _count(labels, members, predictions, n_classes)
    point = _summary(np.ones((1, n_groups)), np.full((1, n_draws), 1 / n_draws), counts)[0]
    if n_groups < 2:
        return point, np.full((n_resamples, len(point)), np.nan)
    chunks = [_summary(w, v, counts) for w, v in _weights(n_groups, n_draws, n_resamples, seed)]
    return point, np.concatenate(chunks)


def _weights(n_groups: int, n_draws: int, n_resamples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield how often each group, ``[B, groups]``, and how much each draw, ``[B, draws]``, counts in a resample."""
    random = numpy_generator(seed, "bootstrap")
    step = max(1, _CHUNK // n_groups)
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        of_groups = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n).astype(np.float64)
        if n_draws == 1:
            yield of_groups, np.ones((n, 1))
        else:
            chosen = random.multinomial(n_draws - 1, np.full(n_draws, 1 / n_draws), size=n)
            yield of_groups, chosen / (n_draws - 1)


def _count(
    labels: np.ndarray, members: np.ndarray, predictions: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per group the true ``[G, C]``, predicted and right ``[G, draws, seeds, C]`` numbers of images."""
    if min(labels.min(), predictions.min()) < 0 or max(labels.max(), predictions.max()) >= n_classes:
        raise ValueError(f"labels and predictions must be 0 to {n_classes - 1}")
    n_groups, runs = int(members.max()) + 1, predictions.shape[:-1]
    n_runs = int(np.prod(runs))
    cells = members * (n_runs * n_classes) + np.arange(n_runs)[:, None] * n_classes + predictions.reshape(n_runs, -1)
    size = n_groups * n_runs * n_classes
    shape = (n_groups, *runs, n_classes)
    predicted = np.bincount(cells.ravel(), minlength=size).reshape(shape)
    right = np.bincount(cells[predictions.reshape(n_runs, -1) == labels], minlength=size).reshape(shape)
    true = np.bincount(members * n_classes + labels, minlength=n_groups * n_classes).reshape(n_groups, n_classes)
    return true.astype(np.float64), predicted.astype(np.float64), right.astype(np.float64)


def _scores(weights: np.ndarray, counts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return F1 and recall ``[B, draws, seeds, C]`` with groups weighted by ``[B, G]``; NaN without true images."""
    true, predicted, right = (np.tensordot(weights, part, axes=1) for part in counts)
    true = np.broadcast_to(true[:, None, None, :], right.shape)
    there = true > 0
    f1 = np.divide(2 * right, true + predicted, out=np.full(right.shape, np.nan), where=there)
    recall = np.divide(right, true, out=np.full(right.shape, np.nan), where=there)
    return f1, recall


def _summary(groups: np.ndarray, draws: np.ndarray, counts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    f1, recall = (score.mean(axis=2) for score in _scores(groups, counts))
    means = [np.nanmean(score, axis=-1, keepdims=True) for score in (f1, recall)]
    return np.asarray(np.einsum("bd,bds->bs", draws, np.concatenate([f1, *means], axis=-1)))


def _percentile(value: float, resampled: np.ndarray, level: float) -> Interval:
    """Return percentile limits over the resamples that have a value: one may lack a rare class altogether."""
    known = resampled[np.isfinite(resampled)]
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))
