"""Membership inference: can one tell from synthetic images which real images the generator was trained on?"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.interpretation import GAP, TOO_FEW, percent
from sonosynth.metrics.intervals.subsampling import MIN_GROUPS, min_group_count, t_interval
from sonosynth.metrics.memorisation.near_copies import search
from sonosynth.metrics.memorisation.three_sets import NO_HELD_OUT, ThreeSets, baseline_caution, without_held_out
from sonosynth.metrics.metric import Interpretation, Interval, Metric, Value
from sonosynth.metrics.scores import TRAIN, Score


def membership_auc(members: np.ndarray, non_members: np.ndarray) -> float:
    """Return the area under the ROC curve of an attack that takes real images near a synthetic one for members.

    It knows the synthetic images only, not the generator (a black-box attack on generators: Chen et al., "GAN-Leaks",
    CCS 2020, section 4). 0.5 is chance: the share of pairs in which the training image is the nearer one, ties counting
    half. Both sets are held against the same synthetic images, so their sizes do not move it.

    Members ``[T]`` and non-members ``[U]`` are given by their distance to the nearest synthetic image.
    """
    return float(placements(members, non_members)[0].mean())


def membership_interval(
    members: np.ndarray, non_members: np.ndarray, groups_members: np.ndarray, groups_non_members: np.ndarray
) -> Interval:
    """Return the interval of `membership_auc`, or None with fewer than `MIN_GROUPS` groups on either side.

    DeLong's variance (DeLong, DeLong, Clarke-Pearson, Biometrics 44:837, 1988) with whole groups as units (Obuchowski,
    Biometrics 53:567, 1997). It is for these synthetic images: others of the same generator would add to it.
    """
    n_groups = min_group_count((groups_members, groups_non_members))
    if n_groups < MIN_GROUPS:
        return None
    of_members, of_non_members = placements(members, non_members)
    value = float(of_members.mean())
    variance = group_variance((of_members - value) / len(of_members), groups_members)
    variance += group_variance((of_non_members - value) / len(of_non_members), groups_non_members)
    low, high = t_interval(value, float(np.sqrt(variance)), n_groups)
    return max(low, 0.0), min(high, 1.0)


def placements(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of `x` the share of `y` that is larger, and for each of `y` the share of `x` that is smaller.

    Ties count half; both means are P(x < y).
    """
    below, above = np.sort(x), np.sort(y)
    larger = 1 - (np.searchsorted(above, x, "left") + np.searchsorted(above, x, "right")) / (2 * len(y))
    smaller = (np.searchsorted(below, y, "left") + np.searchsorted(below, y, "right")) / (2 * len(x))
    return larger, smaller


def group_variance(influence: np.ndarray, groups: np.ndarray) -> float:
    """Return the variance of an estimate from what each image adds to it, ``[N]`` around zero, summed over groups."""
    _, number = np.unique(groups, return_inverse=True)
    sums = np.bincount(number, influence)
    return float((sums**2).sum() * len(sums) / (len(sums) - 1))


def _nearest_synthetic(c: Comparison) -> tuple[np.ndarray, np.ndarray]:
    sets = c.whole.shared(ThreeSets)
    return sets.between(c.synthetic, c.real).min(axis=0), sets.between(c.synthetic, c.held_out).min(axis=0)


def _dissimilarity(c: Comparison) -> tuple[np.ndarray, np.ndarray]:
    copies, n_train = c.space.shared(search), len(c.space.sets[TRAIN])
    assert copies.from_held_out is not None  # or there would be no value
    return 1 - copies.from_training.similarity[c.real], 1 - copies.from_held_out.similarity[c.held_out - n_train]


def _pixel_value(c: Comparison) -> Value:
    copies = c.space.shared(search)
    n, m, n_synthetic = len(c.real), len(c.held_out), len(copies.copied)
    if copies.from_held_out is None:
        return Value(None, NO_HELD_OUT, n, n_synthetic)
    if min(n, m) == 0:
        return Value(None, f"needs training and held-out images, has {n} and {m}", n + m, n_synthetic)
    return Value(membership_auc(*_dissimilarity(c)), "", n + m, n_synthetic)


def _interval_by(distances: Callable[[Comparison], tuple[np.ndarray, np.ndarray]]) -> Callable[..., Interval]:
    return lambda c, _: membership_interval(*distances(c), c.space.groups[c.real], c.space.groups[c.held_out])


def _interpret(score: Score) -> Interpretation:
    assert score.value is not None
    if score.low is None or score.high is None:
        return Interpretation("unclear", TOO_FEW)
    if score.low > 0.5:
        right = f"right in {percent(score.value)} of pairs (chance: {percent(0.5)})"
        text = f"an attacker tells training images from others, {right}"
        return Interpretation("worse", text + baseline_caution(score, 0.5, 0.1))
    if score.high < 0.5:
        text = "training images are less near to synthetic ones than others are: no sign of memorisation"
        return Interpretation("similar", text + baseline_caution(score, 0.5, 0.1))
    if score.high > 0.5 + GAP:
        return Interpretation("unclear", f"{TOO_FEW}: {score.low:.2f} to {score.high:.2f}, and 0.5 is chance")
    text = f"no attack better than chance found; right in up to {percent(score.high)} of pairs is possible"
    return Interpretation("similar", text)


_BY_FEATURES = Metric(
    name="membership_auc",
    part="memorisation",
    title="Membership AUC",
    about="Success of an attacker who takes real images near a synthetic one for training images: 0.5 is chance, 1 "
    "reveals all of them.",
    reference="Chen et al., GAN-Leaks, CCS 2020; interval: DeLong et al., Biometrics 1988, Obuchowski, Biometrics 1997",
    direction="smaller",
    range=(0.0, 1.0),
    compares="both",
    value=lambda c: without_held_out(c) or membership_auc(*_nearest_synthetic(c)),
    interval=_interval_by(_nearest_synthetic),
    interval_method="DeLong's variance, groups as units",
    prepare=ThreeSets.prepare,
    null_value=0.5,
    decimals=3,
    report_decimals=2,
    headline=True,
    interpret=_interpret,
)
METRICS = (
    _BY_FEATURES,
    replace(
        _BY_FEATURES,
        space="pixels",
        value=_pixel_value,
        interval=_interval_by(_dissimilarity),
        baseline=False,
        prepare=lambda c: c.space.shared(search),
    ),
)
