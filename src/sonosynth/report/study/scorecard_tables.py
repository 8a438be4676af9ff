"""The report's tables of fidelity, diversity, memorisation and ultrasound realism, one row a generator run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.results import Generator, StudyScore
from sonosynth.analysis.tables import HELD_OUT, TRAIN
from sonosynth.metrics.families import BETTER
from sonosynth.metrics.interpretation import at_baseline_size
from sonosynth.metrics.scores import ALL, AT_BASELINE, PIXELS
from sonosynth.report.wording import number, or_dash


@dataclass(frozen=True)
class _Column:
    """A metric as a column: what it is called, where it stands in the scores, and how many decimals it has."""

    title: str
    metric: str
    reference: str
    pixels: bool
    decimals: int = 2


_WORTH = (
    _Column("precision", "precision", HELD_OUT, pixels=False),
    _Column("recall", "recall", HELD_OUT, pixels=False),
    _Column("density", "density", HELD_OUT, pixels=False),
    _Column("coverage", "coverage", HELD_OUT, pixels=False),
    _Column("near-copies", "near_copies", TRAIN, pixels=True, decimals=3),
    _Column("authenticity", "authenticity", TRAIN, pixels=False),
    _Column("membership AUC", "membership_auc", TRAIN, pixels=False),
    _Column("AUC, pixels", "membership_auc", TRAIN, pixels=True),
)
_REALISM = (
    _Column("speckle contrast, grey levels", "speckle_contrast_distance", HELD_OUT, pixels=True),
    _Column("Nakagami m", "nakagami_distance", HELD_OUT, pixels=True, decimals=3),
    _Column("axial width, pixels", "axial_width_distance", HELD_OUT, pixels=True, decimals=3),
    _Column("lateral width, pixels", "lateral_width_distance", HELD_OUT, pixels=True, decimals=3),
    _Column("power spectrum, dB", "power_spectrum_distance", HELD_OUT, pixels=True),
    _Column("depth profile, grey levels", "depth_profile_distance", HELD_OUT, pixels=True),
)


def worth_table(record: StudyRecord, features: str, order: Sequence[Generator]) -> dict[str, Any] | None:
    """Return fidelity, diversity and memorisation in `features`: titles and rows; None without any value."""
    return _table(record, _WORTH, features, order)


def realism_table(record: StudyRecord, order: Sequence[Generator]) -> dict[str, Any] | None:
    """Return the distances of measures of speckle: titles and rows; None without any value."""
    return _table(record, _REALISM, PIXELS, order)


def known(metric: str) -> bool:
    """Return whether a table of the report, or `scores.csv` beside it, explains `metric`."""
    return metric.removesuffix(AT_BASELINE) in BETTER


def _table(
    record: StudyRecord, columns: Sequence[_Column], features: str, order: Sequence[Generator]
) -> dict[str, Any] | None:
    found: dict[tuple[Any, ...], dict[tuple[str, str, str], StudyScore]] = {}

    def place(s: StudyScore) -> tuple[int, int, int, int]:
        return s.size, order.index(s.generator), s.draw, s.seed or 0

    for s in sorted((s for s in record.scores if s.class_ == ALL), key=place):
        key = (s.size, s.generator, s.draw, s.seed)
        found.setdefault(key, {})[s.metric, s.reference, s.features] = s
    rows = []
    for (size, generator, draw, seed), scores in found.items():
        cells = [_cell(scores, column, features) for column in columns]
        if any(cell["value"] != "–" for cell in cells):
            run = f"{draw} / {or_dash(seed)}"
            m = " / ".join(dict.fromkeys(str(cell["m"]) for cell in cells if cell["m"] is not None)) or "–"
            rows.append({"size": size, "generator": generator.label(order), "run": run, "m": m, "cells": cells})
    return {"titles": [column.title for column in columns], "rows": rows} if rows else None


def _cell(scores: dict[tuple[str, str, str], StudyScore], column: _Column, features: str) -> dict[str, Any]:
    """Return the value, at the size m of the baseline where it was recomputed, its interval, the baseline, and m."""
    where = PIXELS if column.pixels else features
    full = scores.get((column.metric, column.reference, where))
    if full is None or full.value is None:
        return {"value": "–", "interval": "", "real_baseline": "", "m": None}
    small = scores.get((column.metric + AT_BASELINE, column.reference, where))
    there, places = at_baseline_size(full, small), column.decimals
    known = full.low is not None and full.high is not None
    return {
        "value": number(there.value, places),
        "interval": f"[{number(there.low, places)}, {number(there.high, places)}]" if known else "",
        "real_baseline": number(full.real_baseline, places),
        "m": None if small is None else small.real_baseline_n,
    }
