"""A whole study from Python: run it, and write its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonosynth.report.study.page import write_report
from sonosynth.study.config import StudyDesign
from sonosynth.study.engines.engine import Engine
from sonosynth.study.plan import store_of
from sonosynth.study.run import Monitor, run_design
from sonosynth.study.study_file import read_study


class _Quiet:
    """A monitor that tells nothing."""

    def note(self, *_: Any) -> None:
        """Tell nothing."""

    start = progress = finish = note


@dataclass(frozen=True)
class Study:
    """A study that has run.

    Attributes:
        design: what was compared.
        directory: where its tables, results and images are.
        notes: what was told of the images while they were read.
    """

    design: StudyDesign
    directory: Path
    notes: tuple[str, ...] = ()

    def report(self, out: str | Path | None = None) -> Path:
        """Write ``report.html`` and its figures to `out`, or the study directory, and return the page's path."""
        return write_report(self.directory, None if out is None else Path(out))


def run_study(
    study: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    exclude_known: bool = False,
    track: Sequence[str] = (),
    monitor: Monitor | None = None,
    command: str = "sonosynth.run_study",
) -> Study:
    """Run every cell of a study that has no result yet, and write its tables as it goes.

    A study that was interrupted goes on where it was, to the identical tables.

    Args:
        study: a study file, or what would stand in it, as a mapping.
        out: the study directory; ``runs/NAME``, the name in the study file, if not given.
        workers: processes that do cells side by side, sharing the GPU or the cores of this machine.
        engine: where else cells are done: a `RayEngine` or a `SlurmEngine`; `workers` then says nothing.
        exclude_known: leave out the images that a prior of the study was trained on, as if ``data.exclude_known`` stood
            in the study file.
        track: trackers that mirror the runs and the results while the study goes on: ``tensorboard``, ``csv``,
            ``mlflow``, ``wandb``. One that fails is given up with a note.
        monitor: is told how the study goes on; nobody is if not given.
        command: what is recorded as the origin of the study.

    Raises:
        SonosynthError: the study file or the images cannot be used, or an output stands in the way; the message says
            what, where and what to do.
        KeyboardInterrupt: after the state of a run in training has been saved.

    Example:
        >>> import sonosynth as ss
        >>> study = ss.run_study("study.yaml", workers=2)  # doctest: +SKIP
        >>> study.report()  # doctest: +SKIP
        PosixPath('runs/my-study/report.html')
    """
    design, text = read_study(study, exclude_known)
    store = store_of(design, out)
    told = _Quiet() if monitor is None else monitor
    data = run_design(design, text, store, told, command, workers, track, engine)
    return Study(design, store.directory, tuple(data.notes))
