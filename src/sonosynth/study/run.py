"""Run a study: prepare once, split, then every cell that has no result yet, here or wherever an engine has it done."""

import itertools
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Protocol

from sonosynth.core.device import provenance
from sonosynth.core.files import atomic_file, locked, remove_temporary_files, write_json
from sonosynth.core.text import agreeing, counted
from sonosynth.data.prepared_folder import source_fingerprint
from sonosynth.study.cells import AnyCell, TrainCell
from sonosynth.study.config import StudyDesign
from sonosynth.study.engines.engine import Engine, Watch, Work
from sonosynth.study.engines.local import LocalEngine
from sonosynth.study.prepared import StudyData, prepare_study
from sonosynth.study.run_cell import do_cell, show_finished, show_result
from sonosynth.study.splits import SPLIT_JSON, splits_to_dict
from sonosynth.study.store import Store
from sonosynth.study.study_file import read_test_set, settings_text
from sonosynth.tracking.trackers import Trackers

TABLES_SHARE = 0.02  # of the time that may go into writing tables before the study has ended


class Monitor(Protocol):
    """Follows how a study goes on."""

    def note(self, text: str) -> None:
        """Something about the images that the user should know."""

    def start(self, cell: AnyCell, number: int, total: int) -> None:
        """The cell begins, number `number` (from 1) of `total`; others may be under way."""

    def progress(self, cell: AnyCell, done: float, total: float, text: str) -> None:
        """The cell has done `done` of `total`."""

    def finish(self, cell: AnyCell, seconds: float | None) -> None:
        """The cell has its result; `seconds` is None if it had one already."""


def run_design(
    design: StudyDesign,
    text: str,
    store: Store,
    monitor: Monitor,
    command: str,
    workers: int = 1,
    track: Sequence[str] = (),
    engine: Engine | None = None,
) -> StudyData:
    """Run every cell of `design` that has no result in `store`, and write the tables as it goes.

    A killed study goes on where it was, to the identical tables. `text` is the study file and `command` what the user
    typed, both for the record; `workers` processes do cells side by side, unless an `engine` is given; `track` names
    trackers. Nothing is written before images are read.
    """
    engine = engine or LocalEngine(workers)
    store.check(design)
    engine.check()
    trackers = Trackers.of(track, store.directory, design.name) if track else None
    if trackers is not None:
        trackers.check()
    data = prepare_study(design, store)
    cells = data.cells(design)
    with locked(store.directory):
        engine.begin(store)
        remove_temporary_files(store.directory)
        store.claim(design, text)
        for line in (*data.notes, *data.lone_groups):
            monitor.note(line)
        _keep_data(design, data, store, command)
        for line in store.outdated(cells):
            monitor.note(line)
        _run_cells(cells, data, store, monitor, engine, trackers)
    return data


def _run_cells(
    cells: list[AnyCell], data: StudyData, store: Store, monitor: Monitor, engine: Engine, track: Trackers | None
) -> None:
    store.write_plan(cells)
    _remove_results_without_weights(cells, store, monitor)
    waiting, numbers = store.waiting(cells), itertools.count(1)
    to_do = {cell.hash for cell in waiting}
    do = partial(do_cell, data, store, track)
    told = set[str]()

    def note(text: str) -> None:
        if text not in told:  # by another worker
            told.add(text)
            monitor.note(text)

    def start(cell: AnyCell) -> None:
        monitor.start(cell, next(numbers), len(cells))

    for cell in cells:
        if cell.hash not in to_do:
            start(cell)
            monitor.finish(cell, None)
    here = track and track.telling(note)
    if here is not None:
        show_finished([cell for cell in cells if cell.hash not in to_do], store, here)
    finished = engine.finished(waiting, Work(data, store, do), Watch(start, monitor.progress, note))
    due = 0.0
    try:
        with closing(finished):  # whatever happens here ends all work on cells too
            for cell, seconds in finished:
                if here is not None:
                    show_result(cell, store, here)
                    if not engine.tracks_runs and isinstance(cell, TrainCell):
                        show_finished([cell], store, here)
                began = time.monotonic()
                if began >= due:
                    store.write_tables(cells)
                    due = time.monotonic() + (time.monotonic() - began) / TABLES_SHARE
                monitor.finish(cell, seconds)
    finally:
        store.write_tables(cells)


def _remove_results_without_weights(cells: list[AnyCell], store: Store, monitor: Monitor) -> None:
    repeated = store.to_repeat(cells)
    for cell in repeated:
        store.remove_result(cell)
    if repeated:
        runs = len([cell for cell in repeated if isinstance(cell, TrainCell)])
        rest = len(repeated) - runs
        monitor.note(
            f"{counted(runs, 'generator')} whose weights are not here {agreeing(runs, 'is', 'are')} needed again: "
            f"{agreeing(runs, 'it is', 'they are')} trained anew, and so {agreeing(rest, 'is', 'are')} "
            f"{counted(rest, 'result')} that {agreeing(rest, 'rests', 'rest')} on {agreeing(runs, 'it', 'them')}"
        )


def _keep_data(design: StudyDesign, data: StudyData, store: Store, command: str) -> None:
    kept = store.provenance() if store.has_begun else provenance() | {"command": command}
    if not store.data.is_dir():  # the first time, or only results were kept
        kept["data"] = {
            "source": design.data.source,
            "kind": data.kind,
            "fingerprint": data.images.fingerprint(),
            "notes": data.notes,
            "files": data.files,
        }
        if design.split.test is not None:
            kept["data"]["test_files"] = source_fingerprint(read_test_set(design.split.test, design))
            kept["data"]["test_fingerprint"] = data.splits[0].held_out.fingerprint()
    store.save_provenance(kept | {"settings": settings_text(design)})
    for name, content in data.audit.items():
        with atomic_file(store.directory / "audit" / name) as beside:
            beside.write_bytes(content)
    naive = None if data.naive is None else data.naive.indices
    indices = tuple(split.indices for split in data.splits)
    write_json(store.directory / SPLIT_JSON, splits_to_dict(indices, design.split.repeats is not None, naive))
    if data.splits[0].indices.test is None and not store.test.is_dir():
        data.splits[0].held_out.save(store.test)
    if not store.data.is_dir():
        data.images.save(store.data)
