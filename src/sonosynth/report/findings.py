"""What the numbers say, in careful words: sentences computed from the tables, never stronger than the intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sonosynth.report.record import StudyRecord
from sonosynth.report.tables import (
    BASELINE,
    FRECHET,
    HELD_OUT,
    KERNEL,
    Contrast,
    Distance,
    Generator,
    answers_the_question,
    feature_order,
    span,
)
from sonosynth.statistics import Interval

MINUS = "\N{MINUS SIGN}"
WRITTEN_OUT = 12  # comparisons listed among the findings; of more, only a summary


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """Return `value` with a fixed number of decimals and a true minus; an en dash for None or NaN."""
    if value is None or not np.isfinite(value):
        return "–"
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.replace("-", "").replace("+", "")
    return text.replace("-", MINUS)


def interval_text(interval: Interval | None, decimals: int, sign: bool = False, scale: float = 1) -> str:
    """Return ``"0.512 [0.431, 0.590]"``; without the brackets where there is no interval."""
    if interval is None:
        return "–"
    value, low, high = (scale * x for x in (interval.value, interval.low, interval.high))
    limits = (
        f" [{number(low, decimals, sign)}, {number(high, decimals, sign)}]" if np.isfinite([low, high]).all() else ""
    )
    return number(value, decimals, sign) + limits


def percent(interval: Interval | None) -> str:
    """Return a relative difference as ``"+7.0 % [−2.1, +15.3]"``."""
    text = interval_text(interval, 1, sign=True, scale=100)
    value, _, limits = text.partition(" ")
    return text if value == "–" else " ".join(part for part in (f"{value}\N{NO-BREAK SPACE}%", limits) if part)


def decimals_for(values: Sequence[float]) -> int:
    """Return how many decimals show the largest of `values` with three to four digits."""
    largest = max((abs(v) for v in values if np.isfinite(v)), default=1.0)
    return 1 if largest >= 10 else 3 if largest >= 1 else 4


@dataclass(frozen=True)
class Reduction:
    """Fréchet distance of a generator against the baseline's at one size; `relative` is ``1 - distance / baseline``."""

    distance: Distance
    baseline: Distance
    relative: Interval


@dataclass(frozen=True)
class Findings:
    """Sentences for the page. Each list may be empty."""

    closest: list[str]
    f1: list[str]
    chosen_after: list[str]
    claims: list[str]
    reductions: list[Reduction]
    draws: str


def findings(
    record: StudyRecord, order: Sequence[Generator], distances: Sequence[Distance], contrasts: Sequence[Contrast]
) -> Findings:
    """Return the findings of a record."""
    features = feature_order(record)
    primary = [d for d in distances if features and d.features == features[0] and d.reference == HELD_OUT]
    reductions = _reductions(record, [d for d in primary if d.metric == FRECHET])
    return Findings(
        closest=_closest([d for d in primary if d.metric == KERNEL and d.interval is not None], order),
        f1=_f1(contrasts),
        chosen_after=_chosen_after(contrasts, order),
        claims=_claims(record, reductions, contrasts, order),
        reductions=reductions,
        draws=_draws(record),
    )


def _closest(distances: Sequence[Distance], order: Sequence[Generator]) -> list[str]:
    sentences = []
    for size in sorted({d.size for d in distances}):
        ranked = sorted((d for d in distances if d.size == size), key=lambda d: d.interval.value if d.interval else 0)
        best, decimals = ranked[0], decimals_for([d.interval.value for d in ranked if d.interval])
        shown = f"{best.generator.label(order)} has a kernel distance of {interval_text(best.interval, decimals)}"
        if len(ranked) == 1:
            sentences.append(f"Size {size}: {shown}. There is no other generator to compare with.")
            continue
        text = f"Size {size}: {shown}, the smallest of {len(ranked)} generators; next is "
        text += f"{ranked[1].generator.label(order)} with {interval_text(ranked[1].interval, decimals)}. "
        same = [d.generator.label(order) for d in ranked[1:] if _overlap(best.interval, d.interval)]
        if not same:
            text += "Its interval does not overlap that of any other."
        else:
            text += f"Its interval overlaps that of {joined(same)}: their order is not settled."
        sentences.append(text)
    return sentences


def _overlap(a: Interval | None, b: Interval | None) -> bool:
    """Whether two intervals share a value; also where one is unknown, for then nothing can be told apart."""
    return a is None or b is None or not (a.high < b.low or b.high < a.low)


def _f1(contrasts: Sequence[Contrast]) -> list[str]:
    asked = [c for c in contrasts if answers_the_question(c)]
    if not asked:
        return []
    sentences = [
        f"{_count(len(asked), 'comparison')} of an arm with synthetic images against the same arm without them: "
        f"{_tally(asked)}. An interval that includes zero means that this study shows no difference, not that "
        "there is none."
    ]
    if len(asked) > WRITTEN_OUT:
        for size in sorted({c.row.size for c in asked}):
            values = [c.difference.absolute.value for c in asked if c.row.size == size]
            low, middle, high = (number(float(v), 3, sign=True) for v in np.quantile(values, [0, 0.5, 1]))
            sentences.append(
                f"Size {size}: {_count(len(values), 'difference')} from {low} to {high} (median {middle}); "
                f"{_tally([c for c in asked if c.row.size == size])}."
            )
    return sentences


def _tally(contrasts: Sequence[Contrast]) -> str:
    verdicts = [verdict(c.difference.absolute) for c in contrasts]
    above, below = verdicts.count("above 0"), verdicts.count("below 0")
    return (
        f"the interval of the difference lies above zero in {above}, below zero in {below}, "
        f"and includes zero in {len(verdicts) - above - below}"
    )


def verdict(difference: Interval) -> str:
    """Return on which side of zero the interval lies: ``"above 0"``, ``"below 0"``, ``"spans 0"`` or an en dash."""
    if not np.isfinite([difference.low, difference.high]).all():
        return "–"
    return "above 0" if difference.low > 0 else "below 0" if difference.high < 0 else "spans 0"


def _where(c: Contrast, order: Sequence[Generator]) -> str:
    series = c.row.series
    parts = [f"size {c.row.size}", series.network, f"{series.arm} against {c.baseline.series.arm}"]
    parts += [series.generator.label(order)] if series.generator else []
    parts += [f"{series.ratio:g} synthetic a real image"] if series.ratio is not None else []
    return ", ".join(parts)


def _chosen_after(contrasts: Sequence[Contrast], order: Sequence[Generator]) -> list[str]:
    asked = [c for c in contrasts if answers_the_question(c)]
    if len(asked) < 2:
        return []
    best = max(asked, key=lambda c: c.difference.absolute.value)
    return [
        f"Best of {len(asked)} cells, chosen after the fact and therefore flattered by chance: {_where(best, order)}, "
        f"difference {interval_text(best.difference.absolute, 3, sign=True)}, "
        f"relative {percent(best.difference.relative)}."
    ]


def _reductions(record: StudyRecord, frechet: Sequence[Distance]) -> list[Reduction]:
    baselines = {
        (d.size, d.generator.mode): d
        for d in frechet
        if record.bases.get(d.generator.gan) == "stylegan2" and d.interval is not None and d.interval.value > 0
    }
    found = []
    for d in frechet:
        baseline = baselines.get((d.size, d.generator.mode))
        if baseline is None or baseline.generator == d.generator or d.interval is None or baseline.interval is None:
            continue
        ours, theirs = d.interval, baseline.interval
        limits = (np.nan, np.nan)
        if theirs.low > 0 and np.isfinite([ours.low, ours.high, theirs.high]).all():
            limits = (1 - ours.high / theirs.low, 1 - max(ours.low, 0) / theirs.high)
        found.append(Reduction(d, baseline, Interval(1 - ours.value / theirs.value, *limits)))
    return found


def _claims(
    record: StudyRecord, reductions: Sequence[Reduction], contrasts: Sequence[Contrast], order: Sequence[Generator]
) -> list[str]:
    if reductions:
        best = max(reductions, key=lambda r: r.relative.value)
        first = (
            "Fréchet distance to the held-out images, relative to stylegan2 at the same size: the largest reduction "
            f"here, chosen after the fact, is {_plain_percent(best.relative)} "
            f"({best.distance.generator.label(order)}, size {best.distance.size}). The table below holds all."
        )
    else:
        first = (
            "Fréchet distance relative to stylegan2: no figure of our own, because the finished part of this study "
            "does not hold both stylegan2 and another generator at one size, scored against held-out images."
        )
    small = [
        c
        for c in contrasts
        if c.row.series.generator is not None
        and c.baseline.series.arm == BASELINE
        and answers_the_question(c)
        and c.difference.relative is not None
        and max((len(s.indices) for s in record.subsets if s.size == c.row.size), default=c.row.size) < 100
    ]
    if small:
        top = max(small, key=lambda c: c.difference.relative.value if c.difference.relative else 0)
        second = (
            "F1 with real and synthetic against real images alone, below 100 real images: the largest relative "
            f"difference here, chosen after the fact, is {percent(top.difference.relative)} "
            f"(absolute {interval_text(top.difference.absolute, 3, sign=True)}; {_where(top, order)})."
        )
    else:
        second = (
            "F1 with real and synthetic against real images alone, below 100 real images: no figure of our own, "
            "because this study holds no such finished pair."
        )
    return [first, second]


def _plain_percent(interval: Interval) -> str:
    return percent(interval).replace("+", "")


def reduction_text(reduction: Reduction) -> str:
    """Return the relative reduction in percent, with bounds from the ends of the two intervals."""
    return _plain_percent(reduction.relative)


def _draws(record: StudyRecord) -> str:
    per_size = {s.size: len({t.draw for t in record.subsets if t.size == s.size}) for s in record.subsets}
    most = max(per_size.values(), default=0)
    if most == 0:
        return ""
    if most <= 2:
        what = "One draw" if most == 1 else "Two draws"
        text = f"{what} of the training subset a size: this supports a description of these subsets, not a test."
        if most == 1:
            text += " Intervals reflect the test images only; another training subset could turn out differently."
        return text
    return (
        f"{span(per_size.values())} draws of the training subset a size. Intervals are not corrected for the number of "
        "comparisons."
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def joined(names: Sequence[str]) -> str:
    """Return ``"a, b and c"``."""
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def unfinished(record: StudyRecord) -> list[str]:
    """Return what the study file asks for and no finished cell holds, one phrase each."""
    sizes, plan = sorted({s.size for s in record.subsets}), record.design.classifiers
    scored = {(s.gan, s.size) for s in record.scores}
    classified = {(r.network, r.arm, r.size) for r in record.classifiers}
    arms = [arm for arm in plan.arms if record.design.gans or "synthetic" not in arm]
    return [
        f"scores of {gan.name} at size {size}"
        for gan in record.design.gans
        for size in sizes
        if (gan.name, size) not in scored
    ] + [
        f"{network}, arm {arm}, at size {size}"
        for network in plan.networks
        for arm in arms
        for size in sizes
        if (network, arm, size) not in classified
    ]


def limitations(record: StudyRecord, n_comparisons: int) -> list[str]:
    """Return what the numbers cannot carry, as sentences; only what applies to this record."""
    found = []
    if record.simulated:
        found.append(
            "All images are simulated phantoms. Nothing here says anything about patients, scanners or disease."
        )
    draws = {s.draw for s in record.subsets}
    if len(draws) < 3:
        found.append(
            f"{'One draw' if len(draws) == 1 else 'Two draws'} of the training subsets a size: "
            "a description of these subsets, not a test of a hypothesis."
        )
    if len({t.seed for t in record.trained}) == 1:
        found.append("Each generator was trained with one seed: how much its training runs differ was not measured.")
    kimg = [t.kimg for t in record.training if t.kimg is not None]
    if kimg and max(kimg) < 300:
        found.append(
            f"Generators were trained for {span(kimg)} thousand images shown to the discriminator (kimg). Published "
            "few-shot results use about 300 kimg at 256 × 256 pixels; longer training could change every comparison."
        )
    n, n_groups = len(record.data), len(np.unique(record.data.groups))
    if record.design.data.grouped and not record.simulated:
        found.append(
            "Groups are those of an audit or of a table: copies of one frame stand on one side, but other frames of "
            "the same lesion or patient leak where nobody named them."
        )
    elif not record.simulated and (n_groups == n or "source_group" not in record.data.extra):
        found.append(
            "The source names no patients, and only exact copies were joined to groups: images of one patient, or "
            "near-duplicates, may stand in training and test, and the scores of classifiers may then be too good."
        )
    elif not record.simulated:
        found.append("Groups are only as good as the source: images of one patient in two groups would leak.")
    if any(s.metric.startswith(FRECHET) for s in record.scores):
        found.append(
            "The feature networks were trained on photographs; a small distance in their features is not diagnostic "
            "realism, and no reader has judged these images."
        )
    if record.scores and not any("cop" in s.metric or "member" in s.metric for s in record.scores):
        found.append("Whether generators copied training images was not measured.")
    if n_comparisons > 1:
        found.append(
            f"{n_comparisons} comparisons of arms with and without synthetic images stand side by side; "
            "no interval is corrected for their number."
        )
    if record.classifiers:
        found.append(
            "GAN seeds and classifier seeds are averaged, not resampled: the intervals leave out how far one training "
            "run lies from the next."
        )
    return found
