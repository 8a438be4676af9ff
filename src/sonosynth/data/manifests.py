"""From a manifest or a table of labels to a list of labelled files."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from pydicom.datadict import dictionary_VR, keyword_dict

from sonosynth.data.cautions import formulas, links_out
from sonosynth.data.contents import spread
from sonosynth.data.dicom import dicom_files, is_dicom, quiet, read_header
from sonosynth.data.folder import Folder
from sonosynth.data.pictures import HOW_TO_SKIP
from sonosynth.data.source import ReadOptions, Source, SourceItem, alike
from sonosynth.data.tables import read_table
from sonosynth.errors import ManifestError, UnreadableImageError, nearest

LABELS = "labels.csv"
_IMAGE_SET_COLUMNS = frozenset(("path", "label", "group", "id", "synthetic"))
_UID = "sop_instance_uid"
# Columns that may tell who a patient is, by their names without "_", "-" and spaces; beside DICOM files they are not
# copied. They are called like a DICOM element of a name, date, time or UID, begin like those of people and places, or
# are one of a few more. What a patient is like is kept.
_TELLING_VR = frozenset(("PN", "DA", "TM", "DT", "UI"))
_TELLING = re.compile(
    r"patient(?!s?(age|sex|gender|size|height|weight|bmi|position|orientation))"
    r"|institution|operator|physician|referring|performing|otherpatientid|issuerofpatientid|accessionnumber|studyid$"
    r"|admissionid|deviceserialnumber|stationname"
)
_Rows = list[tuple[int, dict[str, str]]]


def read_manifest(path: Path, options: ReadOptions) -> Source:
    """Return the images that the table at `path` lists.

    Raises:
        ManifestError: the table lacks columns, names a missing file, one file twice, or a file elsewhere.
        SourceError: two images would have one name, or a folder cannot be listed.
    """
    header, rows = _table(path)
    root = path.parent
    if "path" not in header:
        _find_by_uid(path, rows, options.force_dicom)
    texts = [_place(path, line, row["path"]) for line, row in rows]
    _check_places(path, [line for line, _ in rows], texts)
    places = [PurePosixPath(text) for text in texts]
    for line, row in rows:
        if not row["label"]:
            raise ManifestError(f"{path}, line {line}: no label for '{row['path']}'; fill it in or remove the line")
    whole = set(header) >= _IMAGE_SET_COLUMNS
    kept = {name: name for name in header if name and name not in {*_IMAGE_SET_COLUMNS, _UID}}
    private = [name for name in header if _identifies(name)]
    if private and any(is_dicom(root / place, options.force_dicom) for place in places):
        kept = {name: name for name in kept if name not in private}
    else:
        private = []
    ids = [row.get("id", "") for _, row in rows]
    if not all(ids) or len(set(ids)) < len(ids):
        ids = [""] * len(rows)
        kept |= {"id": "source_id"} if "id" in header else {}
    files = [
        SourceItem(
            root / place,
            row["label"],
            row.get("group") or None,
            identity,
            {new: row[name] for name, new in kept.items()},
        )
        for place, identity, (_, row) in zip(places, ids, rows, strict=True)
    ]
    notes = [] if whole else _manifest_notes(path, header, kept, files, options.force_dicom)
    if private:
        notes.append(f"columns that may tell who a patient is left out: {', '.join(private)}")
    items, more = spread(root, files, True, options)
    classes = tuple(sorted({item.label for item in items}))
    synthetic = _synthetic(path, rows) if "synthetic" in header else False
    notes += [*more, *alike(classes), *links_out(root, [path, *(item.path for item in files)])]
    notes += formulas((item.id, item.label, item.group or "", *item.extra.values()) for item in items)
    return Source("image set" if whole else "manifest", root, items, classes, tuple(notes), synthetic, options)


def _identifies(column: str) -> bool:
    name = re.sub(r"[\W_]", "", column.casefold())
    return bool(_TELLING.match(name)) or name in _telling_elements()


@cache
def _telling_elements() -> frozenset[str]:
    elements = ((keyword, dictionary_VR(tag)) for keyword, tag in keyword_dict.items() if keyword)
    return frozenset(keyword.casefold() for keyword, kind in elements if kind in _TELLING_VR)


@quiet()
def _find_by_uid(path: Path, rows: _Rows, force: bool) -> None:
    """Add to each row the path of the DICOM file that its UID names. Raises ManifestError, without the UID."""
    found, unread = dict[str, Path](), list[str]()
    for file in dicom_files(path.parent, force):
        try:
            uid = read_header(file, force).uid
        except UnreadableImageError as error:  # told below, if the file of a line is not found
            unread.append(str(error).removesuffix(HOW_TO_SKIP))
            continue
        if uid in found:
            both = " and ".join(str(other.relative_to(path.parent)) for other in (found[uid], file))
            raise ManifestError(f"{path}: {both} have one SOP instance UID; remove one, or give paths instead of UIDs")
        if uid:
            found[uid] = file
    for line, row in rows:
        if (uid := row.pop(_UID)) not in found:
            more = f"; {len(unread)} of its DICOM files cannot be read, the first: {unread[0]}" if unread else ""
            raise ManifestError(
                f"{path}, line {line}: no DICOM file in {path.parent} has this SOP instance UID; correct it, restore "
                f"the file, or remove the line{more}"
            )
        row["path"] = found[uid].relative_to(path.parent).as_posix()


def _table(path: Path) -> tuple[list[str], _Rows]:
    """Return the column names and the rows with their line numbers; spaces around what a person typed are removed."""
    header, lines = read_table(path, "check its permissions")
    for name in ("path", "label"):
        if name not in header and not (name == "path" and _UID in header):
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


def _place(path: Path, line: int, text: str) -> str:
    """Return the path in a manifest, normalised; backslashes count as slashes. As text: there may be a million."""
    if not text:
        raise ManifestError(f"{path}, line {line}: no path; fill it in or remove the line")
    place = os.path.normpath(text.replace("\\", "/"))
    if place.startswith("/") or text[1:2] == ":" or place.split("/", 1)[0] == "..":
        raise ManifestError(
            f"{path}, line {line}: '{text}' is outside {path.parent}; put the manifest into a folder above "
            "all its images and give paths from there"
        )
    return place


def _check_places(path: Path, lines: Sequence[int], places: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for line, place in zip(lines, places, strict=True):
        if place in first:
            raise ManifestError(
                f"{path}, line {line}: '{place}' is already on line {first[place]}; remove one of the lines"
            )
        first[place] = line
    root, is_file = str(path.parent), os.path.isfile  # which says no, and does not raise, where a name is too long
    missing = [(line, place) for place, line in first.items() if not is_file(f"{root}/{place}")]
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
    path: Path, header: Sequence[str], kept: Mapping[str, str], items: Sequence[SourceItem], force: bool
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
    beside = {
        file for folder in {item.path.parent for item in items} for file in Folder(folder, force_dicom=force).images
    }
    if beside - listed:
        notes.append(f"{len(beside - listed)} image files beside the listed ones are not in {path.name}: left out")
    return notes
