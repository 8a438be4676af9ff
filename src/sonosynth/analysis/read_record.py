"""Reading the record of a study from its directory, or from its tables, study file and provenance alone."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.analysis.record import ImageTable, StudyRecord
from sonosynth.core.errors import StudyError
from sonosynth.data.imageset import MANIFEST, read_manifest
from sonosynth.metrics.scores import current_names
from sonosynth.statistics.scores import RepeatedSplits
from sonosynth.study import files, results
from sonosynth.study.config import StudyDesign
from sonosynth.study.splits import SPLIT_JSON, SplitIndices, read_splits, repeated_subsets
from sonosynth.study.study_file import load_design, recorded_design

_KEY = (
    *("gan", "mode", "gan_seed", "truncation", "network", "arm", "ratio", "fill", "filter", "filter_quantile"),
    *("size", "replicate", "seed"),
)
_ROUNDING = 2e-6  # probabilities are stored with six decimals
_NEW_OUT = "run the study again in a new --out"


def read_record(study_dir: Path) -> StudyRecord:
    """Read a study directory; unfinished cells are simply absent. If no cells are there, the tables are read.

    Raises:
        StudyError: the directory is no study, a file in it is damaged or does not fit the others, or there are
            neither cells nor tables that hold all that the report needs.
    """
    of_data = "data/manifest.csv" if (study_dir / "data" / MANIFEST).is_file() else files.IMAGES_CSV
    for name in (files.STUDY_FILE, SPLIT_JSON, of_data):
        if not (study_dir / name).is_file():
            name = "data/manifest.csv" if name == files.IMAGES_CSV else name
            raise StudyError(
                f"{study_dir} is not a study directory: it has no {name}; make one with 'sonosynth study run'"
            )
    origin, path = study_dir / files.PROVENANCE, study_dir / files.STUDY_FILE
    provenance = dict(files.read_object(origin)) if origin.is_file() else {}
    settings, counts = provenance.pop("settings", None), provenance.pop("cells", None) or {}
    # Earlier versions recorded no settings: they are those of the study file, with the defaults of today.
    design = recorded_design(settings, str(origin)) if settings else load_design(path)
    data = _image_table(study_dir, "data", files.IMAGES_CSV, design)
    splits, repeated, naive = read_splits(study_dir / SPLIT_JSON)
    tests = _test_sets(study_dir, data, splits, design)
    repeated_splits = _repeated_splits(study_dir / SPLIT_JSON, splits, len(data)) if repeated else None
    naive_test = None if naive is None else data.subset(naive.test or ())
    cells, n_planned = _cell_files(study_dir)
    if cells or (study_dir / "cells").is_dir():
        found, made_on = _read_cells(cells, tests, naive_test)
        tables, n_finished = results.table_rows(found), len(cells)
    else:
        tables = _read_tables(study_dir)
        found = list(results.results_of_tables(tables))
        n_planned, n_finished = counts.get("planned"), counts.get("finished", 0)
        made_on = counts.get("made_on") or {}
    subsets = [subset for split in splits for subset in split.subsets]
    # Earlier versions drew the same subset several times where a size takes the whole pool.
    equal = repeated_subsets(subsets)
    found = [r for r in found if (r.size, r.replicate) not in equal]
    runs = sorted((r for r in found if isinstance(r, results.ClassifyResult)), key=_classifier_order)
    grouped = [r for r in runs if not isinstance(r, results.NaiveResult)]
    trained = [r for r in found if isinstance(r, results.TrainResult)]
    trained += [
        results.TrainResult(**r.model_dump(include={"size", "replicate", "gan", "mode", "seed", "gallery"}))
        for r in found
        if isinstance(r, results.ScoreResult) and r.gallery is not None
    ]
    notes = [results.NoteRow.model_validate(row) for row in tables[results.NOTES_CSV]]
    notes = [note for note in notes if (note.size, note.replicate) not in equal]
    scores = [results.ScoreRow.model_validate(row) for row in tables[results.SCORES_CSV]]
    scores = [score for score in scores if (score.size, score.replicate) not in equal]
    of_filters = {n for n in notes if n.about == "filters"}  # several classifiers have the same
    filters = [r for r in found if isinstance(r, results.FilterResult)]
    return StudyRecord(
        directory=study_dir,
        design=design,
        study_text=path.read_text(encoding="utf-8"),
        provenance=provenance,
        data=data,
        tests=tests,
        splits=repeated_splits,
        own_test=not repeated and splits[0].test is None,
        subsets=tuple(
            sorted((s for s in subsets if (s.size, s.replicate) not in equal), key=lambda s: (s.size, s.replicate))
        ),
        training=tuple(sorted(trained, key=_source_order)),
        scores=tuple(sorted(scores, key=_source_order)),
        score_notes=tuple(sorted((n for n in notes if n.about == "scores"), key=_note_order)),
        classifiers=tuple(r for r in grouped if r.tested_on == "real"),
        on_synthetic=tuple(r for r in grouped if r.tested_on != "real"),
        naive=tuple(r for r in runs if isinstance(r, results.NaiveResult)),
        filters=tuple(sorted(filters, key=lambda f: (f.generator, f.level, f.size, f.replicate, f.gan_seed or 0))),
        filter_notes=tuple(sorted(of_filters, key=lambda note: (*_note_order(note), note.text))),
        made_on=made_on,
        naive_test=naive_test,
        naive_split=naive,
        n_finished=n_finished,
        n_planned=n_planned,
    )


def _source_order(row: Any) -> tuple[Any, ...]:
    return row.gan, row.mode or "", row.size, row.replicate, row.seed or 0


def _note_order(note: results.NoteRow) -> tuple[Any, ...]:
    return note.generator, note.size, note.replicate, note.seed or 0


def _classifier_order(run: results.ClassifyResult) -> tuple[object, ...]:
    truncation = 1.0 if run.truncation is None else run.truncation
    key = (run.network, run.size, run.arm, run.gan or "", run.mode or "", truncation, run.ratio or 0)
    return (*key, sorted(run.factors.items()), run.replicate, run.gan_seed or 0, run.seed)


def _image_table(study_dir: Path, folder: str, name: str, design: StudyDesign) -> ImageTable:
    """Return the manifest of ``data/`` or ``test/``, or its copy `name` beside the tables, in the order of classes."""
    there = (study_dir / folder / MANIFEST).is_file()
    table = read_manifest(study_dir / folder) if there else read_manifest(study_dir, name)
    known, wanted = sorted(set(table["label"])), design.data.classes
    classes = wanted if wanted and set(wanted) == set(known) else tuple(known)  # predictions are numbered that way
    return ImageTable(
        labels=np.array([classes.index(label) for label in table["label"]], dtype=np.int64),
        groups=np.array(table["group"], dtype=np.int64),
        classes=classes,
        size=(design.data.size, design.data.size),
        extra={column: tuple(values) for column, values in table.items()},
    )


def _test_sets(
    study_dir: Path, data: ImageTable, splits: Sequence[SplitIndices], design: StudyDesign
) -> tuple[ImageTable, ...]:
    for split in splits:
        for indices in (split.test or (), *(subset.indices for subset in split.subsets)):
            if indices and not 0 <= min(indices) <= max(indices) < len(data):
                raise StudyError(
                    f"{study_dir / SPLIT_JSON} does not fit data/ (an index lies outside data/); {_NEW_OUT}"
                )
    if splits[0].test is not None:
        return tuple(data.subset(split.test or ()) for split in splits)
    own = _image_table(study_dir, "test", files.TEST_IMAGES_CSV, design)
    unknown = [name for name in own.classes if name not in data.classes]
    if unknown:
        raise StudyError(f"test/ has the class '{unknown[0]}', which data/ lacks; {_NEW_OUT}")
    numbers = np.array([data.classes.index(name) for name in own.classes], dtype=np.int64)
    return (replace(own, labels=numbers[own.labels], classes=data.classes),)


def _repeated_splits(path: Path, splits: Sequence[SplitIndices], n: int) -> RepeatedSplits:
    apart = [len(split.test or ()) + len(split.validation or ()) for split in splits]
    try:
        return RepeatedSplits(tuple(split.test or () for split in splits), n - max(apart))
    except ValueError as error:
        raise StudyError(f"{path} does not fit data/ ({error}); {_NEW_OUT}") from error


def _cell_files(study_dir: Path) -> tuple[list[Path], int | None]:
    """Return the files of the finished cells of the present study, by ``plan.json`` where there is one.

    A study directory keeps the results of settings that its study file has left since.
    """
    found = sorted((study_dir / "cells").glob("*.json"))
    plan = study_dir / files.PLAN
    if not plan.is_file():
        return found, None
    content = files.read_object(plan)
    if not isinstance(content, dict) or "cells" not in content:
        raise StudyError(f"{plan} lacks the field 'cells'; remove the file and run the study again")
    names = set(content["cells"])
    return [path for path in found if path.stem in names], len(names)


def _read_cells(
    paths: Iterable[Path], tests: tuple[ImageTable, ...], naive_test: ImageTable | None
) -> tuple[list[results.CellResult], dict[str, int]]:
    """Return the results, and how many each machine made; a run may stand once and must fit its test images."""
    found: list[results.CellResult] = []
    machines: Counter[str] = Counter()
    known: dict[str, Path] = {}
    for path in paths:
        file, result = results.read_result(path)
        validated = getattr(result, "n_validation", 0) > 0
        key = repr([file.kind, *(getattr(result, name, None) for name in _KEY), validated])
        if key in known:
            raise StudyError(
                f"{known[key]} and {path} are the same run under different settings; remove the one that the study "
                "file no longer asks for"
            )
        if isinstance(result, results.ClassifyResult):
            test = tests[result.replicate if len(tests) > 1 else 0]
            if isinstance(result, results.NaiveResult):
                if naive_test is None:
                    raise StudyError(f"{path}: a cell without groups, of which {SPLIT_JSON} knows nothing")
                test = naive_test
            _check_predictions(path, result, test)
        known[key] = path
        machines[files.machine_in_words(file.made_on)] += 1
        found.append(result)
    return found, dict(machines.most_common())


def _check_predictions(file: Path, result: results.ClassifyResult, test: ImageTable) -> None:
    """Raise StudyError unless the confusion matrix follows from the probabilities and the labels of `test`."""
    labels = test.labels if result.tested_on == "real" else np.asarray(result.labels, dtype=np.int64)
    probabilities, n_classes = np.asarray(result.probabilities, dtype=np.float64), len(test.classes)
    if probabilities.shape != (len(labels), n_classes):
        raise StudyError(
            f"{file}: probabilities of shape {list(probabilities.shape)} do not fit {len(labels)} test images of "
            f"{n_classes} classes; the file belongs to another study: remove it and run the study again"
        )
    confusion = np.bincount(labels * n_classes + result.predictions, minlength=n_classes**2)
    first, second = np.sort(probabilities, axis=1)[:, :-3:-1].T
    ties = int((first - second <= _ROUNDING).sum())  # rounding may have turned these
    if np.abs(confusion - np.asarray(result.confusion).ravel()).sum() > 2 * ties:
        raise StudyError(
            f"{file}: the confusion matrix does not follow from the probabilities and the test labels; "
            f"the test images have changed: {_NEW_OUT}"
        )


def _read_tables(study_dir: Path) -> results.Rows:
    """Return the rows of the tables in `study_dir` as text, for the models; a table without rows may be absent."""
    for name in (results.SCORES_CSV, results.F1_CSV):
        if not (study_dir / name).is_file():
            raise StudyError(f"{study_dir} holds neither cells nor {name}: there is nothing to report")
    tables: results.Rows = {name: [] for name in results.COLUMNS}
    for name, rows in tables.items():
        if (study_dir / name).is_file():
            with (study_dir / name).open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):  # an empty cell is None, but an empty note
                    rows.append({column: value or ("" if column == "note" else None) for column, value in row.items()})
    if tables[results.F1_CSV] and not tables[results.PREDICTIONS_CSV]:
        raise StudyError(
            f"{study_dir} has no {results.PREDICTIONS_CSV}, from which intervals and tests are computed: its cells are "
            "needed, or its tables as this version writes them"
        )
    tables[results.SCORES_CSV] = [current_names(row) for row in tables[results.SCORES_CSV]]
    return tables
