"""Cells of a study as job arrays of Slurm, which share the study directory with the process that runs the study.

That process calls ``sbatch``, and reads from the study directory which results have come and from ``squeue`` which jobs
have ended; accounting is not needed. A task of an array does a few cells, one after another: it is
``python -m sonosynth.study.engines.slurm DIRECTORY BATCH``. Nothing but JSON travels.
"""

import getpass
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sonosynth.core import errors
from sonosynth.core.errors import StudyError
from sonosynth.core.files import read_json, remove_file, write_json, write_text
from sonosynth.core.text import counted
from sonosynth.study.cells import AnyCell, cell_from, needed_by
from sonosynth.study.engines.engine import Watch, Work
from sonosynth.study.files import STUDY_FILE
from sonosynth.study.store import Store

FOLDER = "slurm"
"""In the study directory: batches of cells, their jobs, and the log of every cell."""

MOST_TASKS = 1000  # of an array, by default of Slurm (MaxArraySize)
TRIES = 3  # of a cell whose job ends without its result
POLL_SECONDS = 2.0
WARNING_SECONDS = 90  # before the time limit: the state is saved, and the task is queued again
LOG_SECONDS = 5.0
_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


@dataclass(frozen=True)
class SlurmEngine:
    """Cells in job arrays of Slurm; the study directory must be on a file system that all nodes see.

    Attributes:
        partition: where to run; that of the cluster's choice if not given.
        time_limit: of a task, as sbatch reads it, such as ``4:00:00``.
        gpus_per_task: GPUs of a task, as sbatch reads them.
        cpus_per_task: cores of a task, and its threads.
        memory: of a task, as sbatch reads it, such as ``8G``.
        cells_per_task: how many cells a task does at most, one after another: it takes seconds to begin.
        options: more options of sbatch.
    """

    partition: str | None = None
    time_limit: str | None = None
    gpus_per_task: str | None = None
    cpus_per_task: int = 1
    memory: str | None = None
    cells_per_task: int = 8
    options: tuple[str, ...] = ()

    tracks_runs = False

    def check(self) -> None:
        """Raise StudyError unless Slurm's commands are here."""
        for command in ("sbatch", "squeue", "scancel"):
            if shutil.which(command) is None:
                raise StudyError(f"--engine slurm: there is no '{command}' here; run it where jobs are submitted")

    def begin(self, store: Store) -> None:
        """Cancel the jobs of an earlier call, and wait until they have saved their states and ended."""
        if queue(store.directory):
            _cancel(store.directory)

    def finished(self, cells: Sequence[AnyCell], work: Work, watch: Watch) -> Generator[tuple[AnyCell, float]]:
        """Submit `cells` in arrays by kind and yield each as its result comes.

        Raises:
            StudyError: jobs cannot be submitted, or a cell had no result after several of them.
            SonosynthError: as a cell raised it.
        """
        jobs = _Jobs(self, work.store, watch)
        try:
            jobs.submit(cells)
            while jobs.unfinished:
                yield from jobs.finished()
                time.sleep(POLL_SECONDS)
        finally:
            if jobs.unfinished:
                _cancel(work.store.directory)


class _Jobs:
    """What has been submitted, and which cells wait for it."""

    def __init__(self, engine: SlurmEngine, store: Store, watch: Watch):
        self.engine, self.store, self.watch = engine, store, watch
        self.folder = store.directory / FOLDER
        self.unfinished: dict[str, AnyCell] = {}
        self._task_of: dict[str, str] = {}  # JOB_TASK, by the hash of a cell
        self._gone: Counter[str] = Counter()  # how often a task was seen to have ended, by JOB_TASK
        self._tries: Counter[str] = Counter()
        self._started: set[str] = set()
        self._number = 0

    def submit(self, cells: Sequence[AnyCell]) -> None:
        """Submit `cells` in arrays of one kind, each after those that its cells need."""
        here = {cell.hash: cell for cell in cells}
        depth: dict[str, int] = {}
        for cell in cells:  # what a cell needs stands before it
            needs = [depth[needed.hash] for needed in needed_by(cell) if needed.hash in depth]
            depth[cell.hash] = 1 + max(needs, default=-1)
        arrays: defaultdict[tuple[int, str], list[AnyCell]] = defaultdict(list)
        for cell in cells:
            arrays[depth[cell.hash], cell.kind].append(cell)
        jobs: dict[tuple[int, str], list[str]] = {}
        most = MOST_TASKS * self.engine.cells_per_task
        for key, alike in sorted(arrays.items()):
            needed = {(depth[n.hash], n.kind) for cell in alike for n in needed_by(cell) if n.hash in here}
            after = [job for one in sorted(needed) for job in jobs[one]]
            parts = [alike[start : start + most] for start in range(0, len(alike), most)]
            jobs[key] = [self._submit_array(part, after) for part in parts]
        self.unfinished |= here

    def _submit_array(self, cells: Sequence[AnyCell], after: Sequence[str]) -> str:
        n = self.engine.cells_per_task
        for cell in cells:
            remove_file(_error_of(self.store.directory, cell))
        tasks = [[cell.settings() for cell in cells[start : start + n]] for start in range(0, len(cells), n)]
        self._number += 1
        batch = self.folder / f"batch-{os.getpid()}-{self._number}.json"
        write_json(batch, tasks, indent=None)
        engine, python = self.engine, shlex.quote(sys.executable)
        run = f"-m sonosynth.study.engines.slurm {shlex.quote(str(self.store.directory.absolute()))}"
        given = {
            "partition": engine.partition,
            "time": engine.time_limit,
            "gpus-per-task": engine.gpus_per_task,
            "mem": engine.memory,
            # A task whose needs have failed should say so, not wait for ever: hence not afterok.
            "dependency": ":".join(["afterany", *after]) if after else None,
        }
        command = [
            "sbatch",
            "--parsable",
            "--requeue",
            f"--job-name={_name(self.store.directory)}",
            f"--array=0-{len(tasks) - 1}",
            f"--cpus-per-task={engine.cpus_per_task}",
            f"--signal=B:USR1@{WARNING_SECONDS}",
            f"--output={str(self.folder.absolute()).replace('%', '%%')}/{cells[0].kind}-%A_%a.log",
            "--open-mode=append",
            *(f"--{name}={value}" for name, value in given.items() if value is not None),
            *engine.options,
        ]
        script = f"#!/bin/sh\nexport OMP_NUM_THREADS={engine.cpus_per_task}\nexec {python} {run} {batch.name}\n"
        job = _slurm(command, script).strip().partition(";")[0]
        for number, task in enumerate(tasks):
            for cell in cells[number * n : number * n + len(task)]:
                self._task_of[cell.hash] = f"{job}_{number}"
        return job

    def finished(self) -> Generator[tuple[AnyCell, float]]:
        """Yield the cells whose results have come since the last call, and submit again those whose jobs are gone."""
        states = queue(self.store.directory)  # before the results are looked for, so that none is missed
        lost: list[AnyCell] = []
        for cell in list(self.unfinished.values()):
            if self.store.has_result(cell):
                del self.unfinished[cell.hash]
                self._start(cell)
                yield cell, float(self.store.result(cell).seconds or 0.0)
                continue
            self._tell(cell)
            task = self._task_of[cell.hash]
            if states.get(task, "COMPLETED") in _ENDED:
                lost.append(cell)
        for task in {self._task_of[cell.hash] for cell in lost}:
            self._gone[task] += 1
        # A file system that is shared may show a result a moment after its job has ended.
        lost = [cell for cell in lost if self._gone[self._task_of[cell.hash]] > 2]
        for cell in lost:
            self._raise_error_of(cell)
            if all(needed.hash not in self.unfinished for needed in needed_by(cell)):
                self._tries[cell.hash] += 1
            if self._tries[cell.hash] >= TRIES:
                raise StudyError(
                    f"{cell.label()}: its job ended {TRIES} times without a result (last: {self._task_of[cell.hash]}); "
                    f"see the logs in {self.folder}"
                )
        if lost:
            self.watch.note(f"{counted(len(lost), 'cell is', 'cells are')} submitted again, as their jobs have ended")
            self.submit(lost)

    def _start(self, cell: AnyCell) -> None:
        if cell.hash not in self._started:
            self._started.add(cell.hash)
            self.watch.start(cell)

    def _tell(self, cell: AnyCell) -> None:
        """Pass on the last line of the log of a cell, where it has begun."""
        log = log_of(self.store.directory, cell)
        if log.is_file():
            self._start(cell)
            done, total, text = (log.read_text(encoding="utf-8").splitlines() or ["0 1 "])[-1].split(" ", 2)
            self.watch.progress(cell, float(done), float(total), text)

    def _raise_error_of(self, cell: AnyCell) -> None:
        path = _error_of(self.store.directory, cell)
        if path.is_file():
            error = read_json(path)
            of_name = getattr(errors, error["type"], None)
            if of_name is not None:
                raise of_name(f"{cell.label()}: {error['message']}")
            raise RuntimeError(f"{cell.label()}\n{error['message']}")


def log_of(directory: Path, cell: AnyCell) -> Path:
    """Return the log of a cell in a study directory: a line ``done total text`` now and then."""
    return directory / FOLDER / f"{cell.kind}-{cell.hash}.log"


def _error_of(directory: Path, cell: AnyCell) -> Path:
    return log_of(directory, cell).with_suffix(".error.json")


def _name(directory: Path) -> str:
    """Return the name of all jobs of a study directory."""
    return f"sonosynth-{hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:16]}"


def queue(directory: Path) -> dict[str, str]:
    """Return the state of every task in the queue that belongs to a study directory, by ``JOB_TASK``.

    Tasks that ended some minutes ago are no longer there. Empty where there is no Slurm, or it was never used.
    """
    if not (directory / FOLDER).is_dir() or shutil.which("squeue") is None:
        return {}
    form = "--format=%F_%K %T"
    lines = _slurm(["squeue", "--noheader", "--array", "--states=all", f"--name={_name(directory)}", form]).splitlines()
    return dict(line.split() for line in lines)


def queue_in_words(directory: Path) -> str | None:
    """Return how many tasks of a study run and wait, or None if there are none."""
    states = Counter(state.lower() for state in queue(directory).values() if state not in _ENDED)
    return ", ".join(f"{n} {state}" for state, n in sorted(states.items())) or None


def _cancel(directory: Path) -> None:
    """Cancel all jobs of a study directory, and wait until they have ended: each saves the state of its run first."""
    _slurm(["scancel", f"--user={getpass.getuser()}", f"--name={_name(directory)}"])
    while any(state not in _ENDED for state in queue(directory).values()):
        time.sleep(POLL_SECONDS / 4)


def _slurm(command: Sequence[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise StudyError(f"{command[0]}: {said}; see --partition, --time and the other options of --engine slurm")
    return done.stdout


def do_task(directory: Path, batch: str, task: int) -> None:
    """Do the cells of one task of an array; those that have results are left.

    SIGTERM, as before preemption, ends it after the state of a run has been saved. So does SIGUSR1, before the time
    limit, after which the task is put into the queue again.
    """
    import torch

    from sonosynth.study.prepared import prepare_study
    from sonosynth.study.run_cell import do_cell
    from sonosynth.study.study_file import load_design

    warned: list[int] = []

    def stop(number: int, frame: Any) -> None:
        warned.append(number)
        handler = signal.getsignal(signal.SIGINT)  # while a generator is trained, that saves its state
        assert callable(handler)
        handler(signal.SIGINT, frame)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, stop)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    store = Store(directory)
    try:
        cells = [cell_from(settings) for settings in read_json(directory / FOLDER / batch)[task]]
        data = prepare_study(load_design(directory / STUDY_FILE), store)
        for cell in cells:
            lacking = [needed for needed in needed_by(cell) if not store.has_result(needed)]
            if store.has_result(cell) or lacking:  # the study submits again what needed a job that failed
                continue
            log = _Log(log_of(directory, cell))
            try:
                do_cell(data, store, None, cell, log.progress, partial(print, flush=True))
            except Exception as error:  # the study tells it, and this task goes on with the next cell
                known = isinstance(error, errors.SonosynthError)
                told = str(error) if known else traceback.format_exc()
                write_json(_error_of(directory, cell), {"type": type(error).__name__, "message": told})
                print(told, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        if signal.SIGUSR1 in warned:
            this = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
            _slurm(["scontrol", "requeue", this])
        sys.exit(128 + signal.SIGTERM)


class _Log:
    """The log of a cell, whose last line says how far it is."""

    def __init__(self, path: Path):
        self._path, self._written = path, 0.0
        write_text(path, f"0 1 on {os.uname().nodename}\n")

    def progress(self, _: AnyCell, done: float, total: float, text: str) -> None:
        if time.monotonic() - self._written > LOG_SECONDS:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{done} {total} {' '.join(text.split())}\n")
            self._written = time.monotonic()


if __name__ == "__main__":
    do_task(Path(sys.argv[1]), sys.argv[2], int(os.environ["SLURM_ARRAY_TASK_ID"]))
