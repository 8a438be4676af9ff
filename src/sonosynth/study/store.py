"""The study directory: one JSON file a finished cell, under its hash, and the tidy tables made from them."""

import csv
import io
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sonosynth.core.device import provenance
from sonosynth.core.errors import OutputError, StudyError
from sonosynth.core.files import atomic_file, check_file_types, is_vacant, remove_file, write_json, write_text
from sonosynth.core.text import agreeing, counted
from sonosynth.data.imageset import MANIFEST
from sonosynth.gan.checkpoint import GENERATOR, STATE
from sonosynth.study import files, results
from sonosynth.study.cells import AnyCell, FilterCell, NaiveCell, SyntheticSource, format_of, trained_for
from sonosynth.study.config import StudyDesign
from sonosynth.study.results import CellResult, ResultFile, read_result
from sonosynth.study.splits import SPLIT_JSON
from sonosynth.study.study_file import load_design
from sonosynth.tracking.trackers import ID_FILE, TRACKERS

_IMAGES = (files.IMAGES_CSV, files.TEST_IMAGES_CSV)
_FILES = (files.STUDY_FILE, *results.COLUMNS, *_IMAGES, files.PLAN, files.PROVENANCE, SPLIT_JSON, ID_FILE)
_FOLDERS = ("audit", "cells", "data", "features", "galleries", "pretraining", "runs", "test", *TRACKERS)


class Store:
    """A study directory. Every write is atomic, and results stay, but for those of a generator without its weights."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.data = directory / "data"
        self.test = directory / "test"
        self.features = directory / "features"
        self._provenance = directory / files.PROVENANCE
        self._rows = _WrittenRows()

    @property
    def has_begun(self) -> bool:
        """Whether the provenance of a study is here; its prepared images may not be."""
        return self._provenance.is_file()

    def provenance(self) -> Any:
        """Return the provenance: command, machine, versions and images. Raises StudyError if its file is damaged."""
        return files.read_mapping(self._provenance, "data", "restore it, or choose another --out")

    def save_provenance(self, record: dict[str, Any]) -> None:
        """Write the provenance."""
        write_json(self._provenance, record)

    def check(self, design: StudyDesign) -> None:
        """Raise StudyError or OutputError if the directory holds anything but a study on the same images and test set.

        Sizes, draws, generators, scores and classifiers may differ: cells that are new run, and old results stay.
        """
        path = self.directory / files.STUDY_FILE
        cells = [f"cells/{cell.name}" for cell in (self.directory / "cells").glob("*.json")]
        check_file_types(self.directory, (*_FILES, *cells), _FOLDERS)
        if path.is_file():
            found = load_design(path)
            for section in ("name", "data", "split"):
                ours, theirs = getattr(design, section), getattr(found, section)
                if not (ours.tests_like(theirs) if section == "split" else ours == theirs):
                    what = "other test or validation images" if section == "split" else f"another '{section}' section"
                    raise StudyError(
                        f"{self.directory} belongs to a study with {what}; choose another --out or another name"
                    )
        elif not is_vacant(self.directory):
            raise OutputError(f"{self.directory} is not empty and holds no study; choose another --out")

    def claim(self, design: StudyDesign, text: str) -> None:
        """Make the directory the one of the study whose file reads `text`; raises like `check`."""
        self.check(design)
        write_text(self.directory / files.STUDY_FILE, text)

    def result_file(self, cell: AnyCell) -> Path:
        """Return where the result of `cell` is kept."""
        return self.directory / "cells" / f"{cell.kind}-{cell.hash}.json"

    def has_result(self, cell: AnyCell) -> bool:
        """Whether `cell` has finished."""
        return self.result_file(cell).is_file()

    def result(self, cell: AnyCell) -> Any:
        """Return the result of a finished `cell`. Raises StudyError if it is missing or damaged."""
        return read_result(self.result_file(cell))[1]

    def save(self, cell: AnyCell, result: CellResult) -> None:
        """Store the result of a finished cell, and the machine that made it: a study may have been on several."""
        plain = result.model_dump(mode="json", by_alias=True)
        content = ResultFile(
            result=plain, cell=cell.settings(), kind=cell.kind, format=cell.format, made_on=provenance()
        )
        write_json(self.result_file(cell), content.model_dump(), indent=None)

    def outdated(self, cells: Sequence[AnyCell]) -> list[str]:
        """Return a line for every kind of cell of which results lie here that an earlier version made.

        They stay, and what is among `cells` is made anew: the work of such cells, or what is recorded, has changed.
        """
        planned = {self.result_file(cell).name for cell in cells}
        counts: Counter[str] = Counter()
        for path in (self.directory / "cells").glob("*.json"):
            if path.name not in planned:
                content, kind = files.read_mapping(path, "result"), path.name.partition("-")[0]
                counts[kind] += content.get("format", 1) < format_of(kind, content.get("cell", {}))
        return [
            f"{counted(count, 'result')} of kind '{kind}' {agreeing(count, 'is', 'are')} of an earlier version of "
            f"sonosynth, which did this work in another way; {agreeing(count, 'it stays', 'they stay')} in cells/, "
            "and what the study asks for is made anew"
            for kind, count in sorted(counts.items())
            if count
        ]

    def waiting(self, cells: Sequence[AnyCell]) -> list[AnyCell]:
        """Return those of `cells` that are still to be done; those of `to_repeat` among them."""
        again = {cell.hash for cell in self.to_repeat(cells)}
        return [cell for cell in cells if cell.hash in again or not self.has_result(cell)]

    def to_repeat(self, cells: Sequence[AnyCell]) -> list[AnyCell]:
        """Return the finished ones of `cells` that must be done again, as the weights of their generator are not here.

        A cell that waits needs more of its images. Trained again on another machine it would make others, so all that
        rests on it is done again: no result is of two generators that go by one name.
        """

        def has_weights(cell: AnyCell) -> bool:  # states are removed when a run has finished
            files = {path.name for pattern in ("*", "*/*") for path in self.run(cell).glob(pattern)}
            return GENERATOR in files and STATE not in files

        trained = [(cell, trained_for(cell) or cell) for cell in cells]
        wanted = {run.hash for cell, run in trained if run is not cell and not self.result_file(cell).is_file()}
        missing = {run.hash for _, run in trained if run.hash in wanted and not has_weights(run)}
        return [cell for cell, run in trained if run.hash in missing and self.result_file(cell).is_file()]

    def remove_result(self, cell: AnyCell) -> None:
        """Remove the result of `cell` and its gallery, so that what is half done again never counts as done."""
        remove_file(self.result_file(cell))
        shutil.rmtree(self.gallery(cell), ignore_errors=True)

    def run(self, cell: AnyCell) -> Path:
        """Return the run directory of a train cell."""
        return self.directory / "runs" / cell.hash

    def pretraining(self, generation: SyntheticSource) -> Path:
        """Return where the pretraining runs of a recipe are, which all its cells share."""
        return self.directory / "pretraining" / generation.source_hash

    def gallery(self, cell: AnyCell) -> Path:
        """Return where some synthetic images of a generation are kept for the report."""
        return self.directory / "galleries" / cell.hash

    def write_plan(self, cells: Sequence[AnyCell]) -> None:
        """Write which cells belong to the study as it stands now; results of earlier versions of it may lie beside."""
        write_json(self.directory / files.PLAN, {"cells": [self.result_file(cell).stem for cell in cells]})

    def write_tables(self, cells: Sequence[AnyCell]) -> None:
        """Write the tables from the finished ones of `cells`, in their order, and what the record needs beside them.

        `filters.csv` is there where synthetic images are filtered, `protocols.csv` where some cells ignore the groups:
        it has their scores beside those of the arms without synthetic images on the split of the study. Neither stays
        where the study file plans it no longer. A result is read the first time alone, so that a study whose tables are
        written again and again does work in proportion to its cells.
        """
        parts = [part for cell in cells if (part := self._rows.of(self.result_file(cell))) is not None]
        planned = {cell.kind for cell in cells}
        wanted = {name for part in parts for name in part.places} | {results.SCORES_CSV, results.F1_CSV}
        for kind, name in ((FilterCell.kind, results.FILTERS_CSV), (NaiveCell.kind, results.PROTOCOLS_CSV)):
            wanted = wanted | {name} if kind in planned else wanted - {name}
        for name, columns in results.COLUMNS.items():
            if name in wanted:
                with atomic_file(self.directory / name) as beside, beside.open("wb") as file:
                    file.write(_csv_text([columns]))
                    self._rows.copy(name, parts, file)
            else:  # the study file may have planned it before
                remove_file(self.directory / name)
        for folder, name in ((self.data, files.IMAGES_CSV), (self.test, files.TEST_IMAGES_CSV)):
            if (folder / MANIFEST).is_file():
                write_text(self.directory / name, (folder / MANIFEST).read_text(encoding="utf-8"))
        machines = Counter(part.made_on for part in parts)
        counts = {"planned": len(cells), "finished": len(parts), "made_on": dict(machines.most_common())}
        self.save_provenance(self.provenance() | {"cells": counts})


@dataclass(frozen=True)
class _CellRows:
    """The rows of one result: of each table with some of them, where they begin in its file and how long they are."""

    version: tuple[int, int, int]  # of the file of the result
    made_on: str
    places: dict[str, tuple[int, int]]


class _WrittenRows:
    """Rows of results as CSV text, each read and written once, in one temporary file per table. A copy begins empty."""

    def __init__(self) -> None:
        self._files: dict[str, IO[bytes]] = {}
        self._known: dict[str, _CellRows] = {}  # by the name of the file of the result

    def __reduce__(self) -> Any:
        return _WrittenRows, ()

    def of(self, path: Path) -> _CellRows | None:
        """Return the rows of the result at `path`, or None if there is none. Raises StudyError if it is damaged."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        known = self._known.get(path.name)
        if known is None or known.version != version:
            file, result = read_result(path)
            places = {name: self._append(name, rows) for name, rows in result.rows().items() if rows}
            known = self._known[path.name] = _CellRows(version, files.machine_in_words(file.made_on), places)
        return known

    def _append(self, name: str, rows: Sequence[results.Row]) -> tuple[int, int]:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the study)
        text = _csv_text([row.get(column) for column in results.COLUMNS[name]] for row in rows)
        start = file.seek(0, os.SEEK_END)
        file.write(text)
        return start, len(text)

    def copy(self, name: str, parts: Sequence[_CellRows], into: IO[bytes]) -> None:
        """Write the rows of table `name` of all `parts`, in their order."""
        for part in parts:
            if name in part.places:
                start, length = part.places[name]
                self._files[name].seek(start)
                into.write(self._files[name].read(length))


def _csv_text(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return `rows` as pandas writes a frame of objects: what is missing, or no number, is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([None if value != value else value for value in row] for row in rows)
    return text.getvalue().encode()
