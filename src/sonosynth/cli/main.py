"""The one executable, `sonosynth`."""

import errno
import logging
import re
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from sonosynth.cli import data, prior, readers, study
from sonosynth.cli.classify import classify
from sonosynth.cli.demo import demo
from sonosynth.cli.gan import generate, train
from sonosynth.cli.release import release, verify
from sonosynth.cli.score import score
from sonosynth.core.errors import SonosynthError
from sonosynth.core.text import one_line

_MENDABLE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "larger than a file may be here; choose another --out",
    errno.EACCES: "permission denied; choose a place that you may read and write",
    errno.EPERM: "permission denied; choose a place that you may read and write",
    errno.EROFS: "the file system is read-only; choose another --out",
    errno.EISDIR: "is a folder where a file is needed; give another path",
    errno.ENOTDIR: "part of the path is a file; give another path",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
}
# What PyTorch says in a RuntimeError when a GPU, or the main memory, is full.
_OUT_OF_MEMORY = ("out of memory", "memory: you tried to allocate", "CUBLAS_STATUS_ALLOC_FAILED")
_GOING_ON = ("demo", "train", "score", "study run", "data fetch", "prior make")  # where they were interrupted
_COMMAND = "sonosynth.command"


# Of the click that typer carries, which is not the user's click.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class _Commands(TyperGroup):
    """Gives every command its exit status: 0 done, 2 the user can mend it, 130 interrupted, 1 a bug (a traceback)."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        try:
            status = super().main(*args, **{**extra, "standalone_mode": False})
        except _UsageError as error:
            status = _usage_error(error)
        if not standalone_mode:
            return status
        sys.exit(status if isinstance(status, int) else 0)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_COMMAND] = " ".join(args[: 2 if args[:1] in (["data"], ["study"], ["prior"], ["readers"]) else 1])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged files, which get their one line
        logging.getLogger("PIL").addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except SonosynthError as error:
            raise _mendable(str(error)) from error
        except KeyboardInterrupt as error:
            goes_on = ctx.meta[_COMMAND] in _GOING_ON
            kept = "what was finished is kept, and the same command goes on from there"
            left = kept if goes_on else "the same command begins anew"
            print(f"interrupted; {left}", file=sys.stderr)
            raise typer.Exit(130) from error
        except MemoryError as error:
            told = one_line(str(error)) or "no more is to be had"
            raise _mendable(f"not enough memory ({told}); ask for fewer images, or smaller ones") from error
        except RuntimeError as error:
            if not any(words in str(error) for words in _OUT_OF_MEMORY):
                raise
            told = one_line(re.split(r"\. GPU |\n", str(error))[0])  # without the advice to programmers
            raise _mendable(
                f"not enough memory ({told}); take a smaller batch, fewer or smaller images, or fewer --workers"
            ) from error
        except OSError as error:
            if error.errno not in _MENDABLE:
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise _mendable(f"{where}{_MENDABLE[error.errno]}") from error


def _mendable(message: str) -> typer.Exit:
    line = one_line(re.sub(r"\s*\n\s*", " ", message))
    print(f"error: {line}", file=sys.stderr)
    return typer.Exit(2)


def _usage_error(error: Any) -> int:
    """Print what was wrong with the words of a command in one line; a command without any shows its help."""
    message = error.format_message().strip().rstrip(".").replace("Value error, ", "")
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        print(error.ctx.get_help())
        return 0
    message = re.sub(r"\. Did you mean (.+)\?$", r" (did you mean \1?)", message[0].lower() + message[1:])
    where = f"; see '{error.ctx.command_path} --help'" if error.ctx else ""
    return _mendable(f"{message}{where}").exit_code


app = typer.Typer(
    name="sonosynth",
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
app.command()(prior.priors)
app.add_typer(prior.app, name="prior")
app.command()(release)
app.command()(verify)
app.command()(score)
app.command()(classify)
app.add_typer(study.app, name="study")
app.command()(study.report)
app.add_typer(readers.app, name="readers")
