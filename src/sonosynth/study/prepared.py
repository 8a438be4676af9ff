"""The images of a study: read and prepared once, then divided into test images and training subsets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import prepare, source_fingerprint
from sonosynth.data.readers import read_source
from sonosynth.data.split import check_apart, check_real, held_out, nested_subsets
from sonosynth.errors import ClassError, SonosynthError, StudyError
from sonosynth.files import read_json
from sonosynth.metrics.scorecard import check_class_names
from sonosynth.study.cells import AnyCell, Subset, plan_cells
from sonosynth.study.design import GanEntry, StudyDesign, expand
from sonosynth.study.store import Store


@dataclass(frozen=True)
class StudyData:
    """The images of a study, divided.

    Attributes:
        images: all prepared images, without the user's own test set.
        held_out: the test images.
        test_indices: where they stand in `images`; None if the test set is the user's own.
        subsets: training subsets, by draw and size.
        folders: synthetic images made elsewhere, by GAN name.
        notes: what was told while reading and preparing.
        kind: how the source was read.
    """

    images: ImageSet
    held_out: ImageSet
    test_indices: np.ndarray | None
    subsets: list[Subset]
    folders: dict[str, ImageSet]
    notes: list[str]
    kind: str

    def cells(self, design: StudyDesign) -> list[AnyCell]:
        """Return the cells of `design` on these images."""
        return plan_cells(design, self.subsets, self.held_out, self.folders)


def prepare_study(
    design: StudyDesign, store: Store | None = None, progress: Callable[[int, int], None] | None = None
) -> StudyData:
    """Read and prepare the images of `design`, or take them from `store`, and divide them.

    Raises:
        SonosynthError: the images, or the split asked for, cannot be used; see the readers and `split`.
    """
    images, kind, notes = _prepared(design, store, progress)
    if len(images.classes) < 2:
        raise ClassError(f"a study needs at least two classes, {design.data.source} has '{images.classes[0]}' alone")
    check_class_names(images.classes)
    check_real(images, "images of data.source")
    if design.split.test is None:
        assert design.split.test_fraction is not None
        pool, test = held_out(images, design.split.test_fraction, design.split.seed)
        test_images = images.subset(test)
    else:
        pool, test = np.arange(len(images)), None
        test_images = _own_test_set(design, images, store)
    subsets = [
        Subset(size, draw, indices, images.subset(indices))
        for draw in range(design.split.draws)
        for size, indices in nested_subsets(images, pool, design.split.sizes, draw, design.split.seed).items()
    ]
    folders = {gan.name: _folder(gan, design, images, test_images) for gan in design.gans if gan.folder}
    return StudyData(images, test_images, test, subsets, folders, notes, kind)


def _prepared(
    design: StudyDesign, store: Store | None, progress: Callable[[int, int], None] | None
) -> tuple[ImageSet, str, list[str]]:
    data = design.data
    if store is not None and store.data.is_dir():
        images = ImageSet.load(store.data)
        kept = read_json(store.directory / "provenance.json")["data"]
        notes = [*kept["notes"], *_unchanged(data.source, kept.get("files"), store.data)]
        return images.with_classes(data.classes or images.classes), kept["kind"], notes
    source = read_source(expand(data.source))
    images, notes = prepare(source, data.size, data.fit, classes=data.classes, progress=progress)
    return images, source.kind, notes


def _unchanged(source: str, before: str | None, kept: Path) -> list[str]:
    """Check that the files of `source` are still those that were prepared as `kept`; return lines to tell the user.

    Raises:
        StudyError: they are not, so that old and new results would rest on different images.
    """
    try:
        now = source_fingerprint(read_source(expand(source)))
    except SonosynthError as error:
        return [f"the images prepared before, in {kept}, are used, for the source cannot be read again: {error}"]
    if before is not None and now != before:
        raise StudyError(
            f"the images of {source} have changed since this study began, and its results are of those kept in {kept}; "
            "restore them, or choose another --out"
        )
    return []


def _own_test_set(design: StudyDesign, images: ImageSet, store: Store | None) -> ImageSet:
    assert design.split.test is not None
    if store is not None and store.test.is_dir():
        kept = read_json(store.directory / "provenance.json")["data"]
        _unchanged(design.split.test, kept.get("test_files"), store.test)
        return ImageSet.load(store.test).with_classes(images.classes)
    source = read_source(expand(design.split.test))
    test, _ = prepare(source, design.data.size, design.data.fit, classes=images.classes)
    check_real(test, "images of split.test")
    check_apart(images, test, ("images of data.source", "images of split.test"), "remove them from one of the two")
    return test


def _folder(gan: GanEntry, design: StudyDesign, images: ImageSet, test: ImageSet) -> ImageSet:
    assert gan.folder is not None
    made, _ = prepare(read_source(expand(gan.folder)), design.data.size, design.data.fit, classes=images.classes)
    for real in (test, images):
        check_apart(real, made, ("real images of this study", f"images of GAN '{gan.name}'"), "give generated images")
    return made
