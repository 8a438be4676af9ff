"""``sonosynth study plan | run | status``."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sonosynth.cli.progress import new_progress
from sonosynth.core.text import counted

if TYPE_CHECKING:
    from rich.progress import TaskID

    from sonosynth.study.cells import AnyCell

app = typer.Typer(no_args_is_help=True, help="Plan, run and follow a whole study from one file.")

LONG_HOURS = 4.0

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="study file")]
Out = Annotated[Path | None, typer.Option(help="study directory; default: runs/NAME, the name in the study file")]


@app.command()
def plan(
    study: StudyFile,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON")] = False,
) -> None:
    """Print every cell of the study, how long it will take on this machine, and what it could see; write nothing."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sonosynth.study.cells import TrainCell
    from sonosynth.study.config import load_design
    from sonosynth.study.design_power import design_power
    from sonosynth.study.estimate import COMPILED, estimate
    from sonosynth.study.prepared import prepare_study
    from sonosynth.study.run_cell import recipe_of
    from sonosynth.study.store import Store

    design = load_design(study)
    store = Store(out or Path("runs") / design.name)
    store.check(design)
    data = prepare_study(design, store)
    cells = data.cells(design)
    waiting = store.waiting(cells)
    to_do = {cell.hash for cell in waiting}
    costs = estimate(waiting, data)
    total = sum(cost.seconds for cost in costs)
    seen = design_power(design, data)
    if as_json:
        described = [cell.settings() | {"done": cell.hash not in to_do} for cell in cells]
        work = [{"work": c.work, "cells": c.cells, "seconds": round(c.seconds, 1)} for c in costs]
        whole = {"cells": described, "work": work, "seconds": round(total, 1), "power": seen and seen.to_dict()}
        typer.echo(json.dumps(whole, indent=1))
        return
    for line in [*data.notes, *data.lone_groups, *store.outdated(cells)]:
        typer.echo(f"note: {line}")
    for cell in cells:
        typer.echo(f"{'to do' if cell.hash in to_do else 'done':<6} {cell.hash}  {cell.label()}")
    table = Table("work", "cells", "seconds each", "minutes", title="estimate, from a few steps on this machine")
    for column in table.columns[1:]:
        column.justify = "right"
    for cost in costs:
        table.add_row(Text(cost.work), str(cost.cells), f"{cost.seconds_each:.0f}", f"{cost.seconds / 60:.1f}")
    Console().print(table)
    typer.echo(f"{len(waiting)} of {counted(len(cells), 'cell')} to do, about {_duration(total)}")
    for line in seen.lines() if seen else ():
        typer.echo(line)
    trained = [cell.generation for cell in waiting if isinstance(cell, TrainCell)]
    if any(recipe_of(generation).compiles(generation.kimg or 0.0) for generation in trained):
        typer.echo(f"note: {COMPILED}")
    if total > LONG_HOURS * 3600:
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
) -> None:
    """Run the study and write its tables and report. Interrupt it at any time: the same command goes on."""
    from sonosynth.study.config import load_design

    design = load_design(study)
    report = run_to_report(design, study.read_text(encoding="utf-8"), out or Path("runs") / design.name, workers)
    typer.echo(str(report))


@app.command()
def status(
    study: StudyFile,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the counts as JSON")] = False,
) -> None:
    """Say how many cells of the study have their result."""
    from sonosynth.core.errors import StudyError
    from sonosynth.study.config import load_design
    from sonosynth.study.prepared import prepare_study
    from sonosynth.study.store import Store

    design = load_design(study)
    store = Store(out or Path("runs") / design.name)
    store.check(design)
    if not store.data.is_dir():
        raise StudyError(
            f"{store.directory} holds no data/: this study has not begun, or only its results are here; "
            f"'sonosynth study run {study}' prepares the images"
        )
    cells = prepare_study(design, store).cells(design)
    waiting = store.waiting(cells)
    to_do = {cell.hash for cell in waiting}
    counts: dict[str, list[int]] = {}
    for cell in cells:
        count = counts.setdefault(cell.kind, [0, 0])
        count[0] += cell.hash not in to_do
        count[1] += 1
    if as_json:
        typer.echo(json.dumps({kind: {"done": done, "planned": n} for kind, (done, n) in counts.items()}))
        return
    for kind, (done, n) in counts.items():
        typer.echo(f"{kind:<9} {done:4d} of {n}")
    typer.echo(f"next: {waiting[0].label()}" if waiting else "finished")


def run_to_report(design: Any, text: str, directory: Path, workers: int = 1) -> Path:
    """Run `design`, whose study file reads `text`, in `directory`, with progress, and return the report's path."""
    from sonosynth.report.study.page import write_report
    from sonosynth.study.run import run_study
    from sonosynth.study.store import Store

    monitor = _Display()
    with monitor.progress_display:
        run_study(design, text, Store(directory), monitor, shlex.join(["sonosynth", *sys.argv[1:]]), workers)
    return write_report(directory)


class _Display:
    """A bar for the study and one for every cell under way; where there is no terminal, a line a finished cell."""

    def __init__(self) -> None:
        self.progress_display = new_progress()
        self._study = self.progress_display.add_task("study", total=None, text="")
        self._bars: dict[str, TaskID] = {}  # by the hash of the cell
        self._done = self._total = 0

    def note(self, text: str) -> None:
        self.progress_display.console.print(f"note: {text}", markup=False, highlight=False)

    def start(self, cell: "AnyCell", number: int, total: int) -> None:
        self._total = total
        self.progress_display.update(self._study, total=total, text=f"cell {number} of {total}")
        self._bars[cell.hash] = self.progress_display.add_task(cell.label(), total=None, text="")

    def progress(self, cell: "AnyCell", done: float, total: float, text: str) -> None:
        self.progress_display.update(self._bars[cell.hash], completed=done, total=total, text=text)

    def finish(self, cell: "AnyCell", seconds: float | None) -> None:
        took = "done before" if seconds is None else _duration(seconds)
        self._done += 1
        self.progress_display.update(self._study, completed=self._done)
        self.progress_display.remove_task(self._bars.pop(cell.hash))
        self.progress_display.console.print(f"[{self._done}/{self._total}] {cell.label()}: {took}", markup=False)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
