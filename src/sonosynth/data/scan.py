"""Reading a source: what lies there (`read_source`), one picture (`decode`), and what all pictures are (`scan`)."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sonosynth.core.errors import ClassError, SourceError, UnreadableImageError
from sonosynth.core.text import counted, one_line
from sonosynth.core.types import Progress
from sonosynth.data.imageset import MANIFEST
from sonosynth.data.readers.base import COLOUR, HOW_TO_SKIP, DecodedImage
from sonosynth.data.readers.dicom.header import quiet_pydicom
from sonosynth.data.readers.folder import Folder, read_folders
from sonosynth.data.readers.frames import THREADS, ImageDecoder
from sonosynth.data.readers.manifest import DATASET_JSON, read_dataset_json, read_manifest, read_table_in
from sonosynth.data.readers.npz import SUFFIX, read_npz
from sonosynth.data.source import ReadOptions, Source, SourceItem, some_of

_T = TypeVar("_T")
_NAMED = 3  # names in a note


def read_source(path: str | Path, options: ReadOptions | None = None) -> Source:
    """Find the labelled images under `path`, of which nothing is decoded.

    `path` is a folder in BUSI layout, a folder with one folder per class, a manifest.csv or the folder it lies in, or
    an .npz file (see `npz.read_npz`). In folders lie images, clips and volumes (of which a few frames or slices are
    taken) and DICOM files (every frame is taken); docs/reference/sources.md has all rules.

    A manifest wins over folders, and so do a table of labels (labels.csv) and StyleGAN's dataset.json. Masks are paired
    with their images, by their names, places and content (see `masks`). In subfolders of class folders every image is
    read, with the subfolder as its group; DICOM files say themselves of which patient they are.

    Args:
        path: the folder or file.
        options: what the user says of it.

    Raises:
        SourceError: `path` does not exist, holds no images in class folders, or is not an .npz file that is read.
        ManifestError: the manifest lacks columns, names a missing file, one file twice, or a file elsewhere.
    """
    path, options = Path(path), options or ReadOptions()
    is_npz = path.is_file() and path.suffix.lower() == SUFFIX
    if path.is_dir():
        manifest = path / MANIFEST
        # A link to nothing is a mistake to tell, not a folder without a manifest.
        if manifest.is_symlink() or (manifest.exists() and not manifest.is_dir()):
            return read_manifest(manifest, options)
        here = Folder(path, options)
        if (listed := read_table_in(path, here, options)) is not None:
            return listed
    elif path.is_file() and path.suffix.lower() == ".csv":
        return read_manifest(path, options)
    elif path.is_file() and path.name == DATASET_JSON:
        return read_dataset_json(path, options)
    elif not is_npz:
        what = "is neither a folder nor a manifest.csv nor an .npz file" if path.exists() else "does not exist"
        if not path.exists() and not path.is_absolute():
            what += f" in the current folder {Path.cwd()}"
        raise SourceError(f"{path} {what}; give a folder with one folder per class, a manifest.csv or an .npz file")
    if options.columns:
        asked = " ".join(f"--{name} {column}" for name, column in options.columns.items())
        raise SourceError(f"{path} is no table, so it has no columns for {asked}; give a table (.csv) of its images")
    return read_npz(path, options) if is_npz else read_folders(path, here, options)


@quiet_pydicom()
def decode_image(item: SourceItem, options: ReadOptions | None = None) -> DecodedImage:
    """Decode one image to grey pixels, by the rules of `decode_file`, and those of the other readers.

    The depth of 16-bit values that state none is decided from the file of `item` alone, not from its source; give it as
    ``options.bits`` to have the same one everywhere. To decode many images, `decode_all` opens each file only once.
    Raises UnreadableImageError, or SourceError where its values are above ``options.bits``.
    """
    return ImageDecoder(options or ReadOptions(), [item]).decode(item)


@dataclass(frozen=True)
class ImageFacts:
    """What one decoded file is: its upright size in pixels, stored mode, conversions, and a hash of its grey pixels."""

    item: SourceItem
    width: int
    height: int
    mode: str
    note: str | None
    digest: str


@dataclass(frozen=True)
class SourceReport:
    """What the files of a source hold.

    Attributes:
        source: the source without the unreadable files.
        images: one entry per image, in the order of ``source.items``.
        unreadable: one line for each image that was left out: the same for all frames of a file that is damaged.
    """

    source: Source
    images: tuple[ImageFacts, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of images of each class, in the order of the classes."""
        counts = Counter(image.item.label for image in self.images)
        return {name: counts[name] for name in self.source.classes}

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Number of images of each (width, height)."""
        return Counter((image.width, image.height) for image in self.images)

    @property
    def duplicates(self) -> list[list[int]]:
        """Clusters of two or more images with exactly the same grey pixels, as indices into `images`."""
        same: dict[str, list[int]] = {}
        for index, image in enumerate(self.images):
            same.setdefault(image.digest, []).append(index)
        return [cluster for cluster in same.values() if len(cluster) > 1]

    @property
    def conflicts(self) -> list[list[int]]:
        """Those of `duplicates` whose copies carry different labels."""
        return [cluster for cluster in self.duplicates if len({self.images[i].item.label for i in cluster}) > 1]

    def conversions(self) -> dict[str, list[str]]:
        """Return the ids of the images to which each conversion was applied."""
        found: dict[str, list[str]] = {}
        for image in self.images:
            for note in (image.note or "").split("; "):
                if note:
                    found.setdefault(note, []).append(image.item.id)
        return found

    def notes(self) -> list[str]:
        """Return lines to tell the user: the source's own, then files left out, conversions, copies, small classes."""
        notes = [*self.source.notes]
        if self.source.synthetic:
            notes.append("all images are marked as synthetic: they are refused as test, held-out or validation images")
        if files := list(dict.fromkeys(self.unreadable)):
            notes.append(f"{counted(len(files), 'unreadable file')} left out: {_some_listed(files)}")
        for note, ids in self.conversions().items():
            names = f": {some_of(ids, _NAMED)}" if note == COLOUR or len(ids) <= _NAMED else ""
            notes.append(f"{note}: {len(ids)} of {counted(len(self.images), 'image')}{names}")
        if copies := sum(len(cluster) - 1 for cluster in self.duplicates):
            notes.append(f"exact copies of other images, each in one group with its original: {copies}")
        if found := [" = ".join(self._name(i) for i in cluster) for cluster in self.conflicts]:
            notes.append(f"copies with different labels, at least one of them wrong: {_some_listed(found)}")
        if len(self.source.classes) == 1:
            notes.append(f"only one class: {self.source.classes[0]}")
        notes += [f"class '{name}' has a single image" for name, count in self.class_counts.items() if count == 1]
        return [one_line(note) for note in notes]

    def _name(self, index: int) -> str:
        return f"{self.images[index].item.label}/{self.images[index].item.id}"

    def summary(self) -> dict[str, Any]:
        """Return everything a program may want to read, as JSON values; lengths in pixels, aspect as width/height."""
        return {
            "kind": self.source.kind,
            "images": len(self.images),
            "classes": self.class_counts,
            "synthetic": self.source.synthetic,
            "width": _spread([image.width for image in self.images]),
            "height": _spread([image.height for image in self.images]),
            "aspect": _spread([image.width / image.height for image in self.images]),
            "sizes": len(self.sizes),
            "modes": dict(Counter(image.mode for image in self.images).most_common()),
            "groups": len({image.item.group for image in self.images} - {None}) or None,
            "exact_copies": sum(len(cluster) - 1 for cluster in self.duplicates),
            "duplicates": [[self._name(i) for i in cluster] for cluster in self.duplicates],
            "conflicts": [[self._name(i) for i in cluster] for cluster in self.conflicts],
            "unreadable": list(dict.fromkeys(self.unreadable)),
            "notes": self.notes(),
        }


def _some_listed(names: Sequence[str]) -> str:
    """Return some of `names`, and where all of them stand."""
    more = " ('sonosynth data info SOURCE --json' lists all)" if len(names) > _NAMED else ""
    return some_of(names, _NAMED) + more


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}


def scan(
    source: Source | str | Path,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
    options: ReadOptions | None = None,
) -> SourceReport:
    """Decode every file once and report what they hold.

    Example:
        >>> import sonosynth as ss
        >>> report = ss.scan("my-images")
        >>> report.class_counts, report.summary()["width"]
        ({'benign': 437, 'malignant': 210, 'normal': 133}, {'min': 190, 'median': 561.0, 'max': 1048})
        >>> print(*report.notes(), sep="\\n")

    Args:
        source: a folder, a table or a file of arrays; or what `read_source` found.
        skip_unreadable: leave files that cannot be decoded out, and count them.
        progress: called with the number of files done and of all files.
        options: what the files do not say themselves; not for a `Source`, which has its own.

    Raises:
        UnreadableImageError: a file cannot be decoded and is not to be skipped.
        SourceError: there are no labelled images, no file is left, or values are above the bits that the user gave.
    """
    found = source if isinstance(source, Source) else read_source(Path(source), options)
    return decode_all(found, lambda item, image: None, skip_unreadable, progress)[0]


@quiet_pydicom()
def decode_all(
    source: Source,
    work: Callable[[SourceItem, DecodedImage], _T],
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> tuple[SourceReport, list[_T]]:
    """Decode every file once; return the report of `scan` and the value of `work` for each readable file.

    The depth of 16-bit values that state none is one for all files of `source` and its ``depth_from``. `work` runs in
    several threads. Raises as `scan` does.
    """

    def one(item: SourceItem) -> tuple[ImageFacts, _T] | UnreadableImageError:
        try:
            picture = files.decode(item)
            value = work(item, picture)  # which may read more, such as masks
        except UnreadableImageError as error:
            return error
        height, width = picture.grey.shape
        digest = hashlib.blake2b(f"{width}x{height} ".encode() + picture.grey.tobytes(), digest_size=16).hexdigest()
        return ImageFacts(item, width, height, picture.original_mode, picture.note, digest), value

    files = ImageDecoder(source.options, [*source.items, *source.depth_from])
    facts, values, unreadable = [], [], []
    pool = ThreadPoolExecutor(THREADS)
    try:
        for done, future in enumerate([pool.submit(one, item) for item in source.items], start=1):
            result = future.result()
            if not isinstance(result, UnreadableImageError):
                facts.append(result[0])
                values.append(result[1])
            elif skip_unreadable:
                unreadable.append(str(result).removesuffix(HOW_TO_SKIP))
            else:
                raise result
            if progress:
                progress(done, len(source.items))
    finally:
        pool.shutdown(cancel_futures=True)  # so that an error shows at once
    if not facts:
        raise SourceError(
            f"{source.root}: none of {counted(len(source.items), 'image file')} can be read; first: {unreadable[0]}"
        )
    left = {image.item.label for image in facts}
    if gone := [name for name in source.classes if name not in left]:
        raise ClassError(
            f"{source.root}: class '{gone[0]}' has no readable image; repair its files or remove the class"
        )
    readable = replace(source, items=tuple(image.item for image in facts))
    return SourceReport(readable, tuple(facts), tuple(unreadable)), values
