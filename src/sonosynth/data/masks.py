"""Which picture files are masks of lesions, and of which images: by their names, their place and their content."""

import re
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sonosynth.core.errors import UnreadableImageError
from sonosynth.core.text import counted
from sonosynth.data.readers.images import SUFFIXES, decode_image_file, open_checked, open_with_pillow, png_header
from sonosynth.data.source import list_folder, some_of

# What the field's data sets put before or after the name of an image to call its mask, without case.
_WORDS = (
    r"masks?|gt|ground[_ -]?truth|seg|segm|segmented|segmentations?|labels?|annot|anno|annotations?"
    r"|tumou?r|lesion|roi|contour|binary|manual|delineation|other"
)
# Words that nothing but a mask is called by: such a file is one even if it is empty and its image is missing.
_CERTAIN = re.compile(r"(.*[_\-. ])?(masks?|gt|ground[_ -]?truth|seg|segmentations?|annotations?)([_\-. ].*)?", re.I)
_AFTER = re.compile(rf"(?P<image>.+?)[_\-. ]+(?:{_WORDS})(?:[_\-. ]?\(?\d+\)?)?", re.I)
_BEFORE = re.compile(rf"(?:{_WORDS})[_\-. ]+(?P<image>.+)", re.I)
_WORD_ALONE = re.compile(rf"(?:{_WORDS})[_\-. ]?\(?\d*\)?", re.I)
# Where one word ends and the next begins: separators, digits beside letters, a capital after a small letter.
_SEAMS = re.compile(r"[_\-. ]+|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)|(?<=[a-z])(?=[A-Z])")
_FOLDER_WORD = r"(masks?|msks?|labels?|annotations?|annots?|gts?|ground[_ -]?truths?|segs?|segmentations?)"
_FOLDER = re.compile(rf"(.+[_\-. ])?{_FOLDER_WORD}([_\-. ].+)?|labels(tr|ts)|segmentationclass", re.I)
_TWIN_FOLDER = re.compile(rf"(?P<image>.+?)[_\-. ]+(?:{_WORDS})", re.I)
_IMAGES_FOLDER = re.compile(r"(images?|imgs?|pictures?|pics?|frames?|data|raw|original(s|_images?)?|png|jpe?g)", re.I)
_COMPRESSED = frozenset((".png", ".gif", ".webp", ".jpg", ".jpeg", ".jfif"))
MOST_LEVELS = 8
"""Grey levels of a mask with several lesions or classes, black among them."""
_NEAR = 12  # grey levels by which JPEG and resampling move a level
_THREADS = 4


@dataclass(frozen=True)
class MaskSearch:
    """What `find_masks` found."""

    of: Mapping[Path, tuple[Path, ...]]  # the masks of each image that has some
    alone: tuple[Path, ...] = ()  # masks whose image is not there
    pictures: tuple[Path, ...] = ()  # files that are named like masks and look like images: they count as images

    @cached_property
    def files(self) -> set[Path]:
        """All files that are masks."""
        return {mask for masks in self.of.values() for mask in masks} | set(self.alone)

    def notes(self) -> list[str]:
        """Return lines to tell the user."""
        notes = []
        if paired := sum(map(len, self.of.values())):
            notes.append(f"{counted(paired, 'mask')} paired with {counted(len(self.of), 'image')}")
        if self.alone:
            names = some_of((path.name for path in self.alone), 3)
            notes.append(f"{counted(len(self.alone), 'mask')} without an image left out: {names}")
        if self.pictures:
            files = counted(
                len(self.pictures),
                "file is named like a mask but looks like an image: counted as one",
                "files are named like masks but look like images: counted as images",
            )
            notes.append(f"{files}: {some_of((path.name for path in self.pictures), 3)}")
        return notes


@dataclass(frozen=True)
class _Look:
    """What a picture looks like: width and height, number of grey levels, and whether it could be a mask."""

    size: tuple[int, int]
    levels: int
    like_mask: bool


def find_masks(
    pictures: Sequence[Path], apart: Sequence[Path] = (), images: Collection[Path] = frozenset()
) -> MaskSearch:
    """Find the masks among `pictures`, and pair them, and those that lie `apart`, with their images.

    A file of the same folder is the mask of an image if it is named after it (``NAME_mask``, ``NAME_GT_2``,
    ``mask_NAME``, ..., or ``mask`` beside a single image) and looks like a mask: at most eight grey levels, or two that
    JPEG or resampling blurred. Under any other name that extends the image's, or under the same name with another
    suffix, it is one if it has two grey levels exactly and the size of the image, which has more. Only files that are
    named like masks or after another file are opened.

    Masks `apart` lie in folders of their own. Each belongs to the image of the same name, or of the name without what
    calls it a mask, in the folder whose path is the most like its own. Those of `pictures` that are `images` are no
    masks, whatever they look like.
    """
    kinds = [path for path in pictures if path.suffix.lower() in SUFFIXES]
    index: dict[tuple[Path, str], list[Path]] = {}
    unmarked: dict[Path, list[Path]] = {}
    for path in kinds:
        index.setdefault((path.parent, path.stem.casefold()), []).append(path)
        if not _is_called_mask(path.stem):
            unmarked.setdefault(path.parent, []).append(path)
    named: dict[Path, Path | None] = {}
    extended: dict[Path, Path] = {}
    for path in kinds:
        if path in images:
            continue
        if _is_called_mask(path.stem):
            image = _neighbour(path, _cores(path.stem), index)
            if image is None and _WORD_ALONE.fullmatch(path.stem) and len(unmarked.get(path.parent, ())) == 1:
                image = unmarked[path.parent][0]
            if image or _may_have_two_levels(path):
                named[path] = image
        else:
            other = _neighbour(path, [path.stem.casefold(), *_parts(path.stem)], index)
            if other and _may_have_two_levels(path):
                extended[path] = other
    looks = dict(zip([*named, *extended], _looks([*named, *extended]), strict=True))
    of: dict[Path, list[Path]] = {}
    alone, like_images = [], []
    for path, image in named.items():
        if not looks[path].like_mask:
            like_images += [path] if image else []
        elif image is not None:
            of.setdefault(image, []).append(path)
        elif looks[path].levels > 1 or _CERTAIN.fullmatch(path.stem):
            alone.append(path)
    for path, image in extended.items():
        if looks[path].levels == 2:
            theirs = _look(image)
            if theirs.levels > 2 and theirs.size == looks[path].size:
                of.setdefault(image, []).append(path)
    masks = {mask for found in of.values() for mask in found} | set(alone)
    for image in masks & of.keys():  # the mask of a mask, such as x_GT_mask, is one more mask of the image
        alone += of.pop(image)
    left = [path for path in pictures if path not in masks]
    for mask, image in _pair_apart(apart, [path for path in left if not images or path in images]):
        if image is None:
            alone.append(mask)
        else:
            of.setdefault(image, []).append(mask)
    paired = {image: tuple(of[image]) for image in left if image in of}
    return MaskSearch(paired, tuple(alone), tuple(like_images))


def masks_in_own_folders(root: Path, files: Iterable[Path]) -> list[Path]:
    """Return those of `files` that lie in folders of masks, so that they are not taken for images of a class.

    Such a folder is called as the field calls it (``masks``, ``labels``, ..., or ``X_masks`` beside ``X``), itself or a
    folder above it up to `root`, and nine in ten of its pictures look like masks; or, whatever it is called, its files
    have the names of those in a folder beside it and two grey levels, where those have more.
    """
    inside: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in SUFFIXES:
            inside.setdefault(path.parent, []).append(path)
    folders = {above for folder in inside for above in (folder, *folder.parents) if above.is_relative_to(root)}
    beside: dict[Path, list[str]] = {}
    for folder in folders:
        beside.setdefault(folder.parent, []).append(folder.name)
    called = {folder for folder in folders - {root} if _is_mask_folder(folder.name, beside[folder.parent])}
    found = []
    for folder, paths in inside.items():
        if called & {folder, *folder.parents}:
            looks = _looks(paths)
            if sum(look.like_mask for look in looks) >= 0.9 * len(looks):
                found += paths
        else:
            others = (inside.get(folder.parent / name, []) for name in beside[folder.parent] if name != folder.name)
            first = paths[0]
            could_be = _may_have_two_levels(first) and _look(first).levels <= 2
            if could_be and (twins := [same for images in others if (same := _twins(paths, images))]):
                levels = [look.levels for look in _looks(paths)]
                two = max(levels) <= 2 and levels.count(2) >= 0.5 * len(levels)
                if two and any(all(look.levels > 2 for look in _looks(images)) for images in twins):
                    found += paths
    return found


def nearby_mask_folders(root: Path, folders: Iterable[Path]) -> list[Path]:
    """Return the folders called like folders of masks in or beside `folders`, and beside those above, below `root`."""
    found: dict[Path, None] = {}
    looked_into: set[Path] = set()
    for folder in folders:
        for place in (folder, *folder.parents):
            if place in looked_into or not place.is_relative_to(root):
                continue
            looked_into.add(place)
            inside = [entry for entry in list_folder(place)[0] if entry.is_dir() and not entry.is_symlink()]
            names = [entry.name for entry in inside]
            found |= {entry: None for entry in inside if _is_mask_folder(entry.name, names)}
    return list(found)


def _twins(paths: Sequence[Path], images: Sequence[Path]) -> list[Path]:
    """Return those of `images` that have the names of `paths`, if nine in ten of `paths` have such a twin."""
    stems = {path.stem.casefold(): path for path in images}
    found = [stems[path.stem.casefold()] for path in paths if path.stem.casefold() in stems]
    return found if len(found) >= 0.9 * len(paths) else []


def _is_mask_folder(name: str, beside: Iterable[str]) -> bool:
    twin = _TWIN_FOLDER.fullmatch(name)
    named_after = twin is not None and twin["image"].casefold() in {other.casefold() for other in beside}
    return bool(_FOLDER.fullmatch(name)) or named_after


def in_mask_folder(place: str) -> bool:
    """Return whether the file at the relative path `place` lies in a folder that is called like a folder of masks."""
    return any(_FOLDER.fullmatch(name) for name in place.split("/")[:-1])


def is_images_folder(name: str) -> bool:
    """Return whether a folder is called as the field calls folders of images, which says nothing of a patient."""
    return bool(_IMAGES_FOLDER.fullmatch(name))


def _cores(stem: str) -> list[str]:
    """Return the names of images that a mask called `stem` could be of, without case; none if it is no name of one."""
    matches = (_AFTER.fullmatch(stem), _BEFORE.fullmatch(stem))
    return [match["image"].casefold() for match in matches if match]


def _is_called_mask(stem: str) -> bool:
    return bool(_cores(stem) or _WORD_ALONE.fullmatch(stem))


def _parts(stem: str) -> list[str]:
    """Return what `stem` says before and after each place where one of its words ends, without case."""
    parts = [(stem[: seam.start()], stem[seam.end() :]) for seam in _SEAMS.finditer(stem)]
    return [part.casefold() for pair in parts for part in pair if part]


def _neighbour(path: Path, stems: Iterable[str], index: Mapping[tuple[Path, str], Sequence[Path]]) -> Path | None:
    """Return the file beside `path` that is called by the first of `stems` that one is called by."""
    found = (other for stem in stems for other in index.get((path.parent, stem), ()) if other != path)
    return next(found, None)


def _may_have_two_levels(path: Path) -> bool:
    """Return whether `path` may have two grey levels, by its size alone: they compress to under 2 bits per pixel."""
    if path.suffix.lower() not in _COMPRESSED:
        return True
    try:
        with open_with_pillow(path) as picture:
            return path.stat().st_size * 8 <= 2 * picture.width * picture.height + 16_384
    except UnreadableImageError:
        return False


def _looks(paths: Sequence[Path]) -> list[_Look]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_look, paths))


def _look(path: Path) -> _Look:
    """Return what `path` looks like; one that cannot be read could be a mask, and is told when it is used."""
    with suppress(UnreadableImageError):  # a picture of 1 bit is known by its header
        with open_checked(path) as file:
            header = png_header(file).get(b"IHDR", b"")
        if header[8:10] == b"\1\0":
            return _Look(struct.unpack(">II", header[:8]), 2, True)
        if len(header) < 10:
            with open_with_pillow(path) as picture:
                if picture.mode == "1":
                    return _Look(picture.size, 2, True)
    try:
        grey = decode_image_file(path).grey
    except UnreadableImageError:
        return _Look((0, 0), 0, True)
    counts = np.bincount(grey.ravel(), minlength=256)
    present = np.flatnonzero(counts)
    low, high = int(present[0]), int(present[-1])
    dark, light = int(counts[low : low + _NEAR + 1].sum()), int(counts[high - _NEAR : high + 1].sum())
    between = grey.size - dark - light
    # Two levels with few between them, or a thin outline on black: no B-mode image is black by 95 %.
    two = between <= min(0.1 * grey.size, dark, light) or dark >= 0.95 * grey.size
    blurred = high - low > 4 * _NEAR and two
    return _Look((grey.shape[1], grey.shape[0]), len(present), len(present) <= MOST_LEVELS or blurred)


def _pair_apart(masks: Sequence[Path], images: Sequence[Path]) -> Iterable[tuple[Path, Path | None]]:
    """Return each of `masks` with its image, by name; of several images the one in the most similar folder."""
    by_stem: dict[str, list[Path]] = {}
    by_ending: dict[str, list[Path]] = {}
    for image in images if masks else ():
        by_stem.setdefault(image.stem.casefold(), []).append(image)
        for part in _parts(image.stem)[1::2]:
            by_ending.setdefault(part, []).append(image)
    for mask in masks:
        stem, cores = mask.stem.casefold(), _cores(mask.stem)
        # bus_0001-l.png and mask_0001-l.png: the mask's word stands in the place of a word of the image's.
        places = [by_stem.get(stem), *(by_stem.get(core) for core in cores), *(by_ending.get(core) for core in cores)]
        found = next(filter(None, places), [])
        twins = {match["image"] for part in mask.parts[:-1] if (match := _TWIN_FOLDER.fullmatch(part))}
        alike = [len({*mask.parts[:-1], *twins} & {*image.parts[:-1]}) for image in found]
        best = [image for image, shared in zip(found, alike, strict=True) if shared == max(alike)]
        yield mask, best[0] if len(best) == 1 else None
