"""From files to images: what files with several frames hold, and how one frame is decoded."""

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from sonosynth.core.errors import SourceError, UnreadableImageError
from sonosynth.core.text import counted
from sonosynth.data.readers import clips, images, npz, volumes
from sonosynth.data.readers.bit_depth import FULL, BitDepth
from sonosynth.data.readers.dicom import header as dicom
from sonosynth.data.readers.dicom.pixels import DicomFile
from sonosynth.data.readers.images import DecodedImage, decode_file
from sonosynth.data.source import AXES, ReadOptions, SourceItem, distinct_ids, some_of

THREADS = min(4, os.cpu_count() or 1)
_KEPT_OPEN = 4  # files, as many as there are threads at most, each on one file
_CLIP, _VOLUME, _REPORT, _BURNED_IN = "clip", "volume", "report", "burned in"


@dataclass(frozen=True)
class _Content:
    """What one file holds.

    Attributes:
        frames: their numbers; None for a file that is one image; empty for one that is no image.
        owner: equal for files of one group; None where nothing is known.
        columns: what the manifest tells of each image.
        remark: what the user is told of the file.
        depth: bits of a stored value, as a DICOM header states them.
    """

    frames: Sequence[int | None] = (None,)
    owner: Hashable = field(default=None, repr=False)
    columns: Mapping[str, str] = field(default_factory=dict)
    remark: str | None = None
    depth: int | None = None


@dicom.quiet()
def spread(
    root: Path, files: Sequence[SourceItem], listed: bool, options: ReadOptions
) -> tuple[tuple[SourceItem, ...], list[str]]:
    """Return one item for each image in `files`, and lines to tell the user.

    Frames of one file, and DICOM files of one patient (of one study where no patient is given), share a group: a
    running number in order of first appearance, unless a group is given. A file that cannot be read stays one item, so
    that it is named when it is decoded. All items get the same columns.

    Args:
        root: the folder that all paths lie under.
        files: one item a file; items without id are named after their files.
        listed: whether a manifest lists them, so that files without images are kept, as errors, and not left out.
        options: how the files are to be read.

    Raises:
        SourceError: two images would have one name.
    """
    pairs = [(item, _content(item.path, options)) for item in files]
    added = {name for _, content in pairs for name in content.columns}
    added |= {"frame"} if any(content.frames != (None,) for _, content in pairs) else set()
    taken = [name for name in (files[0].extra if files else ()) if name in added]
    numbers = _Numbers({item.group for item in files if item.group})
    items = []
    for item, content in pairs:
        group = item.group or numbers.of(content.owner)
        own = {(f"source_{name}" if name in taken else name): value for name, value in item.extra.items()}
        for frame in content.frames or ((None,) if listed else ()):
            at = {} if frame is None else {"frame": str(frame)}
            items.append(replace(item, group=group, extra={**own, **at, **content.columns}, frame=frame))
    columns = dict.fromkeys(name for item in items for name in item.extra)
    named_items = tuple(
        replace(item, id=name, extra={column: item.extra.get(column, "") for column in columns})
        for item, name in zip(items, _names(root, items), strict=True)
    )
    notes = _notes([(item.path, content) for item, content in pairs], listed, options)
    if taken:
        notes.append(f"columns of yours that the frames need now begin with 'source_': {', '.join(taken)}")
    return named_items, notes


class _Numbers:
    """Running numbers for owners, which skip those that stand for groups already."""

    def __init__(self, used: set[str]) -> None:
        self._used, self._known, self._last = used, dict[Hashable, str](), 0

    def of(self, owner: Hashable) -> str | None:
        if owner is None or owner in self._known:
            return self._known.get(owner)
        self._last += 1
        while str(self._last) in self._used:
            self._last += 1
        self._known[owner] = str(self._last)
        return self._known[owner]


def _names(root: Path, items: Sequence[SourceItem]) -> list[str]:
    if not all(item.id for item in items):
        return distinct_ids([item.path.relative_to(root) for item in items], [item.frame for item in items])
    names = [item.id if item.frame is None else f"{item.id}_f{item.frame:04d}" for item in items]
    if len(set(names)) < len(names):
        double = Counter(names).most_common(1)[0][0]
        raise SourceError(f"{root}: two images would both be called '{double}'; change the id of one")
    return names


def _content(path: Path, options: ReadOptions) -> _Content:
    suffix = path.suffix.lower()
    try:
        if suffix in clips.SUFFIXES | images.SUFFIXES:
            count = clips.count_frames(path)
            still = count == 1 and suffix in images.SUFFIXES
            return _Content() if still else _Content(clips.chosen(count), path, remark=_CLIP)
        if volumes.is_volume(path):
            count = volumes.read_header(path).slices(options.axis)
            return _Content() if count == 1 else _Content(clips.chosen(count), path, remark=_VOLUME)
        if not dicom.is_dicom(path, options.force_dicom):
            return _Content()
        header = dicom.read_header(path, options.force_dicom)
    except UnreadableImageError:
        return _Content()  # raised again, and told or counted, when the file is decoded
    if not header.image:
        return _Content((), remark=dicom.DIRECTORY if path.name.upper() == dicom.DIRECTORY else _REPORT)
    frames = range(header.frames) if header.frames else (None,)
    remark = _BURNED_IN if header.burned_in else None
    return _Content(frames, header.owner or path, header.columns(), remark, header.depth)


def _notes(files: Sequence[tuple[Path, _Content]], listed: bool, options: ReadOptions) -> list[str]:
    remarks = Counter(content.remark for _, content in files)
    notes = []
    for remark, part in ((_CLIP, "frames"), (_VOLUME, f"slices across {options.axis or AXES[-1]}")):
        if remarks[remark]:
            count = sum(len(content.frames) for _, content in files if content.remark == remark)
            notes.append(
                f"{counted(remarks[remark], remark)}, each a group: at most {clips.MOST_FRAMES} evenly spaced {part} "
                f"taken of each, for neighbouring ones are nearly alike: {counted(count, 'image')}"
            )
    if remarks[dicom.DIRECTORY] and not listed:
        notes.append(f"{remarks[dicom.DIRECTORY]} DICOMDIR ignored: the files themselves are read")
    if remarks[_REPORT] and not listed:
        reports = some_of(path.name for path, content in files if content.remark == _REPORT)
        notes.append(f"{counted(remarks[_REPORT], 'DICOM file')} without images left out: {reports}")
    owners = [content.owner for path, content in files if content.columns]
    if owners:
        notes.append(
            f"{counted(len(set(owners)), 'patient (or study)', 'patients (or studies)')} found in DICOM headers: "
            "images are grouped under a running number; no name, id, date or UID is copied"
        )
    if len(owners) > 1 and len(set(owners)) == 1:
        notes.append(
            "all DICOM files carry one and the same patient, so all are one group; if that comes from anonymising, "
            "give a manifest with a column 'group'"
        )
    if len(depths := sorted({content.depth for _, content in files if content.depth})) > 1:
        notes.append(
            f"DICOM headers state different depths ({', '.join(map(str, depths))} bits): each image is scaled by its "
            "own, so equal stored values do not give equal greys"
        )
    if remarks[_BURNED_IN]:
        notes.append(
            f"{counted(remarks[_BURNED_IN], 'DICOM file says', 'DICOM files say')} that identifying text is burned "
            "into the pixels: look at the images before you share them"
        )
    return notes


# ---------------------------------------------------------------------------------------------------- decoding


class _Container(Protocol):
    def picture(self, frame: int | None) -> DecodedImage: ...


class OpenFiles:
    """Files with several images, of which the last few are kept open, so that each is read once and not once a frame.

    For any number of threads; frames of one file are decoded one at a time.
    """

    def __init__(self, options: ReadOptions, items: Sequence[SourceItem]) -> None:
        """Set how files are read, and which: all of `items` share one decision on the depth of 16-bit values."""
        self._options = options
        self._depth = BitDepth(options.bits, partial(_largest, items, options))
        self._lock = threading.Lock()
        self._files: OrderedDict[Path, _Opened] = OrderedDict()

    def picture(self, item: SourceItem) -> DecodedImage:
        """Return the picture of `item`.

        Raises:
            UnreadableImageError: it cannot be decoded.
            SourceError: its values are above the bits that the user gave.
        """
        kind = _container(item, self._options)
        if kind is None:
            return decode_file(item.path, self._depth)
        with self._lock:
            file = self._files.pop(item.path, None) or _Opened(partial(kind, item, self._depth, self._options))
            self._files[item.path] = file
            while len(self._files) > _KEPT_OPEN:
                self._files.popitem(last=False)
        return file.picture(item.frame)


class _Opened:
    """One file, opened at the first use; that it cannot be opened is kept as well, and not tried once a frame."""

    def __init__(self, opener: Callable[[], _Container]) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._file: _Container | UnreadableImageError | None = None

    def picture(self, frame: int | None) -> DecodedImage:
        with self._lock:
            if self._file is None:
                try:
                    self._file = self._opener()
                except UnreadableImageError as error:
                    self._file = error
            if isinstance(self._file, UnreadableImageError):
                raise self._file
            return self._file.picture(frame)


def _container(
    item: SourceItem, options: ReadOptions
) -> Callable[[SourceItem, BitDepth, ReadOptions], _Container] | None:
    """Return what opens the file of `item`, if it is one that may hold several images."""
    suffix = item.path.suffix.lower()
    if suffix == npz.SUFFIX:
        return lambda item, depth, options: npz.Arrays(item.path, options.bits)
    if volumes.is_volume(item.path):
        return lambda item, depth, options: volumes.Volume(item.path, options.axis, depth)
    if suffix in clips.SUFFIXES or (suffix in images.SUFFIXES and item.frame is not None):
        return lambda item, depth, options: clips.Clip(item.path, depth)
    if dicom.is_dicom(item.path, options.force_dicom):
        return lambda item, depth, options: DicomFile(item.path, options.force_dicom)
    return None


# ---------------------------------------------------------------------------------------------------- depth


class _Recorder(BitDepth):
    """Keeps the largest value of files that state `significant` bits, and decides nothing."""

    def __init__(self, significant: int | None) -> None:
        super().__init__()
        self.largest, self._significant = 0, significant

    def white(self, path: Path, largest: int, significant: int | None = None) -> int:
        if significant == self._significant:
            self.largest = max(self.largest, largest)
        return FULL


def _largest(
    items: Sequence[SourceItem], options: ReadOptions, significant: int | None, certain: Callable[[int], bool]
) -> int:
    """Return the largest value of the files of `items` that have 16 bits and state `significant` of them.

    Ends early with the first value that makes the decision `certain`. Files that cannot be read count for nothing
    here: they are errors, or left out and told, when they are decoded.
    """

    def of(item: SourceItem) -> int:
        recorder, kind = _Recorder(significant), _container(item, options)
        with suppress(UnreadableImageError):
            if not _is_undecided(item.path):
                return 0
            if kind is None:
                decode_file(item.path, recorder)
            else:
                kind(item, recorder, options)
        return recorder.largest

    largest, files = 0, {item.path: item for item in items}  # a container reads all its frames at once
    pool = ThreadPoolExecutor(THREADS)
    try:
        for future in [pool.submit(of, item) for item in files.values()]:
            largest = max(largest, future.result())
            if certain(largest):
                break
    finally:
        pool.shutdown(cancel_futures=True)
    return largest


def _is_undecided(path: Path) -> bool:
    """Return whether `path` may have values of 16 bits without a stated depth. Raises UnreadableImageError."""
    if volumes.is_volume(path):
        return volumes.is_undecided(path)
    return path.suffix.lower() in images.SUFFIXES and images.is_undecided(path)
