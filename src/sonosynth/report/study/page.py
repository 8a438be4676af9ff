"""The report: one self-contained HTML page made from a study directory, with its figures beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sonosynth.analysis import tables
from sonosynth.analysis.contrasts import contrasts
from sonosynth.analysis.equivalent_real_images import curves, image_equivalences
from sonosynth.analysis.pairs import pairs
from sonosynth.analysis.power import WANTED, detectable_differences
from sonosynth.analysis.record import StudyRecord, groups_in_words
from sonosynth.analysis.results import Generator, TrainRun
from sonosynth.core.files import write_text
from sonosynth.core.text import joined, span
from sonosynth.report.render import render
from sonosynth.report.study import figures
from sonosynth.report.study.classifier_tables import (
    contrast_row,
    equivalence_row,
    filter_rows,
    leakage_row,
    network_part,
    networks,
    no_p_values,
    on_synthetic,
    pairs_row,
    power_row,
    real_n,
    run_row,
)
from sonosynth.report.study.distance_tables import distance_part, other_scores, reduction_row, told_notes
from sonosynth.report.study.f1_findings import WRITTEN_OUT
from sonosynth.report.study.findings import findings
from sonosynth.report.study.limitations import limitations, unfinished
from sonosynth.report.study.reviewer_questions import reviewers_questions
from sonosynth.report.study.scorecard_tables import realism_table, worth_table
from sonosynth.report.wording import listed, number, or_dash, spent

_FIT = {
    "pad": "padded to a square by mirroring, aspect ratio kept",
    "crop": "cropped to a centred square, aspect ratio kept",
    "mask": "cropped to a square around the marked lesion, aspect ratio kept",
    "stretch": "stretched to a square, aspect ratio not kept",
}
_ARM_TEXT = {
    "real": "real images, no augmentation",
    "real+classical": "real images with ordinary augmentation",
    "real+synthetic": "real and synthetic images, no augmentation",
    "real+classical+synthetic": "real and synthetic images, with ordinary augmentation",
    "oversampled": "real images, some of them repeated: as many images as with synthetic ones, no augmentation",
    "synthetic-only": "trained on synthetic images alone, tested on real ones, no augmentation",
    "test-on-synthetic": "trained on real images, tested on synthetic ones; in a table of its own",
}


def write_report(study_dir: Path, out: Path | None = None) -> Path:
    """Write ``report.html`` and ``figures/`` for a finished or half-finished study and return the page's path.

    Args:
        study_dir: the study directory.
        out: where to write; the study directory if not given.

    Raises:
        StudyError: `study_dir` is no study, or a file in it is damaged.
    """
    record = StudyRecord.load(study_dir)
    out = out or study_dir
    page = render("study/page.html", _context(record, out / "figures"))
    path = out / "report.html"
    write_text(path, page)
    return path


def _context(record: StudyRecord, figure_dir: Path) -> dict[str, Any]:
    """Return what the template needs; writes the figures to `figure_dir`."""
    order = tables.generators(record)
    distances = tables.distances(record)
    trained = [g.label(order) for g in order if g.mode and g.truncation == 1]
    supplied = [g.label(order) for g in order if not g.mode]
    return {
        "record": record,
        "kind": "simulated" if record.simulated else "real",
        "trained": joined(trained),
        "n_trained": len(trained),
        "several_runs": any(len(d.scores) > 1 for d in distances),
        "supplied": joined(supplied),
        "sizes": joined([str(size) for size in sorted({s.size for s in record.subsets})]),
        "unfinished": unfinished(record),
        "design": _design(record),
        "resolved": _settings(record),
        "real": _real(record),
        "test_counts": _test_counts(record),
        "samples": _samples(record, order, figure_dir),
        "training": [_training(t, order) for t in record.trained],
        "level": f"{tables.LEVEL:.0%}",
        "provenance": _provenance(record),
        **_distances(record, distances, order, figure_dir),
        **_classifiers(record, distances, order, figure_dir),
    }


def _distances(
    record: StudyRecord, distances: Sequence[tables.Distance], order: Sequence[Generator], figure_dir: Path
) -> dict[str, Any]:
    features = tables.feature_order(record)
    return {
        "features": features,
        "distance_parts": [distance_part(record, name, distances, order, figure_dir) for name in features],
        "worth_parts": [(name, table) for name in features if (table := worth_table(record, name, order))],
        "realism": realism_table(record, order),
        "other_scores": other_scores(record, order),
        "score_notes": told_notes(record, record.score_notes, order),
    }


def _classifiers(
    record: StudyRecord, distances: Sequence[tables.Distance], order: Sequence[Generator], figure_dir: Path
) -> dict[str, Any]:
    rows = tables.f1_rows(record)
    differences, found_curves, worths = contrasts(rows, record.design), curves(rows), image_equivalences(rows)
    power = detectable_differences(record, differences)
    found = findings(record, order, distances, differences, worths, power)
    ratios = sorted({r.ratio for r in record.classifiers if r.ratio is not None})
    names = networks(rows)
    return {
        "found": found,
        "reductions": [reduction_row(r, order) for r in found.reductions],
        "questions": reviewers_questions(record, differences, power),
        "ratios": [f"{ratio:g}" for ratio in ratios],
        "several": {
            "networks": len(names) > 1,
            "ratios": len(ratios) > 1,
            "levels": any(row.series.factors for row in rows),
        },
        "networks": [network_part(record, name, rows, found_curves, order, figure_dir) for name in names],
        "contrasts": [contrast_row(c, order) for c in differences],
        "pairs": [pairs_row(p, order) for p in pairs(record, differences)],
        "has_p": any(c.difference.p_value is not None for c in differences),
        "has_d": any(c.difference.standardised is not None for c in differences),
        "no_p_values": no_p_values(differences),
        "worths": [equivalence_row(w, order) for w in worths],
        "power": [power_row(d) for d in power],
        "wanted": f"{WANTED:.0%}",
        "on_synthetic": on_synthetic(record, order),
        "filters": filter_rows(record, order),
        "filter_notes": told_notes(record, record.filter_notes, order),
        "leakage": [leakage_row(row) for row in tables.leakage(record, rows)],
        "written_out": WRITTEN_OUT,
        "arms": [(arm, _ARM_TEXT.get(arm, "")) for arm in tables.arm_order(record)],
        "runs": [run_row(series, r, order) for series, r in tables.series_of(record, record.classifiers)],
        "limitations": limitations(record, len([c for c in differences if c.asked])),
    }


def _design(record: StudyRecord) -> dict[str, Any]:
    design = record.design
    of_classifiers = []
    if design.classifiers.trains:
        of_classifiers = [
            ("classifiers, as planned", listed(design.classifiers.seeds)),
            ("classifiers, finished", listed({r.seed for r in record.classifiers})),
        ]
    return {
        "classifies": design.classifiers.trains,
        "kimg": span(t.kimg for t in record.training if t.kimg is not None),
        "draws": record.n_draws,
        "steps": design.classifiers.steps,
        "test_fraction": design.split.test_fraction,
        "fit": _FIT[design.data.fit],
        "seeds": [
            ("split into test set and subsets", str(design.split.seed)),
            ("generators, as planned", listed(design.training.seeds)),
            ("generators, finished", listed({t.seed for t in record.training if t.seed is not None})),
            *of_classifiers,
        ],
    }


def _real(record: StudyRecord) -> dict[str, Any]:
    parts = [("all prepared images", record.data)]
    parts += [("test set" if record.splits is None else f"test set, split {k}", t) for k, t in enumerate(record.tests)]
    parts += [
        (f"training, size {s.size}, {record.unit} {s.draw}", record.data.subset(s.indices)) for s in record.subsets
    ]
    rows = [
        {
            "name": name,
            "n": len(part),
            "groups": len(np.unique(part.groups)),
            "counts": list(part.class_counts.values()),
        }
        for name, part in parts
    ]
    return {
        "classes": record.data.classes,
        "rows": rows,
        "n": len(record.data),
        "n_test": span(len(test) for test in record.tests),
        "groups": len(np.unique(record.data.groups)),
        "test_groups": groups_in_words(record),
        "largest_group": int(np.unique(record.data.groups, return_counts=True)[1].max()),
        "px": record.data.size,
    }


def _test_counts(record: StudyRecord) -> list[tuple[str, str]]:
    return [(name, span(test.class_counts[name] for test in record.tests)) for name in record.data.classes]


def _samples(record: StudyRecord, order: Sequence[Generator], out: Path) -> list[dict[str, Any]]:
    shown = []
    for size in sorted({s.size for s in record.subsets}):
        picture = figures.sample_grid(record, size, order, out)
        if picture is not None:
            runs = [(g.label(order), figures.gallery_run(record, size, g)) for g in order]
            sources = [
                f"{label}: {record.unit} {run.draw}, seed {or_dash(run.seed)}" for label, run in runs if run is not None
            ]
            shown.append({"size": size, "n": real_n(record, size), "picture": picture, "sources": "; ".join(sources)})
    return shown


def _training(run: TrainRun, order: Sequence[Generator]) -> dict[str, Any]:
    return {
        "generator": run.generator.label(order),
        "mode": run.mode or "–",
        "size": run.size,
        "draw": run.draw,
        "seed": or_dash(run.seed),
        "kimg": or_dash(run.kimg),
        "seconds": number(run.seconds, 0),
        "img_per_s": number(run.img_per_s, 1),
        "g": "–" if run.parameters_generator is None else f"{run.parameters_generator:,}",
        "d": "–" if run.parameters_discriminator is None else f"{run.parameters_discriminator:,}",
    }


def _settings(record: StudyRecord) -> str:
    """Return all settings as YAML; in a recipe, mode and length are those of the study where that sets them."""
    plain = record.design.model_dump(mode="json")
    given = {key: plain["training"][key] for key in ("mode", "kimg") if plain["training"][key] is not None}
    for gan in plain["gans"]:
        if gan["recipe"] is not None:
            gan["recipe"] |= given
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _provenance(record: StudyRecord) -> dict[str, Any]:
    known = dict(record.provenance)
    data, versions = known.pop("data", None) or {}, known.pop("versions", None) or {}
    return {
        "data": {name: data.get(name) for name in ("source", "kind", "fingerprint")},
        "notes": data.get("notes") or [],
        "versions": sorted(versions.items()),
        "machine": [(name, known[name]) for name in sorted(known)],
        "made_on": list(record.made_on.items()),
        "alike": not record.made_elsewhere,
        "computing": [
            spent(noun, [run.seconds for run in runs if run.seconds is not None])
            for noun, runs in (("generator", record.trained), ("classifier", record.classifiers))
            if runs
        ],
    }
