"""Near-copies: the share of synthetic images more similar to a training image than real images of others ever are."""

from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sonosynth.core.errors import ClassError
from sonosynth.core.text import agreeing, counted
from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.interpretation import TOO_FEW, percent
from sonosynth.metrics.intervals.subsampling import clopper_pearson
from sonosynth.metrics.metric import Interpretation, Metric, State, Value
from sonosynth.metrics.scores import HELD_OUT, SYNTHETIC, TRAIN, Score

if TYPE_CHECKING:
    from sonosynth.metrics.memorisation.similarity import Matches

MIN_REAL = 20  # no threshold is set from fewer real images
FALSE_POSITIVE_RATE = 1e-4
"""Share of real images that the tail fitted to real images puts above the threshold; see `false_positive_rate`."""
MAX_THRESHOLD = 0.75
"""The threshold is never above: copies stay clear of it, even where the real images hold copies unknown to anyone."""
_SIGNIFICANT = 0.025
_MANY = 0.1  # share of copies: if more are possible, finding none says little


@dataclass(frozen=True, eq=False)
class NearCopies:
    """What was found in S synthetic images."""

    threshold: float | None  # similarity above which an image is a near-copy; None where there are too few real images
    # real images that it was set on: held-out against training images, or train against training images of other groups
    calibrated_on: Literal["held-out", "train"]
    copied: np.ndarray  # bool [S]; all false without a threshold
    training: "Matches"  # for every synthetic image, its most similar training image
    held_out: "Matches | None"  # likewise held-out image; None without any
    real: "Matches"  # for every image of `calibrated_on`, its most similar training image (of another group)
    from_training: "Matches"  # for every training image, its most similar synthetic image
    from_held_out: "Matches | None"  # likewise for every held-out image; None without any

    @property
    def real_share(self) -> float | None:
        """Share of real images that would be called copies too: above 0 where real copies are in both sets."""
        return None if self.threshold is None else float((self.real.similarity > self.threshold).mean())


def near_copies(
    train: np.ndarray,
    synthetic: np.ndarray,
    held_out: np.ndarray | None = None,
    train_groups: np.ndarray | None = None,
    cache: Path | None = None,
) -> NearCopies:
    """Compare every synthetic image with every training image, and with every held-out image.

    The threshold is set on how similar real images are to their most similar training image: `held_out` ones, or with
    fewer than `MIN_REAL` of these, training images and others of another group. See `copy_threshold`.

    Images are uint8 ``[N, H, W]``; without groups each is one. What is found of two sets is kept in the directory
    `cache`, under a hash of their images.
    """
    from sonosynth.metrics.memorisation.similarity import FineStructure, most_similar  # imports torch

    if len(train) < 2 or len(synthetic) < 1:
        raise ClassError(
            f"{len(train)} training and {counted(len(synthetic), 'synthetic image')}: copies need at least 2 and 1"
        )
    real, made = FineStructure(train), FineStructure(synthetic)
    training, from_training = most_similar(made, real, cache)
    groups = np.arange(len(train)) if train_groups is None else train_groups
    unseen = None if held_out is None or len(held_out) == 0 else FineStructure(held_out)
    held_out_matches, from_held_out = most_similar(made, unseen, cache) if unseen else (None, None)
    if unseen and len(unseen) >= MIN_REAL:
        between_real, n_groups = most_similar(unseen, real, cache)[0], len(unseen)
    else:
        between_real, n_groups = most_similar(real, real, cache, groups)[0], len(np.unique(groups))
    limit = copy_threshold(between_real.similarity) if n_groups >= MIN_REAL else None
    return NearCopies(
        threshold=limit,
        calibrated_on="held-out" if unseen and len(unseen) >= MIN_REAL else "train",
        copied=training.similarity > (np.inf if limit is None else limit),
        training=training,
        held_out=held_out_matches,
        real=between_real,
        from_training=from_training,
        from_held_out=from_held_out,
    )


def copy_threshold(similarity: np.ndarray) -> float:
    """Return the similarity that no real image has to a training image, from those of N real images, ``[N]``.

    The largest of them, or, as few images may not hold the extremes, the `similarity_tail`, if that is more. At most
    `MAX_THRESHOLD`.
    """
    return float(min(max(similarity_tail(similarity), similarity.max()), MAX_THRESHOLD))


def similarity_tail(similarity: np.ndarray) -> float:
    """Return what a share `FALSE_POSITIVE_RATE` of real images would exceed, from the similarities of N of them.

    Largest similarities out of many follow a Gumbel distribution, whose two parameters are taken from the quartiles,
    which up to a quarter of unknown copies among the real images hardly move.
    """

    def gumbel(quantile: float) -> float:
        return -log(-log(quantile))

    lower, median, upper = np.quantile(similarity, [0.25, 0.5, 0.75])
    scale = (upper - lower) / (gumbel(0.75) - gumbel(0.25))
    return float(median + scale * (gumbel(1 - FALSE_POSITIVE_RATE) - gumbel(0.5)))


def false_positive_rate(n_real: int) -> float:
    """Return what share of real images a `copy_threshold` set on `n_real` of them may let through.

    It exceeds `FALSE_POSITIVE_RATE`, since the quartiles of few images hardly know the tail. Under the Gumbel
    distribution, 97 of 100 thresholds let through less than this share: 0.9 % for 20 images, 0.07 % for 100. A
    one-sided binomial test against it at 2.5 % calls at most 1.5 % of generators that copy nothing copiers, simulated
    for 20 to 1000 real and 100 to 2000 synthetic images, all independent; against `FALSE_POSITIVE_RATE` itself it was
    11 % for 20 and 500, and 28 % for 20 and 2000.
    """
    return min(FALSE_POSITIVE_RATE * exp(20 / sqrt(n_real)), 1.0)


def copy_share(copied: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, tuple[float, float]]:
    """Return the share of true values in `copied` ``[N]`` and its interval.

    The interval is exact for independent images (Clopper and Pearson, Biometrika 26:404, 1934), as draws of a generator
    are. Where images share `groups` ``[N]``, it is that of as many images as there are groups, at the same share (as in
    Korn and Graubard, Survey Methodology 24:193, 1998).
    """
    if len(copied) == 0:
        raise ClassError("no images: the share of near-copies needs at least 1")
    n = len(copied) if groups is None else len(np.unique(groups))
    value = float(copied.mean())
    return value, clopper_pearson(value * n, n)


def search(space: Space) -> NearCopies:
    """Return the near-copies among all synthetic images of `space`."""
    train, held_out = space.sets[TRAIN], space.sets.get(HELD_OUT)
    unseen = None if held_out is None else held_out.images
    return near_copies(train.images, space.sets[SYNTHETIC].images, unseen, train.groups, space.cache)


def _copied(c: Comparison) -> np.ndarray:
    copies = c.space.shared(search)
    return np.asarray(copies.copied[c.synthetic - (len(c.space.groups) - len(copies.copied))])


def _value(c: Comparison) -> Value:
    copies = c.space.shared(search)
    n, unseen = len(copies.real.similarity), copies.calibrated_on == "held-out"
    n_real = len(c.space.sets[TRAIN]) + (n if unseen else 0)
    if copies.threshold is None:
        why = f"a threshold needs {MIN_REAL} held-out images, or training images of {MIN_REAL} groups"
        return Value(None, why, n_real)
    compared = "held-out with training images" if unseen else "training images with those of other groups"
    note = f"similarity above {copies.threshold:.2f}, set on {n} {compared}"
    return Value(copy_share(_copied(c))[0], note, n_real)


def _interpret(score: Score) -> Interpretation:
    """Tell how many images are copies, and whether that is more than real images would be.

    By Fisher's exact test, or, where no real image reaches the threshold, against the share that it may let through.
    """
    n = score.n_synthetic
    assert score.value is not None
    copies = round(score.value * n)
    if copies == 0:
        limit = "" if score.high is None else f"; up to {percent(score.high)} is possible"
        state: State = "unclear" if score.high is None or score.high > _MANY else "similar"
        return Interpretation(state, f"no near-copy of a training image among {n}{limit}")
    verb = "is a near-copy of a training image" if copies == 1 else "are near-copies of training images"
    text = f"{copies} of {n} {verb}"
    if score.real_baseline is None or score.real_baseline_n is None:
        return Interpretation("unclear", f"{text}; {TOO_FEW} how many real images would be")
    n_real = score.real_baseline_n
    real = round(score.real_baseline * n_real)
    are = agreeing(real, "is", "are")
    text += f"; of {counted(n_real, 'real image')}, {real} {are}: look at {'it' if copies == 1 else 'them'}"
    table = [[copies, n - copies], [real, n_real - real]]
    from scipy.stats import binomtest, fisher_exact  # slow to import, and seldom needed

    test = fisher_exact(table, "greater") if real else binomtest(copies, n, false_positive_rate(n_real), "greater")
    if test.pvalue < _SIGNIFICANT:
        return Interpretation("worse", text)
    if score.value <= score.real_baseline:
        return Interpretation("similar", text)
    return Interpretation("unclear", text)


METRICS = (
    Metric(
        name="near_copies",
        part="memorisation",
        title="Near-copies",
        unit="share",
        about="Share of synthetic images more similar to a training image than any real image of other patients is. "
        "Similarity: the largest correlation of fine structure over shifts of up to an eighth of the side and both "
        "orientations. The real baseline is the share of real images above the same limit.",
        reference="interval: Clopper and Pearson, Biometrika 1934",
        direction="smaller",
        range=(0.0, 1.0),
        space="pixels",
        compares="train",
        value=_value,
        interval=lambda c, _: copy_share(_copied(c), c.groups[1])[1],
        interval_method="exact (Clopper and Pearson), groups as units",
        baseline=lambda c: (c.space.shared(search).real_share, len(c.space.shared(search).real.similarity)),
        prepare=lambda c: c.space.shared(search),
        decimals=3,
        report_decimals=3,
        headline=True,
        interpret=_interpret,
    ),
)
