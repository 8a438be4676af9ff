"""The study directory: one JSON file a finished cell, under its hash, and the tidy tables made from them."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sonosynth.core.device import provenance
from sonosynth.core.errors import OutputError, StudyError
from sonosynth.core.files import atomic_file, check_file_types, is_vacant, remove_file, write_json, write_text
from sonosynth.core.text import agreeing, counted
from sonosynth.data.imageset import MANIFEST
from sonosynth.gan.checkpoint import GENERATOR, STATE
from sonosynth.study import files, results
from sonosynth.study.cells import AnyCell, FilterCell, NaiveCell, SyntheticSource, format_of, trained_for
from sonosynth.study.config import StudyDesign
from sonosynth.study.results import CellResult, ResultFile, read_result, table_rows
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

    def _path(self, cell: AnyCell) -> Path:
        return self.directory / "cells" / f"{cell.kind}-{cell.hash}.json"

    def result(self, cell: AnyCell) -> Any:
        """Return the result of a finished `cell`. Raises StudyError if it is missing or damaged."""
        return read_result(self._path(cell))[1]

    def save(self, cell: AnyCell, result: CellResult) -> None:
        """Store the result of a finished cell, and the machine that made it: a study may have been on several."""
        plain = result.model_dump(mode="json", by_alias=True)
        content = ResultFile(
            result=plain, cell=cell.settings(), kind=cell.kind, format=cell.format, made_on=provenance()
        )
        write_json(self._path(cell), content.model_dump(), indent=None)

    def outdated(self, cells: Sequence[AnyCell]) -> list[str]:
        """Return a line for every kind of cell of which results lie here that an earlier version made.

        They stay, and what is among `cells` is made anew: the work of such cells, or what is recorded, has changed.
        """
        planned = {self._path(cell).name for cell in cells}
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
        return [cell for cell in cells if cell.hash in again or not self._path(cell).is_file()]

    def to_repeat(self, cells: Sequence[AnyCell]) -> list[AnyCell]:
        """Return the finished ones of `cells` that must be done again, as the weights of their generator are not here.

        A cell that waits needs more of its images. Trained again on another machine it would make others, so all that
        rests on it is done again: no result is of two generators that go by one name.
        """

        def has_weights(cell: AnyCell) -> bool:  # states are removed when a run has finished
            files = {path.name for pattern in ("*", "*/*") for path in self.run(cell).glob(pattern)}
            return GENERATOR in files and STATE not in files

        trained = [(cell, trained_for(cell) or cell) for cell in cells]
        wanted = {run.hash for cell, run in trained if run is not cell and not self._path(cell).is_file()}
        missing = {run.hash for _, run in trained if run.hash in wanted and not has_weights(run)}
        return [cell for cell, run in trained if run.hash in missing and self._path(cell).is_file()]

    def remove_result(self, cell: AnyCell) -> None:
        """Remove the result of `cell` and its gallery, so that what is half done again never counts as done."""
        remove_file(self._path(cell))
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
        write_json(self.directory / files.PLAN, {"cells": [self._path(cell).stem for cell in cells]})

    def write_tables(self, cells: Sequence[AnyCell]) -> None:
        """Write the tables from the finished ones of `cells`, in their order, and what the record needs beside them.

        `filters.csv` is there where synthetic images are filtered, `protocols.csv` where some cells ignore the groups:
        it has their scores beside those of the arms without synthetic images on the split of the study. Neither stays
        where the study file plans it no longer.
        """
        import pandas as pd  # slow to import, for a command that writes no table

        found = [read_result(self._path(cell)) for cell in cells if self._path(cell).is_file()]
        tables = table_rows(result for _, result in found)
        planned = {cell.kind for cell in cells}
        wanted = {name for name, rows in tables.items() if rows} | {results.SCORES_CSV, results.F1_CSV}
        for kind, name in ((FilterCell.kind, results.FILTERS_CSV), (NaiveCell.kind, results.PROTOCOLS_CSV)):
            wanted = wanted | {name} if kind in planned else wanted - {name}
        for name, rows in tables.items():
            if name in wanted:
                table = pd.DataFrame(rows, columns=list(results.COLUMNS[name]), dtype=object)
                with atomic_file(self.directory / name) as beside:
                    table.to_csv(beside, index=False, lineterminator="\n")
            else:  # the study file may have planned it before
                remove_file(self.directory / name)
        for folder, name in ((self.data, files.IMAGES_CSV), (self.test, files.TEST_IMAGES_CSV)):
            if (folder / MANIFEST).is_file():
                write_text(self.directory / name, (folder / MANIFEST).read_text(encoding="utf-8"))
        machines = Counter(files.machine_in_words(file.made_on) for file, _ in found)
        counts = {"planned": len(cells), "finished": len(found), "made_on": dict(machines.most_common())}
        self.save_provenance(self.provenance() | {"cells": counts})
