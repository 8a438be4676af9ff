"""The report's tables of fidelity, diversity, memorisation and ultrasound realism, one row a generator run."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from sonosynth.analysis.record import StudyRecord
from sonosynth.core.errors import SonosynthError
from sonosynth.metrics.interpretation import at_baseline_size
from sonosynth.metrics.metric import Metric, Part, get_metric, list_metrics
from sonosynth.metrics.scores import ALL, AT_BASELINE, HELD_OUT, PIXELS, TRAIN
from sonosynth.report.wording import number, or_dash
from sonosynth.study.results import Generator, ScoreRow


def part_table(
    record: StudyRecord, parts: Sequence[Part], features: str, order: Sequence[Generator]
) -> dict[str, Any] | None:
    """Return the metrics of some `parts` in `features`, or in pixels: titles and rows; None without any value."""
    columns = [metric for part in parts for metric in list_metrics(part) if metric.report_decimals is not None]
    found: dict[tuple[Any, ...], dict[tuple[str, str, str], ScoreRow]] = {}

    def place(s: ScoreRow) -> tuple[int, int, int, int]:
        return s.size, order.index(s.generator), s.replicate, s.seed or 0

    for s in sorted((s for s in record.scores if s.class_ == ALL), key=place):
        key = (s.size, s.generator, s.replicate, s.seed)
        found.setdefault(key, {})[s.metric, s.reference, s.features] = s
    rows = []
    for (size, generator, replicate, seed), scores in found.items():
        cells = [_cell(scores, column, features) for column in columns]
        if any(cell["value"] != "–" for cell in cells):
            run = f"{replicate} / {or_dash(seed)}"
            m = " / ".join(dict.fromkeys(str(cell["m"]) for cell in cells if cell["m"] is not None)) or "–"
            rows.append({"size": size, "generator": generator.label(order), "run": run, "m": m, "cells": cells})
    return {"titles": [_title(metric, columns) for metric in columns], "rows": rows} if rows else None


def _title(metric: Metric, columns: Sequence[Metric]) -> str:
    """Return the heading: with the unit of a distance, and with the space where both spaces have the metric."""
    named_twice = sum(other.name == metric.name for other in columns) > 1
    space = ", pixels" if named_twice and metric.space == "pixels" else ""
    unit = f", {metric.unit}" if metric.unit and not metric.bounded else ""
    return f"{metric.title}{space}{unit}"


def _cell(scores: dict[tuple[str, str, str], ScoreRow], metric: Metric, features: str) -> dict[str, Any]:
    """Return the value, at the size m of the baseline where it was recomputed; its interval, the baseline, and m."""
    where = PIXELS if metric.space == "pixels" else features
    reference = HELD_OUT if metric.compares == "real" else TRAIN
    full = scores.get((metric.name, reference, where))
    if full is None or full.value is None:
        return {"value": "–", "interval": "", "real_baseline": "", "m": None}
    small = scores.get((metric.name + AT_BASELINE, reference, where))
    there, places = at_baseline_size(full, small), metric.report_decimals or 0
    return {
        "value": number(there.value, places),
        "interval": f"[{number(there.low, places)}, {number(there.high, places)}]"
        if isfinite(there.high - there.low)
        else "",
        "real_baseline": number(full.real_baseline, places),
        "m": None if small is None else small.real_baseline_n,
    }


def known(metric: str) -> bool:
    """Return whether a table of the report, or `scores.csv` beside it, explains `metric`."""
    try:
        get_metric(metric)
    except SonosynthError:
        return False
    return True
