"""From the label table that a public data set ships with to a manifest.csv of path, label and group.

Each function takes the folder that the set was unpacked into and writes ``manifest.csv`` there. The layouts are those
that the publishers document; anything else is an error that says what differs, never a guess.
"""

import csv
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from sonosynth.core.errors import FetchError
from sonosynth.data.imageset import MANIFEST

_Row = Mapping[str, str]
_LARGEST_SHEET = 64 << 20  # bytes, unpacked

HC18_LABEL = "fetal head"


def bus_bra(folder: Path) -> None:
    """BUS-BRA: ``BUSBRA/bus_data.csv`` with `ID`, `Case` and `Pathology`; ``BUSBRA/Images/ID.png``."""

    def entry(row: _Row) -> tuple[str, str, str]:
        return f"BUSBRA/Images/{row['ID']}.png", row["Pathology"], row["Case"]

    _write(folder, folder / "BUSBRA" / "bus_data.csv", ("ID", "Case", "Pathology"), entry)


def bus_uclm(folder: Path) -> None:
    """BUS-UCLM: ``INFO.csv`` (semicolons) with `Image` and `Label`; ``images/CODE_000.png``, CODE a patient."""
    inside = "BUS-UCLM Breast ultrasound lesion segmentation dataset/BUS-UCLM"
    table = folder / inside / "INFO.csv"

    def entry(row: _Row) -> tuple[str, str, str]:
        code = _match(table, r"(.+)_\d+\.\w+", row["Image"])
        return f"{inside}/images/{row['Image']}", row["Label"].lower(), code

    _write(folder, table, ("Image", "Label"), entry, delimiter=";")


def breast(folder: Path) -> None:
    """BrEaST: the clinical table (xlsx) with `CaseID`, `Image_filename` and `Classification`; one case per patient."""
    images = "BrEaST-Lesions_USG-images_and_masks"
    table = folder / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx"

    def entry(row: _Row) -> tuple[str, str, str]:
        return f"{images}/{row['Image_filename']}", row["Classification"].lower(), row["CaseID"]

    _write(folder, table, ("CaseID", "Image_filename", "Classification"), entry)


def hc18(folder: Path) -> None:
    """HC18: the table of measurements; ``training_set/010_2HC.png`` is the second image of examination 010.

    The pixel size and the head circumference, both in mm, are kept as `pixel_size_mm` and `head_circumference_mm`.
    """
    table = folder / "training_set_pixel_size_and_HC.csv"
    measured = {"pixel size(mm)": "pixel_size_mm", "head circumference (mm)": "head_circumference_mm"}

    def entry(row: _Row) -> tuple[str, str, str]:
        return f"training_set/{row['filename']}", HC18_LABEL, _match(table, r"(\d+)_\d*HC\.png", row["filename"])

    _write(folder, table, ("filename", *measured), entry, kept=measured)


def _write(
    folder: Path,
    table: Path,
    columns: Sequence[str],
    entry: Callable[[_Row], tuple[str, str, str]],
    *,
    kept: Mapping[str, str] | None = None,
    delimiter: str = ",",
) -> None:
    """Write the manifest; `entry` gives path, label and group of a row, `kept` new names of columns to keep."""
    lines, kept = [], kept or {}
    for row in _rows(table, columns, delimiter):
        path, label, group = entry(row)
        if not (label and group):
            raise FetchError(f"{table.name}: {path} has no label or no group; this version of the set is not known")
        if not (folder / path).is_file():
            raise FetchError(f"{table.name} names {path}, which is not in the archive; this version is not known")
        lines.append((path, label, group, *(row[name] for name in kept)))
    with (folder / MANIFEST).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "group", *kept.values()))
        writer.writerows(lines)


def _rows(table: Path, columns: Sequence[str], delimiter: str) -> list[_Row]:
    """Return the rows by column name, without spaces around the cells and without empty rows."""
    if not table.is_file():
        raise FetchError(f"no {table.name} where the data set is documented to have it; this version is not known")
    if table.suffix == ".xlsx":
        lines = read_sheet(table)
    else:
        try:
            with table.open(encoding="utf-8-sig", newline="") as file:
                lines = list(csv.reader(file, delimiter=delimiter))
        except (UnicodeDecodeError, csv.Error) as error:
            raise FetchError(f"{table.name} is not the table that is documented ({error})") from error
    header, *rows = [[cell.strip() for cell in line] for line in lines if any(line)] or [[]]
    missing = [name for name in columns if name not in header]
    if missing:
        raise FetchError(f"{table.name} lacks the column '{missing[0]}'; this version of the set is not known")
    if not rows:
        raise FetchError(f"{table.name} has no rows; this version of the set is not known")
    if any(len(row) > len(header) for row in rows):
        raise FetchError(f"{table.name} has rows longer than its first line; this version of the set is not known")
    return [dict(zip(header, (*row, *("" for _ in header)), strict=False)) for row in rows]


def _match(table: Path, pattern: str, name: str) -> str:
    match = re.fullmatch(pattern, name)
    if not match:
        raise FetchError(f"{table.name}: the file name '{name}' is not of the documented form")
    return match[1]


def read_sheet(path: Path) -> list[list[str]]:
    """Return the rows of the first sheet of an .xlsx workbook as text; empty cells are empty strings.

    Raises:
        FetchError: `path` is damaged or not such a workbook.
    """
    import pandas as pd

    try:
        with zipfile.ZipFile(path) as book:
            if (size := sum(part.file_size for part in book.infolist())) > _LARGEST_SHEET:
                raise ValueError(f"{size} bytes are more than a table of labels has")
        sheet = pd.read_excel(path, header=None, dtype=str, keep_default_na=False, engine="openpyxl")
    except (zipfile.BadZipFile, ElementTree.ParseError, LookupError, ValueError, TypeError, EOFError) as error:
        raise FetchError(f"{path.name} is not a readable .xlsx table ({error})") from error
    return sheet.to_numpy().tolist()
