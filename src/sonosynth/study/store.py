"""The study directory: one JSON file a finished cell, under its hash, and the tidy tables made from them."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sonosynth.core.device import provenance
from sonosynth.core.errors import OutputError, StudyError
from sonosynth.core.files import atomic_file, check_file_types, is_vacant, remove_file, write_json, write_text
from sonosynth.core.text import agreeing, counted
from sonosynth.gan.checkpoint import GENERATOR, STATE
from sonosynth.metrics.scores import current_names
from sonosynth.study.cells import AnyCell, ClassifyCell, FilterCell, NaiveCell, SyntheticSource, format_of, trained_for
from sonosynth.study.config import StudyDesign, load_design
from sonosynth.study.fields import AGAIN, read_object

STUDY_FILE = "study.yaml"
SCORES_CSV = "scores.csv"
F1_CSV = "f1.csv"
PROTOCOLS_CSV = "protocols.csv"
FILTERS_CSV = "filters.csv"
_FILES = (STUDY_FILE, SCORES_CSV, F1_CSV, PROTOCOLS_CSV, FILTERS_CSV, "plan.json", "provenance.json", "split.json")
_FOLDERS = ("audit", "cells", "data", "features", "galleries", "pretraining", "runs", "test")

SCORE_COLUMNS = (
    *("gan", "mode", "size", "draw", "seed", "features", "reference", "class", "metric"),
    *("value", "low", "high", "real_baseline", "real_baseline_n", "n_real", "n_synthetic", "note"),
    "truncation",
)
F1_COLUMNS = (
    *("network", "arm", "gan", "mode", "gan_seed", "ratio", "size", "draw", "seed"),
    *("metric", "value", "n_train", "n_synthetic", "n_test"),
    *("fill", "filter", "filter_quantile", "truncation", "n_validation"),
)
PROTOCOL_COLUMNS = (
    *("protocol", "network", "arm", "size", "draw", "seed", "metric", "value", "n_train", "n_test"),
    *("ratio", "fill"),
)
FILTER_COLUMNS = (
    *("gan", "mode", "gan_seed", "truncation", "size", "draw", "filter", "filter_quantile", "class"),
    *("candidates", "accepted", "acceptance", "threshold"),
    *("features", "coverage_all", "coverage_accepted", "coverage_same_number", "lost_coverage"),
)


class Store:
    """A study directory. Every write is atomic, and results stay, but for those of a generator that is lost."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.data = directory / "data"
        self.test = directory / "test"
        self.features = directory / "features"
        self._provenance = directory / "provenance.json"

    @property
    def has_begun(self) -> bool:
        """Whether there is a record of the images that results rest on; the images themselves may not be there."""
        return self._provenance.is_file()

    def provenance(self) -> Any:
        """Return where the study began, with which images. Raises StudyError if that is damaged."""
        return _object(self._provenance, "data", "restore it, or choose another --out")

    def save_provenance(self, record: dict[str, Any]) -> None:
        """Store where the study begins."""
        write_json(self._provenance, record)

    def check(self, design: StudyDesign) -> None:
        """Raise StudyError or OutputError if the directory holds anything but a study on the same images and test set.

        Sizes, draws, generators, scores and classifiers may differ: cells that are new run, and old results stay.
        """
        path = self.directory / STUDY_FILE
        cells = [f"cells/{cell.name}" for cell in (self.directory / "cells").glob("*.json")]
        check_file_types(self.directory, (*_FILES, *cells), _FOLDERS)
        if path.is_file():
            found = load_design(path)
            for section in ("name", "data", "split"):
                ours, theirs = getattr(design, section), getattr(found, section)
                same = ours.tests_like(theirs) if section == "split" else ours == theirs
                if not same:
                    what = "other test or validation images" if section == "split" else f"another '{section}' section"
                    raise StudyError(
                        f"{self.directory} belongs to a study with {what}; choose another --out or another name"
                    )
        elif not is_vacant(self.directory):
            raise OutputError(f"{self.directory} is not empty and holds no study; choose another --out")

    def claim(self, design: StudyDesign, text: str) -> None:
        """Make the directory the one of the study whose file reads `text`; raises like `check`."""
        self.check(design)
        write_text(self.directory / STUDY_FILE, text)

    def _path(self, cell: AnyCell) -> Path:
        return self.directory / "cells" / f"{cell.kind}-{cell.hash}.json"

    def result(self, cell: AnyCell) -> Any:
        """Return the result of `cell`, or None if it has not been finished. Raises StudyError if it is damaged."""
        path = self._path(cell)
        return _object(path, "result")["result"] if path.is_file() else None

    def save(self, cell: AnyCell, result: dict[str, Any]) -> None:
        """Store the result of a finished cell, and the machine that made it: a study may have been on several."""
        content = {"format": cell.format, "cell": cell.describe(), "result": result, "made_on": provenance()}
        write_json(self._path(cell), content, indent=None)

    def outdated(self, cells: Sequence[AnyCell]) -> list[str]:
        """Return a line for every kind of cell of which results lie here that an earlier version made.

        They stay, and what is among `cells` is made anew: the work of such cells, or what is recorded, has changed.
        """
        planned = {self._path(cell).name for cell in cells}
        others = [path for path in (self.directory / "cells").glob("*.json") if path.name not in planned]
        found = [(_object(path, "result"), path.name.partition("-")[0]) for path in others]
        counts = Counter(
            kind for content, kind in found if content.get("format", 1) < format_of(kind, content.get("cell", {}))
        )
        return [
            f"{counted(count, 'result')} of kind '{kind}' {agreeing(count, 'is', 'are')} of an earlier version of "
            f"sonosynth, which did this work in another way; {agreeing(count, 'it stays', 'they stay')} in cells/, "
            "and what the study asks for is made anew"
            for kind, count in sorted(counts.items())
        ]

    def waiting(self, cells: Sequence[AnyCell]) -> list[AnyCell]:
        """Return those of `cells` that are still to be done; `lost` among them."""
        again = {cell.hash for cell in self.lost(cells)}
        return [cell for cell in cells if cell.hash in again or not self._path(cell).is_file()]

    def lost(self, cells: Sequence[AnyCell]) -> list[AnyCell]:
        """Return the finished ones of `cells` that must be done again, for only results were kept of their generator.

        A cell that waits needs more of its images. Trained again on another machine it would make others, so all that
        rests on it is done again: no result is of two generators that go by one name.
        """
        trained = [(cell, trained_for(cell) or cell) for cell in cells]
        wanted = {run.hash for cell, run in trained if run is not cell and not self._path(cell).is_file()}
        gone = {run.hash for _, run in trained if run.hash in wanted and not self._has_run(run)}
        return [cell for cell, run in trained if run.hash in gone and self._path(cell).is_file()]

    def _has_run(self, cell: AnyCell) -> bool:
        """Return whether the weights of a finished train cell are here; its states are removed when it has finished."""
        files = {path.name for pattern in ("*", "*/*") for path in self.run(cell).glob(pattern)}
        return GENERATOR in files and STATE not in files

    def forget(self, cell: AnyCell) -> None:
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
        write_json(self.directory / "plan.json", {"cells": [self._path(cell).stem for cell in cells]})

    def write_tables(self, cells: Sequence[AnyCell]) -> None:
        """Write `scores.csv` and `f1.csv` from the finished ones of `cells`, in their order.

        Where synthetic images are filtered, `filters.csv` says how many pass and what that costs. Where some cells
        ignore the groups, `protocols.csv` has their scores beside those of the arms without synthetic images on the
        split of the study.
        Neither stays where the study file asks for it no longer.
        """
        scores: list[dict[str, Any]] = []
        f1: list[dict[str, Any]] = []
        filters: list[dict[str, Any]] = []
        protocols: list[dict[str, Any]] = []
        for cell in cells:
            result = self.result(cell)
            if result is None:
                continue
            row = cell.describe()
            if cell.kind == "score":
                scores += [row | current_names(score) for score in result["scores"]]
            elif cell.kind == "filter":
                filters += _filter_rows(row, result)
            elif isinstance(cell, ClassifyCell):
                sizes = {name: result[name] for name in ("n_train", "n_synthetic", "n_test", "n_validation")}
                values = [row | sizes | {"metric": name, "value": value} for name, value in result["metrics"].items()]
                if not isinstance(cell, NaiveCell):
                    f1 += values
                if cell.generation is None:
                    protocol = "naive" if isinstance(cell, NaiveCell) else "grouped"
                    protocols += [{"protocol": protocol, **value} for value in values]
        self._write_table(SCORES_CSV, scores, SCORE_COLUMNS)
        self._write_table(F1_CSV, f1, F1_COLUMNS)
        planned = {cell.kind for cell in cells}
        for kind, name, rows, columns in (
            (FilterCell.kind, FILTERS_CSV, filters, FILTER_COLUMNS),
            (NaiveCell.kind, PROTOCOLS_CSV, protocols, PROTOCOL_COLUMNS),
        ):
            if kind in planned:
                self._write_table(name, rows, columns)
            else:  # the study file may have asked for it before
                remove_file(self.directory / name)

    def _write_table(self, name: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
        table = pd.DataFrame(rows, columns=list(columns), dtype=object)
        with atomic_file(self.directory / name) as beside:
            table.to_csv(beside, index=False, lineterminator="\n")


def _object(path: Path, key: str, remedy: str = AGAIN) -> dict[str, Any]:
    """Return the JSON object with `key` that a store wrote to `path`. Raises StudyError, with the `remedy`."""
    content = read_object(path, remedy)
    if not isinstance(content, dict) or key not in content:
        raise StudyError(f"{path} is damaged (it is no object with '{key}'); {remedy}")
    return content


def _filter_rows(cell: dict[str, Any], result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for all classes together, with what the filter costs in coverage, and one for each class."""
    candidates = result["candidates"]
    accepted = {name: len(kept) for name, kept in result["kept"].items()}
    totals = {"candidates": sum(candidates.values()), "accepted": sum(accepted.values())}
    yield cell | result | totals | {"class": "all", "threshold": None}
    for name, count in candidates.items():
        if count:
            share = {"acceptance": result["acceptance_by_class"][name], "threshold": result["threshold"][name]}
            yield cell | share | {"class": name, "candidates": count, "accepted": accepted[name]}
