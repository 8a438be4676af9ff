"""Options that several commands share: what a user says of a source of images."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="Folder with one folder per class (pictures, clips, volumes, DICOM files), in BUSI layout, image set, "
        "manifest.csv, or .npz file.",
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
Bits = Annotated[
    int | None,
    typer.Option(
        "--bits", min=8, max=16, help="Depth of 16-bit values whose files state none. Default: from the values."
    ),
]


class Axis(StrEnum):
    """Axes of a volume, in the order in which they are stored."""

    X = "x"
    Y = "y"
    Z = "z"


AcrossAxis = Annotated[
    Axis | None, typer.Option("--axis", help="Axis across which slices of volumes are taken. Default: z, the last.")
]
