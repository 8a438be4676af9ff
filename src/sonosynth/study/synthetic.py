"""The synthetic images of a study: which of them are scored, filtered, or given to a classifier.

The images for classifiers are one sequence per class, so a larger ratio, another fill or a filter takes from the same
images, and what is compared differs in nothing else. Images that are scored are never among them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.classify.arms import ARMS, added_counts
from sonosynth.classify.filters import FilterError, check_groups, confidence_filter, distance_filter, group_folds
from sonosynth.core.errors import StudyError
from sonosynth.core.seeds import numpy_generator, seed_of
from sonosynth.data.imageset import ImageSet
from sonosynth.features.extract import embed
from sonosynth.gan.sample import Sampler, class_sequence
from sonosynth.metrics.comparison import MIN_BASELINE
from sonosynth.metrics.diversity.precision_recall import prdc
from sonosynth.study.cells import AnyCell, ClassifyCell, FilterCell, ScoreCell, TrainCell, trained_for
from sonosynth.study.results import FilterResult
from sonosynth.study.store import Store

WorkProgress = Callable[[float, float, str], None]
"""Called with how much of a cell is done, how much there is to do, and what is being done."""


class SyntheticPool:
    """Makes the synthetic images of cells, or takes them from the `folders` made elsewhere, by GAN name."""

    def __init__(self, store: Store, folders: Mapping[str, ImageSet], progress: WorkProgress):
        self._store, self._folders, self._progress = store, folders, progress

    def to_score(self, cell: ScoreCell, train: ImageSet) -> ImageSet:
        """Return the images that `cell` scores, in the proportions of the training images.

        A folder may have fewer than the study wants, and too few of one class for those proportions.
        """
        if cell.generation.seed is None:
            _, others = _halves(self._folders[cell.generation.gan])
            return _in_proportion(others, _class_counts(train), cell.n_synthetic)
        return self._maker(cell, "score")(cell.n_synthetic, None)

    def to_classify(self, cell: ClassifyCell, train: ImageSet) -> tuple[ImageSet, dict[str, Any]]:
        """Return the images that are added to those of `train`, or test the classifier, with notes for its result.

        Of each class there are as many as ratio and fill want, unless a filter leaves too few: see `_accepted`. Folders
        have enough, by `check_pool`.
        """
        wanted = _wanted_counts(cell, train)
        if cell.filter is None:
            return self._first(cell, train, wanted), {}
        accepted, notes = self._accepted(cell, cell.filter, train, wanted)
        needed = np.array([index.max(initial=-1) + 1 for index in accepted])
        made, starts = self._first(cell, train, needed), np.cumsum(needed) - needed
        chosen = np.concatenate([start + index for start, index in zip(starts, accepted, strict=True)])
        return made.subset(chosen), notes

    def _accepted(
        self, cell: ClassifyCell, by: FilterCell, train: ImageSet, wanted: np.ndarray
    ) -> tuple[list[np.ndarray], dict[str, Any]]:
        """Return which candidates of each class are used, by number: the first that passed the filter.

        Of a class of which none passed, the first candidates stand in, so that classes keep their proportions and their
        numbers. Where some passed but too few, all classes are cut by the share of the scarcest. If either happens, the
        notes are `unfiltered`, the names of classes of which none passed, and `notes`, sentences for the report.
        """
        result: FilterResult = self._store.result(by)
        passed = [np.asarray(result.kept[name], dtype=np.int64) for name in train.classes]
        notes: list[str] = []
        unfiltered: list[str] = []
        for label, name in enumerate(train.classes):
            if wanted[label] and not len(passed[label]):
                passed[label] = np.arange(result.candidates[name])
                unfiltered.append(name)
                notes.append(
                    f"none of {len(passed[label])} candidates of class '{name}' passed the filter {by.by}: the first "
                    "of them are used unfiltered, as many as ratio and fill ask for"
                )
        available = np.array([len(index) for index in passed])
        some = np.flatnonzero(wanted)
        scarcest = some[(available[some] / wanted[some]).argmin()]
        counts = wanted
        if available[scarcest] < wanted[scarcest]:
            counts = wanted * available[scarcest] // wanted[scarcest]
            name = train.classes[scarcest]
            left = "there are only" if name in unfiltered else f"the filter {by.by} left"
            notes.append(
                f"{left} {available[scarcest]} candidates of class '{name}' where ratio {cell.ratio:g}, fill "
                f"{cell.fill}, asks for {wanted[scarcest]}: all classes are cut by that share, from {wanted.sum()} "
                f"synthetic images to {counts.sum()}"
            )
        accepted = [index[:n] for index, n in zip(passed, counts, strict=True)]
        return accepted, {"unfiltered": unfiltered, "notes": notes} if notes else {}

    def to_filter(self, cell: FilterCell, train: ImageSet) -> ImageSet:
        """Return the candidates of a filter: equally many of every class in `train`, or all that a folder has of it."""
        counts = _class_counts(train)
        wanted = np.where(counts > 0, cell.candidates * counts.max(), 0)
        if cell.generation.seed is None:
            ours, _ = _halves(self._folders[cell.generation.gan])
            wanted = np.minimum(wanted, _class_counts(ours))
        return self._first(cell, train, wanted)

    def _first(self, cell: FilterCell | ClassifyCell, train: ImageSet, counts: np.ndarray) -> ImageSet:
        """Return the first ``counts[c]`` images for classifiers of each class c, class by class."""
        assert cell.generation is not None
        if cell.generation.seed is None:
            ours, _ = _halves(self._folders[cell.generation.gan])
            return first_of_each_class(ours, counts)
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
            progress=lambda done, total: self._progress(done, total, "generating"),
        )


def check_pool(
    cells: Sequence[AnyCell], train_of: Callable[[AnyCell], ImageSet], folders: Mapping[str, ImageSet]
) -> None:
    """Check, before anything runs, that folders and training subsets have what the cells will need.

    A cell that fails stops all that come after it, each time the study is run. `train_of` returns the training images
    of a cell, `folders` are synthetic images made elsewhere. Raises StudyError if a folder has too few images for a
    classifier, or a subset too few groups for a filter.
    """
    filters = {(c.size, c.replicate, c.by, c.generation.seed): c for c in cells if isinstance(c, FilterCell)}
    for cell in filters.values():
        try:
            if cell.by == "confidence":
                group_folds(train_of(cell), seed=_filter_seed(cell))
            else:
                check_groups(train_of(cell))
        except FilterError as error:
            at = f"classifiers.filters, size {cell.size}, draw {cell.replicate}"
            raise StudyError(f"{at}: {error}; raise split.sizes or leave the filter out") from error
    takers = {
        (c.size, c.replicate, c.generation.gan, c.ratio, c.fill, ARMS[c.arm].synthetic_alone, c.filter is None): c
        for c in cells
        if isinstance(c, ClassifyCell) and c.generation and c.generation.seed is None
    }
    for (size, replicate, name, *_), taker in takers.items():
        counts = _wanted_counts(taker, train_of(taker))
        if taker.filter is not None:  # which may leave any number but needs something to choose from
            counts = np.minimum(counts, 1)
        half = _class_counts(folders[name]) // 2
        for label, class_name in enumerate(folders[name].classes):
            if counts[label] > half[label]:
                raise StudyError(
                    f"GAN '{name}', size {size}, draw {replicate}: a classifier needs {counts.sum()} of its synthetic "
                    f"images, {counts[label]} of them of class '{class_name}', apart from those that are scored, and "
                    f"half of the folder is {half.sum()}, {half[label]} of them of that class; add images or lower "
                    "classifiers.ratios or split.sizes"
                )


def _class_counts(images: ImageSet) -> np.ndarray:
    return np.bincount(images.labels, minlength=len(images.classes))


def _wanted_counts(cell: ClassifyCell, train: ImageSet) -> np.ndarray:
    """Return how many synthetic images of each class `cell` is planned with."""
    assert cell.ratio is not None and cell.fill is not None
    return added_counts(train, cell.ratio, cell.fill, ARMS[cell.arm].synthetic_alone)


def _filter_seed(cell: FilterCell) -> int:
    return seed_of(cell.generation.seed or 0, "filter", cell.size, cell.replicate)


def seed_for(cell: TrainCell, purpose: str) -> int:
    """Return the seed of images of the generator of `cell`, for one purpose: "score", "classify" or "gallery"."""
    assert cell.generation.seed is not None
    return seed_of(cell.generation.seed, cell.size, cell.replicate, purpose)


def filter_candidates(
    cell: FilterCell, train: ImageSet, made: ImageSet, cache: Path, progress: WorkProgress
) -> FilterResult:
    """Return the result of a filter cell: which of the candidates `made` pass, how many, and what that costs.

    Coverage (Naeem et al. 2020) is the share of training images with a synthetic one near them: of all candidates, of
    those that pass, and, as fewer images cover less, of as many of each class, unfiltered. None where fewer than two
    pass.
    """
    real, synthetic = (
        embed(images, cell.features, keep, lambda done, total: progress(done, total, "embedding"))
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
            seed=_filter_seed(cell),
            progress=lambda step, steps: progress(step, steps, f"filter classifiers, step {step} of {steps}"),
        )
    else:
        passed = distance_filter(train, made, real, synthetic, quantile=cell.quantile)
    places = [np.flatnonzero(made.labels == label) for label in range(len(made.classes))]
    kept = [np.flatnonzero(np.isin(place, passed.kept)) for place in places]
    coverages = {}
    if len(passed.kept) >= 2:
        as_many = np.concatenate([place[: len(index)] for place, index in zip(places, kept, strict=True)])
        of_all, accepted, same_number = (
            prdc(real, synthetic[index])["coverage"] for index in (np.arange(len(made)), passed.kept, as_many)
        )
        coverages = {"coverage_all": of_all, "coverage_accepted": accepted, "coverage_same_number": same_number}
        coverages["lost_coverage"] = of_all - accepted
    return FilterResult(
        **cell.identity(),
        kept={name: index.tolist() for name, index in zip(made.classes, kept, strict=True)},
        candidates=made.class_counts,
        **passed.to_dict(),
        **coverages,
    )


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
    available = _class_counts(images)
    labels = class_sequence(np.where(available > 0, counts, 0).tolist(), n)
    used = np.cumsum(labels[:, None] == np.arange(len(available)), axis=0)
    enough = int((used <= available).all(axis=1).sum())
    return first_of_each_class(images, used[-1 if enough < MIN_BASELINE else enough - 1])


def first_of_each_class(images: ImageSet, counts: Iterable[int]) -> ImageSet:
    """Return the first ``counts[c]`` of `images` of each class c, class by class."""
    places = [np.flatnonzero(images.labels == label)[:count] for label, count in enumerate(counts)]
    return images.subset(np.concatenate(places))
