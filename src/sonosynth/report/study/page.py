"""The report: one self-contained HTML page made from a study directory, with its figures beside it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sonosynth.analysis import tables
from sonosynth.analysis.contrasts import Contrast, contrasts
from sonosynth.analysis.equivalent_real_images import Curve, curves, image_equivalences
from sonosynth.analysis.findings import findings, no_p_value_reasons, side_of_zero
from sonosynth.analysis.limitations import limitations, unfinished
from sonosynth.analysis.pairs import pairs
from sonosynth.analysis.power import WANTED, DetectableDifference, detectable_differences
from sonosynth.analysis.read_record import read_record
from sonosynth.analysis.record import StudyRecord, groups_in_words
from sonosynth.analysis.tables import Distance, F1Row
from sonosynth.analysis.verdict import Verdict, verdict
from sonosynth.core.files import write_text
from sonosynth.core.text import joined, span
from sonosynth.metrics.metric import get_metric
from sonosynth.metrics.scores import PIXELS
from sonosynth.report.render import render
from sonosynth.report.study import figures
from sonosynth.report.study.classifier_figures import f1_summary
from sonosynth.report.study.classifier_tables import filter_rows, network_part, on_synthetic, real_n
from sonosynth.report.study.distance_tables import distance_part, other_scores, told_notes
from sonosynth.report.study.scorecard_tables import part_table
from sonosynth.report.wording import in_a_sentence, listed, spent
from sonosynth.statistics.scores import LEVEL, MIN_DRAWS
from sonosynth.study.results import Generator

_SHOWN_VERSIONS = ("sonosynth", "torch", "monai", "scikit-learn", "scipy")
_WRITTEN_OUT = 12  # comparisons listed among the findings; of more, only a summary
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


def write_report(study_dir: str | Path, out: str | Path | None = None) -> Path:
    """Write ``report.html`` and ``figures/`` for a finished or half-finished study and return the page's path.

    Args:
        study_dir: the study directory.
        out: where to write; the study directory if not given.

    Raises:
        StudyError: `study_dir` is no study, or a file in it is damaged.
    """
    record, folder = read_record(Path(study_dir)), Path(out or study_dir)
    path = folder / "report.html"
    write_text(path, study_page(record, folder / "figures"))
    return path


def study_page(record: StudyRecord, figure_dir: Path) -> str:
    """Return the page of a record, with its figures inside; they are written to `figure_dir` too."""
    order, distances, rows = tables.generators(record), tables.distances(record), tables.f1_rows(record)
    differences, equivalences = contrasts(rows, record.design), image_equivalences(rows)
    power = detectable_differences(record, differences)
    features, found_curves = tables.feature_order(record), curves(rows)
    networks = list(dict.fromkeys(row.series.network for row in rows))
    samples, judged = figures.sample_rows(record, order), verdict(rows, differences)
    ratios = sorted({r.ratio for r in record.classifiers if r.ratio is not None})
    context = {
        "record": record,
        "kind": "simulated" if record.simulated else "real",
        "order": order,
        "trained": [g.label(order) for g in order if g.mode and g.truncation == 1],
        "supplied": [g.label(order) for g in order if not g.mode],
        "sizes": joined([str(size) for size in sorted({s.size for s in record.subsets})]),
        "unfinished": unfinished(record),
        "design": _design(record),
        "resolved": _settings(record),
        "real": _real(record),
        "verdict": judged,
        "first": {
            "samples": _first_samples(record, samples, judged),
            "distance": _first_distance(record, distances, order, figure_dir),
            "f1": _first_f1(rows, found_curves, judged, order, figure_dir),
        },
        "samples": _samples(record, samples, figure_dir),
        "level": f"{LEVEL:.0%}",
        "min_draws": MIN_DRAWS,
        "infinity": math.inf,
        "side_of_zero": side_of_zero,
        "distance_name": lambda metric, network: in_a_sentence(get_metric(metric).title_for(network)),
        "provenance": _provenance(record),
        "found": findings(record, distances, differences, equivalences, power),
        "limits": limitations(record, len([c for c in differences if c.primary])),
        "reviewer": _reviewer(record, differences, power),
        "power": power,
        "wanted": f"{WANTED:.0%}",
        # distances
        "features": features,
        "several_runs": any(len(d.scores) > 1 for d in distances),
        "distance_parts": [distance_part(record, name, distances, order, figure_dir) for name in features],
        "worth_parts": [
            (name, table)
            for name in features
            if (table := part_table(record, ("diversity", "memorisation"), name, order))
        ],
        "realism": part_table(record, ("realism",), PIXELS, order),
        "other_scores": other_scores(record, order),
        "score_notes": told_notes(record, record.score_notes, order),
        # classifiers
        "ratios": [f"{ratio:g}" for ratio in ratios],
        "several": {
            "networks": len(networks) > 1,
            "ratios": len(ratios) > 1,
            "levels": any(row.series.factors for row in rows),
        },
        "networks": [network_part(record, name, rows, found_curves, order, figure_dir) for name in networks],
        "contrasts": differences,
        "pairs": pairs(record, differences),
        "has_p": any(c.difference.p_value is not None for c in differences),
        "has_d": any(c.difference.standardised is not None for c in differences),
        "no_p_values": no_p_value_reasons(differences),
        "on_synthetic": on_synthetic(record),
        "filters": filter_rows(record, order),
        "filter_notes": told_notes(record, record.filter_notes, order),
        "leakage": tables.leakage(record, rows),
        "written_out": _WRITTEN_OUT,
        "arms": [(arm, _ARM_TEXT.get(arm, "")) for arm in tables.arm_order(record)],
        "classifier_runs": tables.series_of(record, record.classifiers),
    }
    return render("study/page.html", context)


def _reviewer(
    record: StudyRecord, differences: Sequence[Contrast], power: Sequence[DetectableDifference]
) -> dict[str, Any]:
    """Return what the answers to a reviewer's first questions rest on."""
    adjusted, known = [c for c in differences if c.adjusted is not None], record.provenance
    versions, alone = known.get("versions") or {}, [d.alone for d in power]
    ranges = [d.alone_range for d in power if d.alone_range]
    return {
        "validated": any("validation" in run.factors for run in record.classifiers),
        "dropped": [note for note in (known.get("data") or {}).get("notes") or [] if " dropped" in note],
        "tested": bool(adjusted),
        "families": sorted({c.family for c in adjusted if c.primary}),
        "untestable": all(d.tested_replicates > d.replicates for d in power),
        "some_untestable": any(d.tested_replicates > d.replicates for d in power),
        "detectable": sorted({min(alone), max(alone)}) if alone else [],
        "detectable_range": (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None,
        "borrowed": not all(d.pairs for d in power),
        "versions": [f"{name} {versions[name]}" for name in _SHOWN_VERSIONS if name in versions]
        + ([str(known["device"])] if known.get("device") else []),
    }


def _design(record: StudyRecord) -> dict[str, Any]:
    design = record.design
    gan_seeds = listed({t.seed for t in record.training if t.seed is not None})
    seeds = listed({r.seed for r in record.classifiers})
    rows: list[tuple[str, Any]] = [("split into test set and subsets", design.split.seed)]
    rows += [("generators, as planned", listed(design.training.seeds)), ("generators, finished", gan_seeds)]
    if design.classifiers.trains:
        rows += [("classifiers, as planned", listed(design.classifiers.seeds)), ("classifiers, finished", seeds)]
    return {
        "kimg": span(t.kimg for t in record.training if t.kimg is not None),
        "fit": _FIT[design.data.fit],
        "finished_gan_seeds": gan_seeds,
        "finished_seeds": seeds,
        "seeds": rows,
    }


def _real(record: StudyRecord) -> dict[str, Any]:
    parts = [("all prepared images", record.data)]
    parts += [("test set" if record.splits is None else f"test set, split {k}", t) for k, t in enumerate(record.tests)]
    parts += [
        (f"training, size {s.size}, {record.unit} {s.replicate}", record.data.subset(s.indices)) for s in record.subsets
    ]
    groups, of_group = np.unique(record.data.groups, return_counts=True)
    per_group: dict[int, list[float]] = {}
    for subset in record.subsets:
        of_subset = record.data.groups[list(subset.indices)]
        per_group.setdefault(subset.size, []).append(len(of_subset) / len(np.unique(of_subset)))
    return {
        # groups are drawn whole, so that large ones seldom fit into small subsets
        "per_group": of_group.mean(),
        "few_per_group": [
            (size, np.mean(means)) for size, means in per_group.items() if np.mean(means) < 0.8 * of_group.mean()
        ],
        "rows": [(name, len(part), len(np.unique(part.groups)), part.class_counts.values()) for name, part in parts],
        "test_counts": {name: span(test.class_counts[name] for test in record.tests) for name in record.data.classes},
        "n_test": span(len(test) for test in record.tests),
        "groups": len(groups),
        "test_groups": groups_in_words(record),
        "largest_group": of_group.max(),
    }


def _first_samples(
    record: StudyRecord, rows: Mapping[int, Sequence[figures.SampleRow]], judged: Verdict | None
) -> dict[str, Any] | None:
    """Return strips of images for the first screen, of the size that the verdict names or else of the largest."""
    if not rows:
        return None
    size = judged.named.contrast.row.size if judged else max(rows)
    size = size if size in rows else max(rows)
    return figures.sample_strips(rows[size]) | {"size": size, "n": real_n(record, size)}


def _first_distance(
    record: StudyRecord, distances: Sequence[Distance], order: Sequence[Generator], out: Path
) -> dict[str, Any] | None:
    features = next(iter(tables.feature_order(record)), "")
    found = figures.distance_summary(distances, features, order, out)
    if found is None:
        return None
    picture, shown = found
    scores = [score for d in shown for score in d.scores]
    return {
        "picture": picture,
        "title": get_metric(shown[0].metric).title_for(features),
        "runs": span(len(d.scores) for d in shown),
        "n_real": span(score.n_real for score in scores),
        "n_synthetic": span(score.n_synthetic for score in scores),
        "baseline": any(score.real_baseline is not None for score in scores),
    }


def _first_f1(
    rows: Sequence[F1Row], found: Sequence[Curve], judged: Verdict | None, order: Sequence[Generator], out: Path
) -> dict[str, Any] | None:
    if not rows:
        return None
    compared = judged.named.contrast if judged else None
    network = compared.row.series.network if compared else rows[0].series.network
    summary = f1_summary(found, network, compared, order, out)
    if summary is None:
        return None
    shown = {c.series for c in summary.curves}
    return {
        "summary": summary,
        "series": compared.row.series if compared else None,
        "intervals": any(np.isfinite([p.low, p.high]).all() for c in summary.banded for p in c.curve.points),
        "replicates": span(len(c.replicates) for c in summary.curves),
        "seeds": span(len({seed for _, seed in row.runs}) for row in rows if row.series in shown),
    }


def _samples(record: StudyRecord, rows: Mapping[int, Sequence[figures.SampleRow]], out: Path) -> list[dict[str, Any]]:
    return [
        {
            "size": size,
            "n": real_n(record, size),
            "picture": figures.sample_grid(of_size, size, out),
            "sources": "; ".join(f"{row.label}: {row.source}" for row in of_size[1:]),
        }
        for size, of_size in rows.items()
    ]


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
        "computing": [
            spent(noun, [run.seconds for run in runs if run.seconds is not None])
            for noun, runs in (("generator", record.trained), ("classifier", record.classifiers))
            if runs
        ],
    }
