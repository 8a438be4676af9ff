"""What the report's tables and figures show: distances per generator, F1 per arm, the effect of leakage."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.record import complete_block as complete_block
from sonosynth.core.text import span
from sonosynth.metrics.scores import ALL, PIXELS
from sonosynth.metrics.scores import AT_BASELINE as AT_BASELINE
from sonosynth.metrics.scores import HELD_OUT as HELD_OUT
from sonosynth.metrics.scores import TRAIN as TRAIN
from sonosynth.statistics.f1 import F1Intervals, f1_intervals, fixed_test_f1, repeated_splits_f1
from sonosynth.statistics.scores import Interval, Scores
from sonosynth.study.results import ClassifyResult, Generator, ScoreRow

FRECHET, KERNEL = "frechet_distance", "kernel_distance"
_USUAL_LEVELS = {"fill": {"proportional"}, "filter": set[str]()}  # go without saying
_NEEDS = {"fill": "ratio", "filter": "gan"}  # what a run has if the factor means anything to it


@dataclass(frozen=True)
class Series:
    """What stays the same along the sizes: classifier network, arm, generator, ratio of added to real images.

    `factors` are levels of further factors of the study, as (name, level).
    """

    network: str
    arm: str
    generator: Generator | None
    ratio: float | None
    factors: tuple[tuple[str, str], ...] = ()

    @property
    def levels(self) -> str:
        """The levels of `factors` in words; empty without any."""
        return ", ".join(f"{name} {level}" for name, level in self.factors)

    def contains(self, base: "Series") -> bool:
        """Whether `base`, an arm without synthetic images, has nothing that this series has in another amount."""
        return (
            base.network == self.network
            and base.ratio in (None, self.ratio)
            and all(dict(self.factors).get(name, level) == level for name, level in base.factors)
        )


@dataclass(frozen=True)
class F1Row:
    """Scores of one series at one size, over draws and the runs of each draw."""

    series: Series
    size: int
    replicates: tuple[int, ...]  # the draws that entered
    runs: tuple[tuple[int | None, int], ...]  # runs a draw, as (GAN seed or None, classifier seed)
    n_real: str
    n_synthetic: str
    predictions: tuple[np.ndarray, ...]  # of each draw, int ``[runs, n_test]``
    macro: Scores  # macro F1 of each draw, runs averaged
    confusion: np.ndarray  # float ``[C, C]``, mean over the runs that entered, rows true
    # sensitivity and specificity of each class against the rest, float ``[2, C]``, mean over these runs
    rates: np.ndarray
    intervals: F1Intervals
    # the smallest, mean and largest value of each score that all of the runs have
    metrics: Mapping[str, tuple[float, float, float]]
    left_out: int  # runs left out because other draws lack their like, in an unfinished study


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
    scores: tuple[ScoreRow, ...]

    @property
    def interval(self) -> Interval | None:
        """Mean over runs within the envelope of the runs' intervals; None if no run has a value."""
        filled = [s for s in self.scores if s.value is not None]
        if not filled:
            return None
        lows = [np.nan if s.low is None else s.low for s in filled]
        highs = [np.nan if s.high is None else s.high for s in filled]
        return Interval(float(np.mean([s.value for s in filled])), float(np.min(lows)), float(np.max(highs)))

    @property
    def real_baseline(self) -> float | None:
        """Mean real baseline of the runs; None if no run has one."""
        known = [s.real_baseline for s in self.scores if s.real_baseline is not None]
        return float(np.mean(known)) if known else None


def generators(record: StudyRecord) -> tuple[Generator, ...]:
    """Return all generators of the record, in the order of the study file, others after them by name."""
    images = (*record.training, *record.scores, *record.filters)
    runs = (*record.classifiers, *record.on_synthetic)
    seen = {of.generator for of in images} | {run.generator for run in runs if run.generator is not None}
    order = [gan.name for gan in record.design.gans]
    return tuple(sorted(seen, key=lambda g: (order.index(g.gan) if g.gan in order else len(order), g)))


def arm_order(record: StudyRecord) -> list[str]:
    """Return the arms that have runs, in the order of the study file."""
    runs = (*record.classifiers, *record.on_synthetic)
    return _in_order(record.design.classifiers.arms, {run.arm for run in runs})


def feature_order(record: StudyRecord) -> list[str]:
    """Return the feature networks that have scores, in the order of the study file; pixels are none of them."""
    return _in_order(record.design.scores.features, {s.features for s in record.scores} - {"", PIXELS})


def _in_order(wanted: Sequence[str], seen: set[str]) -> list[str]:
    return [name for name in wanted if name in seen] + sorted(seen - set(wanted))


def distances(record: StudyRecord, class_: str = ALL) -> list[Distance]:
    """Return every distance of the record, grouped over runs, by generator, size, features, reference and metric."""
    order = generators(record)
    chosen = [s for s in record.scores if s.class_ == class_]

    def key(s: ScoreRow) -> tuple[int, int, str, str, str]:
        return s.size, order.index(s.generator), s.features, s.reference, s.metric

    return [
        Distance(order[index], size, features, reference, metric, tuple(members))
        for (size, index, features, reference, metric), members in itertools.groupby(sorted(chosen, key=key), key)
    ]


def f1_rows(record: StudyRecord) -> list[F1Row]:
    """Return the scores of every series at every size, by network, size, arm, generator and ratio."""
    grouped: dict[tuple[Series, int], list[ClassifyResult]] = {}
    for series, run in series_of(record, record.classifiers):
        grouped.setdefault((series, run.size), []).append(run)
    return [_f1_row(record, series, size, members) for (series, size), members in grouped.items()]


def series_of(record: StudyRecord, runs: Sequence[ClassifyResult]) -> list[tuple[Series, ClassifyResult]]:
    """Return `runs` with the series of each, by network, size, arm, generator and ratio.

    A factor is named where its level is not the usual one, or where the study has several.
    """
    arms, order = arm_order(record), generators(record)
    levels: dict[str, set[str]] = {}
    for run in (*record.classifiers, *record.on_synthetic):
        for name, level in run.factors.items():
            levels.setdefault(name, set()).add(level)
    named = [name for name, seen in levels.items() if len(seen) > 1 or seen != _USUAL_LEVELS.get(name, seen)]

    def pair(run: ClassifyResult) -> tuple[Series, ClassifyResult]:
        applies = [name for name in named if getattr(run, _NEEDS.get(name, "arm")) is not None]
        factors = tuple((name, run.factors[name]) for name in applies if name in run.factors)
        return Series(run.network, run.arm, run.generator, run.ratio, factors), run

    def place(pair: tuple[Series, ClassifyResult]) -> tuple[object, ...]:
        series, run = pair
        index = order.index(series.generator) if series.generator else -1
        ratio = -1.0 if series.ratio is None else series.ratio
        return series.network, run.size, arms.index(series.arm), index, ratio, series.factors

    return sorted(map(pair, runs), key=place)


def _f1_row(record: StudyRecord, series: Series, size: int, members: list[ClassifyResult]) -> F1Row:
    by_replicate: dict[int, dict[tuple[int | None, int], ClassifyResult]] = {}
    for run in members:
        by_replicate.setdefault(run.replicate, {})[run.gan_seed, run.seed] = run
    replicates, keys = complete_block(by_replicate)
    keys = sorted(keys, key=lambda k: (-1 if k[0] is None else k[0], k[1]))
    block = [[by_replicate[replicate][key] for key in keys] for replicate in replicates]
    chosen = list(itertools.chain.from_iterable(block))
    predictions = tuple(np.stack([run.predictions for run in runs]) for runs in block)
    scores = _scores(record, replicates, predictions)
    return F1Row(
        series=series,
        size=size,
        replicates=tuple(replicates),
        runs=tuple(keys),
        n_real=span(run.n_train for run in chosen),
        n_synthetic=span(run.n_synthetic for run in chosen),
        predictions=predictions,
        macro=scores[-2],
        confusion=np.mean([run.confusion for run in chosen], axis=0),
        rates=np.mean([_rates(np.asarray(run.confusion)) for run in chosen], axis=0),
        intervals=f1_intervals(scores),
        metrics=spread(chosen),
        left_out=len(members) - len(chosen),
    )


def _rates(confusion: np.ndarray) -> np.ndarray:
    """Return sensitivity and specificity of each class, ``[2, C]``; NaN where there is no such image."""
    true, called, hit = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    others = confusion.sum() - true
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([hit / true, (others - called + hit) / others])


def _scores(record: StudyRecord, replicates: Sequence[int], predictions: Sequence[np.ndarray]) -> Scores:
    """Return F1 of each class, macro F1 and balanced accuracy of each draw, runs averaged."""
    tests = [record.test_of(replicate) for replicate in replicates]
    n_classes = len(record.data.classes)
    if record.splits is None:
        return fixed_test_f1(tests[0].labels, tests[0].groups, np.stack(predictions), n_classes)
    return repeated_splits_f1([test.labels for test in tests], predictions, n_classes, record.splits.at(replicates))


def spread(runs: Sequence[ClassifyResult]) -> dict[str, tuple[float, float, float]]:
    """Return the smallest, mean and largest value of each score that all of `runs` have."""
    found = {}
    for name in runs[0].metrics:
        values = [value for run in runs if (value := run.metrics.get(name)) is not None]
        if len(values) == len(runs):
            found[name] = (min(values), float(np.mean(values)), max(values))
    return found


def leakage(record: StudyRecord, rows: Sequence[F1Row]) -> list[Leakage]:
    """Return what a split without groups would have shown, for every arm without synthetic images.

    Its interval takes single images for the unit, as someone who knows of no groups would.
    """
    test, split, groups = record.naive_test, record.naive_split, record.data.groups
    if test is None or split is None:
        return []
    found, on_naive = [], series_of(record, record.naive)
    for row in rows:
        members = [run for series, run in on_naive if series == row.series and run.size == row.size]
        by_key = {(run.replicate, run.gan_seed, run.seed): run for run in members}
        wanted = [[(replicate, *key) for key in row.runs] for replicate in row.replicates]
        if row.series.generator is not None or not all(key in by_key for keys in wanted for key in keys):
            continue  # not compared, or not finished
        predictions = np.stack([[by_key[key].predictions for key in keys] for keys in wanted])
        by_image = fixed_test_f1(test.labels, np.arange(len(test)), predictions, len(test.classes))
        across = [
            np.isin(groups[list(split.test or ())], groups[list(subset.indices)]).mean()
            for subset in split.subsets
            if subset.size == row.size and subset.replicate in row.replicates
        ]
        found.append(
            Leakage(
                network=row.series.network,
                arm=row.series.arm,
                size=row.size,
                runs=len(row.replicates) * len(row.runs),
                grouped=row.intervals.macro_f1,
                naive=f1_intervals(by_image).macro_f1,
                n_train=(row.n_real, span(by_key[key].n_train for keys in wanted for key in keys)),
                n_test=(len(record.tests[0]), len(test)),
                across=float(np.mean(across)),
            )
        )
    return found
