"""What a study will do, before it runs: its cells, what is done, how long the rest takes, and what it could find."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.classify.arms import ARMS
from sonosynth.classify.filters import DEFAULT_FOLDS
from sonosynth.classify.training import TrainedClassifier, TrainingSettings, train_classifier
from sonosynth.core.device import default_device, median_seconds
from sonosynth.core.errors import StudyError
from sonosynth.core.text import counted
from sonosynth.data.imageset import ImageSet
from sonosynth.features.extract import load_features
from sonosynth.gan.checkpoint import run_config
from sonosynth.gan.training.trainer import Trainer
from sonosynth.gan.training.transfer import pretrainings
from sonosynth.phantoms.phantom import simulate
from sonosynth.statistics.power import (
    BUSI_COMPONENTS,
    fixed_test_error,
    minimum_detectable_difference,
    repeated_splits_error,
)
from sonosynth.statistics.scores import LEVEL, MIN_DRAWS
from sonosynth.study.cells import AnyCell, FilterCell, ScoreCell, TrainCell
from sonosynth.study.config import StudyDesign
from sonosynth.study.files import study_directory
from sonosynth.study.prepared import StudyData, prepare_study
from sonosynth.study.results import StudyStatus
from sonosynth.study.run_cell import kind_of_work, recipe_of
from sonosynth.study.store import Store
from sonosynth.study.study_file import read_study


@dataclass(frozen=True)
class StudyPlan:
    """The cells of a study, and what they will take.

    Attributes:
        notes: what the user should know of the images.
        cells: all cells, in the order in which they run.
        waiting: those that have no result yet.
        estimates: what the waiting ones will take on this machine.
        power: the smallest difference that the design would find; None where it compares no classifiers.
    """

    notes: list[str]
    cells: list[AnyCell]
    waiting: list[AnyCell]
    estimates: "list[Estimate]"
    power: "DesignPower | None"

    @property
    def seconds(self) -> float:
        """Seconds that the waiting cells will take, one after another."""
        return sum(cost.seconds for cost in self.estimates)

    @property
    def to_do(self) -> set[str]:
        """The hashes of the waiting cells."""
        return {cell.hash for cell in self.waiting}

    @property
    def compiles(self) -> bool:
        """Whether a waiting generator will be compiled, so that it takes less than is estimated."""
        trained = [cell.generation for cell in self.waiting if isinstance(cell, TrainCell)]
        return any(recipe_of(source).compiles(source.kimg or 0.0) for source in trained)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        to_do = self.to_do
        return {
            "cells": [cell.settings() | {"hash": cell.hash, "done": cell.hash not in to_do} for cell in self.cells],
            "work": [{"work": c.work, "cells": c.cells, "seconds": round(c.seconds, 1)} for c in self.estimates],
            "seconds": round(self.seconds, 1),
            "power": self.power and self.power.to_dict(),
        }


def plan_study(
    study: str | Path,
    out: str | Path | None = None,
    tell: Callable[[str], object] | None = None,
    exclude_known: bool = False,
) -> StudyPlan:
    """Return the plan of a study; nothing is written.

    Every kind of work that waits is timed on this machine, which may take minutes.

    Args:
        study: the study file.
        out: the study directory; ``runs/NAME``, the name in the study file, if not given.
        tell: called with a line before each kind of work is timed.
        exclude_known: as in `run_study`.

    Raises:
        SonosynthError: the study file or the images cannot be used; see `read_study` and `prepare_study`.

    Example:
        >>> plan = plan_study("study.yaml")  # doctest: +SKIP
        >>> print(len(plan.waiting), plan.seconds / 3600, "hours")  # doctest: +SKIP
    """
    design, store = _opened(study, out, exclude_known)
    data = prepare_study(design, store)
    cells = data.cells(design)
    waiting = store.waiting(cells)
    notes = [*data.notes, *data.lone_groups, *store.outdated(cells)]
    return StudyPlan(notes, cells, waiting, estimate(waiting, data, tell), design_power(design, data))


def study_status(study: str | Path, out: str | Path | None = None, exclude_known: bool = False) -> StudyStatus:
    """Return how many cells of a study have their result.

    Args:
        study: the study file.
        out: the study directory; ``runs/NAME``, the name in the study file, if not given.
        exclude_known: as in `run_study`.

    Raises:
        StudyError: the study has not begun, or only its results are there.

    Example:
        >>> study_status("study.yaml").counts  # doctest: +SKIP
        {'classify': (12, 48), 'train': (2, 4), 'score': (1, 4)}
    """
    design, store = _opened(study, out, exclude_known)
    if not store.data.is_dir():
        raise StudyError(
            f"{store.directory} holds no data/: this study has not begun, or only its results are here; "
            f"'sonosynth study run {study}' prepares the images"
        )
    cells = prepare_study(design, store).cells(design)
    waiting = store.waiting(cells)
    planned, left = (Counter(cell.kind for cell in some) for some in (cells, waiting))
    counts = {kind: (n - left[kind], n) for kind, n in planned.items()}
    return StudyStatus(counts, waiting[0] if waiting else None)


def _opened(study: str | Path, out: str | Path | None, exclude_known: bool) -> tuple[StudyDesign, Store]:
    design, _ = read_study(study, exclude_known)
    store = store_of(design, out)
    store.check(design)
    return design, store


def store_of(design: StudyDesign, out: str | Path | None) -> Store:
    """Return the study directory of `design`: `out`, or ``runs/NAME``."""
    return Store(study_directory(design.name, out))


PROBE_IMAGES = 16
PROBE_STEPS = (1, 5)
PROBES = 3
COMPILED = "runs that are compiled take less than is estimated, which is from steps that are not"


@dataclass(frozen=True)
class Estimate:
    """The expected cost of the cells of one kind of work: how many there are, and seconds for each."""

    work: str
    cells: int
    seconds_each: float

    @property
    def seconds(self) -> float:
        """Seconds for all of them."""
        return self.cells * self.seconds_each


def estimate(cells: list[AnyCell], data: StudyData, tell: Callable[[str], object] | None = None) -> list[Estimate]:
    """Measure each kind of work in `cells` on a few steps; cells of one GAN and mode, or one network, are alike.

    `tell` is called with a line before each.
    """
    kinds: dict[str, list[AnyCell]] = {}
    for cell in cells:
        kinds.setdefault(kind_of_work(cell), []).append(cell)
    found = []
    for number, (work, alike) in enumerate(kinds.items(), start=1):
        if tell:
            tell(f"timing {number} of {len(kinds)}: {work}")
        found.append(Estimate(work, len(alike), _measure(alike[0], len(alike), data)))
    return found


def _measure(cell: AnyCell, alike: int, data: StudyData) -> float:
    images = data.subset_of(cell)
    if isinstance(cell, TrainCell):
        return _training(cell, images, alike)
    if isinstance(cell, ScoreCell):
        return sum(_seconds_per_image(name, images) for name in cell.features) * cell.n_synthetic
    if isinstance(cell, FilterCell):
        candidates = cell.candidates * max(images.class_counts.values()) * len(_present(images))
        seconds = candidates * _seconds_per_image(cell.features, images)
        if cell.network is not None and cell.training is not None:
            seconds += DEFAULT_FOLDS * _classifying(cell.network, cell.training, images, candidates)
        return seconds
    return _classifying(cell.network, cell.training, images, len(data.split_of(cell).held_out))


def _seconds(work: Callable[[], object]) -> float:
    return median_seconds(work, default_device(), repeats=PROBES, warm_up=1)


def _present(images: ImageSet) -> tuple[str, ...]:
    return tuple(name for name, count in images.class_counts.items() if count)


def _seconds_per_image(features: str, images: ImageSet) -> float:
    probe = images.images[:PROBE_IMAGES]
    return _seconds(lambda: load_features(features)(probe)) / len(probe)


def _training(cell: TrainCell, images: ImageSet, alike: int) -> float:
    """Return the time of all runs of a cell, and its part of the pretraining that `alike` cells of a recipe share.

    Pretraining simulates phantoms and trains on them.
    """
    kimg, conditional, recipe = cell.generation.kimg, cell.generation.mode == "conditional", recipe_of(cell.generation)
    assert kimg is not None
    sees_classes = conditional or recipe.prior is not None
    config = run_config(images, recipe.resolved(kimg), conditional=sees_classes, seed=0)
    trainer = Trainer(images.with_classes(config.classes), config, default_device())
    per_kimg = trainer.seconds_per_step(PROBES) * 1000 / config.recipe.batch
    classes = _present(images)
    seconds = (1 if conditional else len(classes)) * kimg * per_kimg
    if recipe.pretrain_kimg:
        plans = pretrainings(classes, conditional)
        phantoms = sum(len(plan.classes) for plan in plans) * recipe.pretrain_images
        per_phantom = _seconds(lambda: simulate("malignant", 0, images.size[0], 0))
        seconds += (phantoms * per_phantom + len(plans) * recipe.pretrain_kimg * per_kimg) / alike
    return seconds


def _classifying(network: str, training: TrainingSettings, images: ImageSet, n_predicted: int) -> float:
    """Return the time of all steps with classical augmentation, of building the network, and of predictions."""

    def fitted(steps: int) -> TrainedClassifier:
        return train_classifier(images, classical=True, network=network, training=replace(training, steps=steps))

    short, long = (_seconds(lambda steps=steps: fitted(steps)) for steps in PROBE_STEPS)  # type: ignore[misc]
    step = max(0.0, long - short) / (PROBE_STEPS[1] - PROBE_STEPS[0])
    building = max(0.0, short - PROBE_STEPS[0] * step)
    classifier, probe = fitted(1), images.images[:PROBE_IMAGES]
    return building + training.steps * step + n_predicted * _seconds(lambda: classifier.predict(probe)) / len(probe)


POWER = 0.8
ASSUMED = "of ResNet-18 on BUSI at 64 px, from the records busi-first and busi-protocols; other data, other variances"


@dataclass(frozen=True)
class DesignPower:
    """The smallest difference that the design can see."""

    replicates: int  # draws of the training subset
    seeds: int  # classifier seeds, averaged in each draw
    groups: int  # groups of test images
    # sizes times generators, the family that Holm's correction is for; a generator counts once for each truncation
    comparisons: int
    # of macro F1, absolute, found with a chance of `POWER` by one two-sided test at 5 %; None: no test
    single: float | None
    # the same where it is the first of `comparisons` tests under Holm's correction; None: no test
    corrected: float | None
    repeated: bool = False  # whether every draw is of a split with test images of its own
    # one whose test images are all of one group, so that no interval or test comes out; None without one
    lone_class: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with what was assumed."""
        plain = asdict(self)
        assumed = {"power": POWER, "level": LEVEL, "components": asdict(BUSI_COMPONENTS)}
        return {"draws": plain.pop("replicates")} | plain | assumed

    def lines(self) -> list[str]:
        """Return sentences for the user, before the study runs."""
        if self.groups < 2 and not self.repeated:
            return ["power: all test images are of one group: a description only, no test; others are needed"]
        if self.lone_class is not None:
            return [
                f"power: all test images of class '{self.lone_class}' are of one group: a description only, neither "
                "intervals nor a test; others of that class are needed"
            ]
        unit = counted(self.replicates, "split" if self.repeated else "draw")
        unit += " of the images" if self.repeated else " of the training subsets"
        if self.single is None or self.corrected is None:
            return [f"power: {unit}: a description only, no test; {MIN_DRAWS} are needed"]
        assumed = ", ".join(f"{name} {value:g}" for name, value in asdict(BUSI_COMPONENTS).items() if value)
        return [
            f"power: with {unit}, {counted(self.seeds, 'seed')} and "
            f"{counted(self.groups, 'test group')}, a true difference of macro F1 of {self.single:.3f} is found with a "
            f"chance of {POWER:.0%} (two-sided test at {1 - LEVEL:.0%}), of {self.corrected:.3f} after Holm over "
            f"{counted(self.comparisons, 'comparison')} (sizes × generators)",
            f"assumed variances of a paired difference: {assumed}; {ASSUMED}",
        ]


def design_power(design: StudyDesign, data: StudyData) -> DesignPower | None:
    """Return what `design` can see on the test images of `data`, under the variances `BUSI_COMPONENTS`.

    None where no arm has another to be compared with: ``real``, or itself without synthetic images. Seeds are those of
    the classifiers: arms without synthetic images have no others.
    """
    plan, n_splits = design.classifiers, design.split.repeats
    tested = {name for name in plan.arms if ARMS[name].tests_on == "real" and (design.gans or not ARMS[name].synthetic)}
    compared = [name for name in tested if tested & {"real", name.removesuffix("+synthetic")} - {name}]
    if not plan.trains or not compared:
        return None
    comparisons = design.family(any(ARMS[name].synthetic for name in compared))
    tests = [split.held_out for split in data.splits]
    n_groups = min(len(np.unique(test.groups)) for test in tests)
    numbers = (n_splits or design.split.draws, len(plan.seeds), n_groups)
    spread = lone_class = None
    if n_splits is not None:
        n_test = float(np.mean([len(test) for test in tests]))
        spread = repeated_splits_error(BUSI_COMPONENTS, *numbers, n_test / data.smallest_training_part)
    else:  # without its only group, a class has no F1
        lone_class = next((name for name, n in tests[0].group_counts.items() if n == 1), None)
        if n_groups >= 2 and lone_class is None:
            spread = fixed_test_error(BUSI_COMPONENTS, *numbers)
    single, corrected = (
        None if spread is None else minimum_detectable_difference(*spread, n, POWER) for n in (1, comparisons)
    )
    return DesignPower(*numbers, comparisons, single, corrected, n_splits is not None, lone_class)
