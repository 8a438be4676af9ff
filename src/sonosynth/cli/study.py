"""``sonosynth study new | plan | run | status``, and ``sonosynth report``."""

import json
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from sonosynth.cli.options import Source, TrackerName, chosen_trackers, with_read_options
from sonosynth.cli.progress import new_progress
from sonosynth.core.text import counted

if TYPE_CHECKING:
    from rich.progress import TaskID

    from sonosynth.data.source import ReadOptions
    from sonosynth.study.cells import AnyCell
    from sonosynth.study.engines.engine import Engine

app = typer.Typer(no_args_is_help=True, help="Write, plan, run and follow a whole study from one file.")

LONG_HOURS = 4.0

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="study file")]
ExcludeKnown = Annotated[
    bool, typer.Option("--exclude-known", help="leave out images that a prior of the study was trained on")
]
Out = Annotated[Path | None, typer.Option(help="study directory; default: runs/NAME, the name in the study file")]


class EngineName(StrEnum):
    """Where the cells of a study are done."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


@app.command()
@with_read_options
def new(
    source: Source,
    out: Annotated[
        Path, typer.Option(metavar="STUDY.yaml", help="study file to write, which must not be there")
    ] = Path("study.yaml"),
    size: Annotated[int, typer.Option(help="image side in pixels: 32, 64, 128, 256 or 512")] = 64,
    *,
    options: "ReadOptions",
) -> None:
    """Write a first study file for the images of SOURCE, to be changed and run."""
    from sonosynth.core.errors import OutputError
    from sonosynth.core.files import check_output, write_text
    from sonosynth.study.study_file import first_study, parse_design

    check_output(out)
    if out.exists():
        raise OutputError(f"{out} is there already; choose another --out")
    text = first_study(source, options, size)
    parse_design(yaml.safe_load(text), str(out))
    write_text(out, text)
    typer.echo(f"wrote {out}; next: sonosynth study plan {shlex.quote(str(out))}")


@app.command()
def plan(
    study: StudyFile,
    out: Out = None,
    exclude_known: ExcludeKnown = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON")] = False,
) -> None:
    """Print every cell of the study, how long it will take on this machine, and what it could see; write nothing."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sonosynth.study.plan import COMPILED, plan_study

    found = plan_study(study, out, tell=partial(typer.echo, err=True), exclude_known=exclude_known)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
        return
    for line in found.notes:
        typer.echo(f"note: {line}")
    to_do = found.to_do
    for cell in found.cells:
        typer.echo(f"{'to do' if cell.hash in to_do else 'done':<6} {cell.hash}  {cell.label()}")
    table = Table("work", "cells", "seconds each", "minutes", title="estimate, from a few steps on this machine")
    for column in table.columns[1:]:
        column.justify = "right"
    for cost in found.estimates:
        table.add_row(Text(cost.work), str(cost.cells), f"{cost.seconds_each:.0f}", f"{cost.seconds / 60:.1f}")
    Console().print(table)
    cells = counted(len(found.cells), "cell")
    typer.echo(f"{len(found.waiting)} of {cells} to do, about {in_words(found.seconds)}")
    for line in found.power.lines() if found.power else ():
        typer.echo(line)
    if found.compiles:
        typer.echo(f"note: {COMPILED}")
    if found.seconds > LONG_HOURS * 3600:
        typer.echo(
            "warning: that is long for this machine; lower training.kimg, channel_base, data.size, split.sizes or "
            "seeds, or run it on a GPU",
            err=True,
        )


@app.command()
def run(
    study: StudyFile,
    out: Out = None,
    workers: Annotated[
        int, typer.Option(min=1, help="processes that work on cells side by side; small GANs leave a GPU idle")
    ] = 1,
    exclude_known: ExcludeKnown = False,
    track: Annotated[
        list[TrackerName] | None,
        typer.Option(
            "--track",
            help="show a run per generator, and the results of scores and classifiers, in as many of these as are "
            "named; default: none",
        ),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="where cells are done: on this machine, on a Ray cluster, or in jobs of Slurm")
    ] = EngineName.local,
    cpus: Annotated[
        int, typer.Option("--cpus-per-task", min=1, help="ray, slurm: cores, and threads, of a cell or task")
    ] = 1,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-task", min=0, help="ray, slurm: GPUs of a cell or task; with ray also a part, as 0.25"
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory-per-task", help="ray, slurm: main memory, as 8G; default: measured (ray), the cluster's (slurm)"
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="ray: the cluster's head, HOST:PORT; default: a cluster of this machine alone")
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="ray: all nodes see the study directory, and read runs there")
    ] = False,
    timeout: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=SECONDS", help="ray: a cell of that kind that takes longer is begun anew"),
    ] = None,
    partition: Annotated[str | None, typer.Option(help="slurm: partition; default: the cluster's")] = None,
    time_limit: Annotated[str | None, typer.Option("--time", help="slurm: time limit of a task, as 4:00:00")] = None,
    cells_per_task: Annotated[
        int, typer.Option(min=1, help="slurm: cells that a task does one after another; it takes seconds to begin")
    ] = 8,
    sbatch: Annotated[
        list[str] | None, typer.Option("--sbatch", metavar="OPTION", help="slurm: another option of sbatch")
    ] = None,
) -> None:
    """Run the study and write its tables and report. Interrupt it at any time: the same command goes on."""
    chosen: Engine | None = None
    if engine is EngineName.ray:
        from sonosynth.study.engines.ray import RayEngine, bytes_of, timeouts_of

        size = None if memory is None else bytes_of(memory)
        chosen = RayEngine(address, cpus, gpus, size, shared, timeouts_of(timeout or []))
    elif engine is EngineName.slurm:
        from sonosynth.study.engines.slurm import SlurmEngine

        n_gpus = None if gpus is None else f"{gpus:g}"
        chosen = SlurmEngine(partition, time_limit, n_gpus, cpus, memory, cells_per_task, tuple(sbatch or ()))
    trackers = chosen_trackers(track or [])
    typer.echo(str(run_to_report(study, out, workers, exclude_known, trackers, chosen)))


@app.command()
def status(
    study: StudyFile,
    out: Out = None,
    exclude_known: ExcludeKnown = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the counts as JSON")] = False,
) -> None:
    """Say how many cells of the study have their result."""
    from sonosynth.report.study.finished import find_finished

    if finished := find_finished(study, out, exclude_known):
        found = finished[0].status
    else:
        from sonosynth.study.plan import study_status

        found = study_status(study, out, exclude_known)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
        return
    for kind, (done, n) in found.counts.items():
        typer.echo(f"{kind:<9} {done:4d} of {n}")
    typer.echo(f"next: {found.next_cell.label()}" if found.next_cell else "finished")
    if found.next_cell:
        from sonosynth.study.engines.slurm import queue_in_words
        from sonosynth.study.files import study_directory
        from sonosynth.study.study_file import read_study

        if queued := queue_in_words(study_directory(read_study(study)[0].name, out)):
            typer.echo(f"queue of Slurm: {queued}")


def report(
    study_dir: Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="directory that 'study run' wrote")],
    out: Annotated[Path | None, typer.Option(help="where to write; STUDY_DIR, where tables stay, if not given")] = None,
) -> None:
    """Write report.html, one self-contained page, and its figures as PNG and PDF.

    A half-finished study gives a report of what is finished.
    """
    from sonosynth.report.study.page import write_report

    typer.echo(str(write_report(study_dir, out)))


def run_to_report(
    study: Path,
    out: Path | None,
    workers: int = 1,
    exclude_known: bool = False,
    track: Sequence[str] = (),
    engine: "Engine | None" = None,
) -> Path:
    """Run the study of the file `study`, showing progress, and return the path of its report."""
    from sonosynth.report.study.finished import find_finished, look_at, remember

    monitor = _Display()
    found_before = None if track else find_finished(study, out, exclude_known)  # trackers are shown what is finished
    if found_before:
        finished, report = found_before
        done = counted(sum(finished.cells.values()), "cell is", "cells are")
        for line in (*finished.notes, f"all {done} finished, and neither images nor settings nor results have changed"):
            monitor.note(line)
        return report
    from sonosynth.report.study.study import run_study

    before = look_at(study, exclude_known)
    with monitor.progress_display:
        command = shlex.join(["sonosynth", *sys.argv[1:]])
        found = run_study(
            study,
            out,
            workers=workers,
            engine=engine,
            exclude_known=exclude_known,
            track=track,
            monitor=monitor,
            command=command,
        )
    report = found.report()
    remember(before, study, exclude_known, found.directory, monitor.notes)
    return report


class _Display:
    """A bar for the study and one for every cell under way; where there is no terminal, a line a finished cell."""

    def __init__(self) -> None:
        self.progress_display = new_progress()
        self._study = self.progress_display.add_task("study", total=None, text="")
        self._bars: dict[str, TaskID] = {}  # by the hash of the cell
        self._done = self._total = 0
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.progress_display.console.print(f"note: {text}", markup=False, highlight=False)

    def start(self, cell: "AnyCell", number: int, total: int) -> None:
        self._total = total
        self.progress_display.update(self._study, total=total, text=f"cell {number} of {total}")
        self._bars[cell.hash] = self.progress_display.add_task(cell.label(), total=None, text="")

    def progress(self, cell: "AnyCell", done: float, total: float, text: str) -> None:
        self.progress_display.update(self._bars[cell.hash], completed=done, total=total, text=text)

    def finish(self, cell: "AnyCell", seconds: float | None) -> None:
        took = "done before" if seconds is None else in_words(seconds)
        self._done += 1
        self.progress_display.update(self._study, completed=self._done)
        self.progress_display.remove_task(self._bars.pop(cell.hash))
        self.progress_display.console.print(f"[{self._done}/{self._total}] {cell.label()}: {took}", markup=False)


def in_words(seconds: float) -> str:
    """Return a duration for people to read."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
