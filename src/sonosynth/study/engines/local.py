"""Cells of a study side by side in worker processes, which share the GPU or the cores of one machine.

One small generator cannot fill a GPU. Results do not depend on which worker makes them, but workers on a CPU have fewer
threads each, which changes the last bits of sums.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from queue import Empty
from typing import TYPE_CHECKING, Any

from sonosynth.core.errors import StudyError
from sonosynth.study.engines.engine import Agenda, CellProgress, Do, Note, Watch, Work

if TYPE_CHECKING:  # a worker should not import all that before it watches its parent
    from sonosynth.study.cells import AnyCell
    from sonosynth.study.store import Store

POLL_SECONDS = 0.2

_worker: "_Worker"


@dataclass(frozen=True)
class LocalEngine:
    """Cells in this process, one after another, or side by side in `workers` processes of this machine."""

    workers: int = 1

    tracks_runs = True

    def check(self) -> None:
        """Check nothing: all is here."""

    def begin(self, store: "Store") -> None:
        """Stop nothing: workers end with the process that started them."""

    def finished(self, cells: "Sequence[AnyCell]", work: Work, watch: Watch) -> "Generator[tuple[AnyCell, float]]":
        """Do `cells` here, in no more processes than memory allows; raises like `in_workers`."""
        workers = self.workers
        if workers > 1 and len(cells) > 1:
            from sonosynth.study.engines.memory import workers_that_fit

            workers, fewer = workers_that_fit(workers, cells, work.data)
            if fewer:
                watch.note(fewer)
        if workers > 1 and len(cells) > 1:
            yield from in_workers(cells, work.do, watch.start, watch.progress, watch.note, workers)
            return
        for cell in cells:
            watch.start(cell)
            yield cell, work.do(cell, watch.progress, watch.note)


def in_workers(
    cells: "Sequence[AnyCell]",
    do: Do,
    start: "Callable[[AnyCell], None]",
    progress: CellProgress,
    note: Note,
    workers: int,
) -> "Generator[tuple[AnyCell, float]]":
    """Do `cells` in `workers` processes and yield each with its seconds as it finishes.

    A cell that needs the results of others begins when they are there; otherwise their order is kept. `do` travels to
    the workers, with all that it refers to; `start`, `progress` and `note` are called here.

    Raises:
        StudyError: a worker was killed.
        KeyboardInterrupt: after every worker has saved what it was at. Errors of a cell come through just so.
    """
    context = multiprocessing.get_context("spawn")
    messages, stop, work = context.Queue(), context.Event(), context.Queue()
    notes = context.SimpleQueue()  # in which a note is before the result of its cell
    for _ in range(workers):
        work.put(do)  # it may hold all images, and a process that is started with so much holds up the next one
    agenda = Agenda(cells)
    running: dict[Future[float], AnyCell] = {}
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(work, messages, notes, stop, workers)
    ) as pool:
        try:
            while agenda:
                while len(running) < workers and (ready := agenda.next()) is not None:
                    start(ready)
                    with _interrupts_blocked():
                        running[pool.submit(_do, ready)] = ready
                finished, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                under_way = {cell.hash for cell in running.values()}
                for cell, *state in _drained(messages):
                    if cell.hash in under_way:  # a message may come later than the result
                        progress(cell, *state)
                while not notes.empty():
                    note(notes.get())
                for future in finished:
                    seconds, cell = future.result(), running.pop(future)
                    agenda.finish(cell)
                    yield cell, seconds
        except BrokenProcessPool as error:
            raise StudyError(
                "a worker was killed, perhaps for want of memory; the same command goes on, with fewer --workers"
            ) from error
        finally:
            stop.set()
            work.cancel_join_thread()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let Ctrl-C wait, and let processes that start here never hear it: this one tells its workers when to stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _drained(messages: Any) -> Iterator[Any]:
    while True:
        try:
            yield messages.get_nowait()
        except Empty:
            return


class _Worker:
    """What a worker process keeps: how to do a cell, where to report, and when to stop."""

    def __init__(self, work: Any, messages: Any, notes: Any, stop: Any):
        self._work, self._messages, self._notes, self._stop, self._reported = work, messages, notes, stop, 0.0
        self._do: Do | None = None

    def do(self, cell: "AnyCell") -> float:
        self._interrupt_if_stopped()
        if self._do is None:
            self._do = self._work.get()
        return self._do(cell, self.report, self._notes.put)

    def report(self, cell: "AnyCell", done: float, total: float, text: str) -> None:
        self._interrupt_if_stopped()
        if time.monotonic() - self._reported > POLL_SECONDS:
            self._messages.put((cell, done, total, text))
            self._reported = time.monotonic()

    def _interrupt_if_stopped(self) -> None:
        if self._stop.is_set():
            handler = signal.getsignal(signal.SIGINT)  # while a generator is trained, that saves its state
            assert callable(handler)
            handler(signal.SIGINT, None)


def _begin(work: Any, messages: Any, notes: Any, stop: Any, workers: int) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without
    messages.cancel_join_thread()  # at the end nobody reads, and whoever waits for that never ends
    _worker = _Worker(work, messages, notes, stop)
    from sonosynth.core.device import limit_threads

    limit_threads(workers)


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _do(cell: "AnyCell") -> float:
    return _worker.do(cell)
