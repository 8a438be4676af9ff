"""The one executable, `sonosynth`."""

import errno
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from sonosynth.cli import data, study
from sonosynth.cli.classify import classify
from sonosynth.cli.demo import demo
from sonosynth.cli.gan import generate, train
from sonosynth.cli.report import report
from sonosynth.cli.score import score
from sonosynth.errors import SonosynthError

_MENDABLE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "larger than a file may be here; choose another --out",
    errno.EACCES: "permission denied; choose a place that you may read and write",
    errno.EPERM: "permission denied; choose a place that you may read and write",
    errno.EROFS: "the file system is read-only; choose another --out",
}


class _Commands(TyperGroup):
    """Gives every command its exit status: 0 done, 2 the user can mend it, 130 interrupted, 1 a bug (a traceback)."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SonosynthError as error:
            raise _mendable(str(error)) from error
        except KeyboardInterrupt as error:
            print("interrupted; the same command again goes on from here", file=sys.stderr)
            raise typer.Exit(130) from error
        except OSError as error:
            if error.errno not in _MENDABLE:
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise _mendable(f"{where}{_MENDABLE[error.errno]}") from error


def _mendable(message: str) -> typer.Exit:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return typer.Exit(2)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Synthetic ultrasound from small data sets: train GANs, score them honestly, and see whether they help.",
)
app.command()(demo)
app.add_typer(data.app, name="data")
app.command()(train)
app.command()(generate)
app.command()(score)
app.command()(classify)
app.add_typer(study.app, name="study")
app.command()(report)
