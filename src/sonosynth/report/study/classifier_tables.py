"""The report's tables of classifiers, in words: scores, paired differences, worth in real images, power."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.analysis import tables
from sonosynth.analysis.contrasts import Contrast
from sonosynth.analysis.equivalent_real_images import Curve, ImageEquivalence
from sonosynth.analysis.pairs import Pairs
from sonosynth.analysis.power import DetectableDifference
from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.results import ClassifierRun, FilterRun, Generator
from sonosynth.analysis.tables import F1Row, Series
from sonosynth.core.text import span
from sonosynth.report.study import classifier_figures
from sonosynth.report.study.f1_findings import verdict_of_gain
from sonosynth.report.wording import interval_text, listed, number, or_dash, p_text, percent, verdict

_SPREAD = {"brier": "Brier", "expected_calibration_error": "calibration error"}


def networks(rows: Iterable[F1Row]) -> list[str]:
    """Return the classifier networks that have scores."""
    return list(dict.fromkeys(row.series.network for row in rows))


def network_part(
    record: StudyRecord,
    network: str,
    rows: Sequence[F1Row],
    curves: Sequence[Curve],
    order: Sequence[Generator],
    out: Path,
) -> dict[str, Any]:
    """Return what the page shows of one network; writes its figures to `out`."""
    mine = [row for row in rows if row.series.network == network]
    classes = record.data.classes
    sizes = sorted({row.size for row in mine})
    confusions = [
        (size, classifier_figures.confusion_figure(rows, network, size, classes, order, out)) for size in sizes
    ]
    left_out = sorted({size for c in curves if c.series.network == network for size in c.left_out})
    return {
        "name": network,
        "figures": classifier_figures.learning_figures(curves, network, order, out),
        "curves_without": ", ".join(map(str, left_out)),
        "sizes": [(size, real_n(record, size), [_f1_row(r, order) for r in mine if r.size == size]) for size in sizes],
        "further": [(size, [_further(r, order) for r in mine if r.size == size]) for size in sizes],
        "confusions": [(size, real_n(record, size), picture) for size, picture in confusions if picture is not None],
        "left_out": sum(row.left_out for row in mine),
    }


def real_n(record: StudyRecord, size: int) -> str:
    """Return how many images the training subsets of `size` really hold."""
    return span(len(s.indices) for s in record.subsets if s.size == size)


def _series(series: Series, order: Sequence[Generator]) -> dict[str, str]:
    return {
        "network": series.network,
        "arm": series.arm,
        "generator": series.generator.label(order) if series.generator else "–",
        "ratio": or_dash(series.ratio),
        "levels": series.levels or "–",
    }


def _f1_row(row: F1Row, order: Sequence[Generator]) -> dict[str, Any]:
    return _series(row.series, order) | {
        "runs": _runs(row.draws, row.runs),
        "n_real": row.n_real,
        "n_synthetic": row.n_synthetic,
        "macro": interval_text(row.intervals.macro_f1, 3),
        "by_class": [interval_text(i, 3) for i in row.intervals.class_f1],
        "balanced": interval_text(row.intervals.balanced_accuracy, 3),
        "auc": _spread(row.metrics, "auc"),
    }


def _runs(draws: Iterable[int], runs: Iterable[tuple[int | None, int]]) -> str:
    gan_seeds, seeds = {g for g, _ in runs if g is not None}, {s for _, s in runs}
    return f"{listed(draws)} / {listed(seeds)} / {listed(gan_seeds)}"


def _spread(metrics: Any, name: str) -> str:
    """Return the mean over runs with the smallest and the largest; an en dash where runs lack the score."""
    if name not in metrics:
        return "–"
    low, mean, high = metrics[name]
    return f"{number(mean, 3)} ({number(low, 3)}–{number(high, 3)})"


def _further(row: F1Row, order: Sequence[Generator]) -> dict[str, Any]:
    """Return sensitivity and specificity of each class, and what runs have of the rest."""
    return _series(row.series, order) | {
        "n": f"{row.n_real} / {row.n_synthetic}",
        "by_class": [f"{number(float(a), 3)} / {number(float(b), 3)}" for a, b in row.rates.T],
        "spreads": [_spread(row.metrics, name) for name in _SPREAD],
    }


def contrast_row(contrast: Contrast, order: Sequence[Generator]) -> dict[str, Any]:
    """Return one paired difference."""
    difference = contrast.difference
    return _series(contrast.row.series, order) | {
        "size": contrast.row.size,
        "baseline": contrast.baseline.series.arm,
        "draws": len(contrast.draws),
        "absolute": interval_text(difference.absolute, 3, sign=True),
        "relative": percent(difference.relative),
        "standardised": number(difference.standardised, 1, sign=True),
        "p": p_text(difference.p_value),
        "adjusted": "–" if contrast.adjusted is None else f"{p_text(contrast.adjusted)} ({contrast.family})",
        "asked": contrast.asked,
        "without": interval_text(contrast.baseline.intervals.macro_f1, 3),
        "with": interval_text(contrast.row.intervals.macro_f1, 3),
        "verdict": verdict(difference.absolute),
    }


def pairs_row(pairs: Pairs, order: Sequence[Generator]) -> dict[str, Any]:
    """Return what single networks of two arms say of each other."""
    low, mean, high = (number(100 * value, 1, sign=True) for value in pairs.differences)
    return _series(pairs.contrast.row.series, order) | {
        "size": pairs.contrast.row.size,
        "baseline": pairs.contrast.baseline.series.arm,
        "right": f"{mean} ({low} to {high})",
        "alone": " / ".join(number(images, 1) for images in pairs.alone),
        "differing": f"{pairs.differing} of {len(pairs.tests)}",
    }


def no_p_values(contrasts: Sequence[Contrast]) -> list[str]:
    """Return the reasons why comparisons have no p-value."""
    return list(dict.fromkeys(c.difference.no_p_value_reason for c in contrasts if c.difference.no_p_value_reason))


def equivalence_row(worth: ImageEquivalence, order: Sequence[Generator]) -> dict[str, Any]:
    """Return how many real images one arm with synthetic ones is worth."""
    found, gain = worth.worth, worth.worth.gain
    value, low, high = (
        _images(v, found.measured) for v in (found.equivalent.value, found.equivalent.low, found.equivalent.high)
    )
    beyond = (found.measured[gain.value > 0] - found.n_real) if math.isinf(gain.value) else gain.value
    side = "" if math.isfinite(gain.value) else "> " if gain.value > 0 else "< "
    return _series(worth.row.series, order) | {
        "size": worth.row.size,
        "baseline": worth.baseline.arm,
        "equals": value,
        "interval": low if low == high else f"{low} to {high}",
        "gain": side + number(beyond, 0, sign=True),
        "verdict": verdict_of_gain(worth),
    }


def _images(n: float, measured: tuple[float, float]) -> str:
    if math.isinf(n):
        return f"< {measured[0]:g}" if n < 0 else f"> {measured[1]:g}"
    return number(n, 0)


def power_row(power: DetectableDifference) -> dict[str, Any]:
    """Return what the design could have seen at one size."""
    return {
        "network": power.network,
        "size": power.size,
        "design": f"{power.draws} / {power.seeds} / {power.groups}",
        "source": f"this study ({power.pairs})" if power.pairs else "BUSI",
        "draws": power.tested_draws,
        "alone": number(power.alone, 3),
        "in_family": number(power.in_family, 3),
        "family": power.family,
        "untested": power.tested_draws > power.draws,
    }


def on_synthetic(record: StudyRecord, order: Sequence[Generator]) -> list[dict[str, Any]]:
    """Return the scores of classifiers on synthetic images: mean over runs, smallest and largest."""
    grouped: dict[tuple[Series, int], list[ClassifierRun]] = {}
    for series, run in tables.series_of(record, record.on_synthetic):
        grouped.setdefault((series, run.size), []).append(run)
    found = []
    for (series, size), runs in grouped.items():
        spread = tables.spread(runs)
        draws, keys = sorted({r.draw for r in runs}), [(r.gan_seed, r.seed) for r in runs]
        scores = {name: _spread(spread, name) for name in ("macro_f1", "balanced_accuracy", "auc")}
        n_test = span(len(run.predictions) for run in runs)
        found.append(_series(series, order) | scores | {"size": size, "n_test": n_test, "runs": _runs(draws, keys)})
    return found


def filter_rows(record: StudyRecord, order: Sequence[Generator]) -> list[dict[str, Any]]:
    """Return what filters kept: mean over draws and seeds of generators."""
    grouped: dict[tuple[int, int, str], list[FilterRun]] = {}
    for run in record.filters:
        grouped.setdefault((run.size, order.index(run.generator), run.level), []).append(run)
    found = []
    for (size, index, level), runs in sorted(grouped.items(), key=lambda item: item[0]):
        found.append(
            {
                "size": size,
                "generator": order[index].label(order),
                "level": level,
                "runs": f"{listed({r.draw for r in runs})} / {listed({r.seed for r in runs if r.seed is not None})}",
                "candidates": span(r.candidates for r in runs),
                "acceptance": _mean_text([r.acceptance for r in runs]),
                "by_class": [_mean_text([r.by_class.get(name) for r in runs]) for name in record.data.classes],
                "lost": _mean_text([r.lost_coverage for r in runs]),
                "coverage": [_mean_text([r.coverage[k] for r in runs]) for k in (0, 1)],
            }
        )
    return found


def _mean_text(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    return number(float(np.mean(known)), 2) if known and len(known) == len(values) else "–"


def leakage_row(row: tables.Leakage) -> dict[str, Any]:
    """Return one arm on both splits."""
    return {
        "network": row.network,
        "arm": row.arm,
        "size": row.size,
        "runs": row.runs,
        "grouped": interval_text(row.grouped, 3),
        "naive": interval_text(row.naive, 3),
        "difference": number(row.naive.value - row.grouped.value, 3, sign=True),
        "n_train": " / ".join(row.n_train),
        "n_test": f"{row.n_test[0]} / {row.n_test[1]}",
        "across": f"{100 * row.across:.0f}\N{NO-BREAK SPACE}%",
    }


def run_row(series: Series, run: ClassifierRun, order: Sequence[Generator]) -> dict[str, Any]:
    """Return one classifier run of `series`."""
    return _series(series, order) | {
        "size": run.size,
        "draw": run.draw,
        "gan_seed": or_dash(run.gan_seed),
        "seed": run.seed,
        "macro": number(run.metrics.get("macro_f1"), 3),
        "n": f"{run.n_real} / {run.n_synthetic}",
        "seconds": number(run.seconds, 1),
    }
