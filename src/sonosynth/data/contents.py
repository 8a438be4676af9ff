"""From files to images: what files with several frames hold, and how one frame is decoded."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from sonosynth.data import arrays, clips, dicom
from sonosynth.data.dicom_pixels import DicomFile
from sonosynth.data.pictures import Picture, decode_file
from sonosynth.data.source import ReadOptions, SourceItem, distinct_ids, named
from sonosynth.errors import SourceError, UnreadableImageError

_KEPT_OPEN = 4  # files; `readers` works with four threads at most, each on one file
_CLIP, _REPORT, _BURNED_IN = "clip", "report", "burned in"


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
    notes = _notes([(item.path, content) for item, content in pairs], listed)
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
        if suffix in clips.SUFFIXES or suffix == ".gif":
            count = clips.count_frames(path)
            return _Content() if suffix == ".gif" and count == 1 else _Content(clips.chosen(count), path, remark=_CLIP)
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


def _notes(files: Sequence[tuple[Path, _Content]], listed: bool) -> list[str]:
    remarks = Counter(content.remark for _, content in files)
    notes = []
    if clip_count := remarks[_CLIP]:
        frames = sum(len(content.frames) for _, content in files if content.remark == _CLIP)
        notes.append(
            f"{clip_count} clips, each a group: at most {clips.MOST_FRAMES} evenly spaced frames taken of each, for "
            f"neighbouring ones are nearly alike: {frames} images"
        )
    if remarks[dicom.DIRECTORY] and not listed:
        notes.append(f"{remarks[dicom.DIRECTORY]} DICOMDIR ignored: the files themselves are read")
    if remarks[_REPORT] and not listed:
        reports = named(path.name for path, content in files if content.remark == _REPORT)
        notes.append(f"{remarks[_REPORT]} DICOM files that hold no images left out: {reports}")
    owners = [content.owner for path, content in files if content.columns]
    if owners:
        notes.append(
            f"{len(set(owners))} patients (or studies) found in DICOM headers: their images are grouped under a "
            "running number; no name, id, date or UID is copied"
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
            f"{remarks[_BURNED_IN]} DICOM files say that identifying text is burned into their pixels: look at the "
            "images before you share them"
        )
    return notes


# ---------------------------------------------------------------------------------------------------- decoding


class _Container(Protocol):
    def picture(self, frame: int | None) -> Picture: ...


class OpenFiles:
    """Files with several images, of which the last few are kept open, so that each is read once and not once a frame.

    For any number of threads; frames of one file are decoded one at a time.
    """

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._files: OrderedDict[Path, _Opened] = OrderedDict()

    def picture(self, item: SourceItem) -> Picture:
        """Return the picture of `item`. Raises UnreadableImageError."""
        kind = _container(item, self._options)
        if kind is None:
            return decode_file(item.path)
        with self._lock:
            file = self._files.pop(item.path, None) or _Opened(item.path, kind)
            self._files[item.path] = file
            while len(self._files) > _KEPT_OPEN:
                self._files.popitem(last=False)
        return file.picture(item.frame)


class _Opened:
    """One file, opened at the first use; that it cannot be opened is kept as well, and not tried once a frame."""

    def __init__(self, path: Path, kind: Callable[[Path], _Container]) -> None:
        self._path, self._kind = path, kind
        self._lock = threading.Lock()
        self._file: _Container | UnreadableImageError | None = None

    def picture(self, frame: int | None) -> Picture:
        with self._lock:
            if self._file is None:
                try:
                    self._file = self._kind(self._path)
                except UnreadableImageError as error:
                    self._file = error
            if isinstance(self._file, UnreadableImageError):
                raise self._file
            return self._file.picture(frame)


def _container(item: SourceItem, options: ReadOptions) -> Callable[[Path], _Container] | None:
    suffix = item.path.suffix.lower()
    if suffix == arrays.SUFFIX:
        return arrays.Arrays
    if suffix in clips.SUFFIXES or (suffix == ".gif" and item.frame is not None):
        return clips.Clip
    force = options.force_dicom
    return partial(DicomFile, force=force) if dicom.is_dicom(item.path, force) else None
