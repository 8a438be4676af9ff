"""From a folder or a manifest to a list of labelled files; nothing is decoded here."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from sonosynth.data.imageset import MANIFEST
from sonosynth.data.pictures import SUFFIXES
from sonosynth.errors import ManifestError, SourceError, nearest

_IMAGE_SET_COLUMNS = frozenset(("path", "label", "group", "id", "synthetic"))
_MASK = re.compile(r"(?P<image>.+)_mask(_\d+)?", re.IGNORECASE)
_Rows = list[tuple[int, dict[str, str]]]


@dataclass(frozen=True)
class SourceItem:
    """One file of a source: where it lies, its label, its group if one is known, a name, and further columns."""

    path: Path
    label: str
    group: str | None
    id: str
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What a reader finds, before any picture is opened.

    Attributes:
        kind: "BUSI layout", "image folder", "manifest" or "image set".
        root: the folder that all paths lie under.
        items: one entry an image; distinct ids; by class, then in natural order, or as the manifest has them.
        classes: names of the classes, sorted.
        notes: lines to tell the user: what was left out and why, what was kept beyond the contract.
        synthetic: whether a manifest says that the images were generated.
    """

    kind: str
    root: Path
    items: tuple[SourceItem, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    synthetic: bool = False


def read_source(path: Path) -> Source:
    """Find the labelled images under `path`: a folder in BUSI layout, one folder a class, or a manifest.csv.

    A manifest wins over folders. In BUSI layout files named ``NAME_mask.png`` or ``NAME_mask_1.png`` are masks and left
    out. Subfolders of class folders are not descended into. Nothing is decoded.

    Raises:
        SourceError: `path` does not exist or holds no images in class folders.
        ManifestError: the manifest lacks columns, names a missing file, one file twice, or a file elsewhere.
    """
    if path.is_file() and path.suffix.lower() == ".csv":
        return _read_manifest(path)
    if not path.is_dir():
        what = "is neither a folder nor a manifest.csv" if path.exists() else "does not exist"
        if not path.exists() and not path.is_absolute():
            what += f" in the current folder {Path.cwd()}"
        raise SourceError(f"{path} {what}; give a folder with one folder a class, or a manifest.csv")
    return _read_manifest(path / MANIFEST) if (path / MANIFEST).is_file() else _read_folders(path)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key under which "benign (2)" comes before "benign (10)"."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


# ---------------------------------------------------------------------------------------------------- folders


def _read_folders(root: Path) -> Source:
    here = _Folder(root)
    found = {folder.name: _Folder(folder) for folder in sorted(here.folders)}
    classes = tuple(name for name, folder in found.items() if folder.images)
    if not classes:
        raise SourceError(_nothing_in(root, here, found))
    masks = {name: found[name].masks() for name in classes}
    busi = any(
        path.stem != stem and stem in found[name].stems() for name in classes for path, stem in masks[name].items()
    )
    left_out = {path for name in classes for path in masks[name]} if busi else set()
    pairs = [(path, name) for name in classes for path in found[name].images if path not in left_out]
    if len({name for _, name in pairs}) < len(classes):
        only = next(name for name in classes if name not in {label for _, label in pairs})
        raise SourceError(f"{root / only} holds only masks; put the masks beside their images or outside {root}")
    notes = [f"{len(left_out)} masks left out"] if left_out else []
    unpaired = sum(map(len, masks.values())) - len(left_out)
    if unpaired:
        notes.append(f"{unpaired} files are named like masks but their images are not beside them: counted as images")
    notes += _folder_notes(here, found, classes)
    ids = _ids([path.relative_to(root) for path, _ in pairs])
    items = tuple(SourceItem(path, label, None, name) for (path, label), name in zip(pairs, ids, strict=True))
    return Source("BUSI layout" if busi else "image folder", root, items, classes, (*notes, *_alike(classes)))


class _Folder:
    """The entries of one folder, sorted into images, side files, hidden files and subfolders."""

    def __init__(self, path: Path) -> None:
        entries = sorted(_entries(path), key=lambda entry: natural_key(entry.name))
        self.hidden = [entry for entry in entries if _hidden(entry)]
        shown = [entry for entry in entries if not _hidden(entry)]
        self.folders = [entry for entry in shown if entry.is_dir()]
        # A broken link counts as an image, so that it is named as unreadable and not lost.
        self.images = [entry for entry in shown if entry.suffix.lower() in SUFFIXES and not entry.is_dir()]
        self.side = [entry for entry in shown if entry.suffix.lower() not in SUFFIXES and not entry.is_dir()]
        for entry in (path, *self.images):
            if not entry.name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in entry.name):
                raise SourceError(f"{str(entry)!r}: the name is not valid text; rename it")

    def stems(self) -> set[str]:
        return {path.stem for path in self.images}

    def masks(self) -> dict[Path, str]:
        """Return the files named like masks with the stem of the image each belongs to."""
        matches = {path: _MASK.fullmatch(path.stem) for path in self.images}
        return {path: match["image"] for path, match in matches.items() if match}


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SourceError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from error


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


def _suffixes(paths: Iterable[Path]) -> str:
    counts = Counter(path.suffix.lower() or path.name for path in paths)
    return ", ".join(f"{suffix} ({count})" for suffix, count in counts.most_common(6))


def _folder_notes(here: _Folder, found: Mapping[str, _Folder], classes: Sequence[str]) -> list[str]:
    notes = []
    side = [path for folder in (here, *found.values()) for path in folder.side]
    hidden = [path for folder in (here, *found.values()) for path in folder.hidden]
    nested = [f"{name}/{sub.name}" for name in classes for sub in found[name].folders]
    bare = [name for name in found if name not in classes]
    if here.images:
        notes.append(
            f"{len(here.images)} images outside the class folders left out: {named(p.name for p in here.images)}"
        )
    if side:
        notes.append(f"{len(side)} files that are not images left out: {_suffixes(side)}")
    if hidden:
        notes.append(f"{len(hidden)} hidden files left out")
    if nested:
        notes.append(f"{len(nested)} folders inside class folders not looked into: {named(nested)}")
    if bare:
        notes.append(f"{len(bare)} folders without images are not classes: {named(bare)}")
    return notes


def _nothing_in(root: Path, here: _Folder, found: Mapping[str, _Folder]) -> str:
    if here.images:
        return (
            f"{root}: {len(here.images)} images lie in the folder itself; give the folder above it if this is one "
            "class, else put them into one folder a class or list them in a manifest.csv (path,label)"
        )
    for name, folder in found.items():
        if (root / name / MANIFEST).is_file() or any(_Folder(sub).images for sub in folder.folders):
            return f"{root} has no images in its folders, but {root / name} has; give that folder instead"
    side = [path for folder in (here, *found.values()) for path in folder.side]
    what = f" (only {_suffixes(side)})" if side else ""
    return f"{root} holds no images{what}; give a folder with one folder of images a class, or a manifest.csv"


# ---------------------------------------------------------------------------------------------------- manifests


def _read_manifest(path: Path) -> Source:
    header, rows = _table(path)
    root = path.parent
    places = [_place(path, line, row["path"]) for line, row in rows]
    _check_places(path, [line for line, _ in rows], places)
    for line, row in rows:
        if not row["label"]:
            raise ManifestError(f"{path}, line {line}: no label for '{row['path']}'; fill it in or remove the line")
    ids = [row.get("id", "") for _, row in rows]
    kept = {name: name for name in header if name and name not in _IMAGE_SET_COLUMNS}
    if not all(ids) or len(set(ids)) < len(ids):
        ids = _ids(places)
        kept |= {"id": "source_id"} if "id" in header else {}
    items = tuple(
        SourceItem(
            root / place,
            row["label"],
            row.get("group") or None,
            identity,
            {new: row[name] for name, new in kept.items()},
        )
        for place, identity, (_, row) in zip(places, ids, rows, strict=True)
    )
    classes = tuple(sorted({item.label for item in items}))
    whole = set(header) >= _IMAGE_SET_COLUMNS
    notes = [] if whole else _manifest_notes(path, header, kept, items)
    synthetic = _synthetic(path, rows) if "synthetic" in header else False
    return Source("image set" if whole else "manifest", root, items, classes, (*notes, *_alike(classes)), synthetic)


def _table(path: Path) -> tuple[list[str], _Rows]:
    """Return the column names and the rows with their line numbers; spaces around what a person typed are removed."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(
            f"{path} is not a comma-separated table in UTF-8 ({error}); save it as 'CSV UTF-8'"
        ) from error
    for name in ("path", "label"):
        if name not in header:
            near = " (separated by ';'? use ',')" if any(";" in column for column in header) else nearest(name, header)
            raise ManifestError(
                f"{path} lacks the column '{name}'{near}; the first line must be path,label or path,label,group"
            )
    doubled = [name for name, count in Counter(filter(None, header)).items() if count > 1]
    if doubled:
        raise ManifestError(f"{path} has the column '{doubled[0]}' more than once; rename one")
    for line, cells in lines:
        if len(cells) != len(header):
            raise ManifestError(
                f"{path}, line {line}: {len(cells)} fields where the first line has {len(header)}; "
                "put values that contain a comma into double quotes"
            )
    if not lines:
        raise ManifestError(f"{path} has no rows; list one image a line")
    if not set(header) >= _IMAGE_SET_COLUMNS:
        lines = [(line, [cell.strip() for cell in cells]) for line, cells in lines]
    return header, [(line, dict(zip(header, cells, strict=True))) for line, cells in lines]


def _place(path: Path, line: int, text: str) -> PurePosixPath:
    """Return the path in a manifest, normalised; backslashes count as slashes."""
    if not text:
        raise ManifestError(f"{path}, line {line}: no path; fill it in or remove the line")
    place = PurePosixPath(os.path.normpath(text.replace("\\", "/")))
    if place.is_absolute() or PureWindowsPath(text).drive or place.parts[:1] == ("..",):
        raise ManifestError(
            f"{path}, line {line}: '{text}' is outside {path.parent}; put the manifest into a folder above "
            "all its images and give paths from there"
        )
    return place


def _check_places(path: Path, lines: Sequence[int], places: Sequence[PurePosixPath]) -> None:
    first: dict[PurePosixPath, int] = {}
    for line, place in zip(lines, places, strict=True):
        if place in first:
            raise ManifestError(
                f"{path}, line {line}: '{place}' is already on line {first[place]}; remove one of the lines"
            )
        first[place] = line
    missing = [(line, place) for place, line in first.items() if not (path.parent / place).is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ManifestError(
            f"{path}, line {missing[0][0]}: no file '{missing[0][1]}' in {path.parent}{more}; "
            "correct the path or remove the line"
        )


def _synthetic(path: Path, rows: _Rows) -> bool:
    values = {row["synthetic"] for _, row in rows}
    if values not in ({"0"}, {"1"}):
        raise ManifestError(f"{path}: the column 'synthetic' must be 0 on every line or 1 on every line")
    return values == {"1"}


def _manifest_notes(
    path: Path, header: Sequence[str], kept: Mapping[str, str], items: Sequence[SourceItem]
) -> list[str]:
    notes = []
    if kept:
        notes.append(f"further manifest columns kept: {', '.join(kept.values())}")
    if not all(header):
        notes.append("columns without a name left out")
    groupless = sum(item.group is None for item in items)
    if "group" in header and groupless:
        notes.append(f"{groupless} of {len(items)} images have no group: each is a group of its own")
    listed = {item.path for item in items}
    beside = {file for folder in {item.path.parent for item in items} for file in _Folder(folder).images}
    if beside - listed:
        notes.append(f"{len(beside - listed)} image files beside the listed ones are not in {path.name}: left out")
    return notes


# ---------------------------------------------------------------------------------------------------- names


def _ids(paths: Sequence[PurePosixPath] | Sequence[Path]) -> list[str]:
    """Return distinct names: file stems, or if those repeat the relative paths without suffix, or with it."""
    ids = [path.stem for path in paths]
    if len(set(ids)) < len(ids):
        ids = [path.with_suffix("").as_posix() for path in paths]
    return ids if len(set(ids)) == len(ids) else [path.as_posix() for path in paths]


def _alike(classes: Sequence[str]) -> list[str]:
    counts = Counter(name.casefold() for name in classes)
    alike = [name for name in classes if counts[name.casefold()] > 1]
    return [f"class names that differ only in case are separate classes: {named(alike)}"] if alike else []


def named(names: Iterable[str], limit: int = 12) -> str:
    """Return the first `limit` names joined by commas, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
