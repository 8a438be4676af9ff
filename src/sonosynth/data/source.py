"""The value that readers return, `Source`, and what all of them share: folders, natural order, names, warnings."""

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from sonosynth.core.errors import SourceError
from sonosynth.core.file_names import portable_key
from sonosynth.core.text import counted
from sonosynth.data.readers.bit_depth import BIT_DEPTHS

# What systems, network drives and programs put beside the files of a user, without case.
_SYSTEM = frozenset((
    "__macosx", "@eadir", "#recycle", "#snapshot", "lost+found", "$recycle.bin", "system volume information",
    "network trash folder", "temporary items", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__",
))  # fmt: skip

# What a spreadsheet runs. After a sign it takes a call, a sheet or a program to do harm: else it is a number or a word.
_FORMULA = re.compile(r"(?=[=@+\-\t\r\n ])\s*([=@]|[+\-].*[(!|])", re.DOTALL)

AXES = ("x", "y", "z")
"""Axes of a volume, in the order in which they are stored: x changes fastest."""


@dataclass(frozen=True)
class ReadOptions:
    """What a user says of a source that the files do not say themselves.

    Attributes:
        path: column of a table that names the file of each image; None: "path".
        label: column that gives the class; None: "label".
        group: column that gives the patient, or another unit that must not be divided; None: "group", if there is one.
        force_dicom: read DICOM files that lack the preamble, as implicit or explicit little endian.
        bits: depth of 16-bit values whose file states none, 8 to 16; None: decided from all values of the source.
        axis: axis across which slices of volumes lie, "x", "y" or "z"; None: the last one that is stored, z.
    """

    path: str | None = None
    label: str | None = None
    group: str | None = None
    force_dicom: bool = False
    bits: int | None = None
    axis: str | None = None

    def __post_init__(self) -> None:
        if self.bits is not None and self.bits not in BIT_DEPTHS:
            raise SourceError(f"bits must be {BIT_DEPTHS[0]} to {BIT_DEPTHS[-1]}, not {self.bits}")
        if self.axis is not None and self.axis not in AXES:
            raise SourceError(f"axis must be one of {', '.join(AXES)}, not '{self.axis}'")

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are named, by what they give."""
        return {name: value for name in ("path", "label", "group") if (value := getattr(self, name)) is not None}

    def as_flags(self) -> str:
        """Return what a command line says to read a source so, with a space before each option."""
        return "".join(
            f" --{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
            for name, value in asdict(self).items()
            if value not in (None, False)
        )


@dataclass(frozen=True)
class SourceItem:
    """One image of a source."""

    path: Path  # the file it lies in
    label: str  # name of its class
    group: str | None  # the patient, clip or other unit it belongs to, if one is known
    id: str  # its name, distinct in the source
    extra: Mapping[str, str] = field(default_factory=dict)  # further columns
    frame: int | None = None  # which image of the file, counted from 0, if the file is one that holds several
    synthetic: bool = False  # whether the file itself says that a generator made it
    masks: tuple[Path, ...] = ()  # files that mark lesions in it


@dataclass(frozen=True)
class Source:
    """What a reader finds, before any picture is opened.

    Attributes:
        kind: "BUSI layout", "image folder", "DICOM folder", "manifest", "image set", "MedMNIST file" or "npz file".
        root: the folder that all paths lie under.
        items: one entry per image; distinct ids; by class, then in natural order, or as the manifest has them. All have
            the same `extra` columns.
        classes: names of the classes, sorted.
        notes: lines to tell the user: what was left out and why, what was kept beyond the contract.
        synthetic: whether a manifest, or every DICOM file, says that the images were generated.
        options: how it was read, and how its files are to be decoded.
        depth_from: images of other sources with which `items` share the decision on the depth of 16-bit values.
    """

    kind: str
    root: Path
    items: tuple[SourceItem, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    options: ReadOptions = ReadOptions()
    depth_from: tuple[SourceItem, ...] = ()


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key under which "benign (2)" comes before "benign (10)"."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what lies in `folder`, in natural order: what is shown, and what is hidden or a system's own.

    Raises SourceError if it cannot be listed.
    """
    try:
        found = sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    except OSError as error:
        raise SourceError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from error
    hidden = {entry: entry.name.startswith(".") or entry.name.casefold() in _SYSTEM for entry in found}
    return [entry for entry in found if not hidden[entry]], [entry for entry in found if hidden[entry]]


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the files in `folder` and below, in natural order; hidden ones and linked folders are left out.

    Raises SourceError if a folder cannot be listed.
    """
    waiting = list_folder(folder)[0][::-1]
    while waiting:
        entry = waiting.pop()
        if not entry.is_dir():
            yield entry
        elif not entry.is_symlink():
            waiting += list_folder(entry)[0][::-1]


def check_file_name(path: Path) -> None:
    """Raise SourceError if the name of `path` is not text, so that no manifest could hold it."""
    if not path.name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in path.name):
        raise SourceError(f"{str(path)!r}: the name is not valid text; rename it")


def distinct_ids(paths: Sequence[Path], frames: Sequence[int | None]) -> list[str]:
    """Return a distinct name for each image, given its path under the root and its frame.

    File stems, or if those repeat the relative paths without suffix, or with it; then ``_f0003`` for frame 3. What
    follows a dot is no suffix if it is a number, as in files that are named by a DICOM UID.
    """
    ends = ["" if frame is None else f"_f{frame:04d}" for frame in frames]
    for name in (_stem, lambda path: path.with_name(_stem(path)).as_posix(), Path.as_posix):
        ids = [name(path) + end for path, end in zip(paths, ends, strict=True)]
        if len(set(ids)) == len(ids):
            return ids
    double = next(name for name, count in Counter(ids).items() if count > 1)
    raise SourceError(f"two images would both be called '{double}'; rename one of the files")


def _stem(path: Path) -> str:
    if path.name.lower().endswith(".nii.gz"):
        return path.name[: -len(".nii.gz")]
    return path.name if path.suffix[1:].isdigit() else path.stem


def similar_class_names(classes: Sequence[str]) -> list[str]:
    """Return a line about class names that differ only in case or in how accents are composed, if there are any."""
    counts = Counter(portable_key(name) for name in classes)
    same = [name for name in classes if counts[portable_key(name)] > 1]
    if not same:
        return []
    composed = [name for name in same if unicodedata.normalize("NFC", name) != name]
    how = "how accents are composed (NFC or NFD), though they look the same," if composed else "case"
    return [f"class names that differ only in {how} are separate classes: {some_of(same)}; rename one if they are one"]


def count_suffixes(paths: Iterable[Path]) -> str:
    """Return the commonest suffixes of `paths` with their numbers, as text."""
    counts = Counter(path.suffix.lower() or path.name for path in paths)
    return ", ".join(f"{suffix} ({count})" for suffix, count in counts.most_common(6))


def some_of(names: Iterable[str], limit: int = 5) -> str:
    """Return the first `limit` names joined by commas, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def links_out(root: Path, files: Iterable[Path]) -> list[str]:
    """Return a line if some of `files` lie elsewhere than under `root`, because they or their folders are links."""
    real_folder = cache(lambda folder: os.path.join(os.path.realpath(folder), ""))  # noqa: PTH118  (text: it is quick)
    inside = real_folder(root)
    out = [
        file
        for file in files
        if not (os.path.realpath(file) if file.is_symlink() else real_folder(file.parent)).startswith(inside)
    ]
    if not out:
        return []
    first = out[0].relative_to(root).as_posix()
    reached = counted(len(out), "file is", "files are")
    return [f"{reached} reached by links that lead out of the folder (first: {first}): read all the same"]


def formulas(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a line if some of `rows`, the values of one image each, hold one that a spreadsheet takes for a formula.

    Values are never changed: what a manifest says must come back as it was, and a prefix would end up in the names of
    classes. So the user is told before the table is opened in a spreadsheet.
    """
    found = [value for value in (next(filter(_FORMULA.match, row), None) for row in rows) if value is not None]
    if not found:
        return []
    return [
        f"{counted(len(found), 'image has', 'images have')} values that a spreadsheet would run as formulas (first: "
        f"'{found[0][:60]}'): kept as they are; import the columns of manifest.csv as text"
    ]
