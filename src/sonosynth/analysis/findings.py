"""What the numbers of a study allow to be said: rankings, tallies, reductions. Their words stand in templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sonosynth.analysis.contrasts import BASELINE, Contrast, family_of
from sonosynth.analysis.equivalent_real_images import ImageEquivalence
from sonosynth.analysis.power import DetectableDifference
from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.tables import FRECHET, HELD_OUT, KERNEL, Distance, feature_order
from sonosynth.statistics.comparisons import holm
from sonosynth.statistics.scores import LEVEL, Interval
from sonosynth.study.results import Generator

PUBLISHED_FEATURES = "inception"  # the feature network of the published distances
SMALL_DATA = 100  # real training images; the published gains in F1 are mostly below

Side = Literal["above", "below", "spans", "unknown"]


def side_of_zero(interval: Interval) -> Side:
    """Return where an interval lies: above zero, below zero, or spanning it; unknown where a limit is NaN."""
    if np.isnan([interval.low, interval.high]).any():
        return "unknown"
    return "above" if interval.low > 0 else "below" if interval.high < 0 else "spans"


@dataclass(frozen=True)
class Ranking:
    """Generators of one size by kernel distance to the held-out images."""

    size: int  # training images, as planned
    distances: tuple[Distance, ...]  # the nearest first
    unsettled: tuple[Generator, ...]  # generators whose interval overlaps that of the first, or is unknown

    @property
    def compared(self) -> bool:
        """Whether there is more than one generator."""
        return len(self.distances) > 1


@dataclass(frozen=True)
class Tally:
    """How several paired differences of macro F1 came out."""

    n: int  # comparisons
    sides: Mapping[Side, int]  # how many intervals lie on each side of zero
    spread: tuple[float, float, float]  # the smallest, median and largest difference
    families: tuple[int, ...]  # numbers of comparisons whose p-values are adjusted together, ascending
    tested: int  # comparisons that have a p-value
    significant: int  # those of them whose p-value is below 5 % after Holm's adjustment
    no_p_value_reasons: tuple[str, ...]  # why the others have none, each reason once


@dataclass(frozen=True)
class Reduction:
    """Fréchet distance of a generator against the baseline's at one size; `relative` is ``1 - distance / baseline``."""

    distance: Distance
    baseline: Distance
    relative: Interval


@dataclass(frozen=True)
class Findings:
    """The numbers behind the findings of a report. Lists may be empty, and what a study does not hold is None."""

    rankings: tuple[Ranking, ...]  # which generator comes closest, size by size, in the first feature network
    primary: Tally | None  # comparisons of an arm with synthetic images against the same arm without them
    by_size: Mapping[int, Tally]  # the same size by size
    same_volume: Tally | None  # synthetic images against as many copies of real ones
    best: Contrast | None  # the largest difference of `primary`, chosen after the fact; None of fewer than two
    best_p_value: float | None  # of `best`, by Holm's method among all comparisons it was chosen from
    n_chosen_from: int  # these, with those that are planned and not finished
    equivalences: tuple[ImageEquivalence, ...]  # how many real images the synthetic ones stand for
    equivalence_sides: Mapping[Side, int]  # how many of these intervals of the gain lie on each side of zero
    settled: tuple[ImageEquivalence, ...]  # those of them whose interval excludes zero
    power: Mapping[str, list[DetectableDifference]]  # the smallest detectable differences of each network
    published_features: str  # the feature network in which reductions are given
    reductions: tuple[Reduction, ...]  # of the Fréchet distance against the baseline GAN
    largest_reduction: Reduction | None  # chosen after the fact
    small_data: tuple[Contrast, ...]  # comparisons below 100 real images against real images alone
    largest_gain: Contrast | None  # of `small_data`, the largest relative difference; None where none has one


def findings(
    record: StudyRecord,
    distances: Sequence[Distance],
    contrasts: Sequence[Contrast],
    equivalences: Sequence[ImageEquivalence],
    power: Sequence[DetectableDifference],
) -> Findings:
    """Return the findings of a record."""
    features = feature_order(record)
    network = PUBLISHED_FEATURES if PUBLISHED_FEATURES in features else next(iter(features), "")
    held_out = [d for d in distances if d.reference == HELD_OUT]
    nearest = [d for d in held_out if d.metric == KERNEL and d.features in features[:1]]
    reductions = frechet_reductions(record, [d for d in held_out if d.metric == FRECHET and d.features == network])
    primary = [c for c in contrasts if c.primary]
    n_real = {size: max(len(s.indices) for s in record.subsets if s.size == size) for size in record.sizes}
    small = [
        c for c in primary if c.baseline.series.arm == BASELINE and n_real.get(c.row.size, c.row.size) < SMALL_DATA
    ]
    gains = [(c.difference.relative.value, c) for c in small if c.difference.relative is not None]
    sides = [side_of_zero(e.worth.gain) for e in equivalences]
    best = max(primary, key=lambda c: c.difference.absolute.value) if len(primary) > 1 else None
    p_values, n_chosen_from = adjusted_over_all(primary)
    return Findings(
        rankings=rankings(nearest),
        primary=tally(primary),
        by_size={size: found for size in sorted({c.row.size for c in primary}) if (found := tally(primary, size))},
        same_volume=tally([c for c in contrasts if c.same_volume]),
        best=best,
        best_p_value=None if best is None else p_values[primary.index(best)],
        n_chosen_from=n_chosen_from,
        equivalences=tuple(equivalences),
        equivalence_sides=_counts(sides),
        settled=tuple(e for e, side in zip(equivalences, sides, strict=True) if side in ("above", "below")),
        power={name: [d for d in power if d.network == name] for name in dict.fromkeys(d.network for d in power)},
        published_features=network,
        reductions=reductions,
        largest_reduction=max(reductions, key=lambda r: r.relative.value, default=None),
        small_data=tuple(small),
        largest_gain=max(gains, key=lambda gain: gain[0])[1] if gains else None,
    )


def adjusted_over_all(contrasts: Sequence[Contrast]) -> tuple[list[float | None], int]:
    """Return p-values by Holm's method among all of `contrasts`, None where there is no test, and how many these are.

    One family alone does not account for a choice over networks, arms and ratios too. What is planned and not finished
    counts as if it showed nothing.
    """
    n = sum({family_of(c): c.family for c in contrasts}.values())
    p_values = [c.difference.p_value for c in contrasts]
    adjusted = holm([1.0 if p is None else p for p in p_values] + [1.0] * (n - len(p_values)))
    return [None if p is None else q for p, q in zip(p_values, adjusted, strict=False)], n


def rankings(distances: Sequence[Distance]) -> tuple[Ranking, ...]:
    """Return the rankings by `distances` of one metric, feature network and reference, size by size."""
    found = []
    known = [(d, d.interval) for d in distances if d.interval is not None]
    for size in sorted({d.size for d, _ in known}):
        ranked = sorted(((d, i) for d, i in known if d.size == size), key=lambda pair: pair[1].value)
        (_, best), *others = ranked
        # A limit that is NaN settles nothing.
        unsettled = [d.generator for d, i in others if not (best.high < i.low or i.high < best.low)]
        found.append(Ranking(size, tuple(d for d, _ in ranked), tuple(unsettled)))
    return tuple(found)


def tally(contrasts: Sequence[Contrast], size: int | None = None) -> Tally | None:
    """Return how `contrasts`, all of them or those of one size, came out; None without any."""
    chosen = [c for c in contrasts if size in (None, c.row.size)]
    if not chosen:
        return None
    p_values = [c.adjusted for c in chosen if c.adjusted is not None]
    low, middle, high = np.quantile([c.difference.absolute.value for c in chosen], [0, 0.5, 1])
    return Tally(
        n=len(chosen),
        sides=_counts([side_of_zero(c.difference.absolute) for c in chosen]),
        spread=(float(low), float(middle), float(high)),
        families=tuple(sorted({c.family for c in chosen})),
        tested=len(p_values),
        significant=sum(p < 1 - LEVEL for p in p_values),
        no_p_value_reasons=no_p_value_reasons(chosen),
    )


def _counts(sides: Sequence[Side]) -> dict[Side, int]:
    names: tuple[Side, ...] = ("above", "below", "spans", "unknown")
    return {name: sides.count(name) for name in names}


def no_p_value_reasons(contrasts: Sequence[Contrast]) -> tuple[str, ...]:
    """Return the reasons why comparisons have no p-value, each once."""
    reasons = (c.difference.no_p_value_reason for c in contrasts)
    return tuple(dict.fromkeys(reason for reason in reasons if reason))


def frechet_reductions(record: StudyRecord, frechet: Sequence[Distance]) -> tuple[Reduction, ...]:
    """Return every distance against that of the baseline GAN of the same size, mode and truncation.

    The bounds come from the ends of both intervals; they are NaN where the baseline's interval reaches zero.
    """
    known = [(d, d.interval) for d in frechet if d.interval is not None]
    baselines = {
        (d.size, d.generator.mode, d.generator.truncation): (d, interval)
        for d, interval in known
        if d.generator.gan == record.baseline_gan and interval.value > 0
    }
    found = []
    for d, ours in known:
        pair = baselines.get((d.size, d.generator.mode, d.generator.truncation))
        if pair is None or pair[0].generator == d.generator:
            continue
        baseline, theirs = pair
        limits = (np.nan, np.nan)
        if theirs.low > 0 and np.isfinite([ours.low, ours.high, theirs.high]).all():
            limits = (1 - ours.high / theirs.low, 1 - max(ours.low, 0) / theirs.high)
        found.append(Reduction(d, baseline, Interval(1 - ours.value / theirs.value, *limits)))
    return tuple(found)
