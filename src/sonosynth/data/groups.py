"""Which images belong together: clusters, and the table ``groups.csv`` that carries them from an audit to a study."""

import csv
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from sonosynth.core.errors import ClassError, ManifestError, UnreadableImageError
from sonosynth.core.files import atomic_file
from sonosynth.core.text import agreeing, counted
from sonosynth.data.readers.tables import near_column, read_table, rows_by_column
from sonosynth.data.scan import decode_image
from sonosynth.data.source import Source, SourceItem, some_of

_COLUMNS = ("path", "group", "conflict")


def cluster_numbers(n: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return int64 ``[n]``: which cluster each of `n` things is in, if those of each pair belong to one.

    Clusters are numbered in order of first appearance.
    """
    from scipy.sparse import coo_array  # slow to import, for a command that reads no groups
    from scipy.sparse.csgraph import connected_components

    a, b = np.array([*pairs], dtype=np.int64).reshape(-1, 2).T
    _, found = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), directed=False)
    return renumbered(found)


def renumbered(values: np.ndarray) -> np.ndarray:
    """Return int64 ``[n]``: `values` renumbered from 0 in order of first appearance."""
    _, first, numbers = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[numbers], dtype=np.int64)


def table_path(item: SourceItem, root: Path) -> str:
    """Return how tables call an image: its path from `root`, with ``#frame`` for one of several in a file."""
    path = item.path.relative_to(root).as_posix()
    return path if item.frame is None else f"{path}#{item.frame}"


def write_groups(
    path: Path, root: Path, items: Sequence[SourceItem], groups: Sequence[int] | np.ndarray, conflict: Sequence[bool]
) -> None:
    """Write ``path,group,conflict``: a row per image; `conflict` is 1 for copies with different labels."""
    with atomic_file(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for item, group, wrong in zip(items, groups, conflict, strict=True):
            table.writerow((table_path(item, root), int(group), int(wrong)))


def with_groups(
    source: Source, path: Path, drop_conflicts: bool | None = False, skip_unreadable: bool = False
) -> tuple[Source, list[str]]:
    """Return `source` with the groups of a ``groups.csv``, and lines to tell the user.

    Args:
        source: what `read_source` found; every one of its images needs a row.
        path: a table ``path,group`` or ``path,group,conflict``, as `audit` writes it, perhaps edited since.
        drop_conflicts: leave out the images that are marked as conflicts, if their group still holds more than one
            class; other images of such a group stay: a patient may well have two lesions. None: if there are marks.
        skip_unreadable: images that cannot be decoded need no row: an audit that left them out has none for them.

    Raises ManifestError if the table cannot be used or misses an image, and ClassError if a whole class would go.
    """
    places = [table_path(item, source.root) for item in source.items]
    rows = _rows(path, bool(drop_conflicts), set(places))
    missing = []
    for item, name in zip(source.items, places, strict=True):
        if name not in rows:
            with suppress(UnreadableImageError):
                if skip_unreadable:
                    decode_image(item, source.options)
                missing.append(name)
    if missing:
        raise ManifestError(
            f"{path} has no row for {len(missing)} of {counted(len(places), 'image')} of {source.root}: "
            f"{some_of(missing, 3)}; run 'sonosynth data audit' on this source, or add the rows"
        )
    # What is unreadable stays, without a group, so that it is counted when it is left out.
    nothing = (None, False)
    items = [replace(item, group=rows.get(name, nothing)[0]) for item, name in zip(source.items, places, strict=True)]
    listed = [item.group for item in items if item.group is not None]
    if source.kind == "image set" and None in map(whole_number, listed):  # an image set has whole numbers for groups
        numbers: dict[str | None, str | None] = {None: None}
        items = [replace(item, group=numbers.setdefault(item.group, str(len(numbers)))) for item in items]
    notes = [f"{counted(len(set(listed)), 'group')} of {counted(len(listed), 'image')}, from {path.name}"]
    if unused := len(rows.keys() - set(places)):
        are = agreeing(unused, "names", "name")
        notes.append(f"{counted(unused, 'row')} of {path.name} {are} no image of this source")
    if drop_conflicts or (drop_conflicts is None and any(marked for _, marked in rows.values())):
        labels: dict[str | None, set[str]] = {}
        for item in items:
            labels.setdefault(item.group, set()).add(item.label)
        gone = {i for i, (item, name) in enumerate(zip(items, places, strict=True))
                if rows.get(name, nothing)[1] and len(labels[item.group]) > 1}  # fmt: skip
        notes.append(f"{counted(len(gone), 'image')} dropped: copies that carry different labels")
        items = [item for i, item in enumerate(items) if i not in gone]
        left = {item.label for item in items}
        if bare := [name for name in source.classes if name not in left]:
            raise ClassError(f"{path}: without the conflicts no image of class '{bare[0]}' is left; correct the labels")
    return replace(source, items=tuple(items)), notes


def whole_number(group: str) -> int | None:
    """Return `group` as the number of a group in an image set; None if it is no whole number of 64 bits."""
    try:
        return int(np.int64(int(group)))
    except (ValueError, OverflowError):
        return None


def group_members(groups: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the images of each group, in the order of the group numbers, int ``[N]``."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _rows(path: Path, marked: bool, places: Container[str]) -> dict[str, tuple[str, bool]]:
    """Return group and conflict by path; the table must mark conflicts if `marked`.

    Spaces around what a person typed are removed, but not from a path that is one of `places`.
    """
    header, lines = read_table(path, "give the groups.csv of an audit")
    if doubled := next((name for name in _COLUMNS if header.count(name) > 1), None):
        raise ManifestError(f"{path} has the column '{doubled}' more than once; remove or rename one")
    for name in _COLUMNS if marked else _COLUMNS[:2]:
        if name not in header:
            needs = "path,group,conflict, so that conflicts can be dropped" if marked else "path,group"
            raise ManifestError(f"{path} lacks the column '{name}'{near_column(name, header)}; it must have {needs}")
    rows: dict[str, tuple[str, bool]] = {}
    for line, cells in rows_by_column(path, header, lines):
        row = {name: cell if cell in places else cell.strip() for name, cell in cells.items()}
        if not row["path"] or not row["group"]:
            raise ManifestError(f"{path}, line {line}: no path or no group; fill it in or remove the line")
        if row["path"] in rows:
            raise ManifestError(f"{path}, line {line}: '{row['path']}' stands twice; remove one of the lines")
        if row.get("conflict", "0") not in ("0", "1"):
            raise ManifestError(f"{path}, line {line}: conflict must be 0 or 1, not '{row['conflict']}'")
        rows[row["path"]] = (row["group"], row.get("conflict", "0") == "1")
    return rows
