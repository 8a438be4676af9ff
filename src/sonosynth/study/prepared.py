"""The images of a study: read and prepared once, then divided into test images and training subsets."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.audit.audit import find_problems, shared_frames
from sonosynth.audit.findings import write_tables
from sonosynth.core.errors import ClassError, LeakageError, SonosynthError, SplitError, StudyError
from sonosynth.core.seeds import seed_of
from sonosynth.core.text import counted
from sonosynth.core.types import Progress
from sonosynth.data.groups import with_groups
from sonosynth.data.imageset import MANIFEST, ImageSet
from sonosynth.data.prepare import prepare_images
from sonosynth.data.prepared_folder import source_fingerprint
from sonosynth.data.readers.manifest import LABELS
from sonosynth.data.resize import Fit
from sonosynth.data.scan import read_source
from sonosynth.data.source import Source, SourceItem
from sonosynth.data.split import (
    MAX_ATTEMPTS,
    MIN_PER_CLASS,
    check_disjoint,
    check_real,
    leakage_message,
    nested_subsets,
    other_classes,
    split_indices,
)
from sonosynth.metrics.sets import check_class_names
from sonosynth.study.cells import AnyCell, NaiveCell, plan_cells
from sonosynth.study.config import GanEntry, StudyDesign
from sonosynth.study.shared_groups import shared_groups
from sonosynth.study.splits import SplitIndices, StudySplit, Subset
from sonosynth.study.store import Store
from sonosynth.study.study_file import expand
from sonosynth.study.synthetic import check_pool


@dataclass(frozen=True)
class StudyData:
    """The images of a study, divided.

    Attributes:
        images: all prepared images, without the user's own test set.
        splits: into training subsets, test and validation images; several where splits are repeated.
        folders: synthetic images made elsewhere, by GAN name.
        notes: what was told while reading and preparing.
        kind: how the source was read.
        files: fingerprint of the source, with its groups.
        naive: a split of the same images that ignores groups, apart from exact copies, to compare with.
        audit: the tables of an audit that was made for the study, by file name.
    """

    images: ImageSet
    splits: tuple[StudySplit, ...]
    folders: dict[str, ImageSet]
    notes: list[str]
    kind: str
    files: str | None = None
    naive: StudySplit | None = None
    audit: Mapping[str, bytes] = field(default_factory=dict)

    def cells(self, design: StudyDesign) -> list[AnyCell]:
        """Return the cells of `design` on these images.

        Raises:
            StudyError: there are too few images, or groups of them, for one of the cells.
        """
        cells = plan_cells(design, self.splits, self.folders, self.naive)
        check_pool(cells, self.subset_of, self.folders)
        return cells

    @property
    def subsets(self) -> list[Subset]:
        """Training subsets, by draw and size."""
        return [subset for split in self.splits for subset in split.subsets]

    @property
    def lone_groups(self) -> list[str]:
        """A line for each class of which some training subset has a single group, such as one patient."""
        lines = []
        for name in self.images.classes:
            alone = [subset for subset in self.subsets if self.images_of(subset).group_counts[name] == 1]
            if alone:
                first, count = alone[0], self.images_of(alone[0]).class_counts[name]
                others = counted(len(self.subsets) - 1, "subset")
                more = f", and in {len(alone) - 1} of the other {others}" if alone[1:] else ""
                lines.append(
                    f"class '{name}' has one group ({count} images) in the training subset of size {first.size}, draw "
                    f"{first.replicate}{more}: what is learnt of the class may be of one patient alone"
                )
        return lines

    def images_of(self, subset: Subset) -> ImageSet:
        """Return the images of a training subset."""
        return self.images.subset(subset.indices)

    @property
    def smallest_training_part(self) -> int:
        """Images from which training subsets are drawn, of several splits the fewest."""
        apart = [(s.indices.test, s.indices.validation) for s in self.splits]
        return len(self.images) - max(sum(len(part) for part in parts if part is not None) for parts in apart)

    def split_of(self, cell: AnyCell) -> StudySplit:
        """Return the split that holds the subset of `cell`."""
        if isinstance(cell, NaiveCell):
            assert self.naive is not None
            return self.naive
        return self.splits[cell.replicate if len(self.splits) > 1 else 0]

    def subset_of(self, cell: AnyCell) -> ImageSet:
        """Return the training images of `cell`."""
        split = self.split_of(cell)
        return next(split.images_of(s) for s in split.subsets if (s.size, s.replicate) == (cell.size, cell.replicate))


def prepare_study(design: StudyDesign, store: Store | None = None, progress: Progress | None = None) -> StudyData:
    """Read and prepare the images of `design`, or take them from `store`, and divide them.

    Raises:
        SonosynthError: the images, or the split asked for, cannot be used; see the readers and `split`.
    """
    images, told = _prepared(design, store, progress)
    if len(images.classes) < 2:
        raise ClassError(f"a study needs at least two classes, {design.data.source} has '{images.classes[0]}' alone")
    check_class_names(images.classes)
    check_real(images, "images of data.source")
    own, more = _own_test_set(design, images, store) if design.split.test is not None else (None, list[str]())
    notes = [*told.pop("notes"), *(f"test images: {line}" for line in more)]
    splits = _make_splits(design, images, own)
    folders: dict[str, ImageSet] = {}
    for gan in design.gans:
        if gan.folder:
            folders[gan.name], more = _folder(gan, design, images, own)
            notes += [f"GAN '{gan.name}': {line}" for line in more]
    notes = list(dict.fromkeys(notes))  # a study that goes on knows some already
    return StudyData(images, splits, folders, notes, **told, naive=_naive(design, images))


def _make_splits(design: StudyDesign, images: ImageSet, own_test: ImageSet | None) -> tuple[StudySplit, ...]:
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


def _make_split(
    design: StudyDesign, images: ImageSet, seed: int, replicates: Iterable[int], own_test: ImageSet | None = None
) -> StudySplit:
    """Divide `images`: first the test images, unless the user has their own, then the validation images, then subsets.

    Validation images leave the pool before subsets are drawn, so that no generator sees them.
    """
    plan = design.split
    pool, test, tested = np.arange(len(images)), None, own_test
    if tested is None:
        assert plan.test_fraction is not None
        # Subsets need two images of each class, and validation images another one, of another group.
        min_train, min_train_groups = (MIN_PER_CLASS, 1) if plan.validation_fraction is None else (MIN_PER_CLASS + 1, 2)
        pool, test = split_indices(
            images, plan.test_fraction, seed, min_train=min_train, min_train_groups=min_train_groups
        )
        tested = images.subset(test)
    chooses = None
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
        pool, chooses = pool[rest], pool[aside]
    subsets = [
        Subset(size=size, replicate=replicate, indices=tuple(indices.tolist()))
        for replicate in replicates
        for size, indices in nested_subsets(images, pool, plan.sizes, replicate, seed).items()
    ]
    indices = SplitIndices(
        test=None if test is None else tuple(test.tolist()),
        validation=None if chooses is None else tuple(chooses.tolist()),
        subsets=tuple(subsets),
    )
    return StudySplit(images, indices, tested, None if chooses is None else images.subset(chooses))


def _naive(design: StudyDesign, images: ImageSet) -> StudySplit | None:
    """Return the split that someone would make who knows of no groups; equal pixels stay together even so."""
    sizes = design.split.naive_sizes(design.data.grouped)
    if not sizes:
        return None
    _, alone = np.unique(images.images.reshape(len(images), -1), axis=0, return_inverse=True)
    alone_each = replace(images, groups=alone.astype(np.int64))
    careless = _make_split(design, alone_each, design.split.seed, range(design.split.draws))
    chosen = tuple(subset for subset in careless.subsets if subset.size in sizes)
    return replace(careless, indices=careless.indices.model_copy(update={"subsets": chosen}))


def _prepared(design: StudyDesign, store: Store | None, progress: Progress | None) -> tuple[ImageSet, dict[str, Any]]:
    """Return the prepared images, and what `StudyData` says of them."""
    data = design.data
    if store is not None and store.data.is_dir():
        images = ImageSet.load(store.data)
        kept = store.provenance()["data"]
        notes = [*kept["notes"], *_unchanged(design, kept.get("files"), store.data)]
        told = {"notes": notes, "kind": kept["kind"], "files": kept.get("files")}
        return images.with_classes(data.classes or images.classes), told
    ours = read_source(expand(data.source), data.options)
    source, lines = _grouped(design, ours)
    if design.split.test is not None:
        tested = read_test_set(design.split.test, design)
        source = replace(source, depth_from=_trained_or_tested(design, ours, tested))
    files, tables = source_fingerprint(source), dict[str, bytes]()
    if data.groups == "audit":
        source, lines, tables = _audited(design, source, progress)
    how: dict[str, Any] = {"progress": progress, "mask_overlays": data.mask_overlays}
    images, notes = prepare_images(source, data.size, data.fit, classes=data.classes, **how)
    if store is not None and store.has_begun:
        _check_as_before(store, "fingerprint", images)
    return images, {"notes": [*lines, *notes], "kind": source.kind, "files": files, "audit": tables}


def _trained_or_tested(design: StudyDesign, ours: Source, tested: Source) -> tuple[SourceItem, ...]:
    """Return the images of `data.source` and `split.test`, which share the decision on the depth of 16-bit values."""
    classes = design.data.classes or ours.classes
    return tuple(item for item in (*ours.items, *tested.items) if item.label in classes)


def _check_as_before(store: Store, name: str, images: ImageSet) -> None:
    """Raise StudyError unless `images`, prepared anew, are those that the results in `store` rest on.

    `name` is that of their fingerprint in the provenance; where an earlier version kept none, they are believed.
    """
    before = store.provenance()["data"].get(name)
    if before is not None and images.fingerprint() != before:
        raise StudyError(
            f"pixels, labels or groups of the {'test ' if name == 'test_fingerprint' else ''}images differ from those "
            f"of the results in {store.directory}, which may come from another machine or version; bring its data/ and "
            "test/ folders too, or choose another --out"
        )


def _grouped(design: StudyDesign, source: Source) -> tuple[Source, list[str]]:
    """Return `source` with the groups of a table if the study names one, and lines to tell the user."""
    if design.data.groups in ("source", "audit"):
        return source, []
    return with_groups(source, expand(design.data.groups), design.data.drops_conflicts)


def _audited(
    design: StudyDesign, source: Source, progress: Progress | None
) -> tuple[Source, list[str], dict[str, bytes]]:
    """Return `source` with duplicates grouped, lines to tell the user, and the tables of the audit."""
    tell = progress or (lambda done, total: None)
    found = find_problems(source, sizes=design.split.sizes, progress=lambda done, total, _: tell(done, total or 0))
    with tempfile.TemporaryDirectory() as beside:
        write_tables(found, Path(beside))
        tables = {path.name: path.read_bytes() for path in sorted(Path(beside).iterdir())}
        source, told = with_groups(source, Path(beside) / "groups.csv", design.data.drops_conflicts)
    clusters = found.clusters
    hold = counted(len(clusters), "cluster of duplicates holds", "clusters of duplicates hold")
    images = f"{sum(map(len, clusters))} of {counted(len(found.labels), 'image')}"
    summary = f"audit: {hold} {images}, {len(found.conflicts)} of them with two labels"
    return source, [summary, *(f"audit: {line}" for line in found.storage_differences), *told], tables


def _unchanged(design: StudyDesign, before: str | None, kept: Path) -> list[str]:
    """Check that the study's images are still those that were prepared as `kept`; return lines to tell the user."""
    groups = design.data.groups
    if groups not in ("source", "audit") and not expand(groups).is_file():
        return [f"the groups of {groups} that were used before are kept, for the table is no longer there"]
    return _still(
        design.data.source, lambda: read_source(expand(design.data.source), design.data.options), before, kept, design
    )


def _still(
    source: str, read: Callable[[], Source], before: str | None, kept: Path, design: StudyDesign | None = None
) -> list[str]:
    """Check that what `read` finds in `source` is what was there `before`; return lines to tell the user.

    Raises:
        StudyError: they are not, so that old and new results would rest on different images.
    """
    try:
        found = read()
    except SonosynthError as error:
        return [f"the images prepared before, in {kept}, are used, for the source cannot be read again: {error}"]
    if design is not None:
        found, _ = _grouped(design, found)
    if before is not None and source_fingerprint(found) != before:
        table = "" if design is None or design.data.groups in ("source", "audit") else f", or {design.data.groups},"
        raise StudyError(
            f"the images of {source}{table} have changed since this study began, and its results are of those "
            f"kept in {kept}; restore them, or choose another --out"
        )
    return []


def read_test_set(given: str, design: StudyDesign) -> Source:
    """Read `given`, a test set of the user's own, as `data.source` is read; `data.columns` are those of a table."""
    path, options = expand(given), design.data.options
    if path.suffix.lower() == ".csv" or any((path / name).is_file() for name in (MANIFEST, LABELS)):
        return read_source(path, options)
    return read_source(path, replace(options, path=None, label=None, group=None))


def _left_out(source: Source, given: str, design: StudyDesign, images: ImageSet) -> list[str]:
    """Return a line on which images of `source`, read from `given`, are of no class of the study.

    Raises:
        ClassError: it has images of other classes than the study, and `data.classes` does not say which ones to take.
    """
    others = other_classes(Counter(item.label for item in source.items), images.classes)
    if others and design.data.classes is None:
        raise ClassError(
            f"{given} has {others}, and data.source has {', '.join(images.classes)} alone; remove those images, or "
            "name the classes to take in data.classes"
        )
    return [f"left out, since data.classes does not name it: {others}"] if others else []


def _own_test_set(design: StudyDesign, images: ImageSet, store: Store | None) -> tuple[ImageSet, list[str]]:
    assert design.split.test is not None
    if store is not None and store.test.is_dir():
        kept = store.provenance()["data"]
        own = design.split.test
        told = _still(own, lambda: read_test_set(own, design), kept.get("test_files"), store.test)
        return ImageSet.load(store.test).with_classes(images.classes), told
    source = read_test_set(design.split.test, design)
    told = _left_out(source, design.split.test, design, images)
    data = design.data
    known = store is not None and store.data.is_dir()  # then it has been told, and the source may be gone
    ours = None
    try:
        ours = read_source(expand(data.source), data.options)
        source = replace(source, depth_from=_trained_or_tested(design, ours, source))
    except SonosynthError as error:
        if data.grouped or not known:
            raise
        told.append(f"the depth of 16-bit values is decided without data.source, which cannot be read again: {error}")
    test, notes = prepare_images(source, data.size, data.fit, classes=images.classes, mask_overlays=data.mask_overlays)
    if store is not None and store.has_begun:
        _check_as_before(store, "test_fingerprint", test)
    check_real(test, "images of split.test")
    roles, remedy = ("images of data.source", "images of split.test"), "remove them from one of the two"
    check_disjoint(images, test, roles, remedy)
    if data.grouped and ours:  # who asks for near copies to be kept together means these as well
        used = set(images.ids)  # copies under two labels may have been left out
        ours = replace(ours, depth_from=source.depth_from)
        near = [pair for pair in shared_frames(ours, source) if pair[0] in used]
        if near:
            raise LeakageError(leakage_message(near, (roles[0], f"{roles[1]} (near copies, crops or flips)"), remedy))
    told += notes
    if ours and not known:
        told += shared_groups(ours, source, images.classes)
    return test, told


def _folder(
    gan: GanEntry, design: StudyDesign, images: ImageSet, own_test: ImageSet | None
) -> tuple[ImageSet, list[str]]:
    assert gan.folder is not None
    source = read_source(expand(gan.folder))
    told = _left_out(source, gan.folder, design, images)
    fit: Fit = "stretch" if design.data.fit == "mask" else design.data.fit  # generated images have no masks
    made, notes = prepare_images(source, design.data.size, fit, classes=images.classes)
    roles = "real images of this study", f"images of GAN '{gan.name}'"
    for real in (images, own_test):
        if real is not None:
            check_disjoint(real, made, roles, "give generated images")
    return made, [*told, *notes]
