"""What the benchmarks share: a table line by line, and the file that keeps it."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sonosynth.core.device import provenance
from sonosynth.core.files import write_json

Columns = tuple[tuple[str, str], ...]
"""Names of columns, and how `str.format` lays each of them out."""


def line(columns: Columns, row: dict[str, Any] | None = None) -> str:
    """Return `row` as a line of the table, or the heading."""
    cells = []
    for key, layout in columns:
        width = int("".join(c for c in layout.split(".")[0] if c.isdigit()))
        cells.append(layout.format(row[key]) if row else key.ljust(width) if "<" in layout else key.rjust(width))
    return "  ".join(cells)


def save(path: Path, rows: list[dict[str, Any]], key: Sequence[str]) -> None:
    """Write `rows` to `path`, in place of lines with the same values of `key` that are there; others stay."""
    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    mine = {tuple(row[k] for k in key) for row in rows}
    kept = [row for row in earlier if tuple(row[k] for k in key) not in mine]
    write_json(path, provenance() | {"command": shlex.join(["python", *sys.argv]), "rows": kept + rows})
