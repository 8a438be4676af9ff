"""The images of a study: read and prepared once, then divided into test images and training subsets."""

import tempfile
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.audit.audit import find_problems, shared_frames
from sonosynth.audit.findings import write_tables
from sonosynth.core.errors import ClassError, LeakageError, SonosynthError, StudyError
from sonosynth.core.text import counted
from sonosynth.data.groups import with_groups
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import prepare_images
from sonosynth.data.prepared_folder import source_fingerprint
from sonosynth.data.readers.dicom.header import is_dicom, quiet_pydicom, read_header
from sonosynth.data.resize import Fit
from sonosynth.data.scan import read_source
from sonosynth.data.source import Source, SourceItem, some_of
from sonosynth.data.split import check_disjoint, check_real, leakage_message, other_classes
from sonosynth.gan.training.transfer import with_prior
from sonosynth.metrics.sets import check_class_names
from sonosynth.priors.fingerprints import known_images
from sonosynth.priors.prior import Prior, find_prior
from sonosynth.study.cells import AnyCell, NaiveCell, plan_cells
from sonosynth.study.config import StudyDesign
from sonosynth.study.splits import StudySplit, Subset, make_naive_split, make_splits
from sonosynth.study.store import Store
from sonosynth.study.study_file import expand, read_test_set
from sonosynth.study.synthetic import check_pool

_NAMES_GROUPS = ("manifest", "npz file")  # kinds of sources in which the user gives the groups


@dataclass(frozen=True)
class StudyData:
    """The images of a study, divided."""

    images: ImageSet  # all prepared images, without the user's own test set
    # into training subsets, test and validation images; several where splits are repeated
    splits: tuple[StudySplit, ...]
    folders: dict[str, ImageSet]  # synthetic images made elsewhere, by GAN name
    notes: list[str]  # what the user should know of reading and preparing
    kind: str  # how the source was read
    files: str | None = None  # fingerprint of the source, with its groups
    # a split of the same images that ignores groups, apart from exact copies, to compare with
    naive: StudySplit | None = None
    # the tables of an audit that was made for the study, by file name
    audit: Mapping[str, bytes] = field(default_factory=dict)

    def cells(self, design: StudyDesign) -> list[AnyCell]:
        """Return the cells of `design`. Raises StudyError if images, or groups of them, are too few for one of them."""
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


def prepare_study(design: StudyDesign, store: Store | None = None) -> StudyData:
    """Read and prepare the images of `design`, or take them from `store`, and divide them. Raises SonosynthError."""
    images, about = _prepared(design, store)
    if len(images.classes) < 2:
        raise ClassError(f"a study needs at least two classes, {design.data.source} has '{images.classes[0]}' alone")
    check_class_names(images.classes)
    check_real(images, "images of data.source")
    own_test, notes = None, list[str](about.pop("notes"))
    priors = _priors(design)
    if design.data.exclude_known:
        images, more = _without_known(images, priors)
        notes += more
    if design.split.test is not None:
        own_test, more = _own_test_set(design.split.test, design, images, store)
        if design.data.exclude_known:
            own_test, left_out = _without_known(own_test, priors)
            more += left_out
        notes += [f"test images: {line}" for line in more]
    splits = make_splits(design, images, own_test)
    notes += _check_known(images, splits, priors)
    folders: dict[str, ImageSet] = {}
    for gan in design.gans:
        if gan.folder:
            folders[gan.name], more = _folder(gan.folder, gan.name, design, images, own_test)
            notes += [f"GAN '{gan.name}': {line}" for line in more]
    notes = list(dict.fromkeys(notes))  # a study that goes on knows some already
    return StudyData(images, splits, folders, notes, **about, naive=make_naive_split(design, images))


def _priors(design: StudyDesign) -> list[Prior]:
    """Return the priors from which generators of `design` start. Raises PriorError: one is missing or does not fit."""
    recipes = [gan.recipe for gan in design.gans if gan.recipe is not None and gan.recipe.prior is not None]
    names = [with_prior(recipe, design.data.size).prior for recipe in recipes]
    return [find_prior(name) for name in dict.fromkeys(name for name in names if name is not None)]


def _without_known(images: ImageSet, priors: Sequence[Prior]) -> tuple[ImageSet, list[str]]:
    """Return `images` without those that one of `priors` was trained on, and notes on how many these are."""
    notes = []
    for prior in priors:
        known = known_images(images, prior.known)
        if known.all():
            raise LeakageError(f"prior '{prior.name}' was trained on all images of the study; take another prior")
        if known.any():
            dropped = f"{known.sum()} of {counted(len(images), 'image')} dropped"
            notes.append(f"{dropped}: prior '{prior.name}' was trained on them")
            images = images.subset(np.flatnonzero(~known))
    return images, notes


def _check_known(images: ImageSet, splits: Sequence[StudySplit], priors: Sequence[Prior]) -> list[str]:
    """Return notes on training images that one of `priors` was trained on too.

    Raises LeakageError where test or validation images are among them: they would judge what was made from them.
    """
    notes = []
    for prior in priors:
        for split in splits:
            for role, held_out in (("test", split.held_out), ("validation", split.validation)):
                known = np.zeros(0, bool) if held_out is None else known_images(held_out, prior.known)
                if held_out is not None and known.any():
                    some = some_of(f"'{held_out.ids[i]}'" for i in np.flatnonzero(known))
                    raise LeakageError(
                        f"prior '{prior.name}' was trained on {known.sum()} of {len(held_out)} {role} images: {some}; "
                        "run with --exclude-known to leave out what it knows, or take another prior"
                    )
        n_known = int(known_images(images, prior.known).sum())
        if n_known:
            notes.append(f"prior '{prior.name}' was trained on {n_known} of {len(images)} images too, all for training")
    return notes


def _prepared(design: StudyDesign, store: Store | None) -> tuple[ImageSet, dict[str, Any]]:
    """Return the prepared images, and fields of `StudyData` about them."""
    data = design.data
    if store is not None and store.data.is_dir():
        images = ImageSet.load(store.data)
        kept = store.provenance()["data"]
        notes = list(kept["notes"])
        if data.groups_table is not None and not expand(data.groups_table).is_file():
            kept_groups = f"the groups of {data.groups_table} that were used before are kept"
            notes.append(f"{kept_groups}, for the table is no longer there")
        else:
            notes += _check_unchanged(design, None, kept.get("files"), store.data)
        about = {"notes": notes, "kind": kept["kind"], "files": kept.get("files")}
        return images.with_classes(data.classes or images.classes), about
    ours = read_source(expand(data.source), data.options)
    source, lines = _grouped(design, ours)
    if design.split.test is not None:
        test = read_test_set(design.split.test, design)
        source = replace(source, depth_from=_items_of_classes(design, ours, test))
    files, tables = source_fingerprint(source), dict[str, bytes]()
    if data.groups == "audit":
        source, lines, tables = _audited(design, source)
    images, notes = prepare_images(source, data.size, data.fit, classes=data.classes, mask_overlays=data.mask_overlays)
    if store is not None and store.has_begun:
        _check_as_before(store, "fingerprint", images)
    return images, {"notes": [*lines, *notes], "kind": source.kind, "files": files, "audit": tables}


def _items_of_classes(design: StudyDesign, ours: Source, test: Source) -> tuple[SourceItem, ...]:
    """Return the images of `data.source` and `split.test`, which share the decision on the depth of 16-bit values."""
    classes = design.data.classes or ours.classes
    return tuple(item for item in (*ours.items, *test.items) if item.label in classes)


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
    """Return `source` with the groups of a table if the study names one, and notes on them."""
    table = design.data.groups_table
    return with_groups(source, expand(table), design.data.drops_conflicts) if table else (source, [])


def _audited(design: StudyDesign, source: Source) -> tuple[Source, list[str], dict[str, bytes]]:
    """Return `source` with duplicates grouped, notes on them, and the tables of the audit."""
    found = find_problems(source, sizes=design.split.sizes)
    with tempfile.TemporaryDirectory() as beside:
        write_tables(found, Path(beside))
        tables = {path.name: path.read_bytes() for path in sorted(Path(beside).iterdir())}
        source, notes = with_groups(source, Path(beside) / "groups.csv", design.data.drops_conflicts)
    clusters = found.clusters
    hold = counted(len(clusters), "cluster of duplicates holds", "clusters of duplicates hold")
    images = f"{sum(map(len, clusters))} of {counted(len(found.labels), 'image')}"
    summary = f"audit: {hold} {images}, {len(found.conflicts)} of them with two labels"
    return source, [summary, *(f"audit: {line}" for line in found.storage_differences), *notes], tables


def _check_unchanged(design: StudyDesign, test_set: str | None, before: str | None, kept: Path) -> list[str]:
    """Raise StudyError unless ``data.source``, or the test set, is what it was `before`, by its fingerprint.

    Where it cannot be read again, the images that are `kept` are used, which the returned note says.
    """
    named = test_set or design.data.source
    try:
        found = read_test_set(named, design) if test_set else read_source(expand(named), design.data.options)
    except SonosynthError as error:
        return [f"the images prepared before, in {kept}, are used, for the source cannot be read again: {error}"]
    if not test_set:
        found, _ = _grouped(design, found)
        named += f", or {design.data.groups_table}," if design.data.groups_table else ""
    if before is not None and source_fingerprint(found) != before:
        raise StudyError(
            f"the images of {named} have changed since this study began, and its results are of those "
            f"kept in {kept}; restore them, or choose another --out"
        )
    return []


def _left_out(source: Source, given: str, design: StudyDesign, images: ImageSet) -> list[str]:
    """Return a note on which images of `source`, read from `given`, are of no class that ``data.classes`` names."""
    others = other_classes(Counter(item.label for item in source.items), images.classes)
    if others and design.data.classes is None:
        raise ClassError(
            f"{given} has {others}, and data.source has {', '.join(images.classes)} alone; remove those images, or "
            "name the classes to take in data.classes"
        )
    return [f"left out, since data.classes does not name it: {others}"] if others else []


def _own_test_set(given: str, design: StudyDesign, images: ImageSet, store: Store | None) -> tuple[ImageSet, list[str]]:
    """Return the test set of the user's own, with notes, after all checks that it shares nothing with `images`."""
    if store is not None and store.test.is_dir():
        before = store.provenance()["data"].get("test_files")
        notes = _check_unchanged(design, given, before, store.test)
        return ImageSet.load(store.test).with_classes(images.classes), notes
    source = read_test_set(given, design)
    notes = _left_out(source, given, design, images)
    data = design.data
    noted_before = store is not None and store.data.is_dir()  # and the source may be gone
    ours = None
    try:
        ours = read_source(expand(data.source), data.options)
        source = replace(source, depth_from=_items_of_classes(design, ours, source))
    except SonosynthError as error:
        if data.grouped or not noted_before:
            raise
        notes.append(f"the depth of 16-bit values is decided without data.source, which cannot be read again: {error}")
    test, more = prepare_images(source, data.size, data.fit, classes=images.classes, mask_overlays=data.mask_overlays)
    if store is not None and store.has_begun:
        _check_as_before(store, "test_fingerprint", test)
    check_real(test, "images of split.test")
    roles, remedy = ("images of data.source", "images of split.test"), "remove them from one of the two"
    check_disjoint(images, test, roles, remedy)
    if data.grouped and ours:  # near copies are to be kept together, and so these as well
        used = set(images.ids)  # copies under two labels may have been left out
        ours = replace(ours, depth_from=source.depth_from)
        near = [pair for pair in shared_frames(ours, source) if pair[0] in used]
        if near:
            raise LeakageError(leakage_message(near, (roles[0], f"{roles[1]} (near copies, crops or flips)"), remedy))
    notes += more
    if ours and not noted_before:
        notes += shared_groups(ours, source, images.classes)
    return test, notes


@quiet_pydicom()
def shared_groups(ours: Source, test: Source, classes: Collection[str]) -> list[str]:
    """Return a note on groups with one name in the study's images and in the test set; empty if there are none.

    Names are the groups of a manifest or an array file, and patients in DICOM headers. It is no error, for two clinics
    may number their patients alike. An example is given by its images, as a name may be that of a person. Images of
    other `classes` are not looked at.
    """
    here, there = (_group_names(source, classes) for source in (ours, test))
    both = [name for name in here if name in there]
    if not both:
        return []
    called = counted(len(both), "group of split.test is", "groups of split.test are")
    return [
        f"{called} called like groups of data.source, e.g. that of '{there[both[0]]}' like "
        f"that of '{here[both[0]]}': if they are the same patients, remove them from one of the two"
    ]


def _group_names(source: Source, classes: Collection[str]) -> dict[Hashable, str]:
    """Return what the source calls its groups, each with the id of one of its images."""
    found: dict[Hashable, str] = {}
    force = source.options.force_dicom
    for item in source.items:
        headed = is_dicom(item.path, force)
        numbered = headed or (item.frame is not None and source.kind == "manifest")  # a reader may have numbered these
        name = item.extra.get("source_group") if source.kind == "image set" else item.group
        names: list[Hashable] = [read_header(item.path, force).owner] if headed else []
        if source.kind == "image set" or (source.kind in _NAMES_GROUPS and not (numbered and str(name).isdigit())):
            names.append(name)
        for one in names:
            if one and item.label in classes:
                found.setdefault(one, item.id)
    return found


def _folder(
    folder: str, name: str, design: StudyDesign, images: ImageSet, own_test: ImageSet | None
) -> tuple[ImageSet, list[str]]:
    """Return the synthetic images of a GAN that were made elsewhere, with notes; none may be a real image."""
    source = read_source(expand(folder))
    notes = _left_out(source, folder, design, images)
    fit: Fit = "stretch" if design.data.fit == "mask" else design.data.fit  # generated images have no masks
    made, more = prepare_images(source, design.data.size, fit, classes=images.classes)
    for real in (images, own_test):
        if real is not None:
            roles = "real images of this study", f"images of GAN '{name}'"
            check_disjoint(real, made, roles, "give generated images")
    return made, [*notes, *more]
