"""``sonosynth demo``: the whole product on simulated images."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="folder for phantoms, study and report; run it again to go on")] = Path(
        "demo"
    ),
) -> None:
    """Make simulated images, run a small study on them, and write its report: half an hour on two slow CPU cores.

    The last line printed is the path of the report.
    """
    from sonosynth.cli.study import run_to_report
    from sonosynth.report.study.demo import write_demo

    study = write_demo(out, partial(typer.echo, err=True))
    typer.echo(str(run_to_report(study, out / "study")))
