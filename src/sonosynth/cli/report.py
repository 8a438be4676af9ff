"""``sonosynth report``."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    study_dir: Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="directory that 'study run' wrote")],
    out: Annotated[Path | None, typer.Option(help="where to write; STUDY_DIR, where tables stay, if not given")] = None,
) -> None:
    """Write report.html, one self-contained page, and its figures as PNG and PDF.

    A half-finished study gives a report of what is finished.
    """
    from sonosynth.report.study.page import write_report

    typer.echo(str(write_report(study_dir, out)))
