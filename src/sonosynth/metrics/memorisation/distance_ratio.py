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

    A larger set holds nearer neighbours by chance, and so does one with more classes. So both means are for equally
    many real images of each class: of the larger set, the distance to the nearest is the expectation over all ways to
    draw as many whole groups of the class as hold on average the number of its images in the smaller set, which needs
    no random draws (`NearestGroups.mean`). A copy then counts only where the image that it copies is among those drawn:
    with r times as many training as held-out images, about a share p / r of the distance is missed. `near_copies` and
    C_T use all training images. NaN too where the sets have no class in common.
    """
    size = np.minimum(train.images_of_classes, held_out.images_of_classes)
    below = held_out.mean(size) if size.any() else 0.0
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
    sizes: np.ndarray  # int [G], images of each group
    classes: np.ndarray  # bool [C, G], the groups of each class

    @classmethod
    def of(cls, distances: np.ndarray, units: SamplingUnits, n_classes: int, share: float) -> "NearestGroups":
        """Return those of `distances` ``[S, N]`` to images with `units`; the smaller set has this `share` of them."""
        order = np.argsort(units.number, kind="stable")
        starts = np.flatnonzero(np.diff(units.number[order], prepend=-1))
        nearest = np.minimum.reduceat(distances[:, order], starts, axis=1)
        # Among half of the groups, one counts with this probability, times a half as one side may be the smaller.
        rate = 0.5 * 0.5 * share
        depth = min(len(starts), 1 + ceil(log(_NEGLIGIBLE) / log1p(-rate)))
        ranked = np.argsort(nearest, axis=1, kind="stable")[:, :depth]
        kept, classes = np.ones(len(starts), dtype=bool), np.arange(n_classes)[:, None] == units.strata
        return cls(np.take_along_axis(nearest, ranked, axis=1), ranked, kept, units.sizes, classes)

    @property
    def images_of_classes(self) -> np.ndarray:
        """Images of each class in groups that count, ``[C]``."""
        return np.asarray((self.classes & self.kept) @ self.sizes)

    def part(self, rows: np.ndarray, groups: np.ndarray) -> "NearestGroups":
        """Return the same of some of the images, to some of the groups."""
        kept = np.zeros_like(self.kept)
        kept[groups] = True
        return replace(self, distances=self.distances[rows], ranked=self.ranked[rows], kept=kept)

    def mean(self, n_images: np.ndarray) -> float:
        """Return the mean distance to the nearest of `n_images` ``[C]``, over all ways to draw whole groups of them.

        If q of the G groups of a class are drawn, none of its j nearest is with probability C(G - j, q) / C(G, q); q
        between two whole numbers stands for a mixture of both. The product over classes is the probability that the
        nearest drawn group is farther than those j.
        """
        farther = np.ones((1, 1))
        for mine, n in zip(self.classes & self.kept, n_images.tolist(), strict=True):
            if n:
                groups = int(mine.sum())
                drawn = max(1.0, n / (mine @ self.sizes) * groups)
                whole = [_none_drawn(groups, q) for q in (int(drawn), min(int(drawn) + 1, groups))]
                none = whole[0] + (drawn - int(drawn)) * (whole[1] - whole[0])
                farther = farther * none[mine[self.ranked].cumsum(axis=1)]
        weights = -np.diff(farther, axis=1, prepend=1.0)
        return float((weights * self.distances).sum() / weights.sum())


def _none_drawn(groups: int, drawn: int) -> np.ndarray:
    """Return the probability, ``[groups + 1]``, that none of the first 0, 1, ... of `groups` is among those `drawn`."""
    j = np.arange(groups)
    return np.concatenate([[1.0], np.cumprod(np.maximum(groups - drawn - j, 0) / (groups - j))])


def nearest_groups(
    to_train: np.ndarray, to_held_out: np.ndarray, train: SamplingUnits, held_out: SamplingUnits
) -> tuple[NearestGroups, NearestGroups]:
    """Return what `distance_ratio` takes, from distances ``[S, T]`` to training and ``[S, U]`` to held-out images.

    Strata of the units are classes, numbered alike in both.
    """
    n_classes = 1 + int(max(train.strata.max(), held_out.strata.max()))
    images = [np.bincount(units.strata, units.sizes, n_classes) for units in (train, held_out)]
    common = np.minimum(*images) > 0
    of_train, of_held_out = ((np.minimum(*images)[common] / of[common]).min(initial=1.0) for of in images)
    return (
        NearestGroups.of(to_train, train, n_classes, of_train),
        NearestGroups.of(to_held_out, held_out, n_classes, of_held_out),
    )


def _nearest_groups(c: Comparison) -> tuple[NearestGroups, NearestGroups]:
    sets = c.whole.shared(ThreeSets)
    distances = sets.between(c.synthetic, c.real), sets.between(c.synthetic, c.held_out)
    return nearest_groups(*distances, c.units_of(c.real), c.units_of(c.held_out))


def _value(c: Comparison) -> Value:
    if missing := without_held_out(c):
        return missing
    value = distance_ratio(*_nearest_groups(c))
    if np.isnan(value):
        return Value(None, "every synthetic image is a copy of a held-out image, or no class is in both real sets")
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
