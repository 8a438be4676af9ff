"""Results of finished cells: trained generators, scores of synthetic images, classifier runs."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.core.errors import StudyError
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.scores import Score, current_names
from sonosynth.study.fields import Fields, read_object

_FACTORS = ("fill", "filter", "validation")  # of a classifier's training
_KEY = (
    *("gan", "mode", "gan_seed", "truncation", "network", "arm", "ratio", *_FACTORS, "filter_quantile"),
    *("size", "draw", "seed"),
)
_ROUNDING = 2e-6  # probabilities are stored with six decimals

UNRECORDED = "an earlier version, which did not record it"


@dataclass(frozen=True, order=True)
class Generator:
    """One family of synthetic images; `mode` is empty for images that were made elsewhere."""

    gan: str
    mode: str = ""
    truncation: float = 1.0

    def label(self, among: Iterable["Generator"]) -> str:
        """Return the name, with the mode where `among` holds the same GAN in another mode."""
        modes = {g.mode for g in among if g.gan == self.gan} - {self.mode}
        name = f"{self.gan} ({self.mode})" if modes else self.gan
        return name if self.truncation == 1 else f"{name}, ψ {self.truncation:g}"


@dataclass(frozen=True)
class TrainRun:
    """One trained generator. `mode` and `seed` are None for images that were made elsewhere."""

    gan: str
    mode: str | None
    size: int
    draw: int
    seed: int | None
    kimg: float | None
    seconds: float | None
    img_per_s: float | None
    parameters_generator: int | None
    parameters_discriminator: int | None
    gallery: Path | None

    @property
    def generator(self) -> Generator:
        """The family that the run belongs to."""
        return Generator(self.gan, self.mode or "")


class StudyScore(Score):
    """A row of a scorecard in a study: also whose images it is of."""

    gan: str
    mode: str | None
    size: int
    draw: int
    seed: int | None
    truncation: float = 1.0

    @property
    def generator(self) -> Generator:
        """The family of the images."""
        return Generator(self.gan, self.mode or "", self.truncation)


@dataclass(frozen=True)
class ScoreNote:
    """What was told while images of one generator were scored (of their classes, number, copies), or were filtered."""

    generator: Generator
    size: int
    draw: int
    seed: int | None
    text: str


@dataclass(frozen=True)
class ClassifierRun:
    """One trained classifier.

    Attributes:
        predictions: int ``[n_test]``.
        confusion: int ``[true, predicted]``.
        metrics: scores by name; earlier versions stored fewer of them.
        n_real: real training images.
        n_synthetic: synthetic training images.
        tested_on: "real" for the test set of the study, "synthetic" for synthetic images.
        factors: how the run differs from others of its arm: a level for each of ``fill``, ``filter``, ``validation``.
    """

    network: str
    arm: str
    gan: str | None
    mode: str | None
    gan_seed: int | None
    ratio: float | None
    size: int
    draw: int
    seed: int
    predictions: np.ndarray
    confusion: np.ndarray
    metrics: Mapping[str, float | None]
    n_real: int
    n_synthetic: int
    seconds: float | None
    truncation: float = 1.0
    tested_on: str = "real"
    factors: Mapping[str, str] = field(default_factory=dict)

    @property
    def generator(self) -> Generator | None:
        """The family of its synthetic images; None without any."""
        return Generator(self.gan, self.mode or "", self.truncation) if self.gan else None


@dataclass(frozen=True)
class FilterRun:
    """What one filter of synthetic images kept.

    Attributes:
        level: the filter in words, as among the factors of classifier runs.
        candidates: images that were judged.
        acceptance: share of them that passed, 0 to 1; `by_class` of each class.
        coverage: share of training images with a synthetic one near them: of those that passed, and of as many that
            were not filtered; None where too few passed.
        lost_coverage: coverage of all candidates less that of those that passed.
    """

    generator: Generator
    level: str
    size: int
    draw: int
    seed: int | None
    candidates: int
    acceptance: float
    by_class: Mapping[str, float]
    coverage: tuple[float | None, float | None]
    lost_coverage: float | None


@dataclass(frozen=True)
class Results:
    """What the finished cells of a study hold; see `StudyRecord` for the lists.

    `made_on` has how many cells each machine made, by its description.
    """

    training: tuple[TrainRun, ...]
    scores: tuple[StudyScore, ...]
    score_notes: tuple[ScoreNote, ...]
    classifiers: tuple[ClassifierRun, ...]
    on_synthetic: tuple[ClassifierRun, ...]
    naive: tuple[ClassifierRun, ...]
    filters: tuple[FilterRun, ...]
    filter_notes: tuple[ScoreNote, ...]
    made_on: Mapping[str, int]


def read_results(
    study_dir: Path, files: list[Path], test_of: Callable[[int], ImageSet], naive_test: ImageSet | None
) -> Results:
    """Read the cells in `files`.

    Args:
        study_dir: where galleries lie.
        files: result files of cells.
        test_of: takes the number of a draw and returns its test images.
        naive_test: those of the split that ignores groups, if there is one.

    Raises:
        StudyError: a file is damaged, does not fit the test images, or is of the same run as another.
    """
    training: list[TrainRun] = []
    scores: list[StudyScore] = []
    score_notes: list[ScoreNote] = []
    classifiers: list[ClassifierRun] = []
    naive: list[ClassifierRun] = []
    filters: list[FilterRun] = []
    filter_notes: set[ScoreNote] = set()  # several classifiers have the same
    machines: Counter[str] = Counter()
    known: dict[str, Path] = {}
    for file in files:
        content = Fields(file, read_object(file))
        cell, result = Fields(file, content.required("cell")), Fields(file, content.required("result"))
        kind = cell.required("kind")
        key = repr([kind, *(cell.optional(name) for name in _KEY)])
        if key in known:
            raise StudyError(
                f"{known[key]} and {file} are the same run under different settings; remove the one that "
                "the study file no longer asks for"
            )
        known[key] = file
        machines[machine_in_words(content.optional("made_on"))] += 1
        if kind == "train":
            training.append(_train_run(study_dir, cell, result))
        elif kind == "score":
            scores += [_score(cell, Fields(file, _named(row))) for row in result.required("scores")]
            score_notes += [_note(cell, "seed", text) for text in result.optional("notes") or ()]
            if (gallery := result.optional("gallery")) is not None:
                training.append(_train_run(study_dir, cell, Fields(file, {"gallery": gallery})))
        elif kind == "filter":
            filters.append(_filter_run(cell, result))
        elif kind == "classify":
            classifiers.append(_classifier_run(file, cell, result, test_of(cell.required("draw"))))
            filter_notes |= {_note(cell, "gan_seed", text) for text in result.optional("notes") or ()}
        elif kind == "naive" and naive_test is not None:
            naive.append(_classifier_run(file, cell, result, naive_test))
        else:
            raise StudyError(f"{file}: unknown kind of cell '{kind}'; another version of sonosynth made it")
    classifiers.sort(key=_classifier_order)
    return Results(
        training=tuple(sorted(training, key=lambda t: (t.gan, t.mode or "", t.size, t.draw, t.seed or 0))),
        scores=tuple(sorted(scores, key=lambda s: (s.gan, s.mode or "", s.size, s.draw, s.seed or 0))),
        score_notes=tuple(sorted(score_notes, key=_note_order)),
        classifiers=tuple(run for run in classifiers if run.tested_on == "real"),
        on_synthetic=tuple(run for run in classifiers if run.tested_on != "real"),
        naive=tuple(sorted(naive, key=_classifier_order)),
        filters=tuple(sorted(filters, key=lambda f: (f.generator, f.level, f.size, f.draw, f.seed or 0))),
        filter_notes=tuple(sorted(filter_notes, key=lambda note: (*_note_order(note), note.text))),
        made_on=dict(machines.most_common()),
    )


def machine_in_words(machine: Mapping[str, Any] | None) -> str:
    """Return what of a machine and its libraries may change a result beyond the last digits."""
    if machine is None:
        return UNRECORDED
    versions = machine.get("versions") or {}
    parts = [machine.get("device"), machine.get("precision")]
    parts += [f"{name} {versions[name]}" for name in ("sonosynth", "torch") if name in versions]
    return ", ".join(str(part) for part in parts if part)


def _note_order(note: ScoreNote) -> tuple[Any, ...]:
    return note.generator, note.size, note.draw, note.seed or 0


def _classifier_order(run: ClassifierRun) -> tuple[object, ...]:
    key = (run.network, run.size, run.arm, run.gan or "", run.mode or "", run.truncation, run.ratio or 0)
    return (*key, sorted(run.factors.items()), run.draw, run.gan_seed or 0, run.seed)


def _train_run(study_dir: Path, cell: Fields, result: Fields) -> TrainRun:
    gallery = result.optional("gallery")
    return TrainRun(
        gan=cell.required("gan"),
        mode=cell.optional("mode"),
        size=cell.required("size"),
        draw=cell.required("draw"),
        seed=cell.optional("seed"),
        kimg=result.optional("kimg"),
        seconds=result.optional("seconds"),
        img_per_s=result.optional("img_per_s"),
        parameters_generator=result.optional("parameters_generator"),
        parameters_discriminator=result.optional("parameters_discriminator"),
        gallery=study_dir / gallery if gallery else None,
    )


def _named(row: object) -> object:
    return current_names(row) if isinstance(row, dict) else row


def _score(cell: Fields, row: Fields) -> StudyScore:
    return StudyScore(
        gan=cell.required("gan"),
        mode=cell.optional("mode"),
        size=cell.required("size"),
        draw=cell.required("draw"),
        seed=cell.optional("seed"),
        features=row.optional("features") or "",
        reference=row.required("reference"),
        class_=row.required("class"),
        metric=row.required("metric"),
        value=row.optional("value"),
        low=row.optional("low"),
        high=row.optional("high"),
        real_baseline=row.optional("real_baseline"),
        real_baseline_n=row.optional("real_baseline_n"),
        n_real=row.required("n_real"),
        n_synthetic=row.required("n_synthetic"),
        note=row.optional("note") or "",
        truncation=_truncation(cell),
    )


def _note(cell: Fields, seed: str, text: str) -> ScoreNote:
    return ScoreNote(
        generator=Generator(cell.required("gan"), cell.optional("mode") or "", _truncation(cell)),
        size=cell.required("size"),
        draw=cell.required("draw"),
        seed=cell.optional(seed),
        text=text,
    )


def _filter_run(cell: Fields, result: Fields) -> FilterRun:
    return FilterRun(
        generator=Generator(cell.required("gan"), cell.optional("mode") or "", _truncation(cell)),
        level=_levels(cell)["filter"],
        size=cell.required("size"),
        draw=cell.required("draw"),
        seed=cell.optional("gan_seed"),
        candidates=sum(result.required("candidates").values()),
        acceptance=result.required("acceptance"),
        by_class=result.required("acceptance_by_class"),
        coverage=(result.optional("coverage_accepted"), result.optional("coverage_same_number")),
        lost_coverage=result.optional("lost_coverage"),
    )


def _truncation(cell: Fields) -> float:
    value = cell.optional("truncation")
    return 1.0 if value is None else float(value)


def _classifier_run(file: Path, cell: Fields, result: Fields, test: ImageSet) -> ClassifierRun:
    tested_on = result.optional("tested_on") or "real"
    labels = test.labels if tested_on == "real" else np.asarray(result.required("labels"), dtype=np.int64)
    predictions, confusion = _predictions(file, result, labels, len(test.classes))
    return ClassifierRun(
        network=cell.required("network"),
        arm=cell.required("arm"),
        gan=cell.optional("gan"),
        mode=cell.optional("mode"),
        gan_seed=cell.optional("gan_seed"),
        ratio=cell.optional("ratio"),
        size=cell.required("size"),
        draw=cell.required("draw"),
        seed=cell.required("seed"),
        predictions=predictions,
        confusion=confusion,
        metrics=result.required("metrics"),
        n_real=result.required("n_train"),
        n_synthetic=result.required("n_synthetic"),
        seconds=result.optional("seconds"),
        truncation=_truncation(cell),
        tested_on=tested_on,
        factors=_levels(cell),
    )


def _levels(cell: Fields) -> dict[str, str]:
    """Return the levels of the factors that mean something to a cell, in words."""
    levels = {name: str(cell.optional(name)) for name in _FACTORS if cell.optional(name) is not None}
    if "validation" in levels:
        levels["validation"] = "set aside"  # every repeated split has images of its own for that
    quantile = cell.optional("filter_quantile")
    if "filter" in levels and quantile is not None:
        levels["filter"] += f" {quantile:g}"
    return levels


def _predictions(file: Path, result: Fields, labels: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted classes and the stored confusion matrix, which must follow from them."""
    probabilities = np.asarray(result.required("probabilities"), dtype=np.float64)
    confusion = np.asarray(result.required("confusion"), dtype=np.int64)
    if probabilities.shape != (len(labels), n_classes):
        raise StudyError(
            f"{file}: probabilities of shape {list(probabilities.shape)} do not fit {len(labels)} test images of "
            f"{n_classes} classes; the file belongs to another study: remove it and run the study again"
        )
    predictions = probabilities.argmax(axis=1)
    counted = np.bincount(labels * n_classes + predictions, minlength=n_classes**2).reshape(n_classes, n_classes)
    first, second = np.sort(probabilities, axis=1)[:, :-3:-1].T
    ties = int((first - second <= _ROUNDING).sum())  # rounding may have turned these
    if np.abs(counted - confusion).sum() > 2 * ties:
        raise StudyError(
            f"{file}: the confusion matrix does not follow from the probabilities and the test labels; "
            "the test images have changed: run the study again in a new --out"
        )
    return predictions, confusion
