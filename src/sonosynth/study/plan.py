"""What a study will do, before it runs: its cells, what is done, how long the rest takes, and what it could find."""

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
from sonosynth.study.prepared import StudyData, prepare_study
from sonosynth.study.run_cell import recipe_of
from sonosynth.study.store import Store
from sonosynth.study.study_file import load_design


@dataclass(frozen=True)
class StudyPlan:
    """The cells of a study, and what they will take.

    Attributes:
        notes: what was told while the images were read.
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


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is: of each kind of cell how many are done and planned, and the cell that comes next, if any."""

    counts: dict[str, tuple[int, int]]
    next_cell: AnyCell | None

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Return plain JSON values."""
        return {kind: {"done": done, "planned": n} for kind, (done, n) in self.counts.items()}


def plan_study(study: str | Path, out: str | Path | None = None) -> StudyPlan:
    """Return the plan of a study; nothing is written.

    Args:
        study: the study file.
        out: the study directory; ``runs/NAME``, the name in the study file, if not given.

    Raises:
        SonosynthError: the study file or the images cannot be used; see `load_design` and `prepare_study`.

    Example:
        >>> plan = plan_study("study.yaml")  # doctest: +SKIP
        >>> print(len(plan.waiting), plan.seconds / 3600, "hours")  # doctest: +SKIP
    """
    design = load_design(Path(study))
    store = store_of(design, out)
    store.check(design)
    data = prepare_study(design, store)
    cells = data.cells(design)
    waiting = store.waiting(cells)
    notes = [*data.notes, *data.lone_groups, *store.outdated(cells)]
    return StudyPlan(notes, cells, waiting, estimate(waiting, data), design_power(design, data))


def study_status(study: str | Path, out: str | Path | None = None) -> StudyStatus:
    """Return how many cells of a study have their result.

    Args:
        study: the study file.
        out: the study directory; ``runs/NAME``, the name in the study file, if not given.

    Raises:
        StudyError: the study has not begun, or only its results are there.

    Example:
        >>> study_status("study.yaml").counts  # doctest: +SKIP
        {'classify': (12, 48), 'train': (2, 4), 'score': (1, 4)}
    """
    design = load_design(Path(study))
    store = store_of(design, out)
    store.check(design)
    if not store.data.is_dir():
        raise StudyError(
            f"{store.directory} holds no data/: this study has not begun, or only its results are here; "
            f"'sonosynth study run {study}' prepares the images"
        )
    cells = prepare_study(design, store).cells(design)
    waiting = store.waiting(cells)
    to_do = {cell.hash for cell in waiting}
    kinds = dict.fromkeys(cell.kind for cell in cells)
    counts = {
        kind: (
            sum(cell.kind == kind and cell.hash not in to_do for cell in cells),
            sum(cell.kind == kind for cell in cells),
        )
        for kind in kinds
    }
    return StudyStatus(counts, waiting[0] if waiting else None)


def store_of(design: StudyDesign, out: str | Path | None) -> Store:
    """Return the study directory of `design`: `out`, or ``runs/NAME``."""
    return Store(Path("runs") / design.name if out is None else Path(out))


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


def estimate(cells: list[AnyCell], data: StudyData) -> list[Estimate]:
    """Measure each kind of work in `cells` on a few steps; cells of one GAN and mode, or one network, are alike."""
    kinds: dict[str, list[AnyCell]] = {}
    for cell in cells:
        kinds.setdefault(_work(cell), []).append(cell)
    return [Estimate(work, len(alike), _measure(alike[0], len(alike), data)) for work, alike in kinds.items()]


def _work(cell: AnyCell) -> str:
    if isinstance(cell, TrainCell):
        return f"train {cell.generation.gan} ({cell.generation.mode}, {cell.generation.kimg:g} kimg)"
    if isinstance(cell, ScoreCell):
        return f"score {counted(cell.n_synthetic, 'image')} ({', '.join(cell.features)})"
    if isinstance(cell, FilterCell):
        return f"filter by {cell.by} ({cell.features})"
    return f"classify with {cell.network} ({counted(cell.training.steps, 'step')})"


def _measure(cell: AnyCell, alike: int, data: StudyData) -> float:
    images = data.subset_of(cell)
    if isinstance(cell, TrainCell):
        return _training(cell, images) + _pretraining(cell, images) / alike
    if isinstance(cell, ScoreCell):
        return sum(_seconds_an_image(name, images) for name in cell.features) * cell.n_synthetic
    if isinstance(cell, FilterCell):
        return _filtering(cell, images)
    return _classifying(cell.network, cell.training, images, len(data.split_of(cell).held_out))


def _seconds(work: Callable[[], object]) -> float:
    return median_seconds(work, default_device(), repeats=PROBES, warm_up=1)


def _training(cell: TrainCell, images: ImageSet) -> float:
    generation = cell.generation
    assert generation.kimg is not None
    runs = 1 if generation.mode == "conditional" else len(_present(images))
    return runs * generation.kimg * _seconds_a_kimg(cell, images)


def _pretraining(cell: TrainCell, images: ImageSet) -> float:
    """Return the time of the pretraining that all cells of a recipe share: simulating phantoms, and training."""
    recipe = recipe_of(cell.generation)
    if not recipe.pretrain_kimg:
        return 0.0
    size = images.size[0]
    phantom = _seconds(lambda: simulate("malignant", 0, size, 0))
    plans = pretrainings(_present(images), cell.generation.mode == "conditional")
    phantoms = sum(len(plan.classes) for plan in plans) * recipe.pretrain_images
    return phantoms * phantom + len(plans) * recipe.pretrain_kimg * _seconds_a_kimg(cell, images)


def _present(images: ImageSet) -> tuple[str, ...]:
    return tuple(name for name, count in images.class_counts.items() if count)


def _seconds_a_kimg(cell: TrainCell, images: ImageSet) -> float:
    generation = cell.generation
    assert generation.kimg is not None
    recipe = recipe_of(generation).resolved(generation.kimg)
    config = run_config(images, recipe, conditional=generation.mode == "conditional", seed=0)
    trainer = Trainer(images.with_classes(config.classes), config, default_device())
    return trainer.seconds_per_step(PROBES) * 1000 / recipe.batch


def _seconds_an_image(features: str, images: ImageSet) -> float:
    probe = images.images[:PROBE_IMAGES]
    return _seconds(lambda: load_features(features)(probe)) / len(probe)


def _filtering(cell: FilterCell, images: ImageSet) -> float:
    candidates = cell.candidates * max(images.class_counts.values()) * len(_present(images))
    judging = 0.0
    if cell.network is not None and cell.training is not None:
        judging = DEFAULT_FOLDS * _classifying(cell.network, cell.training, images, candidates)
    return candidates * _seconds_an_image(cell.features, images) + judging


def _classifying(network: str, training: TrainingSettings, images: ImageSet, n_predicted: int) -> float:
    """Return the time of all steps with classical augmentation, of building the network, and of predictions."""

    def fitted(steps: int) -> TrainedClassifier:
        return train_classifier(images, classical=True, network=network, training=replace(training, steps=steps))

    short, long = (_seconds(lambda steps=steps: fitted(steps)) for steps in PROBE_STEPS)  # type: ignore[misc]
    step = max(0.0, long - short) / (PROBE_STEPS[1] - PROBE_STEPS[0])
    building = max(0.0, short - PROBE_STEPS[0] * step)
    judge, probe = fitted(1), images.images[:PROBE_IMAGES]
    return building + training.steps * step + n_predicted * _seconds(lambda: judge.predict(probe)) / len(probe)


POWER = 0.8
ASSUMED = "of ResNet-18 on BUSI at 64 px, from the records busi-first and busi-protocols; other data, other variances"


@dataclass(frozen=True)
class DesignPower:
    """The smallest difference that the design can see.

    Attributes:
        replicates: draws of the training subset.
        seeds: classifier seeds, averaged in each draw.
        groups: groups of test images.
        comparisons: sizes times generators, the family that Holm's correction is for; a generator counts once for each
            truncation.
        single: of macro F1, absolute, found with a chance of `POWER` by one two-sided test at 5 %; None: no test.
        corrected: the same where it is the first of `comparisons` tests under Holm's correction; None: no test.
        repeated: whether every draw is of a split with test images of its own.
        lone_class: one whose test images are all of one group, so that no interval or test comes out; None without one.
    """

    replicates: int
    seeds: int
    groups: int
    comparisons: int
    single: float | None
    corrected: float | None
    repeated: bool = False
    lone_class: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with what was assumed."""
        plain = asdict(self)
        return (
            {"draws": plain.pop("replicates")}
            | plain
            | {"power": POWER, "level": LEVEL, "components": asdict(BUSI_COMPONENTS)}
        )

    def lines(self) -> list[str]:
        """Return what is told before the study runs."""
        if self.groups < 2 and not self.repeated:
            return ["power: all test images are of one group: a description only, no test; others are needed"]
        if self.lone_class is not None:
            return [
                f"power: all test images of class '{self.lone_class}' are of one group: a description only, neither "
                "intervals nor a test; others of that class are needed"
            ]
        unit = "split of the images" if self.repeated else "draw of the training subsets"
        if self.replicates > 1:
            unit = unit.replace(" ", "s ", 1)
        if self.single is None or self.corrected is None:
            return [f"power: {self.replicates} {unit}: a description only, no test; {MIN_DRAWS} are needed"]
        assumed = ", ".join(f"{name} {value:g}" for name, value in asdict(BUSI_COMPONENTS).items() if value)
        return [
            f"power: with {self.replicates} {unit}, {counted(self.seeds, 'seed')} and "
            f"{counted(self.groups, 'test group')}, a true difference of macro F1 of {self.single:.3f} is found with a "
            f"chance of {POWER:.0%} (two-sided test at {1 - LEVEL:.0%}), of {self.corrected:.3f} after Holm over "
            f"{counted(self.comparisons, 'comparison')} (sizes × generators)",
            f"assumed variances of a paired difference: {assumed}; {ASSUMED}",
        ]


def design_power(design: StudyDesign, data: StudyData) -> DesignPower | None:
    """Return what `design` can see on the test images of `data`, under the variances `BUSI_COMPONENTS`.

    None, where it compares no classifiers. Seeds are those of the classifiers: arms without synthetic images have no
    others.
    """
    plan, n_splits = design.classifiers, design.split.repeats
    comparisons = _comparisons(design)
    if not plan.trains or not comparisons:
        return None
    tests = [split.held_out for split in data.splits]
    n_groups = min(len(np.unique(test.groups)) for test in tests)
    numbers = (n_splits or design.split.draws, len(plan.seeds), n_groups)
    spread = None
    lone_class = None
    if n_splits is None:  # without its only group, a class has no F1
        lone_class = next((name for name, n in tests[0].group_counts.items() if n == 1), None)
    if n_splits is not None:
        n_test = float(np.mean([len(test) for test in tests]))
        spread = repeated_splits_error(BUSI_COMPONENTS, *numbers, n_test / data.smallest_training_part)
    elif n_groups >= 2 and lone_class is None:
        spread = fixed_test_error(BUSI_COMPONENTS, *numbers)
    single, corrected = (
        None if spread is None else minimum_detectable_difference(*spread, n, POWER) for n in (1, comparisons)
    )
    return DesignPower(*numbers, comparisons, single, corrected, n_splits is not None, lone_class)


def _comparisons(design: StudyDesign) -> int:
    """Return over how many comparisons of the same two arms Holm's method goes; see `StudyDesign.family`.

    0 where no arm has another to be compared with: ``real``, or itself without synthetic images.
    """
    tested = {
        name
        for name in design.classifiers.arms
        if ARMS[name].tests_on == "real" and (design.gans or not ARMS[name].synthetic)
    }
    compared = [name for name in tested if tested & {"real", name.removesuffix("+synthetic")} - {name}]
    return design.family(any(ARMS[name].synthetic for name in compared)) if compared else 0
