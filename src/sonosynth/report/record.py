"""All that a report shows, read from a study directory: finished cells, the data, the split and the provenance."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sonosynth.data.imageset import ImageSet
from sonosynth.errors import StudyError
from sonosynth.files import read_json
from sonosynth.study.design import StudyDesign, load_design

_KEY = ("gan", "mode", "gan_seed", "network", "arm", "ratio", "size", "draw", "seed")
_ROUNDING = 2e-6  # probabilities are stored with six decimals


@dataclass(frozen=True)
class Subset:
    """One training subset: `indices` int ``[n]`` into the study's data, asked to hold `size` images."""

    size: int
    draw: int
    indices: np.ndarray


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


@dataclass(frozen=True)
class Score:
    """One distance or other score of synthetic images; None where it was left empty."""

    gan: str
    mode: str | None
    size: int
    draw: int
    seed: int | None
    features: str
    reference: str
    class_name: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    floor: float | None
    floor_n: int | None
    n_real: int
    n_synthetic: int


@dataclass(frozen=True)
class ClassifierRun:
    """One trained classifier; `predictions` int ``[n_test]``, `confusion` ``[true, predicted]``."""

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
        test: the test images, in the order of the classifiers' predictions.
        own_test: whether the test images came from a set of their own.
        subsets: the training subsets by size, then draw.
        training: the trained generators, and images made elsewhere.
        scores: the scores of synthetic images.
        classifiers: the classifier runs.
        naive: classifier runs on the split that ignores groups.
        naive_test: the test images of that split, or None.
        naive_split: positions in `data` of those images, and of its training subsets by size, then draw.
        n_finished: number of finished cells.
        n_planned: number of cells of the study; None if the directory does not say.
    """

    directory: Path
    design: StudyDesign
    bases: Mapping[str, str]
    study_text: str
    provenance: Mapping[str, Any]
    data: ImageSet
    test: ImageSet
    own_test: bool
    subsets: tuple[Subset, ...]
    training: tuple[TrainRun, ...]
    scores: tuple[Score, ...]
    classifiers: tuple[ClassifierRun, ...]
    naive: tuple[ClassifierRun, ...]
    naive_test: ImageSet | None
    naive_split: tuple[np.ndarray, tuple[Subset, ...]] | None
    n_finished: int
    n_planned: int | None

    @property
    def trained(self) -> tuple[TrainRun, ...]:
        """The generators that the study trained itself."""
        return tuple(run for run in self.training if run.mode is not None)

    @property
    def simulated(self) -> bool:
        """Whether every image is a simulated phantom."""
        return all(set(part.extra.get("origin", ("",))) == {"phantom"} for part in (self.data, self.test))

    @staticmethod
    def load(study_dir: Path) -> "StudyRecord":
        """Read a study directory; unfinished cells are simply absent.

        Raises:
            StudyError: the directory is no study, or a file in it is damaged or does not fit the others.
        """
        for name in ("study.yaml", "split.json", "data/manifest.csv"):
            if not (study_dir / name).is_file():
                raise StudyError(
                    f"{study_dir} is not a study directory: it has no {name}; make one with 'sonosynth study run'"
                )
        path = study_dir / "split.json"
        split = _Fields(path, _json(path))
        design = load_design(study_dir / "study.yaml")
        data = _ordered(ImageSet.load(study_dir / "data"), design.data.classes)
        test, subsets = _divided(study_dir, data, split)
        files, n_planned = _cell_files(study_dir)
        careless = split.optional("naive")
        naive_test = None if careless is None else data.subset(careless["test"])
        training, scores, classifiers, naive = _cells(study_dir, files, test, naive_test)
        text = (study_dir / "study.yaml").read_text(encoding="utf-8")
        provenance = study_dir / "provenance.json"
        return StudyRecord(
            directory=study_dir,
            design=design,
            bases=_bases(design, yaml.safe_load(text)["gans"] if design.gans else []),
            study_text=text,
            provenance=_json(provenance) if provenance.is_file() else {},
            data=data,
            test=test,
            own_test=split.optional("test") is None,
            subsets=tuple(sorted(subsets, key=lambda s: (s.size, s.draw))),
            training=tuple(sorted(training, key=lambda t: (t.gan, t.mode or "", t.size, t.draw, t.seed or 0))),
            scores=tuple(sorted(scores, key=lambda s: (s.gan, s.mode or "", s.size, s.draw, s.seed or 0))),
            classifiers=tuple(sorted(classifiers, key=_classifier_order)),
            naive=tuple(sorted(naive, key=_classifier_order)),
            naive_test=naive_test,
            naive_split=None if careless is None else (np.asarray(careless["test"]), _subsets(careless["subsets"])),
            n_finished=len(files),
            n_planned=n_planned,
        )


def _bases(design: StudyDesign, entries: list[Any]) -> dict[str, str]:
    named = zip(design.gans, entries, strict=True)
    return {
        gan.name: str(entry["base"] if isinstance(entry, dict) else entry) for gan, entry in named if not gan.folder
    }


def _divided(study_dir: Path, data: ImageSet, split: "_Fields") -> tuple[ImageSet, list[Subset]]:
    indices = split.optional("test")
    try:
        own = ImageSet.load(study_dir / "test") if indices is None else None
        test = data.subset(indices) if own is None else _with_classes_of(data, own)
        subsets = list(_subsets(split.required("subsets")))
        if any(len(s.indices) and not 0 <= s.indices.min() <= s.indices.max() < len(data) for s in subsets):
            raise IndexError("an index lies outside data/")
    except (IndexError, KeyError, TypeError) as error:
        raise StudyError(f"{split.file} does not fit data/ ({error}); run the study again in a new --out") from error
    return test, subsets


def _subsets(rows: list[dict[str, Any]]) -> tuple[Subset, ...]:
    return tuple(Subset(int(s["size"]), int(s["draw"]), np.asarray(s["indices"], dtype=np.int64)) for s in rows)


def _cell_files(study_dir: Path) -> tuple[list[Path], int | None]:
    """Return the files of the finished cells of the present study, by ``plan.json`` where there is one.

    A study directory keeps the results of settings that its study file has left since.
    """
    found = sorted((study_dir / "cells").glob("*.json"))
    plan = study_dir / "plan.json"
    if not plan.is_file():
        return found, None
    names = _Fields(plan, _json(plan)).required("cells")
    return [path for path in found if path.stem in set(names)], len(names)


def _cells(
    study_dir: Path, files: list[Path], test: ImageSet, naive_test: ImageSet | None
) -> tuple[list[TrainRun], list[Score], list[ClassifierRun], list[ClassifierRun]]:
    training: list[TrainRun] = []
    scores: list[Score] = []
    classifiers: list[ClassifierRun] = []
    naive: list[ClassifierRun] = []
    known: dict[str, Path] = {}
    for file in files:
        content = _Fields(file, _json(file))
        cell, result = _Fields(file, content.required("cell")), _Fields(file, content.required("result"))
        kind = cell.required("kind")
        key = repr([kind, *(cell.optional(name) for name in _KEY)])
        if key in known:
            raise StudyError(
                f"{known[key]} and {file} are the same run under different settings; remove the one that "
                "the study file no longer asks for"
            )
        known[key] = file
        if kind == "train":
            training.append(_train_run(study_dir, cell, result))
        elif kind == "score":
            scores += [_score(cell, _Fields(file, row)) for row in result.required("scores")]
            if (gallery := result.optional("gallery")) is not None:
                training.append(_train_run(study_dir, cell, _Fields(file, {"gallery": gallery})))
        elif kind == "classify":
            classifiers.append(_classifier_run(file, cell, result, test))
        elif kind == "naive" and naive_test is not None:
            naive.append(_classifier_run(file, cell, result, naive_test))
        else:
            raise StudyError(f"{file}: unknown kind of cell '{kind}'; another version of sonosynth made it")
    return training, scores, classifiers, naive


def _classifier_order(run: ClassifierRun) -> tuple[object, ...]:
    key = (run.network, run.size, run.arm, run.gan or "", run.mode or "", run.ratio or 0)
    return (*key, run.draw, run.gan_seed or 0, run.seed)


class _Fields:
    """Fields of one JSON object; a missing one is an error that names the file."""

    def __init__(self, file: Path, values: object) -> None:
        if not isinstance(values, dict):
            raise StudyError(f"{file}: a JSON object is needed where {type(values).__name__} stands; remove the file")
        self.file, self.values = file, values

    def required(self, name: str) -> Any:
        if name not in self.values:
            raise StudyError(f"{self.file} lacks the field '{name}'; remove the file and run the study again")
        return self.values[name]

    def optional(self, name: str) -> Any:
        """Return the field, or None where it is absent or empty."""
        value = self.values.get(name)
        return None if value == "" else value


def _train_run(study_dir: Path, cell: _Fields, result: _Fields) -> TrainRun:
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


def _score(cell: _Fields, row: _Fields) -> Score:
    return Score(
        gan=cell.required("gan"),
        mode=cell.optional("mode"),
        size=cell.required("size"),
        draw=cell.required("draw"),
        seed=cell.optional("seed"),
        features=row.optional("features") or "",
        reference=row.required("reference"),
        class_name=row.required("class"),
        metric=row.required("metric"),
        value=row.optional("value"),
        low=row.optional("low"),
        high=row.optional("high"),
        floor=row.optional("floor"),
        floor_n=row.optional("floor_n"),
        n_real=row.required("n_real"),
        n_synthetic=row.required("n_synthetic"),
    )


def _classifier_run(file: Path, cell: _Fields, result: _Fields, test: ImageSet) -> ClassifierRun:
    n_classes = len(test.classes)
    probabilities = np.asarray(result.required("probabilities"), dtype=np.float64)
    confusion = np.asarray(result.required("confusion"), dtype=np.int64)
    if probabilities.shape != (len(test), n_classes):
        raise StudyError(
            f"{file}: probabilities of shape {list(probabilities.shape)} do not fit {len(test)} test images of "
            f"{n_classes} classes; the file belongs to another study: remove it and run the study again"
        )
    predictions = probabilities.argmax(axis=1)
    counted = np.bincount(test.labels * n_classes + predictions, minlength=n_classes**2).reshape(n_classes, n_classes)
    first, second = np.sort(probabilities, axis=1)[:, :-3:-1].T
    ties = int((first - second <= _ROUNDING).sum())  # rounding may have turned these
    if np.abs(counted - confusion).sum() > 2 * ties:
        raise StudyError(
            f"{file}: the confusion matrix does not follow from the probabilities and the test labels; "
            "the test images have changed: run the study again in a new --out"
        )
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
    )


def _ordered(data: ImageSet, names: tuple[str, ...] | None) -> ImageSet:
    """Return `data` with its classes in the study's order: predictions are numbered that way."""
    return data.with_classes(names) if names and set(names) == set(data.classes) else data


def _with_classes_of(data: ImageSet, test: ImageSet) -> ImageSet:
    unknown = [name for name in test.classes if name not in data.classes]
    if unknown:
        raise StudyError(f"test/ has the class '{unknown[0]}', which data/ lacks; run the study again in a new --out")
    numbers = np.array([data.classes.index(name) for name in test.classes], dtype=np.int64)
    return ImageSet(
        test.images, numbers[test.labels], data.classes, test.groups, test.ids, test.synthetic, dict(test.extra)
    )


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except json.JSONDecodeError as error:
        raise StudyError(f"{path} is damaged ({error}); remove it and run the study again") from error
