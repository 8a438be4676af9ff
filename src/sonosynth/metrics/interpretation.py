"""What a score says, in plain words, and never more than its interval and its real baseline allow.

A value is compared with its real baseline at the size of the baseline. Only full sets have an interval, so it is moved
along with the value: its length is that of the full sets, whose images are behind the mean over the draws of that size
too.
"""

from collections.abc import Sequence
from math import floor, isfinite, isnan, log10, nan

from sonosynth.metrics.metric import Interpretation, Metric, get_metric
from sonosynth.metrics.scores import AT_BASELINE, HELD_OUT, TRAIN, Score
from sonosynth.statistics.scores import Interval

TOO_FEW = "too few images to say"
GAP = (0.1, 0.25)
"""Shares, ratios and areas: how far the worse end of an interval may be from the real baseline before it is mentioned,
and before nothing else is said; of metrics that are told in multiples of their baseline, in these."""
_TIMES = (1.5, 3.0)  # distances: the same for the upper end, in multiples of the real baseline
_FEW = 50  # below so many images a side, a distance without a scale that is at its real baseline says little
_REFERENCES = {TRAIN: "training images", HELD_OUT: "held-out images"}


def interpret(score: Score, at_baseline: Score | None) -> Interpretation:
    """Return what `score` says beside its real baseline.

    Args:
        score: a row of a scorecard.
        at_baseline: the row of the same metric at the size of the baseline; None without. See `with_baseline_rows`.
    """
    if score.metric.endswith(AT_BASELINE):
        raise ValueError(f"'{score.metric}' is a row at the size of a real baseline, and says nothing alone")
    metric = get_metric(score.metric, score.features)
    if score.value is None:
        return Interpretation("none", score.note or "no value")
    if metric.interpret:
        return metric.interpret(score)
    if score.real_baseline is None:
        return Interpretation("none", f"no real baseline to compare with: {TOO_FEW}")
    there = at_baseline_size(score, at_baseline)
    if isnan(there.low):
        return Interpretation("unclear", f"no interval, since there are too few groups of images: {TOO_FEW}")
    return (_distance if metric.direction == "smaller" else _share)(metric, score, there, score.real_baseline)


def at_baseline_size(score: Score, at_baseline: Score | None) -> Interval:
    """Return the value at the size of the baseline with the interval of the full sets around it; NaN without one.

    Without `at_baseline`, the value of `score` itself. Ends stay within the range of the metric.
    """
    value = nan if score.value is None else score.value
    there = value if at_baseline is None or at_baseline.value is None else at_baseline.value
    if score.low is None or score.high is None:
        return Interval(there, nan, nan)
    low, high = score.low + there - value, score.high + there - value
    smallest, largest = get_metric(score.metric, score.features).range
    return Interval(
        there, low if smallest is None else max(low, smallest), high if largest is None else min(high, largest)
    )


def with_baseline_rows(scores: Sequence[Score]) -> list[tuple[Score, Score | None]]:
    """Return each score that is not itself at the size of a baseline, with the one that is, if there is one."""
    known = {(score.metric, score.features, score.reference, score.class_): score for score in scores}
    return [
        (score, known.get((score.metric + AT_BASELINE, score.features, score.reference, score.class_)))
        for score in scores
        if not score.metric.endswith(AT_BASELINE)
    ]


def format_value(metric: Metric, value: float | None) -> str:
    """Return a value for a table: shares with three decimals, others with three digits; empty for None."""
    if value is None:
        return ""
    if metric.decimals is not None:
        return f"{value:.{metric.decimals}f}"
    if value == 0 or not isfinite(value):
        return f"{value:.3g}"
    digits = 2 - floor(log10(abs(value)))
    return f"{value:.{digits}f}" if 0 <= digits <= 6 else f"{value:.0f}" if -4 < digits < 0 else f"{value:.2e}"


def percent(share: float) -> str:
    """Return a share as ``42 %``, with a decimal below 10 %."""
    decimals = 1 if 0 < abs(share) < 0.0995 else 0
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def _distance(metric: Metric, score: Score, there: Interval, real: float) -> Interpretation:
    """Tell of a distance, of which less is better; in multiples of the baseline, unless that is about 0."""
    of, what, scaled = _REFERENCES[score.reference], metric.subject, metric.ratio
    times = _times(there.value / real) if scaled and real > 0 else "many times"
    if what:
        differs, halves = f"{what} differs from {of}", "between two halves of the real data"
        same, less = f"{differs} no more than {halves}", f"{differs} less than {halves}"
        more = f"{differs} {times} as much as {halves}"
    else:
        halves = "two halves of the real data are"
        copies = "; look for copies" if score.reference == TRAIN else ""
        same, less = f"as close to {of} as {halves}", f"closer to {of} than {halves} to each other{copies}"
        more = f"{times} as far from {of} as {halves} from each other" if scaled else f"farther from {of} than {halves}"
    if there.low > real:
        return Interpretation("worse", more)
    if there.high < real:
        return Interpretation("better", less)
    if not scaled or real <= 0:
        if score.real_baseline_n is not None and score.real_baseline_n < _FEW:
            return Interpretation("unclear", f"{TOO_FEW}: {score.real_baseline_n} a side")
        return Interpretation("similar", same)
    low, high = max(there.low, 0) / real, there.high / real
    if high > _TIMES[1]:
        return Interpretation("unclear", f"{TOO_FEW}: {low:.1f} to {high:.1f} times the real baseline")
    possible = f"; up to {_times(high)} as {'much' if what else 'far'} is possible" if high > _TIMES[0] else ""
    return Interpretation("similar", same + possible)


def _share(metric: Metric, score: Score, there: Interval, real: float) -> Interpretation:
    """Tell of a share, of which more is better, or of a value that should be as it is for real images."""
    text_of = percent if metric.bounded else "{:.2f}".format
    words = {
        "reference": _REFERENCES[score.reference],
        "value": text_of(there.value),
        "baseline": text_of(real),
        "rest": text_of(1 - there.value),
        "baseline_rest": text_of(1 - real),
    }
    same, below, above = (text.format(**words) for text in metric.sentences)
    if there.high < real:
        return Interpretation("worse", below)
    if there.low > real:
        if metric.direction == "target":
            return Interpretation("worse", above)
        copies = "; look for copies" if score.reference == TRAIN and metric.compares == "real" else ""
        return Interpretation("better", above + copies)
    gap = (real - there.low) / (abs(real) if metric.ratio and real else 1)
    if gap > GAP[1]:
        text = f"{TOO_FEW}: {text_of(there.low)} to {text_of(there.high)}, real images {text_of(real)}"
        return Interpretation("unclear", text)
    return Interpretation("similar", same + (f"; {text_of(there.low)} is possible" if gap > GAP[0] else ""))


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times" if ratio < 1.1 else f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times"
