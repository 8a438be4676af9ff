"""What the numbers say, in careful words: sentences computed from the tables, never stronger than the intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sonosynth.analysis.contrasts import BASELINE, Contrast
from sonosynth.analysis.equivalent_real_images import ImageEquivalence
from sonosynth.analysis.power import DetectableDifference
from sonosynth.analysis.record import StudyRecord, few_draws
from sonosynth.analysis.results import Generator
from sonosynth.analysis.tables import FRECHET, HELD_OUT, KERNEL, Distance, feature_order
from sonosynth.core.text import joined, span
from sonosynth.report.study.f1_findings import (
    chosen_after,
    equivalence_sentences,
    f1_sentences,
    power_sentences,
    same_volume,
    where,
)
from sonosynth.report.wording import decimals_for, interval_text, percent
from sonosynth.statistics import MIN_DRAWS, Interval

CLAIMED = "inception"  # the feature network of the published distances


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
    same_volume: list[str]
    chosen_after: list[str]
    worth: list[str]
    power: list[str]
    claims: list[str]
    reductions: list[Reduction]
    draws: str


def findings(
    record: StudyRecord,
    order: Sequence[Generator],
    distances: Sequence[Distance],
    contrasts: Sequence[Contrast],
    worths: Sequence[ImageEquivalence],
    power: Sequence[DetectableDifference],
) -> Findings:
    """Return the findings of a record."""
    features = feature_order(record)
    primary = [d for d in distances if features and d.features == features[0] and d.reference == HELD_OUT]
    network = CLAIMED if CLAIMED in features else next(iter(features), "")
    frechet = [d for d in distances if (d.metric, d.features, d.reference) == (FRECHET, network, HELD_OUT)]
    reductions = _reductions(record, frechet)
    return Findings(
        closest=_closest([d for d in primary if d.metric == KERNEL and d.interval is not None], order),
        f1=f1_sentences(contrasts),
        same_volume=same_volume(contrasts),
        chosen_after=chosen_after(contrasts, order),
        worth=equivalence_sentences(worths, order),
        power=power_sentences(power),
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


def _reductions(record: StudyRecord, frechet: Sequence[Distance]) -> list[Reduction]:
    baselines = {
        (d.size, d.generator.mode, d.generator.truncation): d
        for d in frechet
        if d.generator.gan == record.baseline_gan and d.interval is not None and d.interval.value > 0
    }
    found = []
    for d in frechet:
        baseline = baselines.get((d.size, d.generator.mode, d.generator.truncation))
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
            f"Fréchet distance in {best.distance.features} features to the held-out images, relative to "
            f"{record.baseline_gan} at the same size: the largest reduction here, chosen after the fact, is "
            f"{_plain_percent(best.relative)} ({best.distance.generator.label(order)}, size {best.distance.size}). The "
            "table below holds all."
        )
    else:
        first = (
            f"Fréchet distance relative to {record.baseline_gan}: no figure of our own, because the finished part of "
            f"this study does not hold both {record.baseline_gan} and another generator at one size, of the same mode "
            "and truncation, scored against held-out images."
        )
    small = [
        c
        for c in contrasts
        if c.row.series.generator is not None
        and c.baseline.series.arm == BASELINE
        and c.asked
        and max((len(s.indices) for s in record.subsets if s.size == c.row.size), default=c.row.size) < 100
    ]
    second = "F1 with real and synthetic against real images alone, below 100 real images: "
    with_ratio = [(c.difference.relative, c) for c in small if c.difference.relative is not None]
    if with_ratio:
        relative, top = max(with_ratio, key=lambda found: found[0].value)
        second += (
            f"the largest relative difference here, chosen after the fact, is {percent(relative)} "
            f"(absolute {interval_text(top.difference.absolute, 3, sign=True)}; {where(top, order)})."
        )
    elif small:
        second += "no figure of our own, because the F1 of real images alone is nowhere clearly above zero."
    else:
        reason = "holds no such finished pair" if record.design.classifiers.trains else "trains no classifiers"
        second += f"no figure of our own, because this study {reason}."
    return [first, second]


def _plain_percent(interval: Interval) -> str:
    return percent(interval).replace("+", "")


def reduction_text(reduction: Reduction) -> str:
    """Return the relative reduction in percent, with bounds from the ends of the two intervals."""
    return _plain_percent(reduction.relative)


def _draws(record: StudyRecord) -> str:
    numbers, unit = record.finished_draws, record.unit
    where, these = ("of the training subset a size", "subsets") if unit == "draw" else ("of the images", "splits")
    if not numbers:
        return ""
    if not record.is_tested:
        text = f"{few_draws(record, f' {where}')}: this supports a description of these {these}, not a test."
        if unit == "draw":
            others = record.beside_draws if record.classifiers else "images"
            some = "" if max(numbers) < MIN_DRAWS else " of fewer than three draws"
            text += f" Intervals{some} cover other {others}; other training subsets could turn out differently."
        return text
    if not record.classifiers:
        return (
            f"{span(numbers)} {unit}s {where}. Intervals cover other images of the same runs; how runs differ is shown "
            "by their rows."
        )
    covers = "cover other draws and other test groups" if unit == "draw" else "aim at splits of other such images"
    if record.untested_sizes:
        beside = f"other {record.beside_draws} alone" if unit == "draw" else "nothing, as there are none"
        covers += f" (at size {record.untested_sizes}: {beside})"
    return (
        f"{span(numbers)} {unit}s {where}. Intervals {covers}; p-values are adjusted by Holm’s method over sizes and "
        "generators, intervals are not adjusted."
    )
