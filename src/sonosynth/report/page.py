"""The report: one self-contained HTML page made from a study directory, with its figures beside it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sonosynth.files import write_text
from sonosynth.report import figures, tables
from sonosynth.report.findings import (
    WRITTEN_OUT,
    decimals_for,
    findings,
    interval_text,
    joined,
    limitations,
    number,
    percent,
    reduction_text,
    unfinished,
    verdict,
)
from sonosynth.report.record import Score, StudyRecord
from sonosynth.report.render import render
from sonosynth.report.scorecard_tables import known, realism_table, worth_table
from sonosynth.report.tables import AT_FLOOR, FRECHET, KERNEL, Distance, F1Row, Generator, span

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
}
_REFERENCES = {tables.HELD_OUT: "held-out images", tables.TRAIN: "training subset"}
_METRICS = (FRECHET, FRECHET + AT_FLOOR, KERNEL, KERNEL + AT_FLOOR)


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
    page = render("report.html", _context(record, out / "figures"))
    path = out / "report.html"
    write_text(path, page)
    return path


def _context(record: StudyRecord, figure_dir: Path) -> dict[str, Any]:
    order = tables.generators(record)
    distances = tables.distances(record)
    rows = tables.f1_rows(record)
    contrasts = tables.contrasts(record, rows)
    found = findings(record, order, distances, contrasts)
    features = tables.feature_order(record)
    return {
        "record": record,
        "kind": "simulated" if record.simulated else "real",
        "trained": joined([g.label(order) for g in order if g.mode]),
        "n_trained": len([g for g in order if g.mode]),
        "several_runs": any(len(d.scores) > 1 for d in distances),
        "supplied": joined([g.label(order) for g in order if not g.mode]),
        "sizes": joined([str(size) for size in sorted({s.size for s in record.subsets})]),
        "ratios": [f"{x:g}" for x in sorted({r.ratio for r in record.classifiers if r.ratio is not None})],
        "unfinished": unfinished(record),
        "design": _design(record),
        "resolved": yaml.safe_dump(record.design.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "real": _real(record),
        "found": found,
        "reductions": [_reduction(r, order) for r in found.reductions],
        "samples": _samples(record, order, figure_dir),
        "features": features,
        "distance_parts": [_distance_part(record, name, distances, order, figure_dir) for name in features],
        "worth_parts": [(name, table) for name in features if (table := worth_table(record, name, order))],
        "realism": realism_table(record, order),
        "other_scores": _other_scores(record, order),
        "networks": [_network(record, name, rows, order, figure_dir) for name in _networks(rows)],
        "contrasts": [_contrast(c, order) for c in contrasts],
        "leakage": [_leakage(row) for row in tables.leakage(record, rows)],
        "written_out": WRITTEN_OUT,
        "arms": [(arm, _ARM_TEXT.get(arm, "")) for arm in tables.arm_order(record)],
        "training": [_training(t, order) for t in record.trained],
        "runs": [_run(r, order) for r in record.classifiers],
        "level": f"{tables.LEVEL:.0%}",
        "provenance": _provenance(record),
        "limitations": limitations(record, len([c for c in contrasts if tables.answers_the_question(c)])),
    }


def _leakage(row: tables.Leakage) -> dict[str, Any]:
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


def _design(record: StudyRecord) -> dict[str, Any]:
    design = record.design
    return {
        "kimg": span(t.kimg for t in record.training if t.kimg is not None),
        "draws": len({s.draw for s in record.subsets}),
        "steps": design.classifiers.steps,
        "test_fraction": design.split.test_fraction,
        "fit": _FIT[design.data.fit],
        "seeds": [
            ("split into test set and subsets", str(design.split.seed)),
            ("generators, as planned", _listed(design.training.seeds)),
            ("generators, finished", _listed({t.seed for t in record.training if t.seed is not None})),
            ("classifiers, as planned", _listed(design.classifiers.seeds)),
            ("classifiers, finished", _listed({r.seed for r in record.classifiers})),
        ],
    }


def _listed(values: Iterable[int]) -> str:
    """Return ``"0–4"`` for consecutive numbers, ``"0, 2, 7"`` for others, an en dash for none."""
    numbers = sorted(values)
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}–{numbers[-1]}"
    return ", ".join(str(v) for v in numbers) or "–"


def _real(record: StudyRecord) -> dict[str, Any]:
    parts = [("all prepared images", record.data), ("test set", record.test)]
    parts += [(f"training, size {s.size}, draw {s.draw}", record.data.subset(s.indices)) for s in record.subsets]
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
        "n_test": len(record.test),
        "groups": len(np.unique(record.data.groups)),
        "test_groups": len(np.unique(record.test.groups)),
        "largest_group": int(np.unique(record.data.groups, return_counts=True)[1].max()),
        "px": record.data.size,
    }


def _real_n(record: StudyRecord, size: int) -> str:
    return span(len(s.indices) for s in record.subsets if s.size == size)


def _samples(record: StudyRecord, order: Sequence[Generator], out: Path) -> list[dict[str, Any]]:
    shown = []
    for size in sorted({s.size for s in record.subsets}):
        picture = figures.sample_grid(record, size, order, out)
        if picture is not None:
            runs = [(g.label(order), figures.gallery_run(record, size, g)) for g in order]
            sources = [f"{label}: draw {run.draw}, seed {_or_dash(run.seed)}" for label, run in runs if run is not None]
            shown.append({"size": size, "n": _real_n(record, size), "picture": picture, "sources": "; ".join(sources)})
    return shown


def _distance_part(
    record: StudyRecord, features: str, distances: Sequence[Distance], order: Sequence[Generator], out: Path
) -> dict[str, Any]:
    of_class = {name: _distance_rows(record, features, name, order) for name in ("all", *record.data.classes)}
    return {
        "features": features,
        "figure": figures.distance_figure(distances, features, order, out),
        "overall": of_class.pop("all"),
        "by_class": [(name, rows) for name, rows in of_class.items() if rows],
    }


def _distance_rows(
    record: StudyRecord, features: str, class_name: str, order: Sequence[Generator]
) -> list[dict[str, Any]]:
    """Return one row a run and reference, with every distance, its floor and its numbers of images."""
    chosen = [s for s in record.scores if (s.features, s.class_name) == (features, class_name) and s.metric in _METRICS]
    places = {
        metric: decimals_for([s.value for s in record.scores if s.metric == metric and s.value is not None])
        for metric in (FRECHET, KERNEL)
    }
    sheets: dict[tuple[Any, ...], dict[str, Score]] = {}
    references = {tables.HELD_OUT: 0, tables.TRAIN: 1}

    def place(s: Score) -> tuple[Any, ...]:
        rank = references.get(s.reference, 2), s.reference
        return s.size, rank, order.index(Generator(s.gan, s.mode or "")), s.draw, s.seed or 0

    for s in sorted(chosen, key=place):
        key = (s.size, Generator(s.gan, s.mode or ""), s.draw, s.seed, s.reference)
        sheets.setdefault(key, {})[s.metric] = s
    rows = []
    for (size, generator, draw, seed, reference), sheet in sheets.items():
        full = [s for s in (sheet.get(FRECHET), sheet.get(KERNEL)) if s is not None]
        row: dict[str, Any] = {
            "generator": generator.label(order),
            "run": f"{draw} / {_or_dash(seed)}",
            "group": (
                size,
                references.get(reference, 2),
                f"Size {size}, to the {_REFERENCES.get(reference, reference)}",
            ),
            "n_real": span(s.n_real for s in full),
            "n_synthetic": span(s.n_synthetic for s in full),
            "m": span(s.floor_n for s in full if s.floor_n is not None),
        }
        for short, metric in (("frechet", FRECHET), ("kernel", KERNEL)):
            main, small = sheet.get(metric), sheet.get(metric + AT_FLOOR)
            row[short] = _score_text(main, places[metric])
            row[f"{short}_at_m"] = number(small.value if small else None, places[metric])
            row[f"{short}_floor"] = number(main.floor if main else None, places[metric])
        rows.append(row)
    return rows


def _score_text(score: Score | None, decimals: int) -> str:
    if score is None or score.value is None:
        return "–"
    if score.low is None or score.high is None:
        return number(score.value, decimals)
    return f"{number(score.value, decimals)} [{number(score.low, decimals)}, {number(score.high, decimals)}]"


def _other_scores(record: StudyRecord, order: Sequence[Generator]) -> list[dict[str, Any]]:
    return [
        {
            "size": s.size,
            "generator": Generator(s.gan, s.mode or "").label(order),
            "run": f"{s.draw} / {_or_dash(s.seed)}",
            "features": s.features or "–",
            "reference": s.reference or "–",
            "class": s.class_name,
            "metric": s.metric.replace("_", " "),
            "value": _score_text(s, 3),
            "floor": number(s.floor, 3),
            "m": _or_dash(s.floor_n),
            "n": f"{s.n_real} / {s.n_synthetic}",
        }
        for s in record.scores
        if not known(s.metric)
    ]


def _reduction(reduction: Any, order: Sequence[Generator]) -> dict[str, Any]:
    d, base = reduction.distance, reduction.baseline
    places = decimals_for([d.interval.value, base.interval.value])
    return {
        "size": d.size,
        "generator": d.generator.label(order),
        "distance": interval_text(d.interval, places),
        "baseline": interval_text(base.interval, places),
        "relative": reduction_text(reduction),
        "n": f"{span(s.n_real for s in d.scores)} / {span(s.n_synthetic for s in d.scores)}",
        "n_base": f"{span(s.n_real for s in base.scores)} / {span(s.n_synthetic for s in base.scores)}",
        "runs": f"{len(d.scores)} / {len(base.scores)}",
    }


def _networks(rows: Iterable[F1Row]) -> list[str]:
    return list(dict.fromkeys(row.series.network for row in rows))


def _network(
    record: StudyRecord, network: str, rows: Sequence[F1Row], order: Sequence[Generator], out: Path
) -> dict[str, Any]:
    mine = [row for row in rows if row.series.network == network]
    sizes = sorted({row.size for row in mine})
    confusions = [
        (size, figures.confusion_figure(rows, network, size, record.data.classes, order, out)) for size in sizes
    ]
    return {
        "name": network,
        "figure": figures.f1_figure(rows, network, order, out),
        "sizes": [(size, _real_n(record, size), [_f1_row(r, order) for r in mine if r.size == size]) for size in sizes],
        "confusions": [(size, _real_n(record, size), picture) for size, picture in confusions if picture is not None],
        "left_out": sum(row.left_out for row in mine),
    }


def _f1_row(row: F1Row, order: Sequence[Generator]) -> dict[str, Any]:
    auc = row.auc
    return {
        "arm": row.series.arm,
        "generator": row.series.generator.label(order) if row.series.generator else "–",
        "ratio": _or_dash(row.series.ratio),
        "runs": _runs(row),
        "n_real": row.n_real,
        "n_synthetic": row.n_synthetic,
        "macro": interval_text(row.intervals.macro_f1, 3),
        "by_class": [interval_text(i, 3) for i in row.intervals.class_f1],
        "balanced": interval_text(row.intervals.balanced_accuracy, 3),
        "auc": "–" if auc is None else f"{number(auc[1], 3)} ({number(auc[0], 3)}–{number(auc[2], 3)})",
    }


def _runs(row: F1Row) -> str:
    gan_seeds, seeds = {g for g, _ in row.runs if g is not None}, {s for _, s in row.runs}
    return f"{_listed(row.draws)} / {_listed(seeds)} / {_listed(gan_seeds)}"


def _contrast(contrast: tables.Contrast, order: Sequence[Generator]) -> dict[str, Any]:
    series, difference = contrast.row.series, contrast.difference
    return {
        "size": contrast.row.size,
        "network": series.network,
        "arm": series.arm,
        "baseline": contrast.baseline.series.arm,
        "generator": series.generator.label(order) if series.generator else "–",
        "ratio": _or_dash(series.ratio),
        "draws": len(contrast.draws),
        "absolute": interval_text(difference.absolute, 3, sign=True),
        "relative": percent(difference.relative),
        "asked": tables.answers_the_question(contrast),
        "without": interval_text(contrast.baseline.intervals.macro_f1, 3),
        "with": interval_text(contrast.row.intervals.macro_f1, 3),
        "verdict": verdict(difference.absolute),
    }


def _training(run: Any, order: Sequence[Generator]) -> dict[str, Any]:
    return {
        "generator": Generator(run.gan, run.mode or "").label(order),
        "mode": run.mode or "–",
        "size": run.size,
        "draw": run.draw,
        "seed": _or_dash(run.seed),
        "kimg": _or_dash(run.kimg),
        "seconds": number(run.seconds, 0),
        "img_per_s": number(run.img_per_s, 1),
        "g": "–" if run.parameters_generator is None else f"{run.parameters_generator:,}",
        "d": "–" if run.parameters_discriminator is None else f"{run.parameters_discriminator:,}",
    }


def _run(run: Any, order: Sequence[Generator]) -> dict[str, Any]:
    return {
        "network": run.network,
        "arm": run.arm,
        "generator": Generator(run.gan, run.mode or "").label(order) if run.gan else "–",
        "ratio": _or_dash(run.ratio),
        "size": run.size,
        "draw": run.draw,
        "gan_seed": _or_dash(run.gan_seed),
        "seed": run.seed,
        "macro": number(run.metrics.get("macro_f1"), 3),
        "n": f"{run.n_real} / {run.n_synthetic}",
        "seconds": number(run.seconds, 1),
    }


def _or_dash(value: object) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _provenance(record: StudyRecord) -> dict[str, Any]:
    known = dict(record.provenance)
    data, versions = known.pop("data", None) or {}, known.pop("versions", None) or {}
    seconds = sum(t.seconds or 0 for t in record.trained) + sum(r.seconds or 0 for r in record.classifiers)
    return {
        "data": {name: data.get(name) for name in ("source", "kind", "fingerprint")},
        "notes": data.get("notes") or [],
        "versions": sorted(versions.items()),
        "machine": [(name, known[name]) for name in sorted(known)],
        "hours": f"{seconds / 3600:.1f}" if seconds >= 3600 else "",
        "minutes": f"{seconds / 60:.1f}",
    }
