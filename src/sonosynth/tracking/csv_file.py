"""A table of the log, ``metrics.csv``, written by Fabric's CSVLogger."""

from collections.abc import Sequence
from typing import Any

from sonosynth.core.files import remove_file
from sonosynth.tracking.tracker import Grid, LogLine, TrackedRun, Tracker

METRICS = "metrics.csv"


class CsvFile(Tracker):
    """A row per log line: ``step``, which counts real images shown, and the columns of the log. Grids are left out."""

    name, label = "csv", "the CSV file"

    def __init__(self, run: TrackedRun):
        super().__init__(run)
        self._logger: Any = None

    @classmethod
    def check(cls) -> None:
        """Everything that it needs comes with the package."""

    def is_there(self) -> bool:
        """Return whether there is a table."""
        return (self.run.files / METRICS).is_file()

    def begin(self, seconds: float, saved: int) -> int:
        """Replace the table by a new one."""
        from lightning_fabric.loggers.csv_logs import CSVLogger
        from lightning_fabric.utilities.rank_zero import rank_zero_only

        # Fabric guesses from the environment which process writes, and lets the others write nothing. This one writes:
        # only the main process has trackers.
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
        remove_file(self.run.files / METRICS)
        self._logger = CSVLogger(self.run.files.parent, name=self.run.files.name, version="")
        return -1

    def show(self, items: Sequence[LogLine | Grid]) -> None:
        """Add rows to the table."""
        for line in items:
            if isinstance(line, LogLine):
                row = {"kimg": line.step / 1000, "seconds": line.seconds} if line.seconds else {}
                happened = {} if line.event is None else {"event": line.event}
                self._logger.log_metrics({**row, **line.values, **happened}, line.step)
        self._logger.save()

    def close(self, done: bool) -> None:
        """There is nothing to close: the table is whole after every line."""
