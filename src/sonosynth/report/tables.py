"""What the report's tables and figures show: distances per generator, F1 per arm, paired differences."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sonosynth.metrics.scores import AT_FLOOR as AT_FLOOR
from sonosynth.report.record import ClassifierRun, Score, StudyRecord
from sonosynth.statistics import (
    ClassifierIntervals,
    Difference,
    Interval,
    classifier_intervals,
    f1_difference,
    f1_interval,
)

FRECHET, KERNEL = "frechet_distance", "kernel_distance"
TRAIN, HELD_OUT = "train", "held-out"
BASELINE = "real"
LEVEL = 0.95


@dataclass(frozen=True, order=True)
class Generator:
    """One family of synthetic images; `mode` is empty for images that were made elsewhere."""

    gan: str
    mode: str = ""

    def label(self, among: Iterable["Generator"]) -> str:
        """Return the name, with the mode where `among` holds the same GAN in another mode."""
        return f"{self.gan} ({self.mode})" if any(g.gan == self.gan and g != self for g in among) else self.gan


@dataclass(frozen=True)
class Series:
    """What stays the same along the sizes: classifier network, arm, generator and ratio synthetic:real."""

    network: str
    arm: str
    generator: Generator | None
    ratio: float | None


@dataclass(frozen=True)
class F1Row:
    """Scores of one series at one size, over draws and the runs of each draw.

    Attributes:
        draws: the draws that entered.
        runs: runs a draw, as (GAN seed or None, classifier seed).
        predictions: int ``[draws, runs, n_test]``.
        confusion: float ``[C, C]``, mean over the runs that entered, rows true.
        auc: the smallest, mean and largest AUC of the runs, or None.
        left_out: runs left out because other draws lack their like, in an unfinished study.
    """

    series: Series
    size: int
    draws: tuple[int, ...]
    runs: tuple[tuple[int | None, int], ...]
    n_real: str
    n_synthetic: str
    predictions: np.ndarray
    confusion: np.ndarray
    intervals: ClassifierIntervals
    auc: tuple[float, float, float] | None
    left_out: int


@dataclass(frozen=True)
class Contrast:
    """Macro F1 of `row` minus that of `baseline`, paired by draw and test group."""

    row: F1Row
    baseline: F1Row
    draws: tuple[int, ...]
    difference: Difference


@dataclass(frozen=True)
class Leakage:
    """Macro F1 of one arm on the study's split and on one that ignores groups; of draws and seeds that both have.

    `across` is the share of the test images of the second that have an image of their own group in the training subset.
    """

    network: str
    arm: str
    size: int
    runs: int
    grouped: Interval
    naive: Interval
    n_train: tuple[str, str]
    n_test: tuple[int, int]
    across: float


@dataclass(frozen=True)
class Distance:
    """One distance of one generator at one size over its runs (draw × GAN seed)."""

    generator: Generator
    size: int
    features: str
    reference: str
    metric: str
    scores: tuple[Score, ...]

    @property
    def interval(self) -> Interval | None:
        """Mean over runs within the envelope of the runs' intervals; None if no run has a value."""
        filled = [s for s in self.scores if s.value is not None]
        if not filled:
            return None
        lows = [np.nan if s.low is None else s.low for s in filled]
        highs = [np.nan if s.high is None else s.high for s in filled]
        return Interval(float(np.mean([s.value for s in filled])), float(np.min(lows)), float(np.max(highs)))


def generators(record: StudyRecord) -> tuple[Generator, ...]:
    """Return all generators of the record, in the order of the study file, others after them by name."""
    seen = {Generator(t.gan, t.mode or "") for t in record.training}
    seen |= {Generator(s.gan, s.mode or "") for s in record.scores}
    seen |= {Generator(x.gan, x.mode or "") for x in record.classifiers if x.gan}
    order = [gan.name for gan in record.design.gans]
    return tuple(sorted(seen, key=lambda g: (order.index(g.gan) if g.gan in order else len(order), g)))


def arm_order(record: StudyRecord) -> list[str]:
    """Return the arms that have runs, in the order of the study file."""
    return _in_order(record.design.classifiers.arms, {run.arm for run in record.classifiers})


def feature_order(record: StudyRecord) -> list[str]:
    """Return the feature networks that have scores, in the order of the study file."""
    return _in_order(record.design.scores.features, {s.features for s in record.scores if s.features})


def _in_order(wanted: Sequence[str], seen: set[str]) -> list[str]:
    return [name for name in wanted if name in seen] + sorted(seen - set(wanted))


def distances(record: StudyRecord, class_name: str = "all") -> list[Distance]:
    """Return every distance of the record, grouped over runs, by generator, size, features, reference and metric."""
    order = generators(record)
    chosen = [s for s in record.scores if s.class_name == class_name]

    def key(s: Score) -> tuple[int, int, str, str, str]:
        return s.size, order.index(Generator(s.gan, s.mode or "")), s.features, s.reference, s.metric

    return [
        Distance(order[index], size, features, reference, metric, tuple(members))
        for (size, index, features, reference, metric), members in itertools.groupby(sorted(chosen, key=key), key)
    ]


def f1_rows(record: StudyRecord) -> list[F1Row]:
    """Return the scores of every series at every size, by network, size, arm, generator and ratio."""
    arms, order = arm_order(record), generators(record)

    def key(run: ClassifierRun) -> tuple[str, int, int, int, float]:
        index = order.index(Generator(run.gan, run.mode or "")) if run.gan else -1
        return run.network, run.size, arms.index(run.arm), index, -1.0 if run.ratio is None else run.ratio

    rows = []
    for (network, size, arm, index, ratio), members in itertools.groupby(sorted(record.classifiers, key=key), key):
        generator = order[index] if index >= 0 else None
        series = Series(network, arms[arm], generator, None if ratio < 0 else ratio)
        rows.append(_f1_row(record, series, size, list(members)))
    return rows


def _f1_row(record: StudyRecord, series: Series, size: int, members: list[ClassifierRun]) -> F1Row:
    by_draw: dict[int, dict[tuple[int | None, int], ClassifierRun]] = {}
    for run in members:
        by_draw.setdefault(run.draw, {})[run.gan_seed, run.seed] = run
    draws, keys = _rectangle(by_draw)
    chosen = [by_draw[draw][key] for draw in draws for key in keys]
    predictions = np.stack([run.predictions for run in chosen]).reshape(len(draws), len(keys), -1)
    aucs = [auc for run in chosen if (auc := run.metrics.get("auc")) is not None]
    test = record.test
    return F1Row(
        series=series,
        size=size,
        draws=draws,
        runs=keys,
        n_real=span(run.n_real for run in chosen),
        n_synthetic=span(run.n_synthetic for run in chosen),
        predictions=predictions,
        confusion=np.mean([run.confusion for run in chosen], axis=0),
        intervals=classifier_intervals(test.labels, test.groups, predictions, len(test.classes), LEVEL),
        auc=(min(aucs), float(np.mean(aucs)), max(aucs)) if aucs else None,
        left_out=len(members) - len(chosen),
    )


def leakage(record: StudyRecord, rows: Sequence[F1Row]) -> list[Leakage]:
    """Return what a split without groups would have shown, for every arm without synthetic images.

    Its interval takes single images for the unit, as someone who knows of no groups would.
    """
    test, found = record.naive_test, []
    for row in rows:
        series = row.series
        members = [r for r in record.naive if (r.network, r.arm, r.size) == (series.network, series.arm, row.size)]
        if test is None or series.generator is not None or not members:
            continue
        by_key = {(run.draw, run.gan_seed, run.seed): run for run in members}
        if not all((draw, *key) in by_key for draw in row.draws for key in row.runs):
            continue  # not finished
        predictions = np.stack([[by_key[draw, *key].predictions for key in row.runs] for draw in row.draws])
        naive = f1_interval(test.labels, np.arange(len(test)), predictions, len(test.classes), LEVEL)
        runs = len(row.draws) * len(row.runs)
        trained = span(by_key[draw, *key].n_real for draw in row.draws for key in row.runs)
        found.append(
            Leakage(
                series.network,
                series.arm,
                row.size,
                runs,
                row.intervals.macro_f1,
                naive,
                (row.n_real, trained),
                (len(record.test), len(test)),
                _across(record, row.size, row.draws),
            )
        )
    return found


def _across(record: StudyRecord, size: int, draws: Sequence[int]) -> float:
    assert record.naive_split is not None
    test, subsets = record.naive_split
    groups = record.data.groups
    shares = [
        np.isin(groups[test], groups[subset.indices]).mean()
        for subset in subsets
        if subset.size == size and subset.draw in draws
    ]
    return float(np.mean(shares))


def _rectangle(
    by_draw: dict[int, dict[tuple[int | None, int], ClassifierRun]],
) -> tuple[tuple[int, ...], tuple[tuple[int | None, int], ...]]:
    """Return draws and run keys that all those draws have: the most runs, on a tie the most draws."""
    best: tuple[tuple[int, ...], tuple[tuple[int | None, int], ...]] = ((), ())
    for keys in sorted({frozenset(runs) for runs in by_draw.values()}, key=lambda k: sorted(map(repr, k))):
        draws = tuple(sorted(draw for draw, runs in by_draw.items() if keys <= set(runs)))
        size, best_size = len(draws) * len(keys), len(best[0]) * len(best[1])
        if (size, len(draws)) > (best_size, len(best[0])):
            best = draws, tuple(sorted(keys, key=lambda k: (-1 if k[0] is None else k[0], k[1])))
    return best


def contrasts(record: StudyRecord, rows: Sequence[F1Row]) -> list[Contrast]:
    """Return every arm against `real`, and every arm with synthetic images against the same arm without them."""
    plain = {(r.series.network, r.size, r.series.arm): r for r in rows if r.series.generator is None}
    pairs: list[tuple[F1Row, F1Row]] = []
    for row in rows:
        bases = [BASELINE, row.series.arm.removesuffix("+synthetic")]
        for base in dict.fromkeys(bases):
            baseline = plain.get((row.series.network, row.size, base))
            if baseline is not None and base != row.series.arm:
                pairs.append((row, baseline))
    return [c for row, baseline in pairs if (c := _contrast(record, row, baseline)) is not None]


def _contrast(record: StudyRecord, row: F1Row, baseline: F1Row) -> Contrast | None:
    draws = tuple(sorted(set(row.draws) & set(baseline.draws)))
    if not draws:
        return None
    a = baseline.predictions[[baseline.draws.index(d) for d in draws]]
    b = row.predictions[[row.draws.index(d) for d in draws]]
    test = record.test
    difference = f1_difference(test.labels, test.groups, a, b, len(test.classes), LEVEL)
    return Contrast(row, baseline, draws, difference)


def answers_the_question(contrast: Contrast) -> bool:
    """Whether the two arms differ by the synthetic images alone."""
    return contrast.row.series.arm == f"{contrast.baseline.series.arm}+synthetic"


def span(numbers: Iterable[float]) -> str:
    """Return ``"48"`` or ``"48–51"``; an en dash alone for no numbers."""
    values = sorted(set(numbers))
    if not values:
        return "–"
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g}–{values[-1]:g}"
