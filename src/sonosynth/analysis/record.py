"""All that a report shows, read from a study directory, or from its tables, study file and provenance alone."""

import csv
import itertools
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sonosynth.core.errors import StudyError
from sonosynth.core.text import counted, joined, span
from sonosynth.data.imageset import MANIFEST, read_manifest
from sonosynth.metrics.scores import current_names
from sonosynth.statistics.scores import MIN_DRAWS, RepeatedSplits
from sonosynth.study.config import StudyDesign
from sonosynth.study.files import (
    IMAGES_CSV,
    PLAN,
    PROVENANCE,
    STUDY_FILE,
    TEST_IMAGES_CSV,
    UNRECORDED,
    machine_in_words,
    read_object,
)
from sonosynth.study.results import (
    COLUMNS,
    F1_CSV,
    NOTES_CSV,
    PREDICTIONS_CSV,
    SCORES_CSV,
    CellResult,
    ClassifyResult,
    FilterResult,
    NaiveResult,
    NoteRow,
    Row,
    Rows,
    ScoreResult,
    ScoreRow,
    TrainResult,
    read_result,
    results_of_tables,
    table_rows,
)
from sonosynth.study.splits import SPLIT_JSON, SplitIndices, Subset, read_splits
from sonosynth.study.study_file import load_design, recorded_design

_KEY = (
    *("gan", "mode", "gan_seed", "truncation", "network", "arm", "ratio", "fill", "filter", "filter_quantile"),
    *("size", "replicate", "seed"),
)
_ROUNDING = 2e-6  # probabilities are stored with six decimals
_Column = TypeVar("_Column", bound=Hashable)


@dataclass(frozen=True, eq=False)
class ImageTable:
    """What is known of a set of images without their pixels: a manifest.

    Attributes:
        labels: int64 ``[N]``, indices into `classes`.
        groups: int64 ``[N]``; images of one patient, or of one duplicate cluster, share a number.
        classes: names of the classes.
        size: height and width in pixels.
        extra: further columns of the manifest, each with ``N`` strings.
    """

    labels: np.ndarray
    groups: np.ndarray
    classes: tuple[str, ...]
    size: tuple[int, int]
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of images of each class, in the order of `classes`."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    @property
    def simulated(self) -> bool:
        """Whether every image is a phantom, by the column ``origin``."""
        return set(self.extra.get("origin", ())) == {"phantom"}

    def subset(self, indices: Sequence[int]) -> "ImageTable":
        """Return the images at `indices`, in that order."""
        index = np.asarray(indices, dtype=np.int64)
        extra = {name: tuple(column[i] for i in index) for name, column in self.extra.items()}
        return replace(self, labels=self.labels[index], groups=self.groups[index], extra=extra)


@dataclass(frozen=True)
class StudyRecord:
    """A finished or half-finished study.

    Attributes:
        directory: the study directory.
        design: the study file with its defaults.
        bases: the recipe that each trained GAN of the study starts from, by the GAN's name.
        study_text: the study file as it stands.
        provenance: machine, versions, command, source of the data; empty if none was written.
        data: all prepared images, classes in the order of the study.
        tests: the test images, in the order of the classifiers' predictions: one set, or one for each repeated split.
        splits: the repeated splits; None where there is one.
        own_test: whether the test images came from a set of their own.
        subsets: the training subsets by size, then draw.
        training: the trained generators, and images made elsewhere.
        scores: the scores of synthetic images.
        score_notes: what was told while they were scored; earlier versions kept nothing of it.
        classifiers: the classifier runs on the test set.
        on_synthetic: classifier runs on synthetic images instead, whose scores compare with no others.
        naive: classifier runs on the split that ignores groups.
        filters: what filters of synthetic images kept.
        filter_notes: what was done where they left too few of a class.
        naive_test: the test images of that split, or None.
        naive_split: the indices into `data` of those images, and of its training subsets.
        made_on: how many cells each machine made, by its description.
        n_finished: number of finished cells.
        n_planned: number of cells of the study; None if the directory does not say.
    """

    directory: Path
    design: StudyDesign
    bases: Mapping[str, str]
    study_text: str
    provenance: Mapping[str, Any]
    data: ImageTable
    tests: tuple[ImageTable, ...]
    splits: RepeatedSplits | None
    own_test: bool
    subsets: tuple[Subset, ...]
    training: tuple[TrainResult, ...]
    scores: tuple[ScoreRow, ...]
    score_notes: tuple[NoteRow, ...]
    classifiers: tuple[ClassifyResult, ...]
    on_synthetic: tuple[ClassifyResult, ...]
    naive: tuple[ClassifyResult, ...]
    filters: tuple[FilterResult, ...]
    filter_notes: tuple[NoteRow, ...]
    made_on: Mapping[str, int]
    naive_test: ImageTable | None
    naive_split: SplitIndices | None
    n_finished: int
    n_planned: int | None

    @property
    def trained(self) -> tuple[TrainResult, ...]:
        """The generators that the study trained itself."""
        return tuple(run for run in self.training if run.mode is not None)

    @property
    def simulated(self) -> bool:
        """Whether every image is a simulated phantom."""
        return self.data.simulated and all(test.simulated for test in self.tests)

    @property
    def test_groups(self) -> tuple[int, ...]:
        """The number of groups of each of `tests`."""
        return tuple(len(np.unique(test.groups)) for test in self.tests)

    @property
    def unit(self) -> str:
        """What there are several of, with one training subset of each size: ``"draw"`` or ``"split"``."""
        return "draw" if self.splits is None else "split"

    @property
    def baseline_gan(self) -> str:
        """The GAN whose distances others are measured by: of those that begin from ``stylegan2``, the first.

        The one of that very name goes before all others; it is also the answer where there is none.
        """
        plain = [name for name, base in self.bases.items() if base == "stylegan2"]
        return "stylegan2" if "stylegan2" in plain or not plain else plain[0]

    @property
    def beside_replicates(self) -> str:
        """What intervals of scores cover where draws are too few: test groups, and seeds if there are several."""
        generators = {run.gan_seed for run in self.classifiers if run.gan_seed is not None}
        several = max(len(generators), len({run.seed for run in self.classifiers})) > 1
        return "test groups and seeds" if several else "test groups"

    @property
    def made_elsewhere(self) -> dict[str, int]:
        """Those of `made_on` that are not the machine, with its libraries, on which the study began."""
        here = {machine_in_words(self.provenance), UNRECORDED}
        return {machine: cells for machine, cells in self.made_on.items() if machine not in here}

    @property
    def n_replicates(self) -> int:
        """How many draws of the training subset there are, or of repeated splits, each with one draw."""
        return len({subset.replicate for subset in self.subsets})

    @cached_property
    def _replicates(self) -> dict[int, dict[Hashable, set[int]]]:
        """The finished draws, or splits, of each size and series (see `tables.Series`); all while no classifier has."""
        runs: dict[tuple[int, Hashable], dict[int, set[Hashable]]] = {}
        for subset in () if self.classifiers else self.subsets:
            runs.setdefault((subset.size, None), {}).setdefault(subset.replicate, set()).add(None)
        for run in self.classifiers:
            series = run.network, run.arm, run.generator, run.ratio, tuple(sorted(run.factors.items()))
            runs.setdefault((run.size, series), {}).setdefault(run.replicate, set()).add((run.gan_seed, run.seed))
        found: dict[int, dict[Hashable, set[int]]] = {size: {} for size in sorted({size for size, _ in runs})}
        for (size, one), by_replicate in runs.items():
            found[size][one] = set(complete_block(by_replicate)[0])
        return found

    @property
    def finished_replicates(self) -> tuple[int, ...]:
        """How many draws, or splits, every series of classifiers has finished, size by size; all while none has."""
        return tuple(len(replicates) for of_size in self._replicates.values() for replicates in of_size.values())

    @property
    def shared_replicates(self) -> int:
        """The most draws that two series have both finished at one size, or that one has where there is no other."""
        if len({series for of_size in self._replicates.values() for series in of_size}) < 2:
            return max(self.finished_replicates, default=0)
        pairs = (pair for of_size in self._replicates.values() for pair in itertools.combinations(of_size.values(), 2))
        return max((len(a & b) for a, b in pairs), default=0)

    @property
    def is_tested(self) -> bool:
        """Whether two series have, at any size, draws enough in common for a test."""
        return self.shared_replicates >= MIN_DRAWS

    @property
    def untested_sizes(self) -> str:
        """The sizes where series have too few finished draws for a test, in words; empty without any, or any test."""
        few = {
            size: [len(replicates) < MIN_DRAWS for replicates in of_size.values()]
            for size, of_size in self._replicates.items()
        }
        lacking = {size: series for size, series in few.items() if any(series)}
        if not (lacking and self.is_tested):
            return ""
        every = [all(series) for series in lacking.values()]
        arms = "" if all(every) else ", of every or some arms" if any(every) else ", of some arms"
        return joined([str(size) for size in lacking]) + arms

    def test_of(self, replicate: int) -> ImageTable:
        """Return the test images of one draw: those of its split where splits are repeated."""
        return _test_of(self.tests, replicate)

    @staticmethod
    def load(study_dir: Path) -> "StudyRecord":
        """Read a study directory; unfinished cells are simply absent. Of cells that are not there, the tables are read.

        Raises:
            StudyError: the directory is no study, a file in it is damaged or does not fit the others, or there are
                neither cells nor tables that hold all that the report needs.
        """
        data_name = "data/manifest.csv" if (study_dir / "data" / MANIFEST).is_file() else IMAGES_CSV
        for name in (STUDY_FILE, SPLIT_JSON, data_name):
            if not (study_dir / name).is_file():
                name = "data/manifest.csv" if name == IMAGES_CSV else name
                raise StudyError(
                    f"{study_dir} is not a study directory: it has no {name}; make one with 'sonosynth study run'"
                )
        provenance = dict(read_object(study_dir / PROVENANCE)) if (study_dir / PROVENANCE).is_file() else {}
        settings, counts = provenance.pop("settings", None), provenance.pop("cells", None) or {}
        path = study_dir / STUDY_FILE
        # Earlier versions recorded no settings: they are those of the study file, with the defaults of today.
        design = recorded_design(settings, f"{study_dir / PROVENANCE}") if settings else load_design(path)
        data = _image_table(study_dir, "data", IMAGES_CSV, design)
        splits, repeated, naive = read_splits(study_dir / SPLIT_JSON)
        tests = _test_sets(study_dir, data, splits, design)
        repeated_splits = _repeated(study_dir / SPLIT_JSON, splits, len(data)) if repeated else None
        naive_test = None if naive is None else data.subset(naive.test or ())
        files, n_planned = _cell_files(study_dir)
        if files or (study_dir / "cells").is_dir():
            results, made_on = _read_cells(files)
            n_finished = len(files)
            tables = table_rows(result for _, result in results)
            for file, result in results:
                if isinstance(result, ClassifyResult):
                    naive_one = isinstance(result, NaiveResult)
                    test = naive_test if naive_one else _test_of(tests, result.replicate)
                    if test is None:
                        raise StudyError(f"{file}: a cell without groups, of which {SPLIT_JSON} knows nothing")
                    _check_predictions(file, result, test)
            found = [result for _, result in results]
        else:
            tables = _read_tables(study_dir)
            found = list(results_of_tables(tables))
            n_planned, n_finished = counts.get("planned"), counts.get("finished", 0)
            made_on = counts.get("made_on") or {}
        runs = sorted((r for r in found if isinstance(r, ClassifyResult)), key=_classifier_order)
        trained = [r for r in found if isinstance(r, TrainResult)]
        if files:
            trained += [
                TrainResult(**r.model_dump(include={"size", "replicate", "gan", "mode", "seed", "gallery"}))
                for r in found
                if isinstance(r, ScoreResult) and r.gallery is not None
            ]
        notes = [NoteRow.model_validate(row) for row in tables[NOTES_CSV]]
        filters = [r for r in found if isinstance(r, FilterResult)]
        return StudyRecord(
            directory=study_dir,
            design=design,
            bases={gan.name: gan.base for gan in design.gans if gan.base is not None},
            study_text=path.read_text(encoding="utf-8"),
            provenance=provenance,
            data=data,
            tests=tests,
            splits=repeated_splits,
            own_test=not repeated and splits[0].test is None,
            subsets=tuple(sorted((s for split in splits for s in split.subsets), key=lambda s: (s.size, s.replicate))),
            training=tuple(sorted(trained, key=_by_source)),
            scores=tuple(sorted((ScoreRow.model_validate(row) for row in tables[SCORES_CSV]), key=_by_source)),
            score_notes=tuple(sorted((n for n in notes if n.about == "scores"), key=_note_order)),
            classifiers=tuple(r for r in runs if not isinstance(r, NaiveResult) and r.tested_on == "real"),
            on_synthetic=tuple(r for r in runs if not isinstance(r, NaiveResult) and r.tested_on != "real"),
            naive=tuple(r for r in runs if isinstance(r, NaiveResult)),
            filters=tuple(sorted(filters, key=lambda f: (f.generator, f.level, f.size, f.replicate, f.gan_seed or 0))),
            # Several classifiers have the same.
            filter_notes=tuple(
                sorted({n for n in notes if n.about == "filters"}, key=lambda note: (*_note_order(note), note.text))
            ),
            made_on=made_on,
            naive_test=naive_test,
            naive_split=naive,
            n_finished=n_finished,
            n_planned=n_planned,
        )


def _test_of(tests: tuple[ImageTable, ...], replicate: int) -> ImageTable:
    return tests[replicate if len(tests) > 1 else 0]


def groups_in_words(record: StudyRecord) -> str:
    """Return how many groups of test images there are, in words; with repeated splits, the fewest to the most."""
    numbers = record.test_groups
    return counted(numbers[0], "group") if len(set(numbers)) == 1 else f"{span(numbers)} groups"


def complete_block(rows: Mapping[int, Collection[_Column]]) -> tuple[list[int], list[_Column]]:
    """Return rows, ascending, and the columns that all of them have: the most cells, on a tie the most rows."""
    best: tuple[list[int], list[_Column]] = ([], [])
    for columns in sorted({frozenset(c) for c in rows.values()}, key=lambda c: sorted(map(repr, c))):
        full = sorted(row for row, have in rows.items() if columns <= set(have))
        size, best_size = len(full) * len(columns), len(best[0]) * len(best[1])
        if (size, len(full)) > (best_size, len(best[0])):
            best = full, list(columns)
    return best


def _image_table(study_dir: Path, folder: str, name: str, design: StudyDesign) -> ImageTable:
    """Return the manifest of ``data/`` or ``test/``, or its copy `name` beside the tables, in the order of classes."""
    there = (study_dir / folder / MANIFEST).is_file()
    table = read_manifest(study_dir / folder) if there else read_manifest(study_dir, name)
    known, wanted = sorted(set(table["label"])), design.data.classes
    classes = wanted if wanted and set(wanted) == set(known) else tuple(known)  # predictions are numbered that way
    extra = {column: tuple(values) for column, values in table.items()}
    return ImageTable(
        labels=np.array([classes.index(label) for label in table["label"]], dtype=np.int64),
        groups=np.array(table["group"], dtype=np.int64),
        classes=classes,
        size=(design.data.size, design.data.size),
        extra=extra,
    )


def _test_sets(
    study_dir: Path, data: ImageTable, splits: Sequence[SplitIndices], design: StudyDesign
) -> tuple[ImageTable, ...]:
    for split in splits:
        for indices in (split.test or (), *(subset.indices for subset in split.subsets)):
            if indices and not 0 <= min(indices) <= max(indices) < len(data):
                raise StudyError(
                    f"{study_dir / SPLIT_JSON} does not fit data/ (an index lies outside data/); run the study again "
                    "in a new --out"
                )
    if splits[0].test is not None:
        return tuple(data.subset(split.test or ()) for split in splits)
    own = _image_table(study_dir, "test", TEST_IMAGES_CSV, design)
    unknown = [name for name in own.classes if name not in data.classes]
    if unknown:
        raise StudyError(f"test/ has the class '{unknown[0]}', which data/ lacks; run the study again in a new --out")
    numbers = np.array([data.classes.index(name) for name in own.classes], dtype=np.int64)
    return (replace(own, labels=numbers[own.labels], classes=data.classes),)


def _repeated(path: Path, splits: Sequence[SplitIndices], n: int) -> RepeatedSplits:
    apart = [len(split.test or ()) + len(split.validation or ()) for split in splits]
    try:
        return RepeatedSplits(tuple(split.test or () for split in splits), n - max(apart))
    except ValueError as error:
        raise StudyError(f"{path} does not fit data/ ({error}); run the study again in a new --out") from error


def _cell_files(study_dir: Path) -> tuple[list[Path], int | None]:
    """Return the files of the finished cells of the present study, by ``plan.json`` where there is one.

    A study directory keeps the results of settings that its study file has left since.
    """
    found = sorted((study_dir / "cells").glob("*.json"))
    plan = study_dir / PLAN
    if not plan.is_file():
        return found, None
    content = read_object(plan)
    if not isinstance(content, dict) or "cells" not in content:
        raise StudyError(f"{plan} lacks the field 'cells'; remove the file and run the study again")
    names = set(content["cells"])
    return [path for path in found if path.stem in names], len(names)


def _read_cells(files: Iterable[Path]) -> tuple[list[tuple[Path, CellResult]], dict[str, int]]:
    """Return the results in `files`, and how many each machine made. Raises StudyError if two are of the same run."""
    found: list[tuple[Path, CellResult]] = []
    machines: Counter[str] = Counter()
    known: dict[str, Path] = {}
    for path in files:
        file, result = read_result(path)
        validated = getattr(result, "n_validation", 0) > 0
        key = repr([file.kind, *(getattr(result, name, None) for name in _KEY), validated])
        if key in known:
            raise StudyError(
                f"{known[key]} and {path} are the same run under different settings; remove the one that the study "
                "file no longer asks for"
            )
        known[key] = path
        machines[machine_in_words(file.made_on)] += 1
        found.append((path, result))
    return found, dict(machines.most_common())


def _read_tables(study_dir: Path) -> Rows:
    """Return the rows of the tables in `study_dir`; a table without rows may be absent."""
    for name in (SCORES_CSV, F1_CSV):
        if not (study_dir / name).is_file():
            raise StudyError(f"{study_dir} holds neither cells nor {name}: there is nothing to report")
    tables = {name: _table(study_dir / name) for name in COLUMNS}
    if tables[F1_CSV] and not tables[PREDICTIONS_CSV]:
        raise StudyError(
            f"{study_dir} has no {PREDICTIONS_CSV}, from which intervals and tests are computed: its cells are needed, "
            "or its tables as this version writes them"
        )
    tables[SCORES_CSV] = [current_names(row) for row in tables[SCORES_CSV]]
    return tables


def _table(path: Path) -> list[Row]:
    """Return the rows of a table as text, which the models read; None where a cell is empty."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[Row] = [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        if "note" in row:
            row["note"] = row["note"] or ""
    return rows


def _by_source(row: Any) -> tuple[Any, ...]:
    return row.gan, row.mode or "", row.size, row.replicate, row.seed or 0


def _note_order(note: NoteRow) -> tuple[Any, ...]:
    return note.generator, note.size, note.replicate, note.seed or 0


def _classifier_order(run: ClassifyResult) -> tuple[object, ...]:
    truncation = 1.0 if run.truncation is None else run.truncation
    key = (run.network, run.size, run.arm, run.gan or "", run.mode or "", truncation, run.ratio or 0)
    return (*key, sorted(run.factors.items()), run.replicate, run.gan_seed or 0, run.seed)


def _check_predictions(file: Path, result: ClassifyResult, test: ImageTable) -> None:
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
            "the test images have changed: run the study again in a new --out"
        )
