"""How much nearer synthetic images lie to training images than to real images that the generator never saw."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log, log1p

import numpy as np

from sonosynth.core.seeds import numpy_generator
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.interpretation import GAP, TOO_FEW, percent
from sonosynth.metrics.intervals.split_half import of_each, split_half_variance
from sonosynth.metrics.intervals.subsampling import SamplingUnits, t_interval
from sonosynth.metrics.memorisation.three_sets import ThreeSets, baseline_caution, without_held_out
from sonosynth.metrics.metric import Interpretation, Interval, Metric, Value
from sonosynth.metrics.scores import Score

_NEGLIGIBLE = 1e-9  # probability


def distance_ratio(train: "NearestGroups", held_out: "NearestGroups") -> float:
    """Return the mean distance to the nearest training image over that to the nearest held-out image.

    1: synthetic images are no nearer to training images than to held-out ones; 0: all are copies; NaN: all are copies
    of held-out images. Means, not the median of ratios, so that few copies count: a share p of exact copies among
    otherwise new images gives about 1 - p.

    A larger set holds nearer neighbours by chance. So both means are for equally many real images: of the larger set,
    the distance to the nearest is the expectation over all ways to draw as many whole groups as hold on average the
    number of images in the smaller set, which needs no random draws (`NearestGroups.mean`). A copy then counts only
    where the image that it copies is among those drawn: with r times as many training as held-out images, about a share
    p / r of the distance is missed. `near_copies` and C_T use all training images.
    """
    if min(train.n_groups, held_out.n_groups) == 0:
        return float("nan")
    size = min(train.n_groups * train.per_group, held_out.n_groups * held_out.per_group)
    below = held_out.mean(size)
    return train.mean(size) / below if below > 0 else float("nan")


def distance_ratio_interval(
    train: "NearestGroups", held_out: "NearestGroups", units: Sequence[SamplingUnits], seed: int = 0
) -> Interval:
    """Return the interval of `distance_ratio`, never below zero; None below `MIN_GROUPS` groups in any of the sets.

    The variances that synthetic and real images bring add up. Each is from halves (`split_half_variance`), while the
    others stay whole: if all were halved together, half of the copies would lose the image that they copy.

    Args:
        train: distances of the synthetic images to the training images.
        held_out: to the held-out images.
        units: of the training, the held-out and the synthetic images.
        seed: of the halves.
    """
    of_groups = [SamplingUnits(np.arange(len(one)), np.ones(len(one), np.int64), one.strata) for one in units[:2]]
    groups, everyone = [one.number for one in of_groups], np.arange(len(units[2].number))

    def ratio(t: np.ndarray, u: np.ndarray, s: np.ndarray) -> float:
        return distance_ratio(train.part(s, t), held_out.part(s, u))

    rng = numpy_generator(seed, "distance ratio interval")
    of_real = split_half_variance(of_each(lambda t, u: ratio(t, u, everyone)), of_groups, rng)
    of_synthetic = split_half_variance(of_each(lambda s: ratio(groups[0], groups[1], s)), units[2:], rng)
    if of_real is None or of_synthetic is None:
        return None
    value, n_groups = distance_ratio(train, held_out), min(map(len, units))
    low, high = t_interval(value, (of_real + of_synthetic) ** 0.5, n_groups)
    return (max(low, 0.0), high) if np.isfinite((low, high)).all() else None


@dataclass(frozen=True, eq=False)
class NearestGroups:
    """Distances of S images to the groups of a set, nearest first; groups that are too far to matter are not kept."""

    distances: np.ndarray  # [S, K], to the nearest image of a group, ascending
    ranked: np.ndarray  # int [S, K], which group that is
    kept: np.ndarray  # bool [G], groups that count
    per_group: float  # images of a group, on average

    @classmethod
    def of(cls, distances: np.ndarray, groups: np.ndarray, smaller: int) -> "NearestGroups":
        """Return those of `distances` ``[S, N]`` to images of `groups` ``[N]``; `smaller` of both sets has so many."""
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
        nearest = np.minimum.reduceat(distances[:, order], starts, axis=1)
        # Among half of the groups, one counts with this probability, times a half as one side may be the smaller.
        rate = 0.5 * 0.5 * smaller / len(groups)
        depth = min(len(starts), 1 + ceil(log(_NEGLIGIBLE) / log1p(-rate)))
        ranked = np.argsort(nearest, axis=1, kind="stable")[:, :depth]
        kept = np.ones(len(starts), dtype=bool)
        return cls(np.take_along_axis(nearest, ranked, axis=1), ranked, kept, len(groups) / len(starts))

    @property
    def n_groups(self) -> int:
        """Groups that count."""
        return int(self.kept.sum())

    def part(self, rows: np.ndarray, groups: np.ndarray) -> "NearestGroups":
        """Return the same of some of the images, to some of the groups."""
        kept = np.zeros_like(self.kept)
        kept[groups] = True
        return replace(self, distances=self.distances[rows], ranked=self.ranked[rows], kept=kept)

    def mean(self, n_images: float) -> float:
        """Return the mean distance to the nearest of that many images, over all ways to draw whole groups of them.

        If q of G groups are drawn, the k-th nearest group (k = 0, 1, ...) is the nearest drawn one with probability
        C(G - 1 - k, q - 1) / C(G, q).
        """
        groups, drawn = self.n_groups, max(1, round(n_images / self.per_group))
        k = np.arange(1, groups)
        steps = np.maximum(groups - drawn - k + 1, 0) / (groups - k)
        probability = drawn / groups * np.concatenate([[1.0], np.cumprod(steps)])
        there = self.kept[self.ranked]
        weights = np.where(there, probability[np.maximum(there.cumsum(axis=1) - 1, 0)], 0.0)
        return float((weights * self.distances).sum() / weights.sum())


def nearest_groups(
    to_train: np.ndarray, to_held_out: np.ndarray, groups_train: np.ndarray, groups_held_out: np.ndarray
) -> tuple[NearestGroups, NearestGroups]:
    """Return what `distance_ratio` takes, from distances ``[S, T]`` to training and ``[S, U]`` to held-out images."""
    smaller = min(len(groups_train), len(groups_held_out))
    return NearestGroups.of(to_train, groups_train, smaller), NearestGroups.of(to_held_out, groups_held_out, smaller)


def _nearest_groups(c: Comparison) -> tuple[NearestGroups, NearestGroups]:
    sets, groups = c.whole.shared(ThreeSets), c.space.groups
    distances = sets.between(c.synthetic, c.real), sets.between(c.synthetic, c.held_out)
    return nearest_groups(*distances, groups[c.real], groups[c.held_out])


def _value(c: Comparison) -> Value:
    if missing := without_held_out(c):
        return missing
    value = distance_ratio(*_nearest_groups(c))
    if np.isnan(value):
        return Value(None, "every synthetic image is a copy of a held-out image")
    return Value(value, f"both means for as many real images as {min(len(c.real), len(c.held_out))}")


def _interval(c: Comparison, _: float) -> Interval:
    units = [c.units_of(images) for images in (c.real, c.held_out, c.synthetic)]
    return distance_ratio_interval(*_nearest_groups(c), units, c.seed)


def _interpret(score: Score) -> Interpretation:
    assert score.value is not None
    if score.low is None or score.high is None:
        return Interpretation("unclear", TOO_FEW)
    if score.high < 1:
        nearer = percent(1 - score.value)
        text = f"{nearer} nearer to training images than to held-out ones, a sign of memorisation"
        return Interpretation("worse", text + baseline_caution(score, 1, 0.05))
    if score.low > 1:
        text = "nearer to held-out images than to training images: no sign of memorisation"
        return Interpretation("similar", text + baseline_caution(score, 1, 0.05))
    if score.low < 1 - GAP:
        text = f"{TOO_FEW}: {score.low:.2f} to {score.high:.2f}, and 1 is nothing remembered"
        return Interpretation("unclear", text)
    text = f"not found nearer to training images than to held-out ones; {percent(1 - score.low)} nearer is possible"
    return Interpretation("similar", text)


METRICS = (
    Metric(
        name="nearest_distance_ratio",
        part="memorisation",
        title="Nearest-distance ratio",
        about="Mean distance to the nearest training image over that to the nearest held-out one, for equally many of "
        "both: 1 where nothing is remembered, less where something is.",
        direction="target",
        compares="both",
        value=_value,
        interval=_interval,
        interval_method="disjoint halves of the real and of the synthetic images, whole groups",
        prepare=ThreeSets.prepare,
        null_value=1.0,
        decimals=3,
        interpret=_interpret,
    ),
)
