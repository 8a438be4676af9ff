"""What an engine is: it has the cells of a study done somewhere, and tells of each when its result is in the store.

Nothing heavy is imported here: a worker process should watch its parent before it imports PyTorch.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sonosynth.study.cells import AnyCell
    from sonosynth.study.prepared import StudyData
    from sonosynth.study.store import Store

CellProgress = Callable[["AnyCell", float, float, str], None]
"""Called as ``progress(cell, done, total, text)``."""

Note = Callable[[str], None]
"""Called with what the user should know."""

Do = Callable[["AnyCell", CellProgress, Note], float]
"""Does a cell, stores its result and returns the seconds it took."""


@dataclass(frozen=True)
class Work:
    """What the cells of a study work on; `do` does one of them in the process that calls it."""

    data: "StudyData"
    store: "Store"
    do: Do


@dataclass(frozen=True)
class Watch:
    """Who is told, in the process that runs the study: that a cell begins, how far it is, and what to know."""

    start: "Callable[[AnyCell], None]"
    progress: CellProgress
    note: Note


class Engine(Protocol):
    """Where cells are done: in processes of this machine, on a Ray cluster, or by Slurm."""

    @property
    def tracks_runs(self) -> bool:
        """Whether trackers are told of a run while it is trained; if not, the study tells them when it has finished."""

    def check(self) -> None:
        """Raise StudyError unless what the engine needs is installed; nothing is started."""

    def begin(self, store: "Store") -> None:
        """Stop what an earlier call with the same study directory left at work; this process has its lock."""

    def finished(self, cells: "Sequence[AnyCell]", work: Work, watch: Watch) -> "Generator[tuple[AnyCell, float]]":
        """Do `cells` and yield each, with its seconds, when its result is in ``work.store``.

        A cell begins when those have finished that it needs. To close the generator stops all that is under way, and
        states of runs in training are saved. Errors of a cell come through.
        """


class Agenda:
    """Which cells may begin: those that need nothing unfinished, in the order in which they were given.

    To go through n cells takes time and memory in proportion to n (times the logarithm of n).
    """

    def __init__(self, cells: "Sequence[AnyCell]"):
        from sonosynth.study.cells import needed_by

        self._cells = cells
        self._number = {cell.hash: number for number, cell in enumerate(cells)}
        self._users: defaultdict[int, list[int]] = defaultdict(list)
        self._missing = [0] * len(cells)
        for number, cell in enumerate(cells):
            for needed in needed_by(cell):
                if (at := self._number.get(needed.hash)) is not None:
                    self._users[at].append(number)
                    self._missing[number] += 1
        self._ready = [number for number, missing in enumerate(self._missing) if not missing]  # a heap, as it is sorted
        self._unfinished = len(cells)

    def __bool__(self) -> bool:
        """Whether a cell has not finished."""
        return self._unfinished > 0

    def next(self) -> "AnyCell | None":
        """Return the next cell that may begin, once; None where all others wait."""
        return self._cells[heapq.heappop(self._ready)] if self._ready else None

    def finish(self, cell: "AnyCell") -> None:
        """Let those begin that waited for `cell` alone."""
        self._unfinished -= 1
        for user in self._users.pop(self._number[cell.hash], ()):
            self._missing[user] -= 1
            if not self._missing[user]:
                heapq.heappush(self._ready, user)
