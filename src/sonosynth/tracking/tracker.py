"""What a tracker is: it mirrors the log and the sample grids of a run, each line once, and never stops a training."""

import json
import re
import sys
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from sonosynth.core.files import read_json, write_json

Params = Mapping[str, str | float | bool | None]
"""Settings by name."""

_LONGEST_REASON = 300


@dataclass(frozen=True)
class LogLine:
    """A line of ``log.jsonl``.

    `step` counts real images shown, `seconds` training alone. `values` are the numbers by name, without ``kimg`` and
    ``seconds``: none where the line stands for steps that were rolled back. `event` is what happened, if anything.
    """

    step: int
    seconds: float
    values: Mapping[str, float]
    event: str | None = None


@dataclass(frozen=True)
class Grid:
    """A sample grid: a PNG file of synthetic images, made after `step` real images and about `seconds` of training."""

    step: int
    seconds: float
    path: Path


@dataclass(frozen=True)
class TrackedRun:
    """A run, or a finished cell of a study, as trackers name it. No real image and no file name is in it.

    Attributes:
        name: for people.
        kind: ``train``, ``score`` or ``classify``.
        params: settings.
        project: the experiment of MLflow and the project of Weights & Biases, unless the user's environment names one.
        files: folder for what a tracker that writes files writes of this run.
        out: what was given as ``--out``: here MLflow and Weights & Biases keep what is sent nowhere else.
        id_file: holds the name by which MLflow and Weights & Biases know the run again; `part` is added to it.
    """

    name: str
    kind: str
    params: Params
    project: str
    files: Path
    out: Path
    id_file: Path
    part: str = ""

    @property
    def id(self) -> str:
        """The name by which the run is known again, made and kept where there is none yet."""
        if not self.id_file.is_file():
            self.forget()
        return "-".join(filter(None, (read_json(self.id_file)["id"], self.part)))

    def forget(self) -> None:
        """Give the run another name: from now on it is not known again."""
        write_json(self.id_file, {"id": uuid.uuid4().hex[:16]})


class Tracker(ABC):
    """Shows one run in one program. What goes wrong raises whatever the program's client raises.

    `goes_on` says that a run that is continued goes on behind what is there; otherwise the whole log replaces it.
    """

    name: ClassVar[str]
    label: ClassVar[str]  # for people
    goes_on: bool = False

    def __init__(self, run: TrackedRun):
        self.run = run

    @classmethod
    @abstractmethod
    def check(cls) -> None:
        """Raise TrackingError unless the client is installed and what it sends to answers; write nothing."""

    @abstractmethod
    def is_there(self) -> bool:
        """Return whether the run has been shown, in part or whole."""

    @abstractmethod
    def begin(self, seconds: float, saved: int) -> int:
        """Begin to show the run, of which `seconds` of training are over, and return the last step that is shown.

        It is -1 where there is none, as always where the tracker does not go on. The saved state is of step `saved`:
        what is shown beyond it belongs to a run that was begun again.
        """

    @abstractmethod
    def show(self, items: Sequence[LogLine | Grid]) -> None:
        """Show log lines and sample grids, by rising step, and see that they can be looked at."""

    @abstractmethod
    def close(self, done: bool) -> None:
        """End what `begin` began; the run is `done`, or will be continued."""

    def summarise(self, metrics: Mapping[str, float]) -> None:
        """Show one set of metrics in place of a log, and of any that was there."""
        self.begin(0.0, -1)
        self.show([LogLine(0, 0.0, metrics)])
        self.close(True)


class Mirror:
    """Shows in a tracker what the log and the sample grids of a run have that it lacks, while the run is trained.

    The files of the run are the only source. A tracker that does not go on gets the whole log once there is a new line,
    in place of what it had. One that does go on gets lines up to the saved state, which no resume takes back. Either
    way every line is shown once. A log line that does not advance stands for steps that were rolled back: of it only
    the event is shown.
    """

    def __init__(self, tracker: Tracker, log: Path, grids: Path):
        self.tracker, self._log, self._samples = tracker, log, grids
        self._count: int | None = None  # lines of the log that are shown; None before the tracker has begun
        self._grids: set[Path] = set()
        self._step = -1

    def catch_up(self, saved: int) -> None:
        """Show what is missing before the first step; what is to be replaced is left until there is a new line."""
        if self.tracker.goes_on or not self.tracker.is_there():
            self.update(saved)

    def update(self, saved: int) -> None:
        """Show what is new; the saved state is of step `saved`."""
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.is_file() else []
        if not lines and not self.tracker.goes_on:
            return
        if self._count is None:
            self._step = self.tracker.begin(json.loads(lines[-1])["seconds"] if lines else 0.0, saved)
            self._count = sum(_step(json.loads(line)["kimg"]) <= self._step for line in lines)
        items: list[LogLine | Grid] = []
        for line in lines[self._count :]:
            entry = json.loads(line)
            if self.tracker.goes_on and _step(entry["kimg"]) > saved:
                break
            items.append(self._line(entry))
            self._count += 1
        items += self._new_grids([item for item in items if isinstance(item, LogLine)])
        if items:
            self.tracker.show(sorted(items, key=lambda item: item.step))

    def _line(self, entry: dict[str, float | str | None]) -> LogLine:
        step, seconds, event = _step(entry.pop("kimg")), float(entry.pop("seconds") or 0), entry.pop("event")
        advances, self._step = step > self._step, max(step, self._step)
        values = {name: float(value) for name, value in entry.items() if value is not None} if advances else {}
        return LogLine(step, seconds, values, None if event is None else str(event))

    def _new_grids(self, lines: Sequence[LogLine]) -> list[Grid]:
        """Return new grids up to the last line shown; one beyond it may be of steps that are yet to be taken again."""
        found = []
        for path in sorted(self._samples.glob("kimg-*.png")):
            step = _step(path.stem.removeprefix("kimg-"))
            if step <= self._step and path not in self._grids:
                self._grids.add(path)
                seconds = next((line.seconds for line in lines if line.step >= step), 0.0)
                found.append(Grid(step, seconds, path))
        return found

    def close(self, done: bool) -> None:
        """End what has begun."""
        if self._count is not None:
            self.tracker.close(done)


def _step(kimg: float | str | None) -> int:
    return round(1000 * float(kimg or 0))


class Mirrors:
    """One run in several trackers. One that fails is `given_up`, with a warning to `tell`, and the run goes on."""

    def __init__(self, mirrors: Sequence[Mirror], given_up: set[str], tell: Callable[[str], object] | None = None):
        self._mirrors, self._given_up, self._tell = mirrors, given_up, tell

    def catch_up(self, saved: int) -> None:
        """Show what is missing before the first step; the saved state is of step `saved`."""
        self._each(lambda mirror: mirror.catch_up(saved))

    def update(self, saved: int) -> None:
        """Show what is new; the saved state is of step `saved`."""
        self._each(lambda mirror: mirror.update(saved))

    def close(self, done: bool) -> None:
        """End all; the run is `done`, or will be continued."""
        self._each(lambda mirror: mirror.close(done))

    def _each(self, act: Callable[[Mirror], None]) -> None:
        for mirror in self._mirrors:
            attempt(mirror.tracker, partial(act, mirror), self._given_up, self._tell)


def attempt(
    tracker: Tracker, act: Callable[[], object], given_up: set[str], tell: Callable[[str], object] | None
) -> None:
    """Call `act`, unless `tracker` is among the `given_up`; if that fails it is, and a warning goes to `tell`.

    Without `tell` the warning is written to standard error.
    """
    if tracker.name in given_up:
        return
    try:
        act()
    except Exception as error:  # clients raise what they like, and none of it is worth a training
        given_up.add(tracker.name)
        (tell or _to_standard_error)(
            f"{tracker.label} failed ({reason(error)}); the work goes on without it, and the log and the "
            "results on disk have all that it lacks"
        )


def _to_standard_error(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def reason(error: BaseException) -> str:
    """Return what an exception of a client says, in a line of at most 300 characters without passwords, or its type."""
    said = re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split())) or type(error).__name__
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}..."
