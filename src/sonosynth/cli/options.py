"""Options that several commands share: of a source of images, of what a generator makes, and of trackers."""

import inspect
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from sonosynth.core.errors import TrackingError

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
# What `generate` and `release` make.
NewFolder = Annotated[Path, typer.Option(help="folder to write; must be empty or not there")]
HowMany = Annotated[int, typer.Option("-n", "--n", min=1, help="how many images")]
ClassName = Annotated[
    str | None, typer.Option("--class", help="only this class; default: all, in training proportions")
]
Truncation = Annotated[float, typer.Option(min=0, max=1, help="below 1: less diverse, more typical images")]
SampleSeed = Annotated[int, typer.Option(help="the same seed gives the same images")]
Best = Annotated[
    bool, typer.Option("--best/--last", help="the weights that came nearest to the training images, or the last")
]
OriginalShape = Annotated[
    bool, typer.Option("--original-shape", help="cut off padding and undo stretching of 'data prepare'")
]
Axis = StrEnum("Axis", ["X", "Y", "Z"])
_READ_OPTIONS: dict[str, Any] = {  # by the names of `ReadOptions`
    "path": Annotated[
        str | None, typer.Option("--path", metavar="COLUMN", help="Column of the table that names the files.")
    ],
    "label": Annotated[
        str | None, typer.Option("--label", metavar="COLUMN", help="Column of the table that gives the class.")
    ],
    "group": Annotated[
        str | None,
        typer.Option("--group", metavar="COLUMN", help="Column of the table that gives the patient: never divided."),
    ],
    "force_dicom": Annotated[
        bool, typer.Option("--force-dicom", help="Read DICOM files without preamble, as little endian.")
    ],
    "bits": Annotated[
        int | None,
        typer.Option(
            "--bits", min=8, max=16, help="Depth of 16-bit values whose files state none. Default: from the values."
        ),
    ],
    "axis": Annotated[
        Axis | None,
        typer.Option("--axis", help="Axis across which slices of volumes are taken. Default: z, the last."),
    ],
}


class TrackerName(StrEnum):
    """What ``--track`` takes: the names of `trackers.TRACKERS`, or none."""

    TENSORBOARD = "tensorboard"
    CSV = "csv"
    MLFLOW = "mlflow"
    WANDB = "wandb"
    NONE = "none"


def chosen_trackers(given: list[TrackerName]) -> list[str]:
    """Return the names of the trackers that were given, none for "none". Raises TrackingError."""
    if TrackerName.NONE in given and len(set(given)) > 1:
        raise TrackingError("--track none is for no tracker; leave it out, or leave the others out")
    return [name.value for name in given if name != TrackerName.NONE]


def with_read_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command`, which takes `options`, as one that takes each of `ReadOptions` in their place."""
    own = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        if parameter.name != "options":
            parameters.append(parameter)
            continue
        for name, annotation in _READ_OPTIONS.items():
            default = False if name == "force_dicom" else None
            parameters.append(inspect.Parameter(name, parameter.kind, default=default, annotation=annotation))

    @wraps(command)
    def with_options(**given: Any) -> None:
        from sonosynth.data.source import ReadOptions

        command(options=ReadOptions(**{name: given.pop(name) for name in _READ_OPTIONS}), **given)

    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options
