"""Options that several commands share: what a user says of a source of images."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sonosynth.data.readers import ReadOptions

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="Folder with one folder a class (pictures, clips, DICOM files), in BUSI layout, image set, manifest.csv, "
        "or .npz file.",
    ),
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave files that cannot be decoded out, and count them.")
]
PathColumn = Annotated[
    str | None, typer.Option("--path", metavar="COLUMN", help="Column of the table that names the files.")
]
LabelColumn = Annotated[
    str | None, typer.Option("--label", metavar="COLUMN", help="Column of the table that gives the class.")
]
GroupColumn = Annotated[
    str | None,
    typer.Option("--group", metavar="COLUMN", help="Column of the table that gives the patient: never divided."),
]
ForceDicom = Annotated[bool, typer.Option("--force-dicom", help="Read DICOM files without preamble, as little endian.")]


def as_words(options: "ReadOptions") -> str:
    """Return `options` as they are typed, each after a space; nothing where none is given."""
    given = {name.replace("_", "-"): value for name, value in vars(options).items() if value not in (None, False)}
    words = [f"--{name}" if value is True else f"--{name} {shlex.quote(str(value))}" for name, value in given.items()]
    return "".join(f" {word}" for word in words)
