"""From files of any size to an `ImageSet` of one size, with a record of how."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import PIL

from sonosynth.core.errors import ClassError, ManifestError, MixedSizesError, OutputError, SourceError
from sonosynth.core.files import atomic_directory, check_output, read_json, write_json
from sonosynth.core.text import agreeing, counted, did_you_mean
from sonosynth.core.types import Progress
from sonosynth.data import encoding
from sonosynth.data.groups import cluster_numbers, first_appearance, whole_number
from sonosynth.data.imageset import MANIFEST, ImageSet
from sonosynth.data.overlays import remove_overlays
from sonosynth.data.readers.base import DecodedImage
from sonosynth.data.readers.registry import data_files, find_reader
from sonosynth.data.resize import Fit, Geometry, lesion_crop, resize_to_square
from sonosynth.data.scan import ImageFacts, SourceReport, decode_all, read_source
from sonosynth.data.source import ReadOptions, Source, SourceItem

PREPARE = "prepare.json"
SIZES = range(8, 2049)
# Integers of original pixels, then floats; `offset` in prepared pixels.
_RECORD = (
    "original_path",
    "original_width",
    "original_height",
    "original_mode",
    "fit",
    "crop_left",
    "crop_top",
    "crop_width",
    "crop_height",
    "scale_x",
    "scale_y",
    "offset_x",
    "offset_y",
)


def prepare(
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
    `crop_left`, `crop_top`, `crop_width`, `crop_height` (original pixels), `scale_x`, `scale_y` (prepared pixels an
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

    def work(item: SourceItem, picture: DecodedImage) -> tuple[np.ndarray, Geometry, int, bool]:
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
        columns = _columns(report)
        return _image_set(report, images, columns | overlaid | columns), [  # what was filled before is carried on
            *notes,
            f"already an image set of {size} × {size}: nothing resampled",
        ]
    geometries = [geometry for _, geometry, *_ in values]
    enlarged = sum(geometry.scale_x > 1 or geometry.scale_y > 1 for geometry in geometries)
    if enlarged:
        have = agreeing(enlarged, "it has", "they have")
        notes.append(f"enlarges {enlarged} of {counted(len(values), 'image')}: {size} px is more than {have}")
    columns, renamed = _recorded(report, fit, geometries)
    columns |= overlaid | _stored(report, columns)
    if renamed:
        notes.append(f"columns of yours that the record needs now begin with 'source_': {', '.join(renamed)}")
    return _image_set(report, images, columns), notes


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


def load(path: Path) -> ImageSet:
    """Return the image set at `path`: a prepared one, or any source whose images all have one size.

    The columns `encoding.COLUMNS` say how the files store their pixels, of a prepared set how the original files did.

    Raises:
        SourceError: as `read_source`; an unreadable file is always an error here.
        MixedSizesError: images of several sizes; `sonosynth data prepare` makes them one.
    """
    return load_together([path])[0]


def load_together(paths: Sequence[Path]) -> list[ImageSet]:
    """Return the image set at each of `paths`; 16-bit values that state no depth are scaled alike in all of them.

    Raises as `load` does.
    """
    sources = [read_source(path) for path in paths]
    together = tuple(item for source in sources for item in source.items)
    return [_loaded(path, replace(source, depth_from=together)) for path, source in zip(paths, sources, strict=True)]


def _loaded(path: Path, source: Source) -> ImageSet:
    report, images = decode_all(source, lambda item, picture: picture.grey)
    if len(report.sizes) > 1:
        other = next(i for i, image in enumerate(images) if image.shape != images[0].shape)
        (a, b), (first, second) = (images[0].shape, images[other].shape), (report.images[0], report.images[other])
        raise MixedSizesError(
            f"{path}: '{first.item.id}' is {a[1]} × {a[0]} and '{second.item.id}' is {b[1]} × {b[0]} "
            f"({len(report.sizes)} sizes in all); run 'sonosynth data prepare' on it first"
        )
    columns = _columns(report)
    return _image_set(report, np.stack(images), columns | _stored(report, columns))


def group_numbers(report: SourceReport) -> np.ndarray:
    """Return int64 ``[N]`` group numbers in which no cluster of exact copies spans two groups.

    An image set keeps its numbers; elsewhere groups are numbered in order of first appearance. Joined groups take the
    number that appears first. Generated images are left as they are: their copies leak nothing.
    """
    items = report.source.items
    if report.source.kind == "image set":
        numbers = np.array([_whole(report, item) for item in items], dtype=np.int64)
    else:
        seen: dict[object, int] = {}
        numbers = np.array(
            [seen.setdefault(item.group or i, len(seen)) for i, item in enumerate(items)], dtype=np.int64
        )
    if report.source.synthetic:
        return numbers
    groups = first_appearance(numbers)
    copies = [(groups[first], groups[copy]) for first, *others in report.duplicates for copy in others]
    joined = cluster_numbers(len(items), copies)[groups]
    _, first, inverse = np.unique(joined, return_index=True, return_inverse=True)
    return np.asarray(numbers[first[inverse]])


def _whole(report: SourceReport, item: SourceItem) -> int:
    number = whole_number(item.group or "")
    if number is None:
        raise ManifestError(
            f"{report.source.root / MANIFEST}: group '{item.group or ''}' of '{item.id}' is not a whole number "
            "of 64 bits; number the groups, or remove the columns id and synthetic to have them numbered"
        )
    return number


# ---------------------------------------------------------------------------------------------------- the record


def _recorded(report: SourceReport, fit: Fit, how: Sequence[Geometry]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the user's columns with the record's, and which of the user's had to be renamed."""
    columns = _columns(report)
    earlier = _earlier_scales(report, columns)
    renamed = [] if earlier else [name for name in (*_RECORD, *encoding.COLUMNS) if name in columns]
    kept = {(f"source_{name}" if name in renamed else name): values for name, values in columns.items()}
    if not earlier:
        rows = [
            _record(report.source, facts, fit, geometry) for facts, geometry in zip(report.images, how, strict=True)
        ]
        return kept | {name: tuple(row[name] for row in rows) for name in _RECORD}, renamed
    for name, numbers in earlier.items():
        steps = [geometry.scale_x if name.endswith("x") else geometry.scale_y for geometry in how]
        kept[name] = tuple(f"{number * step:.10g}" for number, step in zip(numbers, steps, strict=True))
    return kept, renamed


def _stored(report: SourceReport, columns: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the columns that say how the original files store their pixels, unless `columns` has them.

    Empty for a set that an older version prepared: its own files do not say what they were made from.
    """
    if not columns.keys().isdisjoint(encoding.COLUMNS):
        return {}
    found = encoding.encodings(report.source.items, report.source.options)
    return encoding.encodings_to_columns(found) if any(found) else {}


def _earlier_scales(report: SourceReport, columns: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    """Return the scales and offsets of a source that was prepared before; nothing if it was not.

    Prepared images are square, for which every fit is one and the same plain resizing.
    """
    if not set(_RECORD) <= columns.keys() or any(width != height for width, height in report.sizes):
        return {}
    try:
        return {name: [float(text) for text in columns[name]] for name in _RECORD[-4:]}
    except ValueError:
        return {}  # not our record: its columns are kept under other names, and the user is told


def _record(source: Source, facts: ImageFacts, fit: Fit, geometry: Geometry) -> dict[str, str]:
    values = (
        facts.item.path.relative_to(source.root).as_posix(),
        facts.width,
        facts.height,
        facts.mode,
        fit,
        geometry.left,
        geometry.top,
        geometry.width,
        geometry.height,
        f"{geometry.scale_x:.10g}",
        f"{geometry.scale_y:.10g}",
        geometry.offset_x,
        geometry.offset_y,
    )
    return {name: str(value) for name, value in zip(_RECORD, values, strict=True)}


def _columns(report: SourceReport) -> dict[str, tuple[str, ...]]:
    """Return the user's own columns, and as `source_group` what a manifest calls the groups."""
    items = report.source.items
    columns = {name: tuple(item.extra[name] for item in items) for name in items[0].extra}
    if report.source.kind == "manifest" and "source_group" not in columns and any(item.group for item in items):
        columns["source_group"] = tuple(item.group or "" for item in items)
    return columns


def _image_set(report: SourceReport, images: np.ndarray, extra: Mapping[str, tuple[str, ...]]) -> ImageSet:
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


# ---------------------------------------------------------------------------------------------------- written once


def source_fingerprint(source: Source, masks: bool = False) -> str:
    """Return a SHA-256 over the labels, groups, names, columns and file contents of `source`, its `masks` if asked."""
    digest = hashlib.sha256(b"synthetic" if source.synthetic else b"")
    contents = cache(lambda path: _file_digest(path, source.options))  # a file with many frames is hashed once
    beside = cache(lambda path: sorted(data_files([path])))
    for item in source.items:
        path = item.path.relative_to(source.root).as_posix()
        digest.update(repr((path, item.label, item.group, item.id, sorted(item.extra.items()))).encode())
        for file in (item.path, *beside(item.path), *(item.masks if masks else ())):
            digest.update(contents(file))
    return digest.hexdigest()


def _file_digest(path: Path, options: ReadOptions) -> bytes:
    # A broken link, a file too large to be an image, or one that cannot be opened is reported when it is decoded.
    try:
        reader = find_reader(path, options) if path.is_file() else None
        limit = reader.max_bytes if reader is not None else None
        if not path.is_file() or (limit is not None and path.stat().st_size > limit):
            return b""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, SourceError):
        return b""


def save_once(
    out: Path,
    arguments: Mapping[str, object],
    build: Callable[[], tuple[ImageSet, list[str]]],
    save_more: Callable[[Path, ImageSet], None] | None = None,
) -> tuple[ImageSet, list[str], bool]:
    """Write what `build` returns to `out` together with ``prepare.json``, in one atomic step, unless it is there.

    Args:
        out: a directory that is empty or not there, or one that this function wrote with the same `arguments`.
        arguments: all that decides the result, as JSON values.
        build: makes the image set and lines to tell the user.
        save_more: called with the folder and the image set in it, to write what else belongs there.

    Returns:
        The image set, the lines, and whether it was written now.

    Raises:
        OutputError: `out` holds something else, was changed since, or cannot be written.
    """
    if (out / PREPARE).is_file():
        return *_done_before(out, arguments), False
    check_output(out, directory=True)
    data, notes = build()
    record = {"arguments": dict(arguments), "content": _content(data), "notes": notes, "pillow": PIL.__version__}
    try:
        with atomic_directory(out) as beside:
            data.save(beside)
            if save_more:
                save_more(beside, data)
            write_json(beside / PREPARE, record)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror or error}); choose another --out") from error
    return data, notes, True


def _done_before(out: Path, arguments: Mapping[str, object]) -> tuple[ImageSet, list[str]]:
    try:
        record = read_json(out / PREPARE)
        before, content, notes = record["arguments"], record["content"], list(record["notes"])
        other = [name for name in {**before, **arguments} if before.get(name) != arguments.get(name)]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OutputError(f"{out / PREPARE} is damaged ({error}); choose another --out or remove {out}") from error
    if other:
        changes = ", ".join(
            f"{name} {before.get(name)}, not {arguments.get(name)}" for name in other if name != "source"
        )
        what = changes or "another content of the source"
        raise OutputError(f"{out} was made with other arguments ({what}); choose another --out or remove it first")
    data = load(out)
    if _content(data) != content:
        raise OutputError(f"{out} was changed after it was made; choose another --out or remove it first")
    return data, notes


def _content(data: ImageSet) -> str:
    # As ImageSet.load numbers the classes: those present, sorted.
    return data.with_classes(sorted(name for name, count in data.class_counts.items() if count)).fingerprint()
