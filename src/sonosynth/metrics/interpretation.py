"""What a score says, in plain words, and never more than its interval and its real baseline allow.

A value is compared with its real baseline at the real baseline's size. Only full sets have an interval, so it is moved
along with the
value: its length is that of the full sets, whose images are behind the mean over the draws of that size too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, isnan, log10, nan
from typing import Literal

from scipy.stats import binomtest, fisher_exact

from sonosynth.metrics.families import BETTER
from sonosynth.metrics.memorisation.near_copies import false_rate
from sonosynth.metrics.scores import AT_BASELINE, HELD_OUT, TRAIN, Score
from sonosynth.statistics import Interval

State = Literal["as real", "off", "beyond", "unclear", "none"]
"""No difference from real images found; worse than real images; better than real images, which may be a bad sign; too
few images to say; nothing to compare."""

_REFERENCES = {TRAIN: "training images", HELD_OUT: "held-out images"}
_HALVES = "two halves of the real data are"
_TOO_FEW = "too few images to say"
_FEW = 50
"""Below so many images a side, a kernel distance at its baseline says little, and has no scale to say how little."""
_TIMES = (1.5, 3.0)
"""Distances: up to so many times the baseline, the end of an interval goes unmentioned; above, nothing is said."""
_GAP = (0.1, 0.25)
"""Shares, ratios and areas: the same for how far the worse end of an interval is from the real baseline."""
_SIGNED = ("kernel_distance", "cmmd", "frechet_distance_infinity", "data_copying")
"""Metrics that may be below zero."""
_COPYING = -3.0
"""C_T below tells of copying (Meehan et al., AISTATS 2020)."""
_SIGNIFICANT = 0.025

_REALISM = {
    "speckle_contrast_distance": "speckle contrast",
    "nakagami_distance": "the Nakagami shape",
    "axial_width_distance": "the axial width of speckle",
    "lateral_width_distance": "the lateral width of speckle",
    "power_spectrum_distance": "the power spectrum",
    "depth_profile_distance": "the depth profile",
}
_SHARES: Mapping[str, tuple[str, str, str]] = {
    "precision": (
        "synthetic images lie among {reference} as often as other real images do",
        "fewer synthetic images lie among {reference} ({value}) than other real images do ({baseline})",
        "more synthetic images lie among {reference} ({value}) than other real images do ({baseline}): "
        "rare ones may lack",
    ),
    "recall": (
        "synthetic images reach as much of the variety of {reference} as other real images do",
        "part of the variety of {reference} is missing: {value} of it is reached, by other real images {baseline}",
        "more {reference} lie among synthetic images ({value}) than would among other real ones ({baseline})",
    ),
    "density": (
        "packed among {reference} as densely as other real images",
        "sparser among {reference} than other real images ({value} against {baseline})",
        "crowded at what is typical of {reference} ({value}, other real images {baseline})",
    ),
    "coverage": (
        "as many {reference} have a synthetic image near as would have another real one",
        "fewer {reference} have a synthetic image near ({value}) than would have another real one ({baseline})",
        "more {reference} have a synthetic image near ({value}) than would have another real one ({baseline})",
    ),
    "alpha_precision": (
        "spread around the centre of {reference} as other real images are",
        "spread around the centre of {reference} otherwise than real images are ({value} against {baseline})",
        "spread around the centre of {reference} more evenly than other real images are ({value} against {baseline})",
    ),
    "beta_recall": (
        "{reference} have synthetic images as near as other real ones",
        "{reference} have synthetic images less often near ({value}) than other real ones ({baseline})",
        "{reference} have synthetic images more often near ({value}) than other real ones ({baseline})",
    ),
    "authenticity": (
        "no more images lie too near to {reference} than other real images do",
        "more images lie too near to {reference} ({rest}) than other real images do ({baseline_rest}): look for copies",
        "fewer images lie too near to {reference} ({rest}) than other real images do ({baseline_rest})",
    ),
}
"""What to say at the baseline, below it, and above it."""


THREE_DECIMALS = frozenset((*_SHARES, "near_copies", "nearest_distance_ratio", "membership_auc"))
"""Metrics that are about 0 to 1; of others, three digits are shown."""


@dataclass(frozen=True)
class Reading:
    """What a score says.

    Attributes:
        state: in a word.
        text: in a sentence without a full stop.
    """

    state: State
    text: str


def reading(score: Score, at_baseline: Score | None) -> str:
    """Return what `score` says; arguments and errors are those of `judged`."""
    return judged(score, at_baseline).text


def judged(score: Score, at_baseline: Score | None) -> Reading:
    """Return what `score` says beside its real baseline.

    Args:
        score: a row of a scorecard.
        at_baseline: the row of the same metric at the size of the baseline; None without. See `with_baseline_rows`.

    Raises:
        ValueError: `score` is itself a row at the size of a baseline, or of an unknown metric.
    """
    if score.metric not in BETTER:
        raise ValueError(f"no reading of '{score.metric}'")
    if score.value is None:
        return Reading("none", score.note or "no value")
    own = _OWN.get(score.metric)
    if own:
        return own(score, score.value)
    if score.real_baseline is None:
        return Reading("none", f"no real baseline to compare with: {_TOO_FEW}")
    there = at_baseline_size(score, at_baseline)
    if isnan(there.low):
        return Reading("unclear", f"no interval, since there are too few groups of images: {_TOO_FEW}")
    return (_share if score.metric in _SHARES else _distance)(score, there, score.real_baseline)


def at_baseline_size(score: Score, at_baseline: Score | None) -> Interval:
    """Return the value at the size of the baseline with the interval of the full sets around it; NaN without one.

    Without `at_baseline`, the value of `score` itself.
    """
    value = nan if score.value is None else score.value
    there = value if at_baseline is None or at_baseline.value is None else at_baseline.value
    if score.low is None or score.high is None:
        return Interval(there, nan, nan)
    low, high = score.low + there - value, score.high + there - value
    if score.metric not in _SIGNED:
        low = max(low, 0.0)
    return Interval(there, low, min(high, 1.0) if _bounded(score) or score.metric == "membership_auc" else high)


def with_baseline_rows(scores: Sequence[Score]) -> list[tuple[Score, Score | None]]:
    """Return each score that is not itself at the size of a baseline, with the one that is, if there is one."""
    known = {_key(s, s.metric.removesuffix(AT_BASELINE)): s for s in scores if s.metric.endswith(AT_BASELINE)}
    return [(s, known.get(_key(s, s.metric))) for s in scores if not s.metric.endswith(AT_BASELINE)]


def shown(metric: str, value: float | None) -> str:
    """Return a value of `metric` for a table: shares with three decimals, others with three digits; empty for None."""
    if value is None:
        return ""
    if metric.removesuffix(AT_BASELINE) in THREE_DECIMALS:
        return f"{value:.3f}"
    if value == 0 or not isfinite(value):
        return f"{value:.3g}"
    digits = 2 - floor(log10(abs(value)))
    return f"{value:.{digits}f}" if 0 <= digits <= 6 else f"{value:.0f}" if -4 < digits < 0 else f"{value:.2e}"


def _key(score: Score, metric: str) -> tuple[str, str, str, str]:
    return metric, score.features, score.reference, score.class_


def _bounded(score: Score) -> bool:
    return score.metric in _SHARES and score.metric != "density"


def _distance(score: Score, there: Interval, real: float) -> Reading:
    """Return what a distance says, of which less is better; in multiples of the baseline, unless that is about 0."""
    of, what = _REFERENCES[score.reference], _REALISM.get(score.metric)
    scaled = score.metric == "frechet_distance" or what is not None
    same, more, less = (
        (
            f"{what} differs from {of} no more than between two halves of the real data",
            f"{what} differs from {of} {{}} as much as between two halves of the real data",
            f"{what} differs from {of} less than between two halves of the real data",
        )
        if what
        else (
            f"as close to {of} as {_HALVES}",
            f"{{}} as far from {of} as {_HALVES} from each other" if scaled else f"farther from {of} than {_HALVES}",
            f"closer to {of} than {_HALVES} to each other" + ("; look for copies" if score.reference == TRAIN else ""),
        )
    )
    if there.low > real:
        return Reading("off", more.format(_times(there.value / real) if scaled and real > 0 else "many times"))
    if there.high < real:
        return Reading("beyond", less)
    if not scaled or real <= 0:
        few = score.real_baseline_n is not None and score.real_baseline_n < _FEW
        return Reading("unclear", f"{_TOO_FEW}: {score.real_baseline_n} a side") if few else Reading("as real", same)
    low, high = max(there.low, 0) / real, there.high / real
    if high > _TIMES[1]:
        return Reading("unclear", f"{_TOO_FEW}: {low:.1f} to {high:.1f} times the real baseline")
    possible = f"; up to {_times(high)} as {'much' if what else 'far'} is possible" if high > _TIMES[0] else ""
    return Reading("as real", same + possible)


def _share(score: Score, there: Interval, real: float) -> Reading:
    """Return what a share says, of which more is better, or that should be as it is for real images (density)."""
    text_of = _percent if _bounded(score) else "{:.2f}".format
    words = {
        "reference": _REFERENCES[score.reference],
        "value": text_of(there.value),
        "baseline": text_of(real),
        "rest": text_of(1 - there.value),
        "baseline_rest": text_of(1 - real),
    }
    same, below, above = (text.format(**words) for text in _SHARES[score.metric])
    if there.high < real:
        return Reading("off", below)
    if there.low > real:
        if BETTER[score.metric] == "neither":
            return Reading("off", above)
        copies = "; look for copies" if score.reference == TRAIN and score.metric != "authenticity" else ""
        return Reading("beyond", above + copies)
    gap = real - there.low
    if gap > _GAP[1]:
        return Reading(
            "unclear", f"{_TOO_FEW}: {text_of(there.low)} to {text_of(there.high)}, real images {text_of(real)}"
        )
    return Reading("as real", same + (f"; {text_of(there.low)} is possible" if gap > _GAP[0] else ""))


def _distance_ratio(score: Score, value: float) -> Reading:
    if score.low is None or score.high is None:
        return Reading("unclear", _TOO_FEW)
    if score.high < 1:
        text = f"{_percent(1 - value)} nearer to training images than to held-out ones, a sign of memorisation"
        return Reading("off", text + _differing(score, 1, 0.05))
    if score.low > 1:
        text = "nearer to held-out images than to training images: no sign of memorisation"
        return Reading("as real", text + _differing(score, 1, 0.05))
    if score.low < 1 - _GAP[1]:
        return Reading("unclear", f"{_TOO_FEW}: {score.low:.2f} to {score.high:.2f}, and 1 is nothing remembered")
    possible = f"; {_percent(1 - score.low)} nearer is possible" if score.low < 1 - _GAP[0] else ""
    return Reading("as real", "no nearer to training images than to held-out ones" + possible)


def _membership(score: Score, value: float) -> Reading:
    if score.low is None or score.high is None:
        return Reading("unclear", _TOO_FEW)
    if score.low > 0.5:
        right = f"right in {_percent(value)} of pairs (chance: {_percent(0.5)})"
        text = f"an attacker tells training images from others, {right}"
        return Reading("off", text + _differing(score, 0.5, 0.1))
    if score.high < 0.5:
        text = "training images are less near to synthetic ones than others are: no sign of memorisation"
        return Reading("as real", text + _differing(score, 0.5, 0.1))
    if score.high > 0.5 + _GAP[1]:
        return Reading("unclear", f"{_TOO_FEW}: {score.low:.2f} to {score.high:.2f}, and 0.5 is chance")
    possible = f"; {_percent(score.high)} of pairs right is possible" if score.high > 0.5 + _GAP[0] else ""
    return Reading("as real", "an attacker cannot tell training images from others" + possible)


def _differing(score: Score, expected: float, tolerance: float) -> str:
    """Return a caution where held-out images in place of synthetic ones do not give what is `expected`."""
    if score.real_baseline is None or abs(score.real_baseline - expected) <= tolerance:
        return ""
    return f"; but training and held-out images differ (real baseline {score.real_baseline:.2f}), which can do this too"


def _data_copying(score: Score, value: float) -> Reading:
    low, high = (value if end is None else end for end in (score.low, score.high))
    if value < _COPYING and high < 0:
        return Reading("off", "nearer to training images than new real images are (C_T below −3): copies")
    if value > -_COPYING and low > 0:
        return Reading("beyond", "farther from training images than new real images are: no copies, but not like them")
    if abs(value) > -_COPYING:
        ends = f"{low:.1f} to {high:.1f}".replace("-", "\N{MINUS SIGN}")
        return Reading("unclear", f"{_TOO_FEW}: {ends}, and 0 is no copying")
    possible = "; below −3 is possible" if low < _COPYING else ""
    return Reading("as real", f"no sign of copying (C_T above −3){possible}")


def _near_copies(score: Score, value: float) -> Reading:
    """Return how many images are copies, and whether that is more than real images would be.

    By Fisher's exact test, or, where no real image reaches the threshold, against the share that it may let through.
    """
    n = score.n_synthetic
    copies = round(value * n)
    if copies == 0:
        limit = "" if score.high is None else f"; up to {_percent(score.high)} is possible"
        state: State = "unclear" if score.high is None or score.high > _GAP[0] else "as real"
        return Reading(state, f"no near-copy of a training image among {n}{limit}")
    verb = "is a near-copy of a training image" if copies == 1 else "are near-copies of training images"
    text = f"{copies} of {n} {verb}"
    if score.real_baseline is None or score.real_baseline_n is None:
        return Reading("unclear", f"{text}; {_TOO_FEW} how many real images would be")
    real = round(score.real_baseline * score.real_baseline_n)
    text += f"; of real images, {real} of {score.real_baseline_n} would be"
    table = [[copies, n - copies], [real, score.real_baseline_n - real]]
    test = (
        fisher_exact(table, "greater") if real else binomtest(copies, n, false_rate(score.real_baseline_n), "greater")
    )
    if test.pvalue < _SIGNIFICANT:
        return Reading("off", text)
    if value <= score.real_baseline:
        return Reading("as real", text)
    return Reading("unclear", f"{text}: look at {'it' if copies == 1 else 'them'}")


def _infinity(score: Score, value: float) -> Reading:
    return Reading("none", "extrapolated to infinitely many images; has no real baseline")


_OWN: Mapping[str, Callable[[Score, float], Reading]] = {
    "frechet_distance_infinity": _infinity,
    "near_copies": _near_copies,
    "nearest_distance_ratio": _distance_ratio,
    "membership_auc": _membership,
    "data_copying": _data_copying,
}
"""Metrics that are not read by comparison with their real baseline."""


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times" if ratio < 1.1 else f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times"


def _percent(share: float) -> str:
    decimals = 1 if 0 < abs(share) < 0.0995 else 0
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"
