"""The cells of a study: frozen descriptions of one piece of work each, with a content hash."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from sonosynth.classify.arms import ARMS
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.families import Part
from sonosynth.study.design import GanEntry, StudyDesign

FORMAT = 1  # raised when the meaning of a cell changes, so that old results are not taken for new ones


@dataclass(frozen=True)
class Generation:
    """Where a cell's synthetic images come from.

    `mode`, `seed` and `kimg` are None for images made elsewhere; `source` is then the fingerprint of the folder, and
    otherwise the recipe. `snapshot` says which weights of the run make images; `patience_kimg` is that of `train`.
    """

    gan: str
    mode: str | None
    seed: int | None
    kimg: float | None
    source: dict[str, Any] | str
    snapshot: Literal["last", "best"] = "last"
    patience_kimg: float | None = None

    @property
    def source_hash(self) -> str:
        """16 hexadecimal digits over `source`."""
        return hashlib.sha256(json.dumps(self.source, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Cell:
    """What all cells have: the subset they work on, named by size and draw and pinned by its fingerprint."""

    kind: ClassVar[str]

    size: int
    draw: int
    subset: str

    def describe(self) -> dict[str, Any]:
        """Return the flat description that stands in the cell's result file."""
        plain = asdict(self)
        generation = plain.pop("generation", None)
        if generation:
            plain |= {"gan": generation["gan"], "mode": generation["mode"]}
            plain["seed" if "seed" not in plain else "gan_seed"] = generation["seed"]
        return {"kind": self.kind, **plain}

    @property
    def hash(self) -> str:
        """16 hexadecimal digits over all that decides the cell's result."""
        text = json.dumps([FORMAT, self.kind, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TrainCell(Cell):
    """Train a generator (in mode per_class: one a class) on a subset; the result is a run."""

    kind: ClassVar[str] = "train"
    generation: Generation

    def label(self) -> str:
        """Return what a progress bar shows."""
        return f"train {self.generation.gan}, n={self.size}, draw {self.draw}, seed {self.generation.seed}"


@dataclass(frozen=True)
class ScoreCell(Cell):
    """Score the synthetic images of a generation against its training subset and the held-out images."""

    kind: ClassVar[str] = "score"
    generation: Generation
    held_out: str
    features: tuple[str, ...]
    n_synthetic: int
    parts: tuple[Part, ...]

    def label(self) -> str:
        """Return what a progress bar shows."""
        return f"score {self.generation.gan}, n={self.size}, draw {self.draw}"


@dataclass(frozen=True)
class ClassifyCell(Cell):
    """Train a classifier in one arm and score it on the held-out images."""

    kind: ClassVar[str] = "classify"
    generation: Generation | None
    held_out: str
    network: str
    arm: str
    ratio: float | None
    steps: int
    seed: int

    def describe(self) -> dict[str, Any]:
        """Return the flat description that stands in the cell's result file."""
        absent = {"gan": None, "mode": None, "gan_seed": None} if self.generation is None else {}
        return absent | super().describe()

    def label(self) -> str:
        """Return what a progress bar shows."""
        source = f" ({self.generation.gan})" if self.generation else ""
        return f"classify {self.arm}{source}, n={self.size}, draw {self.draw}, seed {self.seed}"


@dataclass(frozen=True)
class NaiveCell(ClassifyCell):
    """Train a classifier on a split that ignores the groups: what the result would have been with leakage."""

    kind: ClassVar[str] = "naive"

    def label(self) -> str:
        """Return what a progress bar shows."""
        return f"{super().label()}, split without groups"


AnyCell = TrainCell | ScoreCell | ClassifyCell


@dataclass(frozen=True)
class Subset:
    """One training subset: a nominal size, a draw, and the images themselves."""

    size: int
    draw: int
    indices: np.ndarray
    images: ImageSet


def trained_for(cell: AnyCell) -> TrainCell | None:
    """Return the train cell whose run makes the synthetic images of `cell`, or None if it needs no run."""
    if isinstance(cell, TrainCell) or cell.generation is None or cell.generation.seed is None:
        return None
    return TrainCell(size=cell.size, draw=cell.draw, subset=cell.subset, generation=cell.generation)


def plan_cells(
    design: StudyDesign,
    subsets: list[Subset],
    held_out: ImageSet,
    folders: dict[str, ImageSet],
    naive: tuple[list[Subset], ImageSet] | None = None,
) -> list[AnyCell]:
    """Return all cells in the order in which they run: what a cell needs comes before it.

    Args:
        design: the study.
        subsets: training subsets, by draw and size.
        held_out: the test images.
        folders: synthetic images made elsewhere, by GAN name.
        naive: subsets and test images of a split that ignores groups, for the arms without synthetic images.
    """
    cells: list[AnyCell] = []
    test = held_out.fingerprint()
    for subset in subsets:
        where: dict[str, Any] = {"size": subset.size, "draw": subset.draw, "subset": subset.images.fingerprint()}
        cells += _classify_cells(design, where, test, None)
        for gan in design.gans:
            for generation in _generations(design, gan, folders):
                if gan.recipe is not None:
                    cells.append(TrainCell(**where, generation=generation))
                cells.append(
                    ScoreCell(
                        **where,
                        generation=generation,
                        held_out=test,
                        features=design.scores.features,
                        n_synthetic=design.scores.n_synthetic,
                        parts=design.scores.parts,
                    )
                )
                cells += _classify_cells(design, where, test, generation)
    for subset in naive[0] if naive else ():
        assert naive is not None
        where = {"size": subset.size, "draw": subset.draw, "subset": subset.images.fingerprint()}
        cells += [NaiveCell(**vars(cell)) for cell in _classify_cells(design, where, naive[1].fingerprint(), None)]
    return cells


def _generations(design: StudyDesign, gan: GanEntry, folders: dict[str, ImageSet]) -> list[Generation]:
    if gan.recipe is None:
        return [Generation(gan.name, None, None, None, folders[gan.name].fingerprint())]
    mode, kimg = design.mode_of(gan), design.kimg_of(gan)
    recipe, how = gan.recipe.record(), design.training
    return [Generation(gan.name, mode, seed, kimg, recipe, how.snapshot, how.patience_kimg) for seed in how.seeds]


def _classify_cells(
    design: StudyDesign, where: dict[str, Any], test: str, generation: Generation | None
) -> list[ClassifyCell]:
    plan = design.classifiers
    ratios: tuple[float | None, ...] = plan.ratios if generation else (None,)
    return [
        ClassifyCell(
            **where,
            generation=generation,
            held_out=test,
            network=network,
            arm=arm,
            ratio=ratio,
            steps=plan.steps,
            seed=seed,
        )
        for network in plan.networks
        for arm in plan.arms
        if ARMS[arm].synthetic == (generation is not None)
        for ratio in ratios
        for seed in plan.seeds
    ]
