"""Options that several commands share: what a user says of a source of images."""

from pathlib import Path
from typing import Annotated

import typer

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
