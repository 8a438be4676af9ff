"""What the report shows of classifiers: figures and scores of each network, scores on synthetic images, filters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.analysis import tables
from sonosynth.analysis.equivalent_real_images import Curve
from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.tables import F1Row, Series
from sonosynth.core.text import span
from sonosynth.report.study import classifier_figures
from sonosynth.study.results import ClassifyResult, FilterResult, Generator


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
    at_size = {size: [row for row in mine if row.size == size] for size in sorted({row.size for row in mine})}
    classes = record.data.classes
    left_out = sorted({size for c in curves if c.series.network == network for size in c.left_out})
    return {
        "name": network,
        "figures": classifier_figures.learning_figures(curves, network, order, out),
        "curves_without": ", ".join(map(str, left_out)),
        "sizes": [(size, real_n(record, size), found) for size, found in at_size.items()],
        "confusions": [
            (size, classifier_figures.confusion_figure(found, classes, order, out)) for size, found in at_size.items()
        ],
        "left_out": sum(row.left_out for row in mine),
    }


def real_n(record: StudyRecord, size: int) -> str:
    """Return how many images the training subsets of `size` really hold."""
    return span(len(s.indices) for s in record.subsets if s.size == size)


def on_synthetic(record: StudyRecord) -> list[dict[str, Any]]:
    """Return the scores of classifiers on synthetic images: the smallest, mean and largest of the runs."""
    grouped: dict[tuple[Series, int], list[ClassifyResult]] = {}
    for series, run in tables.series_of(record, record.on_synthetic):
        grouped.setdefault((series, run.size), []).append(run)
    return [
        {
            "series": series,
            "size": size,
            "n_test": {len(run.predictions) for run in runs},
            "draws": {run.replicate for run in runs},
            "runs": {(run.gan_seed, run.seed) for run in runs},
            "metrics": tables.spread(runs),
        }
        for (series, size), runs in grouped.items()
    ]


def filter_rows(record: StudyRecord, order: Sequence[Generator]) -> list[dict[str, Any]]:
    """Return what filters kept: mean over draws and seeds of generators, None where one of them is not known."""
    grouped: dict[tuple[int, int, str], list[FilterResult]] = {}
    for run in record.filters:
        grouped.setdefault((run.size, order.index(run.generator), run.level), []).append(run)
    return [
        {
            "size": size,
            "generator": order[index],
            "level": level,
            "draws": {r.replicate for r in runs},
            "seeds": {r.gan_seed for r in runs if r.gan_seed is not None},
            "candidates": {sum(r.candidates.values()) for r in runs},
            "acceptance": _mean([r.acceptance for r in runs]),
            "by_class": [_mean([r.acceptance_by_class.get(name) for r in runs]) for name in record.data.classes],
            "lost": _mean([r.lost_coverage for r in runs]),
            "coverage": [_mean([r.coverage_accepted for r in runs]), _mean([r.coverage_same_number for r in runs])],
        }
        for (size, index, level), runs in sorted(grouped.items(), key=lambda item: item[0])
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
