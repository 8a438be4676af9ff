"""The score page: what a set of synthetic images is worth, in one self-contained HTML file."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.core.files import write_text
from sonosynth.core.text import joined
from sonosynth.metrics.scorecard import Scorecard
from sonosynth.metrics.scores import ALL, HELD_OUT, PIXELS, SYNTHETIC, TRAIN
from sonosynth.report.render import render
from sonosynth.report.scorecard import figures as score_figures
from sonosynth.report.scorecard.gallery import COPIES, gallery
from sonosynth.report.scorecard.verdicts import (
    Judged,
    at_baseline_text,
    baseline_text,
    interpreted_rows,
    value_text,
    verdicts,
    with_unit,
)
from sonosynth.report.scorecard.words import PARTS, WORDS

_ROLES = {TRAIN: "training", HELD_OUT: "held-out", SYNTHETIC: "synthetic"}
_BOTH = ("nearest_distance_ratio", "membership_auc", "data_copying")


def write_score_page(
    card: Scorecard,
    path: Path,
    sources: Mapping[str, str],
    seed: int = 0,
    command: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page of `card` and return its path; equal arguments give equal pages.

    Args:
        card: what was measured.
        path: the file to write, such as ``score.html``.
        sources: where each set comes from, by role (``train``, ``held-out``, ``synthetic``); roles may be missing.
        seed: that `card` was made with; also of the random rows of the gallery.
        command: that made the page; empty if there was none.
        provenance: machine and versions, as `engine.provenance` returns them.

    Raises:
        ValueError: `sources` names a role that `card` has no set of.
    """
    unknown = set(sources) - set(card.sets)
    if unknown:
        raise ValueError(f"sources of sets that were not compared: {', '.join(sorted(unknown))}")
    write_text(path, render("score.html", _context(card, sources, seed, command, provenance or {})))
    return path


def _context(
    card: Scorecard, sources: Mapping[str, str], seed: int, command: str, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    rows = interpreted_rows(card)
    spaces = list(dict.fromkeys(row.score.features for row in rows))
    shown = gallery(card, seed)
    overviews = [(name, score_figures.overview(rows, name)) for name in spaces]
    versions = provenance.get("versions") or {}
    return {
        "title": sources.get(SYNTHETIC) or "synthetic images",
        "sets": [_set(card, role, sources.get(role, "")) for role in card.sets],
        "px": card.sets[TRAIN].size,
        "classes": card.sets[TRAIN].classes if card.sets[TRAIN].classes != (ALL,) else (),
        "networks": list(card.features),
        "seed": seed,
        "phantoms": joined([f"the {_ROLES[r]}" for r, part in card.sets.items() if part.simulated]),
        "real_copies": _real_copies(card),
        "has_held_out": HELD_OUT in card.sets,
        "notes": card.notes,
        "verdicts": verdicts(card, rows),
        "gallery": shown,
        "shows_real": shown is not None
        and any(not part.simulated for role, part in card.sets.items() if role != SYNTHETIC),
        "copies": card.copies,
        "most_copies": COPIES,
        "overviews": [(name, picture) for name, picture in overviews if picture],
        "curves": score_figures.curves(card),
        "distributions": score_figures.distributions(card),
        "similarity": score_figures.similarity(card),
        "blank": _blank(card),
        "tables": [(name, _table(rows, name)) for name in dict.fromkeys(row.score.class_ for row in rows)],
        "n_judged": sum(row.score.low is not None for row in rows),
        "methods": [
            (part, [(WORDS[name], name) for name in WORDS if WORDS[name].part == part and _has(rows, name)])
            for part in PARTS
            if any(WORDS[row.score.metric].part == part for row in rows)
        ],
        "command": command,
        "machine": [(key, value) for key, value in sorted(provenance.items()) if key != "versions"],
        "versions": sorted(versions.items()),
    }


def _has(rows: Iterable[Judged], metric: str) -> bool:
    return any(row.score.metric == metric for row in rows)


def _real_copies(card: Scorecard) -> int:
    """Return how many held-out images are near-copies of training images, if that is known."""
    copies = card.copies
    if copies is None or copies.threshold is None or copies.calibrated_on != "held-out":
        return 0
    return int((copies.real.similarity > copies.threshold).sum())


def _set(card: Scorecard, role: str, source: str) -> dict[str, Any]:
    part = card.sets[role]
    counts = part.class_counts if part.classes != (ALL,) else {}
    return {
        "role": _ROLES[role],
        "source": source,
        "n": len(part),
        "groups": len(np.unique(part.groups)),
        "counts": list(counts.items()),
    }


def _blank(card: Scorecard) -> list[tuple[str, int]]:
    """Return by role how many images have no speckle that could be measured."""
    if card.realism is None:
        return []
    missing = ~card.realism.measured
    counts = [(_ROLES[role], int(missing[place].sum())) for role, place in card.places.items()]
    return [(role, count) for role, count in counts if count]


def _table(rows: Sequence[Judged], class_: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return headings, each with its rows, of one class."""
    of_class = [row for row in rows if row.score.class_ == class_]
    groups: dict[str, list[dict[str, Any]]] = {}
    for part in PARTS:
        for row in of_class:
            if WORDS[row.score.metric].part == part:
                space = PIXELS if row.score.features == PIXELS else f"{row.score.features} features"
                groups.setdefault(f"{part}, {space}", []).append(_row(row))
    return list(groups.items())


def _row(row: Judged) -> dict[str, Any]:
    score = row.score
    note = "" if score.value is None and score.note == row.reading.text else score.note
    return {
        "metric": with_unit(score.metric),
        "reference": "both" if score.metric in _BOTH else _ROLES[score.reference],
        "value": value_text(score) if score.value is not None else "–",
        "at_m": at_baseline_text(row),
        "real_baseline": baseline_text(score),
        "m": "–" if score.real_baseline_n is None else score.real_baseline_n,
        "n": f"{score.n_real} / {score.n_synthetic}",
        "state": row.reading.state,
        "reading": row.reading.text,
        "note": note,
    }
