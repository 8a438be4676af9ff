"""The synthetic images of a study: which of them are scored, judged by a filter, or given to a classifier.

The images for classifiers are one sequence a class, so a larger ratio, another fill or a filter takes from the same
images, and what is compared differs in nothing else. Images that are scored are never among them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.classify.arms import ARMS, added_counts
from sonosynth.classify.filters import (
    FilterError,
    FilterResult,
    check_groups,
    confidence_filter,
    distance_filter,
    group_folds,
)
from sonosynth.core.errors import StudyError
from sonosynth.core.seeds import numpy_generator, seed_of
from sonosynth.data.imageset import ImageSet
from sonosynth.features.extract import embed
from sonosynth.gan.sample import Sampler, class_sequence
from sonosynth.metrics.comparison import MIN_BASELINE
from sonosynth.metrics.diversity.precision_recall import prdc
from sonosynth.study import results
from sonosynth.study.cells import AnyCell, ClassifyCell, FilterCell, ScoreCell, TrainCell, trained_for
from sonosynth.study.store import Store

Tell = Callable[[float, float, str], None]


@dataclass(frozen=True)
class _Chosen:
    """Which candidates of each class are used, by number; the classes that are not filtered; and what is to be told."""

    images: list[np.ndarray]
    unfiltered: list[str]
    notes: list[str]


class SyntheticPool:
    """Makes the synthetic images of cells, or takes them from the `folders` made elsewhere, by GAN name."""

    def __init__(self, store: Store, folders: Mapping[str, ImageSet], tell: Tell):
        self._store, self._folders, self._tell = store, folders, tell

    def to_score(self, cell: ScoreCell, train: ImageSet) -> ImageSet:
        """Return the images that `cell` scores, in the proportions of the training images.

        A folder may have fewer than are asked for, and too few of one class for those proportions.
        """
        if cell.generation.seed is None:
            _, others = _halves(self._folders[cell.generation.gan])
            return _in_proportion(others, np.bincount(train.labels, minlength=len(train.classes)), cell.n_synthetic)
        return self._maker(cell, "score")(cell.n_synthetic, None)

    def to_classify(self, cell: ClassifyCell, train: ImageSet) -> ImageSet:
        """Return the images that are added to those of `train`, or test the classifier.

        Of each class as many as ratio and fill ask for, and where a filter leaves too few, what `_chosen` says. Folders
        have enough, by `check_pool`.
        """
        counts = _counts(cell, train)
        if cell.filter is None:
            return self._first(cell, train, counts)
        kept = self._chosen(cell, train).images
        needed = np.array([index.max(initial=-1) + 1 for index in kept])
        made, starts = self._first(cell, train, needed), np.cumsum(needed) - needed
        return made.subset(np.concatenate([start + index for start, index in zip(starts, kept, strict=True)]))

    def short_of(self, cell: ClassifyCell, train: ImageSet) -> dict[str, Any]:
        """Return what the result of `cell` says of a filter that left too few images: nothing where it left enough.

        Returns:
            `unfiltered`, the names of classes of which no image passed; and `notes`, sentences for the report.
        """
        if cell.filter is None:
            return {}
        chosen = self._chosen(cell, train)
        return {"unfiltered": chosen.unfiltered, "notes": chosen.notes} if chosen.notes else {}

    def _chosen(self, cell: ClassifyCell, train: ImageSet) -> "_Chosen":
        """Return which candidates of each class are used: the first that passed the filter of `cell`.

        Of a class of which none passed, the first candidates stand in, so that classes keep their proportions and their
        numbers. Where some passed but too few, all classes are cut by the share of the scarcest.
        """
        assert cell.filter is not None
        result = self._store.result(cell.filter)
        assert result is not None
        asked = _counts(cell, train)
        passed = [np.asarray(result.kept[name], dtype=np.int64) for name in train.classes]
        notes: list[str] = []
        unfiltered: list[str] = []
        for label, name in enumerate(train.classes):
            if asked[label] and not len(passed[label]):
                passed[label] = np.arange(result.candidates[name])
                unfiltered.append(name)
                notes.append(
                    f"none of {len(passed[label])} candidates of class '{name}' passed the filter "
                    f"{cell.filter.by}: the first of them are used unfiltered, as many as ratio and fill ask for"
                )
        there = np.array([len(index) for index in passed])
        counts = _cut(asked, there)
        if (counts < asked).any():
            label = _scarcest(asked, there)
            name = train.classes[label]
            left = "there are only" if name in unfiltered else f"the filter {cell.filter.by} left"
            notes.append(
                f"{left} {there[label]} candidates of class '{name}' where ratio {cell.ratio:g}, fill {cell.fill}, "
                f"asks for {asked[label]}: all classes are cut by that share, from {asked.sum()} synthetic images to "
                f"{counts.sum()}"
            )
        return _Chosen([index[:n] for index, n in zip(passed, counts, strict=True)], unfiltered, notes)

    def to_filter(self, cell: FilterCell, train: ImageSet) -> ImageSet:
        """Return what a filter judges: equally many of every class in `train`, or all that a folder has of it."""
        counts = np.bincount(train.labels, minlength=len(train.classes))
        wanted = np.where(counts > 0, cell.candidates * counts.max(), 0)
        if cell.generation.seed is None:
            ours, _ = _halves(self._folders[cell.generation.gan])
            wanted = np.minimum(wanted, np.bincount(ours.labels, minlength=len(ours.classes)))
        return self._first(cell, train, wanted)

    def _first(self, cell: FilterCell | ClassifyCell, train: ImageSet, counts: np.ndarray) -> ImageSet:
        """Return the first ``counts[c]`` images for classifiers of each class c, class by class."""
        assert cell.generation is not None
        if cell.generation.seed is None:
            return _first_of_folder(self._folders[cell.generation.gan], counts)
        make = self._maker(cell, "classify")
        wanted = [(name, int(n)) for name, n in zip(train.classes, counts, strict=True) if n]
        made = [make(n, name).with_classes(train.classes) for name, n in wanted]
        return ImageSet.concatenate([replace(train.subset([]), synthetic=True), *made])

    def _maker(
        self, cell: ScoreCell | FilterCell | ClassifyCell, purpose: str
    ) -> Callable[[int, str | None], ImageSet]:
        """Return what makes so many images for `purpose`, of one class or of all."""
        trained = trained_for(cell)
        assert trained is not None and cell.truncation is not None
        return partial(
            Sampler(self._store.run(trained), trained.generation.snapshot).generate,
            truncation=cell.truncation,
            seed=seed_for(trained, purpose),
            progress=lambda done, total: self._tell(done, total, "generating"),
        )


def check_pool(
    cells: Sequence[AnyCell], train_of: Callable[[AnyCell], ImageSet], folders: Mapping[str, ImageSet]
) -> None:
    """Check, before anything runs, that folders and training subsets have what the cells will ask of them.

    A cell that fails stops all that come after it, each time the study is run.

    Args:
        cells: of the study.
        train_of: takes a cell and returns its training images.
        folders: synthetic images made elsewhere, by GAN name.

    Raises:
        StudyError: a folder has too few images for a classifier, or a subset too few groups for a filter.
    """
    filters = {(c.size, c.replicate, c.by, c.generation.seed): c for c in cells if isinstance(c, FilterCell)}
    for judging in filters.values():
        _check_groups(judging, train_of(judging))
    takers = {
        (c.size, c.replicate, c.generation.gan, c.ratio, c.fill, ARMS[c.arm].synthetic_alone, c.filter is None): c
        for c in cells
        if isinstance(c, ClassifyCell) and c.generation and c.generation.seed is None
    }
    for (size, replicate, name, *_), taking in takers.items():
        counts = _counts(taking, train_of(taking))
        if taking.filter is not None:  # which may leave any number but needs something to choose from
            counts = np.minimum(counts, 1)
        _check_half(folders[name], f"GAN '{name}', size {size}, draw {replicate}", counts)


def _check_groups(cell: FilterCell, train: ImageSet) -> None:
    try:
        if cell.by == "confidence":
            group_folds(train, seed=_seed_of_judges(cell))
        else:
            check_groups(train)
    except FilterError as error:
        at = f"classifiers.filters, size {cell.size}, draw {cell.replicate}"
        raise StudyError(f"{at}: {error}; raise split.sizes or leave the filter out") from error


def _counts(cell: ClassifyCell, train: ImageSet) -> np.ndarray:
    """Return how many synthetic images of each class `cell` asks for."""
    assert cell.ratio is not None and cell.fill is not None
    return added_counts(train, cell.ratio, cell.fill, ARMS[cell.arm].synthetic_alone)


def _cut(counts: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return `counts`, in the same proportions as far as whole images allow, and nowhere more than are `there`."""
    least = _scarcest(counts, there)
    return counts if there[least] >= counts[least] else counts * there[least] // counts[least]


def _scarcest(counts: np.ndarray, there: np.ndarray) -> int:
    """Return the class of which there are fewest for what is asked."""
    asked = np.flatnonzero(counts)
    return int(asked[(there[asked] / counts[asked]).argmin()])


def _seed_of_judges(cell: FilterCell) -> int:
    return seed_of(cell.generation.seed or 0, "filter", cell.size, cell.replicate)


def seed_for(cell: TrainCell, purpose: str) -> int:
    """Return the seed of images of the generator of `cell`, for one purpose: "score", "classify" or "gallery"."""
    assert cell.generation.seed is not None
    return seed_of(cell.generation.seed, cell.size, cell.replicate, purpose)


def judge(cell: FilterCell, train: ImageSet, made: ImageSet, cache: Path, tell: Tell) -> results.FilterResult:
    """Return the result of a filter cell: which of the candidates `made` pass, how many, and what that costs.

    Coverage (Naeem et al. 2020) is the share of training images with a synthetic one near them: of all candidates, of
    those that pass, and, as fewer images cover less, of as many of each class, unfiltered. None where fewer than two
    pass.

    Raises:
        FilterError: a class has a single group of training images.
    """
    real, synthetic = (
        embed(images, cell.features, keep, lambda done, total: tell(done, total, "embedding"))
        for images, keep in ((train, cache), (made, None))
    )
    if cell.by == "confidence":
        assert cell.network is not None and cell.training is not None
        passed = confidence_filter(
            train,
            made,
            quantile=cell.quantile,
            network=cell.network,
            training=cell.training,
            seed=_seed_of_judges(cell),
            progress=lambda step, steps: tell(step, steps, f"judges, step {step} of {steps}"),
        )
    else:
        passed = distance_filter(train, made, real, synthetic, quantile=cell.quantile)
    places = [np.flatnonzero(made.labels == label) for label in range(len(made.classes))]
    kept = [np.flatnonzero(np.isin(place, passed.kept)) for place in places]
    as_many = np.concatenate([place[: len(index)] for place, index in zip(places, kept, strict=True)])
    return results.FilterResult(
        **cell.identity(),
        kept={name: index.tolist() for name, index in zip(made.classes, kept, strict=True)},
        candidates=made.class_counts,
        **passed.to_dict(),
        **_coverages(passed, as_many, lambda index: prdc(real, synthetic[index])["coverage"], len(made)),
    )


def _coverages(
    passed: FilterResult, as_many: np.ndarray, coverage_of: Callable[[np.ndarray], float], n: int
) -> dict[str, float | None]:
    names = ("coverage_all", "coverage_accepted", "coverage_same_number", "lost_coverage")
    if len(passed.kept) < 2:
        return dict.fromkeys(names)
    of_all, accepted, same_number = (coverage_of(index) for index in (np.arange(n), passed.kept, as_many))
    return dict(zip(names, (of_all, accepted, same_number, of_all - accepted), strict=True))


def _halves(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Divide a folder made elsewhere, class by class and at random: for classifiers, and for scores."""
    order = numpy_generator("folder", images.fingerprint()).permutation(len(images))
    by_class = [order[images.labels[order] == label] for label in range(len(images.classes))]
    ours = np.concatenate([members[: len(members) // 2] for members in by_class])
    rest = order[~np.isin(order, ours)]
    return images.subset(ours), images.subset(rest)


def _in_proportion(images: ImageSet, counts: np.ndarray, n: int) -> ImageSet:
    """Return `n` of `images` in the proportions of `counts`, or as many as the class allows that runs out first.

    Where those would be too few for a baseline, up to as many of each class as `n` images would have.
    """
    there = np.bincount(images.labels, minlength=len(images.classes))
    labels = class_sequence(np.where(there > 0, counts, 0).tolist(), n)
    used = np.cumsum(labels[:, None] == np.arange(len(there)), axis=0)
    enough = int((used <= there).all(axis=1).sum())
    wanted = used[-1 if enough < MIN_BASELINE else enough - 1]
    return images.subset(np.concatenate([np.flatnonzero(images.labels == c)[:k] for c, k in enumerate(wanted)]))


def _check_half(images: ImageSet, whose: str, counts: np.ndarray) -> None:
    """Raise StudyError unless half of a folder has ``counts[c]`` images of each class c."""
    there = np.bincount(images.labels, minlength=len(images.classes)) // 2
    for label, (own, count) in enumerate(zip(there, counts, strict=True)):
        if count > own:
            raise StudyError(
                f"{whose}: a classifier needs {counts.sum()} of its synthetic images, {count} of them of class "
                f"'{images.classes[label]}', apart from those that are scored, and half of the folder is "
                f"{there.sum()}, {own} of them of that class; add images or lower classifiers.ratios or split.sizes"
            )


def _first_of_folder(images: ImageSet, counts: np.ndarray) -> ImageSet:
    ours, _ = _halves(images)
    places = [np.flatnonzero(ours.labels == label) for label in range(len(ours.classes))]
    return ours.subset(np.concatenate([place[:count] for place, count in zip(places, counts, strict=True)]))
