"""What the numbers of a study allow to be said: rankings, tallies, reductions. Their words stand in templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sonosynth.analysis.contrasts import BASELINE, Contrast
from sonosynth.analysis.equivalent_real_images import ImageEquivalence
from sonosynth.analysis.power import DetectableDifference
from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.tables import FRECHET, HELD_OUT, KERNEL, Distance, feature_order
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
    """Generators of one size by kernel distance to the held-out images.

    Attributes:
        size: training images asked for.
        distances: the nearest first.
        unsettled: generators whose interval overlaps that of the first, or is unknown.
    """

    size: int
    distances: tuple[Distance, ...]
    unsettled: tuple[Generator, ...]

    @property
    def compared(self) -> bool:
        """Whether there is more than one generator."""
        return len(self.distances) > 1


@dataclass(frozen=True)
class Tally:
    """How several paired differences of macro F1 came out.

    Attributes:
        n: comparisons.
        sides: how many intervals lie on each side of zero.
        spread: the smallest, median and largest difference.
        families: numbers of comparisons whose p-values are adjusted together, ascending.
        tested: comparisons that have a p-value.
        significant: those of them whose p-value is below 5 % after Holm's adjustment.
        no_p_value_reasons: why the others have none, each reason once.
    """

    n: int
    sides: Mapping[Side, int]
    spread: tuple[float, float, float]
    families: tuple[int, ...]
    tested: int
    significant: int
    no_p_value_reasons: tuple[str, ...]


@dataclass(frozen=True)
class Reduction:
    """Fréchet distance of a generator against the baseline's at one size; `relative` is ``1 - distance / baseline``."""

    distance: Distance
    baseline: Distance
    relative: Interval


@dataclass(frozen=True)
class Findings:
    """The numbers behind the findings of a report. Lists may be empty, and what a study does not hold is None.

    Attributes:
        rankings: which generator comes closest, size by size, in the first feature network.
        primary: comparisons of an arm with synthetic images against the same arm without them.
        by_size: the same size by size.
        same_volume: synthetic images against as many copies of real ones.
        best: the largest difference of `primary`, chosen after the fact; None of fewer than two.
        equivalences: how many real images the synthetic ones stand for.
        equivalence_sides: how many of these intervals of the gain lie on each side of zero.
        settled: those of them whose interval excludes zero.
        power: the smallest detectable differences of each network.
        published_features: the feature network in which reductions are given.
        reductions: of the Fréchet distance against the baseline GAN.
        largest_reduction: chosen after the fact.
        small_data: comparisons below 100 real images against real images alone.
        largest_gain: of `small_data`, the largest relative difference; None where none has one.
    """

    rankings: tuple[Ranking, ...]
    primary: Tally | None
    by_size: Mapping[int, Tally]
    same_volume: Tally | None
    best: Contrast | None
    equivalences: tuple[ImageEquivalence, ...]
    equivalence_sides: Mapping[Side, int]
    settled: tuple[ImageEquivalence, ...]
    power: Mapping[str, list[DetectableDifference]]
    published_features: str
    reductions: tuple[Reduction, ...]
    largest_reduction: Reduction | None
    small_data: tuple[Contrast, ...]
    largest_gain: Contrast | None


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
    held_out = [
        d for d in distances if features and (d.metric, d.features, d.reference) == (KERNEL, features[0], HELD_OUT)
    ]
    reductions = frechet_reductions(
        record, [d for d in distances if (d.metric, d.features, d.reference) == (FRECHET, network, HELD_OUT)]
    )
    primary = [c for c in contrasts if c.primary]
    small = tuple(c for c in primary if c.baseline.series.arm == BASELINE and _real_images(record, c) < SMALL_DATA)
    gains = [(c.difference.relative.value, c) for c in small if c.difference.relative is not None]
    sides = [side_of_zero(e.worth.gain) for e in equivalences]
    return Findings(
        rankings=rankings(held_out),
        primary=tally(primary),
        by_size={size: found for size in sorted({c.row.size for c in primary}) if (found := tally(primary, size))},
        same_volume=tally([c for c in contrasts if c.same_volume]),
        best=max(primary, key=lambda c: c.difference.absolute.value) if len(primary) > 1 else None,
        equivalences=tuple(equivalences),
        equivalence_sides=_counts(sides),
        settled=tuple(e for e, side in zip(equivalences, sides, strict=True) if side in ("above", "below")),
        power={name: [d for d in power if d.network == name] for name in dict.fromkeys(d.network for d in power)},
        published_features=network,
        reductions=reductions,
        largest_reduction=max(reductions, key=lambda r: r.relative.value, default=None),
        small_data=small,
        largest_gain=max(gains, key=lambda gain: gain[0])[1] if gains else None,
    )


def rankings(distances: Sequence[Distance]) -> tuple[Ranking, ...]:
    """Return the rankings by `distances` of one metric, feature network and reference, size by size."""
    found = []
    known = [(d, d.interval) for d in distances if d.interval is not None]
    for size in sorted({d.size for d, _ in known}):
        ranked = sorted(((d, i) for d, i in known if d.size == size), key=lambda pair: pair[1].value)
        (_, best), *others = ranked
        unsettled = tuple(d.generator for d, interval in others if not _apart(best, interval))
        found.append(Ranking(size, tuple(d for d, _ in ranked), unsettled))
    return tuple(found)


def _apart(a: Interval, b: Interval) -> bool:
    """Whether two intervals share no value; False also where a limit is NaN, for then nothing can be told apart."""
    return a.high < b.low or b.high < a.low


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
    return tuple(found)


def _real_images(record: StudyRecord, contrast: Contrast) -> int:
    size = contrast.row.size
    return max((len(s.indices) for s in record.subsets if s.size == size), default=size)
