"""What a person should know of a source before trusting it: files that lie elsewhere, values that run."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sonosynth.core.text import counted

_FORMULA = ("=", "@", "+", "-")


def links_out(root: Path, files: Iterable[Path]) -> list[str]:
    """Return a line if some of `files` lie elsewhere than under `root`, because they or their folders are links."""
    inside = os.path.join(os.path.realpath(root), "")  # noqa: PTH118  (text: there may be a million files)
    folders: dict[Path, str] = {}
    out = []
    for file in files:
        if file.parent not in folders:
            folders[file.parent] = os.path.join(os.path.realpath(file.parent), "")  # noqa: PTH118
        real = os.path.realpath(file) if file.is_symlink() else folders[file.parent]
        if not real.startswith(inside):
            out.append(file)
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
    found = [value for value in (next(filter(_is_formula, row), None) for row in rows) if value is not None]
    if not found:
        return []
    return [
        f"{counted(len(found), 'image has', 'images have')} values that a spreadsheet would run as formulas (first: "
        f"'{found[0][:60]}'): kept as they are; import the columns of manifest.csv as text"
    ]


def _is_formula(value: str) -> bool:
    if not value or value[0] not in "=@+-\t\r\n ":
        return False
    text = value.lstrip()
    # A sign alone is a number, a date or a word; to do harm it needs a call, a sheet or a program.
    return text.startswith(_FORMULA) and (text[0] in "=@" or any(letter in text for letter in "(!|"))
