"""From files to images: which frames of each file are images, and how one of them is decoded."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count
from pathlib import Path

from sonosynth.core.errors import SourceError, UnreadableImageError
from sonosynth.core.text import counted
from sonosynth.data.readers.base import MOST_FRAMES, DecodedImage, FileContents, OpenFile, Reader
from sonosynth.data.readers.bit_depth import FULL, BitDepth
from sonosynth.data.readers.dicom.header import quiet_pydicom
from sonosynth.data.readers.registry import DEFAULT, find_reader
from sonosynth.data.source import ReadOptions, SourceItem, distinct_ids

THREADS = min(4, os.cpu_count() or 1)
_KEPT_OPEN = 4  # files, as many as there are threads at most, each on one file


@quiet_pydicom()
def expand_frames(
    root: Path, files: Sequence[SourceItem], listed: bool, options: ReadOptions
) -> tuple[tuple[SourceItem, ...], list[str]]:
    """Return one item for each image in `files`, which lie under `root`, and lines to tell the user.

    Frames of one file, and DICOM files of one patient (of one study where no patient is given), share a group: a
    running number in order of first appearance, unless a group is given. A file that cannot be read stays one item, so
    that it is named when it is decoded; so do files without images that a manifest `listed`. Items without id are named
    after their files. All items get the same columns. Raises SourceError if two images would have one name.
    """
    of_reader: dict[Reader | None, list[tuple[Path, FileContents]]] = {}
    pairs: list[tuple[SourceItem, FileContents]] = []
    for item in files:
        reader, contents = find_reader(item.path, options), FileContents()
        with suppress(UnreadableImageError):  # raised again, and told or counted, when the file is decoded
            contents = reader.contents(item.path, options) if reader is not None else contents
        pairs.append((item, contents))
        of_reader.setdefault(reader, []).append((item.path, contents))
    added = {name for _, contents in pairs for name in contents.columns}
    added |= {"frame"} if any(contents.frames != (None,) for _, contents in pairs) else set()
    taken = [name for name in (files[0].extra if files else ()) if name in added]
    groups, numbers, items = {item.group for item in files}, dict[Hashable, str](), list[SourceItem]()
    free = (str(number) for number in count(1) if str(number) not in groups)
    for item, contents in pairs:
        group, owner = item.group, contents.owner
        if not group and owner is not None:
            group = numbers[owner] if owner in numbers else numbers.setdefault(owner, next(free))
        own = {(f"source_{name}" if name in taken else name): value for name, value in item.extra.items()}
        for frame in contents.frames or ((None,) if listed else ()):
            at = {} if frame is None else {"frame": str(frame)}
            extra, made = {**own, **at, **contents.columns}, contents.synthetic
            items.append(replace(item, group=group, extra=extra, frame=frame, synthetic=made))
    columns = dict.fromkeys(name for item in items for name in item.extra)
    named_items = tuple(
        replace(item, id=name, extra={column: item.extra.get(column, "") for column in columns})
        for item, name in zip(items, _ids(root, items), strict=True)
    )
    notes = _sampling_notes([contents for _, contents in pairs])
    for reader, found in of_reader.items():
        notes += reader.notes(found, listed) if reader is not None else []
    if taken:
        notes.append(f"columns of yours that the frames need now begin with 'source_': {', '.join(taken)}")
    return named_items, notes


def all_synthetic(root: Path, items: Sequence[SourceItem]) -> bool:
    """Return whether all files of `items` say that a generator made them. Raises SourceError if only some do."""
    marked = [item.synthetic for item in items]
    if any(marked) and not all(marked):
        first = items[marked.index(True)].path
        raise SourceError(
            f"{root}: {first.name} is marked as synthetic (0008,001C) and other files are not; keep them in separate "
            "folders"
        )
    return all(marked)


def _ids(root: Path, items: Sequence[SourceItem]) -> list[str]:
    if not all(item.id for item in items):
        return distinct_ids([item.path.relative_to(root) for item in items], [item.frame for item in items])
    names = [item.id if item.frame is None else f"{item.id}_f{item.frame:04d}" for item in items]
    if len(set(names)) < len(names):
        double = Counter(names).most_common(1)[0][0]
        raise SourceError(f"{root}: two images would both be called '{double}'; change the id of one")
    return names


def _sampling_notes(files: Sequence[FileContents]) -> list[str]:
    sampled = Counter(contents.sampled for contents in files if contents.sampled)
    images = Counter({kind: sum(len(c.frames) for c in files if c.sampled == kind) for kind in sampled})
    return [
        f"{counted(n, kind)}, each a group: at most {MOST_FRAMES} evenly spaced {part} taken of each, for "
        f"neighbouring ones are nearly alike: {counted(images[kind, part], 'image')}"
        for (kind, part), n in sorted(sampled.items())
    ]


class ImageDecoder:
    """Decodes the images of a source, and keeps the last few files with several open: each is read once, not per frame.

    For any number of threads; frames of one file are decoded one at a time.
    """

    def __init__(self, options: ReadOptions, items: Sequence[SourceItem]) -> None:
        """Set how files are read, and which: all of `items` share one decision on the depth of 16-bit values."""
        self._options = options
        self._depth = BitDepth(options.bits, partial(_largest_value, items, options))
        self._lock = threading.Lock()
        self._kept = lru_cache(_KEPT_OPEN)(lambda path: _KeptFile(partial(self._open, path)))

    def decode(self, item: SourceItem) -> DecodedImage:
        """Return the image of `item`. Raises UnreadableImageError, and SourceError for values above the bits given."""
        if item.frame is None:
            return self._open(item.path).image(None)
        with self._lock:  # so that no file is opened twice
            file = self._kept(item.path)
        return file.image(item.frame)

    def _open(self, path: Path) -> OpenFile:
        return (find_reader(path, self._options) or DEFAULT).open(path, self._options, self._depth)


class _KeptFile:
    """One file, opened at the first use; that it cannot be opened is kept as well, and not tried once per frame."""

    def __init__(self, opener: Callable[[], OpenFile]) -> None:
        self._opener, self._lock = opener, threading.Lock()
        self._file: OpenFile | UnreadableImageError | None = None

    def image(self, frame: int | None) -> DecodedImage:
        with self._lock:
            try:
                self._file = self._file or self._opener()
            except UnreadableImageError as error:
                self._file = error
            if isinstance(self._file, UnreadableImageError):
                raise self._file
            return self._file.image(frame)


class _Recorder(BitDepth):
    """Keeps the largest value of files that state `significant` bits, and decides nothing."""

    def __init__(self, significant: int | None) -> None:
        super().__init__()
        self.largest, self._significant = 0, significant

    def white(self, path: Path, largest: int, significant: int | None = None) -> int:
        if significant == self._significant:
            self.largest = max(self.largest, largest)
        return FULL


def _largest_value(
    items: Sequence[SourceItem], options: ReadOptions, significant: int | None, certain: Callable[[int], bool]
) -> int:
    """Return the largest value of the files of `items` that have 16 bits and state `significant` of them.

    Ends early with the first value that makes the decision `certain`. Files that cannot be read count for nothing
    here: they are errors, or left out and told, when they are decoded.
    """

    def of(item: SourceItem) -> int:
        recorder, reader = _Recorder(significant), find_reader(item.path, options)
        with suppress(UnreadableImageError):
            if reader is not None and reader.has_unstated_depth(item.path):
                reader.open(item.path, options, recorder).image(item.frame)
        return recorder.largest

    largest, files = 0, {item.path: item for item in items}  # a file decodes all its frames at once
    pool = ThreadPoolExecutor(THREADS)
    try:
        for future in [pool.submit(of, item) for item in files.values()]:
            largest = max(largest, future.result())
            if certain(largest):
                break
    finally:
        pool.shutdown(cancel_futures=True)
    return largest
