"""What a score says, in plain words, and never more than its interval and its real baseline allow.

A value is compared with its real baseline in draws of one size: the same reference images against synthetic images, and
against other real ones. The row at the size of the baseline has the mean of the first and the interval of the
difference around it. Where the baseline lies inside, no difference was found, which is not equality: the worse end of
the interval is told.
"""

from collections.abc import Sequence
from math import floor, isfinite, isnan, log10, nan

from sonosynth.metrics.metric import Interpretation, Metric, get_metric
from sonosynth.metrics.scores import AT_BASELINE, HELD_OUT, TRAIN, Score
from sonosynth.statistics.scores import Interval

TOO_FEW = "too few images to say"
GAP = 0.25
"""Shares, ratios and areas: if the worse end of an interval is farther from the real baseline, nothing else is said; of
metrics that are told in multiples of their baseline, in these."""
_TIMES = 3.0  # distances: the same for the upper end, in multiples of the real baseline
_FEW = 50  # below so many images a side, a distance without a scale that is at its real baseline says little
NO_DIFFERENCE = "no difference found"
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
        return Interpretation("unclear", "the difference from the real baseline has no interval: score again")
    return (_distance if metric.direction == "smaller" else _share)(metric, score, there, score.real_baseline)


def at_baseline_size(score: Score, at_baseline: Score | None) -> Interval:
    """Return the value at the size of the baseline with the interval of its difference from the baseline around it.

    Without `at_baseline`, value and interval of `score` itself. NaN stands for limits that are not known.
    """
    row = score if at_baseline is None or at_baseline.value is None else at_baseline
    value, low, high = (nan if number is None else number for number in (row.value, row.low, row.high))
    return Interval(value, low, high)


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
    of, what, scaled = _REFERENCES[score.reference], metric.subject, metric.ratio and real > 0
    if what:
        far, subject = "much", f"{what} differs from {of}"
        more = f"{subject} {{}} as much as that of other real images"
        less = f"{subject} less than that of other real images"
    else:
        far = "far"
        more = f"{{}} as far from {of} as other real images" if scaled else f"farther from {of} than other real images"
        less = f"closer to {of} than other real images" + ("; look for copies" if score.reference == TRAIN else "")
    if there.low > real:
        return Interpretation("worse", more.format(_times(there.value / real) if scaled else "many times"))
    if there.high < real:
        return Interpretation("better", less)
    if not scaled:
        if score.real_baseline_n is not None and score.real_baseline_n < _FEW:
            return Interpretation("unclear", f"{TOO_FEW}: {score.real_baseline_n} images a side")
        ends = f"up to {format_value(metric, there.high)} is possible (other real images {format_value(metric, real)})"
        return Interpretation("similar", f"{NO_DIFFERENCE}; {ends}")
    if there.high / real > _TIMES:
        low = max(there.low, 0) / real
        return Interpretation("unclear", f"{TOO_FEW}: {low:.1f} to {there.high / real:.1f} times the real baseline")
    return Interpretation("similar", f"{NO_DIFFERENCE}; up to {_times(there.high / real)} as {far} is possible")


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
    below, above = (text.format(**words) for text in metric.sentences)
    if there.high < real:
        return Interpretation("worse", below)
    if there.low > real:
        if metric.direction == "target":
            return Interpretation("worse", above)
        copies = "; look for copies" if score.reference == TRAIN and metric.compares == "real" else ""
        return Interpretation("better", above + copies)
    ends = f"{text_of(there.low)} to {text_of(there.high)}, other real images {text_of(real)}"
    reach = max(real - there.low, there.high - real) if metric.direction == "target" else real - there.low
    if reach > GAP * (abs(real) if metric.ratio and real else 1):
        return Interpretation("unclear", f"{TOO_FEW}: {ends}")
    if metric.direction == "target":
        return Interpretation("similar", f"{NO_DIFFERENCE}; {ends}")
    possible = f"as little as {text_of(there.low)} is possible (other real images {text_of(real)})"
    return Interpretation("similar", f"{NO_DIFFERENCE}; {possible}")


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times" if ratio < 1.1 else f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times"
