"""Which trackers were asked for, and what runs are called there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

from sonosynth.core.errors import TrackingError
from sonosynth.core.text import unknown_name
from sonosynth.tracking.tracker import Mirror, Mirrors, Params, TrackedRun, Tracker, attempt

TRACKERS = {
    "tensorboard": "tensorboard:TensorBoard",
    "csv": "csv_file:CsvFile",
    "mlflow": "mlflow:MLflow",
    "wandb": "wandb:WandB",
}
"""The trackers by name, which is that of their folder too: a module, imported when it is asked for, and its class."""

ID_FILE = "tracking.json"


def _class_of(name: str) -> type[Tracker]:
    module, _, of_module = TRACKERS[name].partition(":")
    found: type[Tracker] = getattr(import_module(f"sonosynth.tracking.{module}"), of_module)
    return found


@dataclass(frozen=True)
class CellPlace:
    """A cell of a study that is tracked: its name for people, that of its folders, and its run directory."""

    name: str
    folder: str
    run: Path


@dataclass(frozen=True)
class Trackers:
    """The trackers of one call of `train`, or of a study.

    `out` is its directory. A tracker that failed is in `given_up`, of which this process is told once, by `tell` or on
    standard error.
    """

    names: tuple[str, ...]
    out: Path
    project: str = "sonosynth"
    prefix: str = ""
    cell: CellPlace | None = None
    tell: Callable[[str], object] | None = None
    given_up: set[str] = field(default_factory=set)

    @staticmethod
    def of(track: Sequence[str] | str, out: Path, project: str = "sonosynth") -> "Trackers":
        """Return the trackers named in `track`. Raises TrackingError: there is no such tracker."""
        names = tuple(dict.fromkeys([track] if isinstance(track, str) else track))
        for name in names:
            if name not in TRACKERS:
                raise TrackingError(f"track: {unknown_name('tracker', name, TRACKERS)}")
        return Trackers(names, out, project)

    def check(self) -> None:
        """Raise TrackingError unless every client is installed and reaches its server; write nothing."""
        for name in self.names:
            _class_of(name).check()

    def telling(self, tell: Callable[[str], object] | None) -> "Trackers":
        """Return these trackers with another `tell`."""
        return replace(self, tell=tell)

    def of_pretraining(self) -> "Trackers":
        """Return these trackers for a run on which others build."""
        return replace(self, prefix="pretraining, ")

    def of_cell(self, cell: CellPlace) -> "Trackers":
        """Return these trackers for the runs of a cell of a study."""
        return replace(self, cell=cell)

    def follow(self, run: Path, title: str, part: str, params: Params, log: Path, grids: Path) -> Mirrors:
        """Return what mirrors `log` and `grids` of the run directory `run`.

        It is called `title`, or like the cell that it is of, and `part`, the class that it is of, if it is of one.
        """
        name = title
        if self.cell and run.is_relative_to(self.cell.run):
            name = self.cell.name
        name = f"{self.prefix}{name}{part and f', {part}'}"
        mirrors = []
        for tracker in self.names:
            tracked = TrackedRun(
                name, "train", params, self.project, self._files(tracker, run), self.out, run / ID_FILE
            )
            mirrors.append(Mirror(_class_of(tracker)(tracked), log, grids))
        return Mirrors(mirrors, self.given_up, self.tell)

    def _files(self, tracker: str, run: Path) -> Path:
        """Return where the files of a run go: beside its log, or all together under the names of the cells."""
        if self.cell is None:
            return run / tracker
        if run.is_relative_to(self.cell.run):
            return self.out / tracker / self.cell.folder / run.relative_to(self.cell.run)
        return self.out / tracker / run.relative_to(self.out)

    def summarise(
        self, cell: CellPlace, kind: str, key: str, params: Params, metrics: Mapping[str, float], *, again: bool
    ) -> None:
        """Show the `metrics` of the finished cell `key` of a study; `again` also where it is shown already."""
        for name in self.names:
            files = self.out / name / cell.folder
            tracked = TrackedRun(cell.name, kind, params, self.project, files, self.out, self.out / ID_FILE, key)
            tracker = _class_of(name)(tracked)

            def show(tracker: Tracker = tracker) -> None:
                if again or not tracker.is_there():
                    tracker.summarise(metrics)

            attempt(tracker, show, self.given_up, self.tell)
