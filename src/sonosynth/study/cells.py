"""The cells of a study: frozen descriptions of one piece of work each, with a content hash."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from sonosynth.classify.arms import ARMS, ClassBalance
from sonosynth.classify.training import TrainingSettings
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.metric import Part
from sonosynth.study.config import NO_FILTER, FilterEntry, StudyDesign
from sonosynth.study.splits import StudySplit


@dataclass(frozen=True)
class SyntheticSource:
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
        return _digest(self.source)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Return dataclasses as mappings, all the way down; unlike `asdict`, settings of a recipe are not copied."""
    if not is_dataclass(value):
        return value
    return {"draw" if f.name == "replicate" else f.name: _plain(getattr(value, f.name)) for f in fields(value)}


@dataclass(frozen=True)
class Cell:
    """What all cells have: the subset they work on, named by size and draw and pinned by its fingerprint."""

    kind: ClassVar[str]
    _label: ClassVar[str]

    size: int
    replicate: int
    subset: str

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes the cell from others of its kind: columns of its rows in tables, and values."""
        source = getattr(self, "generation", None)
        of_source = {"gan": source and source.gan, "mode": source and source.mode, "seed": source and source.seed}
        return {"size": self.size, "draw": self.replicate} | of_source

    @property
    def format(self) -> int:
        """What `format_of` says of it."""
        return format_of(self.kind, vars(self))

    def settings(self) -> dict[str, Any]:
        """Return all that decides the cell's result, as plain values; a replicate is called ``draw`` on disk."""
        return {"kind": self.kind, **_plain(self)}

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over all that decides the cell's result."""
        settings = self.settings()
        return _digest([self.format, settings.pop("kind"), settings])

    def label(self) -> str:
        """Return what a progress bar shows."""
        return self._label.format(self)


@dataclass(frozen=True)
class TrainCell(Cell):
    """Train a generator (in mode per_class: one per class) on a subset; the result is a run."""

    kind: ClassVar[str] = "train"
    _label: ClassVar[str] = "train {0.generation.gan}, n={0.size}, draw {0.replicate}, seed {0.generation.seed}"
    generation: SyntheticSource


@dataclass(frozen=True)
class ScoreCell(Cell):
    """Score the synthetic images of a generation against its training subset and the held-out images.

    `truncation` is None for images made elsewhere.
    """

    kind: ClassVar[str] = "score"
    _label: ClassVar[str] = "score {0.generation.gan}, n={0.size}, draw {0.replicate}"
    generation: SyntheticSource
    truncation: float | None
    held_out: str
    features: tuple[str, ...]
    n_synthetic: int
    parts: tuple[Part, ...]

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes the cell from others of its kind."""
        return super().identity() | {"truncation": self.truncation}


@dataclass(frozen=True)
class FilterCell(Cell):
    """Choose, by the training subset, which of the synthetic images for classifiers may be used.

    `candidates` images of every class are filtered. `network` and `training` are those of the classifiers that do so,
    None for a filter without; `features` the network in whose features distance and coverage are measured.
    """

    kind: ClassVar[str] = "filter"
    _label: ClassVar[str] = "filter {0.generation.gan} by {0.by}, n={0.size}, draw {0.replicate}"
    generation: SyntheticSource
    truncation: float | None
    by: str
    quantile: float
    candidates: int
    features: str
    network: str | None
    training: TrainingSettings | None

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes the cell from others of its kind."""
        plain = super().identity()
        how = {"truncation": self.truncation, "features": self.features}
        return plain | {"gan_seed": plain.pop("seed")} | how | {"filter": self.by, "filter_quantile": self.quantile}


@dataclass(frozen=True)
class ClassifyCell(Cell):
    """Train a classifier in one arm and score it on the held-out images.

    `ratio` and `fill` are None for arms to which nothing is added, `truncation` and `filter` where no synthetic image
    was truncated or filtered; `validation` is the fingerprint of the images that choose the weights, if any do.
    """

    kind: ClassVar[str] = "classify"
    _label: ClassVar[str] = "classify {0.arm}{0._of_gan}, n={0.size}, draw {0.replicate}, seed {0.seed}"
    generation: SyntheticSource | None
    held_out: str
    network: str
    arm: str
    ratio: float | None
    fill: ClassBalance | None
    truncation: float | None
    filter: FilterCell | None
    validation: str | None
    training: TrainingSettings
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes the cell from others of its kind."""
        plain = super().identity()
        own = {name: getattr(self, name) for name in ("network", "arm", "ratio", "fill", "truncation", "seed")}
        kept = {"filter": self.filter and self.filter.by, "filter_quantile": self.filter and self.filter.quantile}
        return plain | {"gan_seed": plain.pop("seed")} | own | kept

    @property
    def _of_gan(self) -> str:
        return f" ({self.generation.gan})" if self.generation else ""


@dataclass(frozen=True)
class NaiveCell(ClassifyCell):
    """Train a classifier on a split that ignores the groups: what the result would have been with leakage."""

    kind: ClassVar[str] = "naive"
    _label: ClassVar[str] = f"{ClassifyCell._label}, split without groups"


AnyCell = TrainCell | ScoreCell | FilterCell | ClassifyCell

CELL_KINDS = {of.kind: of for of in (TrainCell, ScoreCell, FilterCell, ClassifyCell, NaiveCell)}
_PARTS: dict[str, type] = {"generation": SyntheticSource, "filter": FilterCell, "training": TrainingSettings}


def cell_from(settings: Mapping[str, Any]) -> AnyCell:
    """Return the cell whose `Cell.settings` these are, also as JSON gives them back: it has the same hash."""
    cell: AnyCell = _rebuilt(CELL_KINDS[settings["kind"]], {k: v for k, v in settings.items() if k != "kind"})
    return cell


def _rebuilt(of: type, settings: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    if "draw" in values:
        values["replicate"] = values.pop("draw")
    parts = {name: _rebuilt(part, values[name]) for name, part in _PARTS.items() if isinstance(values.get(name), dict)}
    return of(**values | parts)


def format_of(kind: str, cell: Mapping[str, Any]) -> int:
    """Return a number that is raised when the meaning of a cell changes: no old result is taken for a new one.

    It is part of the hash, so a change of some cells of a kind leaves the others their names. `cell` holds the fields
    of one, or its description in a result file.
    """
    if kind in (ClassifyCell.kind, NaiveCell.kind):
        arm = ARMS.get(cell.get("arm", ""))
        balanced_alone = arm is not None and arm.synthetic_alone and cell.get("fill") == "balanced"
        if (of := cell.get("filter")) is not None:
            # 3: in their proportions even where it leaves too few of a class; 4: also where it leaves none; 5: by a
            # filter of format 2
            return 5 if (of["by"] if isinstance(of, Mapping) else of.by) == "confidence" else 4
        return 3 if balanced_alone else 2  # 3: balanced among themselves
    if kind == ScoreCell.kind:
        return 4  # 3: of a folder, in the proportions of the training images; 4: beside the baseline in paired draws
    if kind == FilterCell.kind:
        return 2 if cell.get("by") == "confidence" else 1  # 2: each synthetic image by one classifier
    return 1


def trained_for(cell: AnyCell) -> TrainCell | None:
    """Return the train cell whose run makes the synthetic images of `cell`, or None if it needs no run."""
    if isinstance(cell, TrainCell) or cell.generation is None or cell.generation.seed is None:
        return None
    return TrainCell(size=cell.size, replicate=cell.replicate, subset=cell.subset, generation=cell.generation)


def needed_by(cell: AnyCell) -> list[AnyCell]:
    """Return the cells that must have their results before `cell` can begin."""
    needed: list[AnyCell] = []
    if (trained := trained_for(cell)) is not None:
        needed.append(trained)
    if isinstance(cell, ClassifyCell) and cell.filter is not None:
        needed.append(cell.filter)
    return needed


def plan_cells(
    design: StudyDesign, splits: Sequence[StudySplit], folders: dict[str, ImageSet], naive: StudySplit | None = None
) -> list[AnyCell]:
    """Return all cells in the order in which they run: what a cell needs comes before it.

    `folders` are synthetic images made elsewhere, by GAN name; `naive` is a split that ignores groups, for the arms
    without synthetic images.
    """
    cells: list[AnyCell] = []
    sources = list(_sources(design, folders))
    for where, held_out in itertools.chain.from_iterable(map(_subsets, splits)):
        cells += _real_cells(design, where | held_out)
        for source in sources:
            cells += _synthetic_cells(design, where | {"generation": source}, held_out)
    for where, held_out in _subsets(naive) if naive else ():
        cells += [
            NaiveCell(**{field.name: getattr(cell, field.name) for field in fields(cell)})
            for cell in _real_cells(design, where | held_out)
        ]
    return cells


def _sources(design: StudyDesign, folders: dict[str, ImageSet]) -> Iterator[SyntheticSource]:
    how = design.training
    for gan in design.gans:
        if gan.recipe is None:
            yield SyntheticSource(gan.name, None, None, None, folders[gan.name].fingerprint())
            continue
        mode, kimg = (design.setting_of(gan, name) for name in ("mode", "kimg"))
        recipe = gan.recipe
        if recipe.prior is not None:
            from sonosynth.study.choices import with_prior

            recipe = with_prior(recipe, design.data.size)  # named, so that another prior gives other cells
        for seed in how.seeds:
            yield SyntheticSource(gan.name, mode, seed, kimg, recipe.record(), how.snapshot, how.patience_kimg)


def _subsets(split: StudySplit) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield what is pinned of each training subset, and of the images that test or choose what is trained on it."""
    validation = None if split.validation is None else split.validation.fingerprint()
    held_out = {"held_out": split.held_out.fingerprint(), "validation": validation}
    for subset in split.subsets:
        fingerprint = split.images_of(subset).fingerprint()
        yield {"size": subset.size, "replicate": subset.replicate, "subset": fingerprint}, held_out


def _real_cells(design: StudyDesign, where: dict[str, Any]) -> Iterator[ClassifyCell]:
    """Yield the classifiers that see no synthetic image; only what is oversampled has a ratio."""
    plan = design.classifiers
    common = where | {"generation": None, "truncation": None, "filter": None, "training": plan.training}
    for network, arm in itertools.product(plan.networks, plan.arms):
        if ARMS[arm].synthetic:
            continue
        added = itertools.product(plan.ratios, plan.fill) if ARMS[arm].oversampled else [(None, None)]
        for (ratio, fill), seed in itertools.product(added, plan.seeds):
            yield ClassifyCell(**common, network=network, arm=arm, ratio=ratio, fill=fill, seed=seed)


def _synthetic_cells(design: StudyDesign, source: dict[str, Any], held_out: dict[str, Any]) -> Iterator[AnyCell]:
    """Yield all that is done with one source of synthetic images and one subset: training first, if it is trained."""
    trained = source["generation"].seed is not None
    if trained:
        yield TrainCell(**source)
    for truncation in design.training.truncation if trained else (None,):
        yield from _truncated_cells(design, source | {"truncation": truncation}, held_out)


def _truncated_cells(design: StudyDesign, source: dict[str, Any], held_out: dict[str, Any]) -> Iterator[AnyCell]:
    scores, plan = design.scores, design.classifiers
    how = scores.model_dump(include={"features", "n_synthetic", "parts"})
    yield ScoreCell(**source, held_out=held_out["held_out"], **how)
    arms = [arm for arm in plan.arms if ARMS[arm].synthetic] if plan.trains else []
    filtered = any(not ARMS[arm].synthetic_alone for arm in arms)
    filters = [_filter_cell(design, source, entry) for entry in plan.filters] if filtered else []
    yield from (cell for cell in filters if cell is not None)
    common = source | held_out | {"training": plan.training}
    for network, arm in itertools.product(plan.networks, arms):
        factors = itertools.product(plan.ratios, plan.fill, filters)
        if ARMS[arm].trains_on == "synthetic":  # filters may leave too little to train on
            factors = itertools.product(plan.ratios, plan.fill, [None])
        elif ARMS[arm].tests_on == "synthetic":  # the ratio only says how many test it: the most
            factors = itertools.product([max(plan.ratios)], plan.fill[:1], [None])
        for (ratio, fill, kept), seed in itertools.product(factors, plan.seeds):
            yield ClassifyCell(**common, network=network, arm=arm, ratio=ratio, fill=fill, filter=kept, seed=seed)


def _filter_cell(design: StudyDesign, source: dict[str, Any], entry: FilterEntry) -> FilterCell | None:
    if entry.by == NO_FILTER:
        return None
    plan = design.classifiers
    network, training = (plan.networks[0], plan.training) if entry.by == "confidence" else (None, None)
    features = design.scores.features[0]
    return FilterCell(**source, **entry.model_dump(), features=features, network=network, training=training)
