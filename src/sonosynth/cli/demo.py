"""``sonosynth demo``: the whole product on simulated images."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="folder for phantoms, study and report; run it again to go on")] = Path(
        "demo"
    ),
) -> None:
    """Make simulated images, run a small study on them, and write its report: minutes on two CPU cores.

    The last line printed is the path of the report.
    """
    from sonosynth.cli.study import in_words, run_to_report
    from sonosynth.report.study.demo import write_demo
    from sonosynth.report.study.finished import find_finished

    tell = partial(typer.echo, err=True)
    study, workers = write_demo(out, tell), min(2, os.cpu_count() or 1)
    if not find_finished(study, out / "study"):
        from sonosynth.study.plan import plan_study

        tell("timing a few steps of each kind of work")
        if seconds := plan_study(study, out / "study").seconds:
            tell(
                f"about {in_words(seconds / workers)} if this machine stays as busy as it is now; synthetic images "
                f"appear meanwhile in {out}/study/runs, in the folders called samples"
            )
    typer.echo(str(run_to_report(study, out / "study", workers)))
