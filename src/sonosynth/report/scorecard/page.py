"""The score page: what a set of synthetic images is worth, in one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonosynth.core.files import write_text
from sonosynth.core.text import joined
from sonosynth.metrics.metric import PARTS
from sonosynth.metrics.scores import ALL, HELD_OUT, PIXELS, SYNTHETIC, TRAIN
from sonosynth.report.render import render
from sonosynth.report.scorecard import figures as score_figures
from sonosynth.report.scorecard.gallery import COPIES, gallery
from sonosynth.report.scorecard.verdicts import (
    Row,
    at_baseline_text,
    baseline_text,
    interpreted_rows,
    value_text,
    verdicts,
)

if TYPE_CHECKING:
    from sonosynth.metrics.scorecard import Scorecard

_ROLES = {TRAIN: "training", HELD_OUT: "held-out", SYNTHETIC: "synthetic"}


def write_score_page(
    card: "Scorecard", path: Path, command: str = "", provenance: Mapping[str, Any] | None = None
) -> Path:
    """Write the page of `card` and return its path; equal arguments give equal pages.

    Args:
        card: what was measured; see `score`.
        path: the file to write, such as ``score.html``.
        command: that made the page; empty if there was none.
        provenance: machine and versions, as `core.device.provenance` returns them.
    """
    rows = interpreted_rows(card.scores)
    spaces = list(dict.fromkeys(row.score.features for row in rows))
    overviews = [(name, score_figures.overview(rows, name)) for name in spaces]
    train, shown, copies, provenance = card.sets[TRAIN], gallery(card), card.near_copies, provenance or {}
    blank, real_copies = [], 0
    if card.ultrasound is not None:
        missing = ~card.ultrasound.measured
        counts = [(_ROLES[role], int(missing[place].sum())) for role, place in card.slices.items()]
        blank = [(role, count) for role, count in counts if count]
    if copies is not None and copies.threshold is not None and copies.calibrated_on == "held-out":
        real_copies = int((copies.real.similarity > copies.threshold).sum())
    context = {
        "card": card,
        "title": card.sources.get(SYNTHETIC) or "synthetic images",
        "sets": [
            {
                "role": _ROLES[role],
                "source": card.sources.get(role, ""),
                "n": len(part),
                "groups": len(np.unique(part.groups)),
                "counts": list(part.class_counts.items()) if part.classes != (ALL,) else [],
            }
            for role, part in card.sets.items()
        ],
        "px": train.size,
        "networks": list(card.features),
        "phantoms": joined([f"the {_ROLES[r]}" for r, part in card.sets.items() if part.simulated]),
        "real_copies": real_copies,
        "verdicts": verdicts(card, rows),
        "gallery": shown,
        "shows_real": shown is not None
        and any(not part.simulated for role, part in card.sets.items() if role != SYNTHETIC),
        "most_copies": COPIES,
        "overviews": [(name, picture) for name, picture in overviews if picture],
        "curves": score_figures.curves(card),
        "distributions": score_figures.distributions(card),
        "similarity": score_figures.similarity(card),
        "blank": blank,
        "tables": [(name, _table(rows, name)) for name in dict.fromkeys(row.score.class_ for row in rows)],
        "n_with_interval": sum(row.score.low is not None for row in rows),
        "methods": _methods(rows),
        "command": command,
        "machine": [(key, value) for key, value in sorted(provenance.items()) if key != "versions"],
        "versions": sorted((provenance.get("versions") or {}).items()),
    }
    write_text(path, render("score.html", context))
    return path


def _methods(rows: Sequence[Row]) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Return the headings of the parts, each with the titles and declarations of the metrics that have rows."""
    titles: dict[str, dict[str, Any]] = {}
    for row in rows:
        titles.setdefault(row.metric.name, {}).setdefault(row.title, row.metric)
    metrics = [(" or ".join(found), next(iter(found.values()))) for found in titles.values()]
    of_part = {part: [(title, metric) for title, metric in metrics if metric.part == part] for part in PARTS}
    return [(PARTS[part], found) for part, found in of_part.items() if found]


def _table(rows: Sequence[Row], class_: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return headings, each with its rows, of one class."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for part, heading in PARTS.items():
        for row in rows:
            score, metric, found = row.score, row.metric, row.interpretation
            if score.class_ != class_ or metric.part != part:
                continue
            space = PIXELS if score.features == PIXELS else f"{score.features} features"
            cells = {
                "metric": f"{row.title} ({metric.unit})" if metric.unit else row.title,
                "reference": "both" if metric.compares == "both" else _ROLES[score.reference],
                "value": value_text(row) if score.value is not None else "–",
                "at_m": at_baseline_text(row),
                "real_baseline": baseline_text(row),
                "m": "–" if score.real_baseline_n is None else score.real_baseline_n,
                "n": f"{score.n_real} / {score.n_synthetic}",
                "state": found.state,
                "interpretation": found.text,
                "note": "" if score.value is None and score.note == found.text else score.note,
            }
            groups.setdefault(f"{heading}, {space}", []).append(cells)
    return list(groups.items())
