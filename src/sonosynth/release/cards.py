"""The cards of a release: what it is, who may use it, what it was trained on, and whether anyone is in it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sonosynth.core.files import write_text
from sonosynth.core.text import counted
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.sample import save_image_grid
from sonosynth.metrics.interpretation import format_value
from sonosynth.metrics.metric import get_metric
from sonosynth.metrics.neighbours import euclidean_distances
from sonosynth.metrics.scorecard import Scorecard
from sonosynth.metrics.scores import ALL, AT_BASELINE, HELD_OUT, SYNTHETIC, TRAIN
from sonosynth.release.record import CHECKLIST, README, SEVEN_CS, Record
from sonosynth.report.render import render

SAMPLES, LEAST_TYPICAL = "samples.png", "least-typical.png"
_SHOWN = 8
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))  # as Hugging Face names them


def write_pictures(images: ImageSet, card: Scorecard | None, folder: Path) -> None:
    """Write samples of each class, and with features the images that are farthest from any training image."""
    folder.mkdir()
    present = [name for name, count in images.class_counts.items() if count]
    rows = [images.of_class(name).images[:_SHOWN] for name in present]
    empty = np.zeros((_SHOWN, *images.size), np.uint8)
    filled = [np.concatenate([row, empty[len(row) :]]) for row in rows]
    save_image_grid(np.concatenate(filled), folder / SAMPLES, columns=_SHOWN)
    if card is None or not card.features:
        return
    features, where = next(iter(card.features.values())), card.slices
    synthetic, train = (features[where[role]].astype(np.float64) for role in (SYNTHETIC, TRAIN))
    far = np.argsort(-euclidean_distances(synthetic, train).min(axis=1), kind="stable")[:_SHOWN]
    save_image_grid(card.sets[SYNTHETIC].images[far], folder / LEAST_TYPICAL, columns=_SHOWN)


def write_cards(made: Record, card: Scorecard | None, notice: bool, folder: Path) -> None:
    """Write ``README.md``, a data card and model card in the layout of Hugging Face, the seven Cs and the checklist."""
    reference = HELD_OUT if made.held_out else TRAIN
    rows = [] if card is None else _rows(card, reference)
    shown = {
        "r": made,
        "t": made.training,
        "header": yaml.safe_dump(_header(made), sort_keys=False, allow_unicode=True),
        "classes": _counts(made.classes),
        "trained_on": f"{counted(sum(made.training.images.values()), 'image')} ({_counts(made.training.images)})",
        "notice": notice,
        "unchecked": card is None,
        "rows": rows,
        "reference": f"{made.held_out} images that the generator has not seen" if made.held_out else "training images",
        "failures": min(_SHOWN, made.n) if card is not None and card.features else 0,
    }
    write_text(folder / README, _tidy(render("release/README.md.jinja", shown)))
    write_text(folder / SEVEN_CS, render("release/seven-cs.md.jinja", {"r": made} | _seven(made, rows)))
    write_text(folder / CHECKLIST, render("release/checklist.md.jinja", {"r": made}))


def _header(made: Record) -> dict[str, Any]:
    """Return what the hub of Hugging Face reads at the head of a card."""
    folders = sorted({path.rsplit("/", 1)[0] for path in made.folders.values()})
    header: dict[str, Any] = {
        "license": "other",
        "license_name": made.licence or "not-stated",
        "pretty_name": made.name,
        "task_categories": ["image-classification"],
        "size_categories": [next((words for most, words in _SIZES if made.n < most), "n>100K")],
        "tags": ["synthetic", "ultrasound", "medical"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": ["metadata.csv", *(f"{name}/*.png" for name in folders)]}],
            }
        ],
    }
    if made.weights_included:
        header |= {"library_name": "sonosynth", "pipeline_tag": "unconditional-image-generation"}
    return header


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _rows(card: Scorecard, reference: str) -> list[dict[str, str]]:
    """Return the rows of the table of scores: all classes, against one reference."""
    rows = []
    for row in card.scores:
        memorises = get_metric(row.metric.removesuffix(AT_BASELINE), row.features).part == "memorisation"
        if row.class_ != ALL or row.value is None or row.metric.endswith(AT_BASELINE) or memorises:
            continue
        if row.reference != reference:
            continue
        metric = get_metric(row.metric, row.features)
        value, low, high, real = (format_value(metric, v) for v in (row.value, row.low, row.high, row.real_baseline))
        rows.append(
            {
                "part": metric.part,
                "title": metric.title,
                "features": row.features,
                "value": value,
                "interval": f"{low} to {high}" if low and high else "",
                "baseline": real,
                "n": f"{row.n_real}, {row.n_synthetic}",
            }
        )
    return rows


def _seven(made: Record, rows: list[dict[str, str]]) -> dict[str, str]:
    """Return what was measured of each criterion, in a line."""

    def of(part: str) -> str:
        told = [
            f"{row['title']} ({row['features']}) {row['value']} [{row['interval'] or 'no interval'}]"
            f", real {row['baseline'] or '–'}, n {row['n']}"
            for row in rows
            if row["part"] == part
        ]
        return "; ".join(told) or "not measured"

    accepted = "; the gate refused, and a person accepted" if made.privacy.accepted else ""
    licence = made.training.licence or "not stated"
    return {
        "congruence": of("distances"),
        "coverage": of("diversity"),
        "constraint": of("realism"),
        "completeness": f"class of every image; {_counts(made.classes)}; no masks, no measures in millimetres",
        "compliance": f"privacy checks: {made.privacy.counts}{accepted}; {made.privacy.replaced} near-copies replaced; "
        f"licence of the training images: {licence}; {'DICOM, ' if made.dicom else ''}PNG, Croissant",
        "consistency": f"rows of each class in scores.json; byte-identical when made again from the same weights, seed "
        f"{made.seed} and version {made.sonosynth}; not measured over sites or machines",
    }


def _tidy(text: str) -> str:
    """Return Markdown with no more than one empty line in a row."""
    return re.sub(r"\n{3,}", "\n\n", text)
