"""F1 and recall of classifiers: on one fixed, grouped test set, or over repeated splits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sonosynth.statistics.scores import (
    Covers,
    FixedTestScores,
    Interval,
    RepeatedSplits,
    RepeatedSplitScores,
    Scores,
    average_seeds,
)


@dataclass(frozen=True)
class F1Intervals:
    """Macro F1, the F1 of each class (NaN without true images) and balanced accuracy, means over the other classes."""

    macro_f1: Interval
    class_f1: tuple[Interval, ...]
    balanced_accuracy: Interval
    covers: Covers


def f1_intervals(scores: Scores) -> F1Intervals:
    """Return t intervals of the logits of `scores`, which `fixed_test_f1` or `repeated_splits_f1` made.

    With three draws or more the intervals cover other draws of the training subset and other test groups. With one or
    two they cover other test groups and seeds, and say nothing of other training subsets, which the caller must state.
    Limits are NaN where the score is 0 or 1, or all images, or all true images of a class that enters, are of one
    group.
    """
    intervals = [scores[i].estimate().logit_interval() for i in range(scores.whole.shape[-1])]
    return F1Intervals(intervals[-2], tuple(intervals[:-2]), intervals[-1], scores.covers)


def fixed_test_f1(labels: np.ndarray, groups: np.ndarray, predictions: np.ndarray, n_classes: int) -> FixedTestScores:
    """Return the F1 of each class, macro F1 ``[-2]`` and balanced accuracy ``[-1]``, also with each group left out.

    Labels and groups are int ``[n_test]``, predictions ``[draws, seeds, n_test]``; seeds are averaged.
    """
    return average_seeds(f1_per_run(labels, groups, predictions, n_classes))


def repeated_splits_f1(
    labels: Sequence[np.ndarray], predictions: Sequence[np.ndarray], n_classes: int, splits: RepeatedSplits
) -> RepeatedSplitScores:
    """Return what `fixed_test_f1` does for the one draw of each split, from predictions ``[seeds, n_test]``."""
    by_split = [
        f1_per_run(true, np.zeros(len(true), dtype=np.int64), predicted[None], n_classes).whole[0].mean(axis=0)
        for true, predicted in zip(labels, predictions, strict=True)
    ]
    return RepeatedSplitScores(np.stack(by_split), splits)


def f1_per_run(labels: np.ndarray, groups: np.ndarray, predictions: np.ndarray, n_classes: int) -> FixedTestScores:
    """Return what `fixed_test_f1` does, with seeds kept apart: scores ``[draws, seeds, n_classes + 2]``."""
    labels, groups, predictions = (np.asarray(array) for array in (labels, groups, predictions))
    if predictions.ndim != 3 or labels.shape != groups.shape or predictions.shape[-1:] != labels.shape:
        raise ValueError(f"labels {labels.shape}, groups {groups.shape} and predictions {predictions.shape} do not fit")
    if 0 in predictions.shape:
        raise ValueError(f"predictions {predictions.shape} hold nothing")
    if min(labels.min(), predictions.min()) < 0 or max(labels.max(), predictions.max()) >= n_classes:
        raise ValueError(f"labels and predictions must be 0 to {n_classes - 1}")
    # Images by group, run and class: all true ones, those predicted, and those predicted correctly.
    members = np.unique(groups, return_inverse=True)[1]
    n_groups, runs = int(members.max()) + 1, predictions.shape[:-1]
    n_runs = int(np.prod(runs))
    by_run = predictions.reshape(n_runs, -1)
    cells = members * (n_runs * n_classes) + np.arange(n_runs)[:, None] * n_classes + by_run
    size = n_groups * n_runs * n_classes
    predicted = np.bincount(cells.ravel(), minlength=size).reshape(n_groups, *runs, n_classes)
    correct = np.bincount(cells[by_run == labels], minlength=size).reshape(n_groups, *runs, n_classes)
    true = np.bincount(members * n_classes + labels, minlength=n_groups * n_classes).reshape(n_groups, 1, 1, n_classes)
    counts = true, predicted, correct
    present = np.bincount(labels, minlength=n_classes) > 0
    whole = [part.sum(axis=0) for part in counts]
    left_out = [total - part for total, part in zip(whole, counts, strict=True)]
    return FixedTestScores(_f1_and_means(whole, present), _f1_and_means(left_out, present))


def _f1_and_means(counts: Sequence[np.ndarray], present: np.ndarray) -> np.ndarray:
    """Return class F1, macro F1 and balanced accuracy ``[..., C + 2]``, means over the classes that are `present`.

    A class without true images has NaN.
    """
    true, predicted, correct = counts
    known = np.broadcast_to(true > 0, correct.shape)
    f1 = np.divide(2 * correct, true + predicted, out=np.full(correct.shape, np.nan), where=known)
    recall = np.divide(correct, true, out=np.full(correct.shape, np.nan), where=known)
    means = [score[..., present].mean(axis=-1, keepdims=True) for score in (f1, recall)]
    return np.concatenate([f1, *means], axis=-1)
