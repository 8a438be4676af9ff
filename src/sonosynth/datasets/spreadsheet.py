"""The cells of an .xlsx table as text, without a library for the rest of what spreadsheets can do."""

import posixpath
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from sonosynth.core.errors import FetchError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_LIMIT = 64 << 20
_COLUMNS = 16_384


def read_sheet(path: Path) -> list[list[str]]:
    """Return the rows of the first sheet of an Office Open XML workbook; empty cells are empty strings.

    Numbers are returned as they are stored, formulas as their last result, text without its formatting.

    Raises:
        FetchError: `path` is damaged or not such a workbook.
    """
    try:
        with zipfile.ZipFile(path) as book:
            shared = [_text(item) for item in _xml(book, "xl/sharedStrings.xml")] if _has_shared(book) else []
            return [_row(row, shared) for row in _xml(book, _first_sheet(book)).iter(f"{_MAIN}row")]
    except (zipfile.BadZipFile, ElementTree.ParseError, LookupError, ValueError, EOFError, RuntimeError) as error:
        raise FetchError(f"{path.name} is not a readable .xlsx table ({error})") from error


def _has_shared(book: zipfile.ZipFile) -> bool:
    return "xl/sharedStrings.xml" in book.namelist()


def _xml(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if book.getinfo(name).file_size > _LIMIT:
        raise ValueError(f"{name} is larger than {_LIMIT} bytes")
    return ElementTree.fromstring(book.read(name))


def _first_sheet(book: zipfile.ZipFile) -> str:
    sheet = _xml(book, "xl/workbook.xml").find(f"{_MAIN}sheets/{_MAIN}sheet")
    if sheet is None:
        raise LookupError("no sheet")
    targets = {part.attrib["Id"]: part.attrib["Target"] for part in _xml(book, "xl/_rels/workbook.xml.rels")}
    return posixpath.normpath(posixpath.join("/xl", targets[sheet.attrib[_ID]])).lstrip("/")


def _row(row: ElementTree.Element, shared: list[str]) -> list[str]:
    cells: list[str] = []
    for cell in row.iter(f"{_MAIN}c"):
        index = _column(cell.attrib["r"]) if "r" in cell.attrib else len(cells)
        cells += [""] * (index + 1 - len(cells))
        cells[index] = _value(cell, shared)
    return cells


def _column(reference: str) -> int:
    """Return the column of a cell such as "AB12", counted from 0."""
    match = re.fullmatch(r"([A-Z]{1,3})\d+", reference)
    if not match:
        raise ValueError(f"no such cell: {reference}")
    number = 0
    for letter in match[1]:
        number = number * 26 + ord(letter) - ord("A") + 1
    if number > _COLUMNS:
        raise ValueError(f"no such column: {reference}")
    return number - 1


def _value(cell: ElementTree.Element, shared: list[str]) -> str:
    kind = cell.attrib.get("t", "n")
    if kind == "inlineStr":
        inline = cell.find(f"{_MAIN}is")
        return "" if inline is None else _text(inline)
    value = cell.findtext(f"{_MAIN}v", "")
    return shared[int(value)] if kind == "s" and value else value


def _text(item: ElementTree.Element) -> str:
    """Return the text of a string item, which may be of several runs; reading aids for East Asian text left out."""
    runs = [item.findtext(f"{_MAIN}t", ""), *(run.findtext(f"{_MAIN}t", "") for run in item.iter(f"{_MAIN}r"))]
    return "".join(runs)
