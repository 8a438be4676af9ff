"""How the images of a study are divided: into test images, validation images and training subsets.

The same models write ``split.json`` and read it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from sonosynth.core.errors import SplitError
from sonosynth.core.seeds import seed_of
from sonosynth.core.text import counted
from sonosynth.data.imageset import ImageSet
from sonosynth.data.split import MAX_ATTEMPTS, MIN_PER_CLASS, nested_subsets, split_indices
from sonosynth.study.config import StudyDesign
from sonosynth.study.files import FileModel, read_object, validated

SPLIT_JSON = "split.json"


class Subset(FileModel):
    """One training subset: `indices` into the study's images, planned to hold `size` images."""

    size: int
    replicate: int = Field(alias="draw")
    indices: tuple[int, ...]


def repeated_subsets(subsets: Iterable[Subset]) -> set[tuple[int, int]]:
    """Return size and number of the draws whose images an earlier draw of that size has already.

    So are all draws but one where a size takes the whole pool. They say nothing of other training images, so they must
    not count as several.
    """
    known, repeated = set[tuple[int, tuple[int, ...]]](), set[tuple[int, int]]()
    for subset in sorted(subsets, key=lambda one: one.replicate):
        key = subset.size, tuple(sorted(subset.indices))
        if key in known:
            repeated.add((subset.size, subset.replicate))
        known.add(key)
    return repeated


class SplitIndices(FileModel):
    """One division of the images, by their indices."""

    test: tuple[int, ...] | None  # the test images; None if the test set is the user's own
    # images that choose the weights of classifiers, in no subset; None where nothing is chosen
    validation: tuple[int, ...] | None = None
    subsets: tuple[Subset, ...]  # training subsets, by draw and size

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the number of images of each subset."""
        subsets = [
            {"size": s.size, "draw": s.replicate, "n": len(s.indices), "indices": s.indices} for s in self.subsets
        ]
        chosen_by = {} if self.validation is None else {"validation": self.validation}
        return {"test": self.test, **chosen_by, "subsets": subsets}


class _SplitFile(FileModel):
    """What ``split.json`` holds beside the keys of a single split."""

    repeats: tuple[SplitIndices, ...] | None = None
    naive: SplitIndices | None = None


def splits_to_dict(splits: tuple[SplitIndices, ...], repeated: bool, naive: SplitIndices | None) -> dict[str, Any]:
    """Return the content of ``split.json``."""
    content = {"repeats": [split.to_dict() for split in splits]} if repeated else splits[0].to_dict()
    return content if naive is None else content | {"naive": naive.to_dict()}


def read_splits(path: Path) -> tuple[tuple[SplitIndices, ...], bool, SplitIndices | None]:
    """Return what `splits_to_dict` was given. Raises StudyError if the file is missing or damaged."""
    content = read_object(path)
    file: _SplitFile = validated(_SplitFile, content, path)
    if file.repeats is not None:
        return file.repeats, True, file.naive
    return (validated(SplitIndices, content, path),), False, file.naive


@dataclass(frozen=True)
class StudySplit:
    """A division of `images`, with those that test the classifiers and, if there are any, those that choose weights."""

    images: ImageSet
    indices: SplitIndices
    held_out: ImageSet
    validation: ImageSet | None = None

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """Training subsets, by draw and size."""
        return self.indices.subsets

    def images_of(self, subset: Subset) -> ImageSet:
        """Return the images of a training subset."""
        return self.images.subset(subset.indices)


def make_splits(design: StudyDesign, images: ImageSet, own_test: ImageSet | None) -> tuple[StudySplit, ...]:
    """Divide `images` once, or repeatedly with test images that differ. Raises SplitError if that cannot be done."""
    plan = design.split
    if plan.repeats is None:
        return (_make_split(design, images, plan.seed, range(plan.draws), own_test),)
    splits: list[StudySplit] = []
    tests: list[np.ndarray] = []
    for r in range(plan.repeats):
        for attempt in range(MAX_ATTEMPTS):
            seed = seed_of(plan.seed, "repeat", r, *([attempt] if attempt else []))
            split = _make_split(design, images, seed, (r,))
            test = np.asarray(split.indices.test)
            if not any(np.array_equal(test, other) for other in tests):
                break
        else:
            raise SplitError(
                f"of {plan.repeats} random splits number {r + 1} has the test images of an earlier one, in each of "
                f"{MAX_ATTEMPTS} tries: there are {counted(len(images), 'image')} in "
                f"{counted(len(np.unique(images.groups)), 'group')}; lower split.repeats"
            )
        splits.append(split)
        tests.append(test)
    for label, name in enumerate(images.classes):
        if len({tuple(test[images.labels[test] == label]) for test in tests}) == 1:
            raise SplitError(
                f"class '{name}' has the same test images in each of {len(tests)} random splits, so that they say "
                "nothing of other images of it; use split.draws instead of split.repeats, or leave the class out"
            )
    return tuple(splits)


def make_naive_split(design: StudyDesign, images: ImageSet) -> StudySplit | None:
    """Divide `images` without regard to groups, if the design compares with that; equal pixels still stay together."""
    sizes = design.split.naive_sizes(design.data.grouped)
    if not sizes:
        return None
    _, distinct = np.unique(images.images.reshape(len(images), -1), axis=0, return_inverse=True)
    ungrouped = replace(images, groups=distinct.astype(np.int64))
    split = _make_split(design, ungrouped, design.split.seed, range(design.split.draws))
    chosen = tuple(subset for subset in split.subsets if subset.size in sizes)
    return replace(split, indices=split.indices.model_copy(update={"subsets": chosen}))


def _make_split(
    design: StudyDesign, images: ImageSet, seed: int, replicates: Iterable[int], own_test: ImageSet | None = None
) -> StudySplit:
    """Divide `images`: first the test images, unless the user has their own, then the validation images, then subsets.

    Validation images leave the pool before subsets are drawn, so that no generator sees them.
    """
    plan = design.split
    pool, test, validation, held_out = np.arange(len(images)), None, None, own_test
    if held_out is None:
        assert plan.test_fraction is not None
        # Subsets need two images of each class, and validation images another one, of another group.
        needed = {"min_train": MIN_PER_CLASS, "min_train_groups": 1}
        if plan.validation_fraction is not None:
            needed = {"min_train": MIN_PER_CLASS + 1, "min_train_groups": 2}
        pool, test = split_indices(images, plan.test_fraction, seed, **needed)
        held_out = images.subset(test)
    if plan.validation_fraction is not None:
        try:
            rest, aside = split_indices(
                images.subset(pool), plan.validation_fraction, seed_of(seed, "validation"), min_train=MIN_PER_CLASS
            )
        except SplitError as error:
            raise SplitError(
                f"validation images, of the {len(pool)} that are not test images: {error}; or change split.seed, for "
                "other test images"
            ) from error
        pool, validation = pool[rest], pool[aside]
    subsets = [
        Subset(size=size, replicate=replicate, indices=tuple(indices.tolist()))
        for replicate in replicates
        for size, indices in nested_subsets(images, pool, plan.sizes, replicate, seed).items()
    ]
    repeated = repeated_subsets(subsets)
    subsets = [subset for subset in subsets if (subset.size, subset.replicate) not in repeated]
    indices = SplitIndices(
        test=None if test is None else tuple(test.tolist()),
        validation=None if validation is None else tuple(validation.tolist()),
        subsets=tuple(subsets),
    )
    return StudySplit(images, indices, held_out, None if validation is None else images.subset(validation))
