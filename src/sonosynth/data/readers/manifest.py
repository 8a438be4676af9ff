"""From a manifest, a table of labels or StyleGAN's dataset.json to a list of labelled files."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from sonosynth.core.errors import ManifestError, SourceError, UnreadableImageError
from sonosynth.core.files import unreadable_reason
from sonosynth.core.text import agreeing, counted
from sonosynth.data.masks import MaskSearch, find_masks, in_mask_folder, masks_in_own_folders, nearby_mask_folders
from sonosynth.data.readers import tables
from sonosynth.data.readers.base import HOW_TO_SKIP
from sonosynth.data.readers.dicom.header import dicom_files, is_dicom, quiet_pydicom, read_header
from sonosynth.data.readers.folder import Folder, images_below
from sonosynth.data.readers.frames import all_synthetic, expand_frames
from sonosynth.data.source import ReadOptions, Source, SourceItem, formulas, links_out, similar_class_names, some_of

LABELS = "labels.csv"
DATASET_JSON = "dataset.json"
_IMAGE_SET_COLUMNS = frozenset(("path", "label", "group", "id", "synthetic"))
_LARGEST = 1 << 28  # bytes of a dataset.json
_Rows = list[tuple[str, dict[str, str]]]  # where it stands, such as "line 3", and its cells by column


def read_manifest(path: Path, options: ReadOptions) -> Source:
    """Return the images that the table at `path` lists.

    Columns called otherwise than path, label and group are those that `options` name, or for files and classes one that
    public tables call so (filename, image, ..., class). Such a column of files may hold names without folder and
    suffix: the files are then looked for below the folder of the table. Columns called mask (or mask_...) that name
    files give the masks, several in a cell separated by ";" or "|"; without one, masks are looked for beside the images
    and in folders of masks (see `masks`).

    Raises ManifestError if the table lacks columns, names a missing file, one file twice, or a file elsewhere; if a
    label is missing or says that it is (nan, NA); or if a name stands for several files. Raises SourceError if two
    images would have one name, or a folder cannot be listed.
    """
    header, lines = tables.read_table(path, "check its permissions")
    columns = tables.choose_columns(path, header, options)
    doubled = [name for name, count in Counter(filter(None, header)).items() if count > 1]
    if doubled:
        raise ManifestError(f"{path} has the column '{doubled[0]}' more than once; rename one")
    if not set(header) >= _IMAGE_SET_COLUMNS:  # a person typed it
        lines = [(line, [cell.strip() for cell in cells]) for line, cells in lines]
    rows = [(f"line {line}", row) for line, row in tables.rows_by_column(path, header, lines)]
    if not rows:
        raise ManifestError(f"{path} has no rows; list one image per line")
    return _listed(path, columns, header, rows, options)


def read_dataset_json(path: Path, options: ReadOptions) -> Source:
    """Return the images that StyleGAN's ``dataset.json`` at `path` lists: ``{"labels": [["00000/img.png", 0], ...]}``.

    Classes are called "0", "1", ... Raises ManifestError as `read_manifest` does, or if there are no such labels.
    """
    labels = _dataset_json_labels(path)
    if labels is None:
        raise ManifestError(
            f"{path} holds no labels as StyleGAN writes them, {{'labels': [['FILE', NUMBER], ...]}}; add them, or "
            "remove the file and put the images into one folder per class"
        )
    rows = []
    for number, entry in enumerate(labels, start=1):
        file, label = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if not isinstance(file, str) or not isinstance(label, int) or isinstance(label, bool):
            raise ManifestError(f"{path}, entry {number}: must be ['FILE', NUMBER], with one whole number as class")
        rows.append((f"entry {number}", {"path": file, "label": str(label)}))
    if not rows:
        raise ManifestError(f"{path} lists no images")
    header = ["path", "label"]
    return _listed(path, tables.choose_columns(path, header, options), header, rows, options)


def _dataset_json_labels(path: Path) -> list[object] | None:
    """Return the list called "labels" in the JSON object at `path`, None if it has none. Raises ManifestError."""
    try:
        if why := unreadable_reason(path, _LARGEST):
            raise ManifestError(f"{path} is {why}; give a dataset.json as StyleGAN writes it")
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} is not a JSON file ({error}); correct or remove it") from error
    labels = found.get("labels") if isinstance(found, dict) else None
    return labels if isinstance(labels, list) else None


def read_table_in(root: Path, here: Folder, options: ReadOptions) -> Source | None:
    """Return the images that a table in the folder `root` lists, if there is one that is meant to. Raises SourceError.

    Where there are class folders, a table without columns for files and classes is about something else.
    """
    csv_files = [path for path in here.side if path.suffix.lower() == ".csv"]
    labels = [path for path in csv_files if path.name == LABELS]
    if options.columns and not labels:
        labels = csv_files
        if len(labels) > 1:
            names = some_of(table.name for table in labels)
            raise SourceError(f"{root} holds {len(labels)} tables: {names}; give one as SOURCE")
    if labels and (here.images or options.columns or dicom_files(root, options.force_dicom) or _has_columns(labels[0])):
        return read_manifest(labels[0], options)
    labelled = root / DATASET_JSON
    if labelled.is_file():
        in_folders = any(any(images_below(folder, options)) for folder in here.folders)
        if not in_folders or _dataset_json_labels(labelled) is not None:
            return read_dataset_json(labelled, options)
    return None


def _has_columns(table: Path) -> bool:
    """Return whether `table` has columns for files and classes. Raises ManifestError if it is no table."""
    header, _ = tables.read_table(table, "check its permissions")
    with suppress(ManifestError):
        tables.choose_columns(table, header, ReadOptions())
        return True
    return False


def _listed(path: Path, columns: tables.Columns, header: list[str], rows: _Rows, options: ReadOptions) -> Source:
    """Return the images of a table at `path`, given its columns and rows. Raises as `read_manifest` does."""
    root = path.parent
    whole = set(header) >= _IMAGE_SET_COLUMNS
    files = _Files(root, options)
    if columns.path is None:
        texts = _find_by_uid(path, rows, options.force_dicom)
    else:
        texts = [_place(path, where, row[columns.path], files if columns.searched else None) for where, row in rows]
    _check_places(path, rows, texts)
    for (where, row), text in zip(rows, texts, strict=True):
        if tables.is_missing(label := row[columns.label]):
            missing = f"the label of '{text}' is '{label}', as where a value is missing"
            what = missing if label else f"no label for '{text}'"
            raise ManifestError(f"{path}, {where}: {what}; fill it in or remove the line")
    paths = [root / text for text in texts]
    beside_dicom = any(is_dicom(file, options.force_dicom) for file in paths)
    private = tables.identifying_columns(header) if beside_dicom else []
    used = {columns.path, columns.label, columns.group, tables.UID, "", "id", "synthetic", *private}
    # Which columns are kept beside those with a meaning, and what they are called then.
    kept = {name: f"source_{name}" if name in _IMAGE_SET_COLUMNS else name for name in header if name not in used}
    ids = [row.get("id", "") for _, row in rows]
    if not all(ids) or len(set(ids)) < len(ids):
        ids = [""] * len(rows)
        kept |= {"id": "source_id"} if "id" in header else {}
    renumber = options.group is not None and (whole or options.group in private)
    groups = _groups([row[columns.group] for _, row in rows] if columns.group else [""] * len(rows), renumber, whole)
    items = [
        SourceItem(file, row[columns.label], group, name, {new: row[old] for old, new in kept.items()})
        for file, name, group, (_, row) in zip(paths, ids, groups, rows, strict=True)
    ]
    notes = [*columns.notes]
    if not whole:
        masks, unlisted = _masks(path, header, rows, items, files, options)
        items = [replace(item, masks=masks.of.get(item.path, ())) for item in items]
        notes += [f"further manifest columns kept: {', '.join(kept.values())}"] if kept else []
        notes += [] if all(header) else ["columns without a name left out"]
        if columns.group and (groupless := sum(item.group is None for item in items)):
            of_all = counted(len(items), "image has", "images have")
            notes.append(f"{groupless} of {of_all} no group: each is a group of its own")
        notes += [*_notes_on_files(path, items, unlisted), *masks.notes()]
    if private:
        notes.append(f"columns that may tell who a patient is left out: {', '.join(private)}")
    found, more = expand_frames(root, items, True, options)
    classes = tuple(sorted({item.label for item in found}))
    marks = {row.get("synthetic", "0") for _, row in rows}
    if marks not in ({"0"}, {"1"}):
        raise ManifestError(f"{path}: the column 'synthetic' must be 0 on every line or 1 on every line")
    if options.group is None and (whole or any(item.group is None for item in found)):
        values = {name: [row[name] for _, row in rows] for name in header if name and name != columns.group}
        notes += tables.patient_note(values, [item.group for item in items])
    notes += [*more, *similar_class_names(classes), *links_out(root, [path, *(item.path for item in found)])]
    notes += formulas((item.id, item.label, item.group or "", *item.extra.values()) for item in found)
    synthetic = marks == {"1"} or all_synthetic(root, found)
    return Source("image set" if whole else "manifest", root, found, classes, tuple(notes), synthetic, options)


def _groups(values: Sequence[str], renumber: bool, whole: bool) -> list[str | None]:
    """Return the group of each image, None where none is given; as running numbers if values must not be copied.

    An image set has a whole number for every image, so there one without a value gets a number of its own.
    """
    if not renumber:
        return [None if tables.is_missing(value) else value for value in values]
    numbers: dict[object, str] = {}
    keys = [(place if whole else None) if tables.is_missing(value) else value for place, value in enumerate(values)]
    return [None if key is None else numbers.setdefault(key, str(len(numbers))) for key in keys]


# ---------------------------------------------------------------------------------------------------- masks


def _masks(
    path: Path, header: Sequence[str], rows: _Rows, items: Sequence[SourceItem], files: "_Files", options: ReadOptions
) -> tuple[MaskSearch, list[Path]]:
    """Return the masks of `items`, and the images beside them that the table does not list."""
    root, listed = path.parent, {item.path for item in items}
    folders = list(dict.fromkeys(item.path.parent for item in items))
    beside = [file for folder in folders for file in Folder(folder, options).images if file not in listed]

    def named(text: str) -> list[Path]:
        return [root / place for place in files.find(text, masks=True) if root / place not in listed]

    of: dict[Path, tuple[Path, ...]] = {}
    for column in tables.mask_columns(header):
        cells = [[text.strip() for text in re.split("[;|&]", row[column])] for _, row in rows]
        found = [[named(text) for text in cell if not tables.is_missing(text)] for cell in cells]
        if not any(paths for cell in found for paths in cell):
            continue  # of something else; it is kept as it is
        for item, cell, texts, (where, _) in zip(items, found, cells, rows, strict=True):
            if any(len(paths) != 1 for paths in cell):
                raise ManifestError(
                    f"{path}, {where}: '{column}' names '{'; '.join(texts)}', and there is not one such file for "
                    "each; correct it or leave it empty"
                )
            of[item.path] = (*of.get(item.path, ()), *(file for [file] in cell))
    if of:
        masks = MaskSearch({image: given for image, given in of.items() if given})
        return masks, [file for file in beside if file not in masks.files]
    near = (file for folder in nearby_mask_folders(root, folders) for file in images_below(folder, options))
    apart = masks_in_own_folders(root, dict.fromkeys(file for file in near if file not in listed))
    known = set(apart)
    search = find_masks([*listed, *(file for file in beside if file not in known)], apart, images=listed)
    masks = MaskSearch({item.path: search.of[item.path] for item in items if item.path in search.of}, search.alone)
    return masks, [file for file in beside if file not in search.files]


# ---------------------------------------------------------------------------------------------------- files


class _Files:
    """The image files below a folder by their names, for tables that give no more."""

    def __init__(self, root: Path, options: ReadOptions) -> None:
        self._root, self._options = root, options

    @cached_property
    def _places(self) -> dict[str, list[str]]:
        places: dict[str, list[str]] = {}
        for image in images_below(self._root, self._options):
            found = image.relative_to(self._root)
            for name in {found.as_posix(), found.with_suffix("").as_posix(), found.name, found.stem}:
                places.setdefault(name, []).append(found.as_posix())
        return places

    def find(self, text: str, masks: bool = False) -> list[str]:
        """Return the files, relative to the folder, that `text` stands for: a path, or a name with or without suffix.

        Files in folders of masks are left out where there are others, or with `masks` the others are.
        """
        place = os.path.normpath(text.replace("\\", "/"))
        if not place.startswith(("/", "..")) and os.path.isfile(f"{self._root}/{place}"):  # noqa: PTH113
            return [place]
        found = self._places.get(place, [])
        return [one for one in found if in_mask_folder(one) == masks] or found


@quiet_pydicom()
def _find_by_uid(path: Path, rows: _Rows, force: bool) -> list[str]:
    """Return the path of the DICOM file that the UID of each row names. Raises ManifestError, without the UID."""
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
    for where, row in rows:
        if row[tables.UID] not in found:
            more = f"; {len(unread)} of its DICOM files cannot be read, the first: {unread[0]}" if unread else ""
            raise ManifestError(
                f"{path}, {where}: no DICOM file in {path.parent} has this SOP instance UID; correct it, restore "
                f"the file, or remove the line{more}"
            )
    return [found[row[tables.UID]].relative_to(path.parent).as_posix() for _, row in rows]


def _place(path: Path, where: str, text: str, files: _Files | None) -> str:
    """Return the path in a manifest, normalised; backslashes count as slashes. As text: there may be a million.

    With `files`, it may be the name of a file below, with or without suffix.
    """
    if not text:
        raise ManifestError(f"{path}, {where}: no path; fill it in or remove the line")
    place = os.path.normpath(text.replace("\\", "/"))
    if place.startswith("/") or text[1:2] == ":" or place.split("/", 1)[0] == "..":
        raise ManifestError(
            f"{path}, {where}: '{text}' is outside {path.parent}; put the manifest into a folder above "
            "all its images and give paths from there"
        )
    if files is not None and len(found := files.find(text)) > 1:
        raise ManifestError(
            f"{path}, {where}: '{text}' stands for {len(found)} files: {some_of(found, 3)}; give their paths"
        )
    return found[0] if files is not None and found else place


def _check_places(path: Path, rows: _Rows, places: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for (where, _), place in zip(rows, places, strict=True):
        if place in first:
            raise ManifestError(f"{path}, {where}: '{place}' is already on {first[place]}; remove one of the lines")
        first[place] = where
    root, is_file = str(path.parent), os.path.isfile  # which says no, and does not raise, where a name is too long
    missing = [(where, place) for place, where in first.items() if not is_file(f"{root}/{place}")]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ManifestError(
            f"{path}, {missing[0][0]}: no file '{missing[0][1]}' in {path.parent}{more}; "
            "correct the path or remove the line"
        )


def _notes_on_files(path: Path, items: Sequence[SourceItem], unlisted: Collection[Path]) -> list[str]:
    notes = []
    if unlisted:
        files, are = counted(len(unlisted), "image file"), agreeing(len(unlisted), "is", "are")
        notes.append(f"{files} beside the listed ones {are} not in {path.name}: left out")
    if masks := sorted(mask.name for mask in find_masks([item.path for item in items]).files):
        files = counted(len(masks), "listed file looks like a mask", "listed files look like masks")
        notes.append(f"{files} of another: {some_of(masks, 3)}; counted as images, since {path.name} lists them")
    return notes
