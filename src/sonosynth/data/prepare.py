"""From files of any size to an `ImageSet` of one size, with a record of how."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import get_args

import numpy as np

from sonosynth.core.errors import ClassError, ManifestError, SourceError
from sonosynth.core.text import agreeing, counted, did_you_mean
from sonosynth.core.types import Array, Progress
from sonosynth.data import encoding
from sonosynth.data.groups import cluster_numbers, renumbered, whole_number
from sonosynth.data.imageset import MANIFEST, ImageSet
from sonosynth.data.overlays import remove_overlays
from sonosynth.data.readers.base import DecodedImage
from sonosynth.data.resize import Fit, Geometry, lesion_crop, resize_to_square
from sonosynth.data.scan import SourceReport, decode_all
from sonosynth.data.source import Source, SourceItem

SIZES = range(8, 2049)
# Integers of original pixels, then floats; `offset` in prepared pixels.
_ORIGINAL = ("original_path", "original_width", "original_height", "original_mode")
_CROP = ("crop_left", "crop_top", "crop_width", "crop_height")
_SCALES = ("scale_x", "scale_y", "offset_x", "offset_y")
_RECORD = (*_ORIGINAL, "fit", *_CROP, *_SCALES)


def prepare_images(
    source: Source,
    size: int,
    fit: Fit = "stretch",
    skip_unreadable: bool = False,
    classes: Sequence[str] | None = None,
    progress: Progress | None = None,
    mask_overlays: bool = False,
) -> tuple[ImageSet, list[str]]:
    """Bring all images of `source` to ``size × size`` and record how, so that they can be brought back.

    Groups are those of the source (a manifest, patients, clips), numbered in order of first appearance, else each image
    is its own; exact copies (equal grey pixels at original size) are always put into one group. Each image gets the
    columns `original_path` (under the root of `source`), `original_width`, `original_height`, `original_mode`, `fit`,
    `crop_left`, `crop_top`, `crop_width`, `crop_height` (original pixels), `scale_x`, `scale_y` (prepared pixels per
    original pixel), `offset_x` and `offset_y` (prepared pixels; see `Geometry`), beside those that the reader adds:
    `frame` of a file with several, and of DICOM files `region_left` and so on, the cut-out that counts as the original
    here. The columns `original_format` and so on (`encoding.COLUMNS`) say how the original file stores its pixels. The
    record of an image that was prepared before is carried on. An image set of that size already is passed through as
    it is.

    Args:
        source: what `read_source` found.
        size: pixels, 8 to 2048.
        fit: "stretch" each side to `size`; "crop" the square in the middle; "pad" the shorter side by mirroring; "mask"
            crops the square around the marked lesion, and the one in the middle where nothing is marked.
        skip_unreadable: leave files that cannot be decoded out, and count them.
        classes: the classes to take, in this order; all of them, sorted, if not given.
        progress: called with the number of files done and of all files.
        mask_overlays: fill burned-in words and calipers from their surroundings first (`remove_overlays`);
            the column `overlay_pixels` says how many pixels of each original were filled.

    Returns:
        The image set, and lines to tell the user.

    Raises:
        ClassError: `classes` names an unknown class, or a class has no readable image.
        UnreadableImageError: a file cannot be decoded and is not to be skipped.
    """
    if size not in SIZES or fit not in get_args(Fit):
        raise ValueError(f"size must be {SIZES[0]} to {SIZES[-1]} and fit one of {get_args(Fit)}: {size}, {fit!r}")
    chosen = _of_classes(source, classes) if classes is not None else source

    def work(item: SourceItem, picture: DecodedImage) -> tuple[Array, Geometry, int, bool]:
        grey, filled = remove_overlays(picture.grey) if mask_overlays else (picture.grey, 0)
        square = lesion_crop(item.masks, grey.shape) if fit == "mask" else None
        return *resize_to_square(grey, size, fit, square), filled, square is not None

    report, values = decode_all(chosen, work, skip_unreadable, progress)
    images = np.stack([image for image, *_ in values])
    notes = report.notes()
    if fit == "mask":
        notes.append(_mask_note(report, [marked for *_, marked in values]))
    if mask_overlays:
        notes.append(f"words or calipers filled: {sum(v[2] > 0 for v in values)} of {counted(len(values), 'image')}")
    overlaid = {"overlay_pixels": tuple(str(filled) for _, _, filled, _ in values)} if mask_overlays else {}
    if source.kind == "image set" and set(report.sizes) == {(size, size)}:
        columns = user_columns(report)
        notes.append(f"already an image set of {size} × {size}: nothing resampled")
        return to_image_set(report, images, columns | overlaid | columns), notes  # what was filled before is carried on
    geometries = [geometry for _, geometry, *_ in values]
    enlarged = sum(geometry.scale_x > 1 or geometry.scale_y > 1 for geometry in geometries)
    if enlarged:
        have = agreeing(enlarged, "it has", "they have")
        notes.append(f"enlarges {enlarged} of {counted(len(values), 'image')}: {size} px is more than {have}")
    columns, renamed = _recorded(report, fit, geometries)
    columns |= overlaid | encoding_columns(report, columns)
    if renamed:
        notes.append(f"columns of yours that the record needs now begin with 'source_': {', '.join(renamed)}")
    return to_image_set(report, images, columns), notes


def _mask_note(report: SourceReport, marked: Sequence[bool]) -> str:
    """Return what to know of crops around lesions; raise SourceError where the source marks none."""
    if not any(marked):
        there = any(image.item.masks for image in report.images)
        why = "all its masks are empty" if there else "there are no masks (such as NAME_mask.png beside NAME.png)"
        raise SourceError(f"{report.source.root} marks no lesion: {why}; use another --fit")
    bare = Counter(image.item.label for image, found in zip(report.images, marked, strict=True) if not found)
    without = ", ".join(f"{count} {name}" for name, count in sorted(bare.items()))
    note = f"cropped around the marked lesion: {sum(marked)} of {counted(len(marked), 'image')}"
    return f"{note}; in the middle: {without}, which can tell the classes apart by magnification" if bare else note


def group_numbers(report: SourceReport) -> Array:
    """Return int64 ``[N]`` group numbers in which no cluster of exact copies spans two groups.

    An image set keeps its numbers; elsewhere groups are numbered in order of first appearance. Joined groups take the
    number that appears first. Generated images are left as they are: their copies leak nothing.
    """
    items, seen = report.source.items, dict[object, int]()
    if report.source.kind == "image set":
        found = [whole_number(item.group or "") for item in items]
        if None in found:
            item = items[found.index(None)]
            raise ManifestError(
                f"{report.source.root / MANIFEST}: group '{item.group or ''}' of '{item.id}' is not a whole number "
                "of 64 bits; number the groups, or remove the columns id and synthetic to have them numbered"
            )
    else:
        found = [seen.setdefault(item.group or i, len(seen)) for i, item in enumerate(items)]
    numbers = np.array(found, dtype=np.int64)
    if report.source.synthetic:
        return numbers
    groups = renumbered(numbers)
    copies = [(groups[first], groups[copy]) for first, *others in report.duplicates for copy in others]
    joined = cluster_numbers(len(items), copies)[groups]
    _, first, inverse = np.unique(joined, return_index=True, return_inverse=True)
    return np.asarray(numbers[first[inverse]])


def _recorded(report: SourceReport, fit: Fit, how: Sequence[Geometry]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the user's columns with the record's, and which of the user's had to be renamed.

    Where the source was prepared before, its record is carried on. Prepared images are square, for which every fit is
    one and the same plain resizing.
    """
    columns, earlier = user_columns(report), dict[str, list[float]]()
    if set(_RECORD) <= columns.keys() and all(width == height for width, height in report.sizes):
        with suppress(ValueError):  # not our record: its columns are kept under other names, and the user is told
            earlier = {name: [float(text) for text in columns[name]] for name in _SCALES}
    renamed = [] if earlier else [name for name in (*_RECORD, *encoding.COLUMNS) if name in columns]
    kept = {(f"source_{name}" if name in renamed else name): values for name, values in columns.items()}
    if not earlier:
        rows = []
        for facts, g in zip(report.images, how, strict=True):
            path = facts.item.path.relative_to(report.source.root).as_posix()
            crop, scale = (g.left, g.top, g.width, g.height), (f"{g.scale_x:.10g}", f"{g.scale_y:.10g}")
            row = (path, facts.width, facts.height, facts.mode, fit, *crop, *scale, g.offset_x, g.offset_y)
            rows.append([str(value) for value in row])
        return kept | dict(zip(_RECORD, zip(*rows, strict=True), strict=True)), renamed
    for name, numbers in earlier.items():
        steps = [geometry.scale_x if name.endswith("x") else geometry.scale_y for geometry in how]
        kept[name] = tuple(f"{number * step:.10g}" for number, step in zip(numbers, steps, strict=True))
    return kept, renamed


def encoding_columns(report: SourceReport, columns: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the columns that say how the original files store their pixels, unless `columns` has them.

    Empty for a set that an older version prepared: its own files do not say what they were made from.
    """
    if not columns.keys().isdisjoint(encoding.COLUMNS):
        return {}
    found = encoding.encodings(report.source.items, report.source.options)
    return encoding.encodings_to_columns(found) if any(found) else {}


def user_columns(report: SourceReport) -> dict[str, tuple[str, ...]]:
    """Return the user's own columns, and as `source_group` what a manifest calls the groups."""
    items = report.source.items
    columns = {name: tuple(item.extra[name] for item in items) for name in items[0].extra}
    if report.source.kind == "manifest" and "source_group" not in columns and any(item.group for item in items):
        columns["source_group"] = tuple(item.group or "" for item in items)
    return columns


def to_image_set(report: SourceReport, images: Array, extra: Mapping[str, tuple[str, ...]]) -> ImageSet:
    """Return the image set of what was decoded, `images` in the order of ``report.images``."""
    source = report.source
    return ImageSet(
        images=images,
        labels=np.array([source.classes.index(item.label) for item in source.items], dtype=np.int64),
        classes=source.classes,
        groups=group_numbers(report),
        ids=tuple(item.id for item in source.items),
        synthetic=source.synthetic,
        extra=extra,
    )


def _of_classes(source: Source, names: Sequence[str]) -> Source:
    for name in names:
        if name not in source.classes:
            known = ", ".join(source.classes)
            raise ClassError(f"{source.root}: no class '{name}'{did_you_mean(name, source.classes)}; known: {known}")
    if not names or len(set(names)) < len(names):
        raise ClassError(f"classes must be named, each once: {', '.join(names) or 'none given'}")
    return replace(source, items=tuple(item for item in source.items if item.label in names), classes=tuple(names))
