"""The report's tables of distances between synthetic and real images, in words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sonosynth.analysis import tables
from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.tables import AT_BASELINE, FRECHET, KERNEL, Distance
from sonosynth.core.text import span
from sonosynth.report.study import figures
from sonosynth.report.study.scorecard_tables import known
from sonosynth.report.wording import decimals_for, number, or_dash
from sonosynth.study.results import Generator, NoteRow, ScoreRow

_REFERENCES = {tables.HELD_OUT: (0, "held-out images"), tables.TRAIN: (1, "training subset")}  # place, in words
_METRICS = (FRECHET, FRECHET + AT_BASELINE, KERNEL, KERNEL + AT_BASELINE)


def distance_part(
    record: StudyRecord, features: str, distances: Sequence[Distance], order: Sequence[Generator], out: Path
) -> dict[str, Any]:
    """Return the distances in the feature network `features`; writes its figure to `out`."""
    of_class = {name: _distance_rows(record, features, name, order) for name in ("all", *record.data.classes)}
    return {
        "features": features,
        "figure": figures.distance_figure(distances, features, order, out),
        "overall": of_class.pop("all"),
        "by_class": [(name, rows) for name, rows in of_class.items() if rows],
    }


def _distance_rows(record: StudyRecord, features: str, class_: str, order: Sequence[Generator]) -> list[dict[str, Any]]:
    """Return one row per run and reference, with every distance, its real baseline and its numbers of images."""
    places = {
        metric: decimals_for([s.value for s in record.scores if s.metric == metric and s.value is not None])
        for metric in (FRECHET, KERNEL)
    }
    sheets: dict[tuple[Any, ...], dict[str, ScoreRow]] = {}
    for s in record.scores:
        if (s.features, s.class_) == (features, class_) and s.metric in _METRICS:
            group = (s.size, *_REFERENCES.get(s.reference, (2, s.reference)))
            key = (group, order.index(s.generator), s.replicate, s.seed or 0, s.seed)
            sheets.setdefault(key, {})[s.metric] = s
    rows = []
    for (group, generator, replicate, _, seed), sheet in sorted(sheets.items(), key=lambda item: item[0][:4]):
        full = [s for s in (sheet.get(FRECHET), sheet.get(KERNEL)) if s is not None]
        row: dict[str, Any] = {
            "generator": order[generator].label(order),
            "run": f"{replicate} / {or_dash(seed)}",
            "group": (*group[:2], f"Size {group[0]}, to the {group[2]}"),
            "n_real": span(s.n_real for s in full),
            "n_synthetic": span(s.n_synthetic for s in full),
            "m": span(s.real_baseline_n for s in full if s.real_baseline_n is not None),
        }
        for short, metric in (("frechet", FRECHET), ("kernel", KERNEL)):
            main, small = sheet.get(metric), sheet.get(metric + AT_BASELINE)
            row[short] = _score_text(main, places[metric])
            row[f"{short}_at_m"] = number(small.value if small else None, places[metric])
            row[f"{short}_baseline"] = number(main.real_baseline if main else None, places[metric])
        rows.append(row)
    return rows


def _score_text(score: ScoreRow | None, decimals: int) -> str:
    if score is None or score.value is None:
        return "–"
    if score.low is None or score.high is None:
        return number(score.value, decimals)
    return f"{number(score.value, decimals)} [{number(score.low, decimals)}, {number(score.high, decimals)}]"


def other_scores(record: StudyRecord, order: Sequence[Generator]) -> list[dict[str, Any]]:
    """Return the scores that no table of the report explains."""
    return [
        {
            "size": s.size,
            "generator": s.generator.label(order),
            "run": f"{s.replicate} / {or_dash(s.seed)}",
            "features": s.features or "–",
            "reference": s.reference or "–",
            "class": s.class_,
            "metric": s.metric.replace("_", " "),
            "value": _score_text(s, 3),
            "real_baseline": number(s.real_baseline, 3),
            "m": or_dash(s.real_baseline_n),
            "n": f"{s.n_real} / {s.n_synthetic}",
        }
        for s in record.scores
        if not known(s.metric)
    ]


def told_notes(record: StudyRecord, notes: Sequence[NoteRow], order: Sequence[Generator]) -> list[str]:
    """Return what was told in `notes`, each thing once, with the runs that it was told of."""
    found: dict[str, list[str]] = {}
    for note in notes:
        run = f"{note.generator.label(order)}, size {note.size}, {record.unit} {note.replicate}"
        found.setdefault(note.text, []).append(run if note.seed is None else f"{run}, seed {note.seed}")
    return [f"{'; '.join(runs)}: {text}" for text, runs in found.items()]
