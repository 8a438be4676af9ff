"""The commands `sonosynth data ...`: look at images, prepare them, make phantoms, fetch public ones."""

import json
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sonosynth.cli.audit import audit
from sonosynth.cli.fetch import fetch
from sonosynth.cli.options import SkipUnreadable, Source, with_read_options
from sonosynth.cli.progress import progress_bar
from sonosynth.core.text import one_line

if TYPE_CHECKING:
    from sonosynth.data.imageset import ImageSet
    from sonosynth.data.source import ReadOptions


app = typer.Typer(
    no_args_is_help=True, help="Look at images, look them through, bring them to one size, make or fetch some."
)
app.command()(audit)
app.command()(fetch)


Fit = StrEnum("Fit", ["STRETCH", "PAD", "CROP", "MASK"])
Out = Annotated[Path, typer.Option(help="Folder to write; must be empty or not there.")]


@app.command()
@with_read_options
def info(
    source: Source,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    skip_unreadable: SkipUnreadable = False,
    *,
    options: "ReadOptions",
) -> None:
    """Say what SOURCE is: layout, classes, sizes, pixel formats, groups, exact copies, and what was left out."""
    from sonosynth.data.scan import scan

    with progress_bar("reading") as progress:
        report = scan(source, skip_unreadable, progress, options)
    if as_json:
        typer.echo(json.dumps(report.summary(), indent=1))
    else:
        skip = " --skip-unreadable" if skip_unreadable else ""
        _print_summary(report.summary(), f"{shlex.quote(str(source))}{options.as_flags()} --out DIR --size 128{skip}")


@app.command()
@with_read_options
def prepare(
    source: Source,
    out: Out,
    size: Annotated[int, typer.Option(min=8, max=2048, help="Width and height of the images in pixels.")] = 128,
    fit: Annotated[
        Fit,
        typer.Option(
            help="stretch: each side to --size; crop: the square in the middle; pad: keep the shape, mirror the rest; "
            "mask: the square around the marked lesion."
        ),
    ] = Fit.STRETCH,
    groups: Annotated[
        Path | None, typer.Option(metavar="GROUPS.CSV", help="Which images belong together, as 'data audit' found.")
    ] = None,
    drop_conflicts: Annotated[
        bool, typer.Option("--drop-conflicts", help="With --groups: leave copies with different labels out.")
    ] = False,
    mask_overlays: Annotated[
        bool, typer.Option("--mask-overlays", help="Fill burned-in words and calipers from their surroundings.")
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    *,
    options: "ReadOptions",
) -> None:
    """Bring all images of SOURCE to one size and grey, with a manifest that records how."""
    from sonosynth.data.prepared_folder import prepare as prepare_folder

    with progress_bar("preparing") as progress:
        made = prepare_folder(
            source,
            out,
            size,
            fit=cast(Any, fit.value),
            groups=groups,
            drop_conflicts=drop_conflicts,
            mask_overlays=mask_overlays,
            skip_unreadable=skip_unreadable,
            options=options,
            progress=progress,
        )
    _print_written(out, made.images, made.notes, made.written)


@app.command()
def phantom(
    out: Out,
    per_class: Annotated[int, typer.Option(min=1, max=100_000, help="Images of each class.")] = 100,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Width and height of the images in pixels.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of all random draws; equal seeds give equal images.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Fix a parameter, or the range it is drawn from: frequency_mhz=9, attenuation=0.4..0.9, shape=oval; "
            "docs/explanation/phantoms.md has them all.",
        ),
    ] = None,
    masks: Annotated[
        bool, typer.Option("--masks", help="Also write where the mass is: NAME_mask.png beside NAME.png, 0 and 255.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes; the images do not depend on it. Default: one per core, or one for few images."
        ),
    ] = None,
) -> None:
    """Make simulated breast ultrasound to try things on: no patients, no download.

    What each image was made with stands in manifest.csv.
    """
    from sonosynth.phantoms.phantom import write_phantoms
    from sonosynth.phantoms.settings import parse_settings

    given = parse_settings(settings or [])
    with progress_bar("simulating") as progress:
        data, new = write_phantoms(out, per_class, size, seed, given, masks, workers, progress)
    _print_written(out, data, [], new)


def _print_summary(summary: dict[str, Any], arguments: str) -> None:
    classes = ", ".join(f"{name} {count}" for name, count in summary["classes"].items())
    modes = ", ".join(f"{name} {count}" for name, count in summary["modes"].items())
    ready = summary["kind"] == "image set" and summary["sizes"] == 1
    rows = {
        "layout": summary["kind"] + (" (synthetic)" if summary["synthetic"] else ""),
        "images": f"{summary['images']} ({classes})",
        **{
            name: "{min:.{d}f} to {max:.{d}f}, median {median:.{d}f}".format(d=digits, **summary[name])
            for name, digits in (("width", 0), ("height", 0), ("aspect", 2))
        },
        "sizes": f"{summary['sizes']} different" if summary["sizes"] > 1 else "all equal",
        "stored as": modes,
        "groups": summary["groups"] or "none known: each image is its own, apart from exact copies",
        "exact copies": summary["exact_copies"],
    }
    _print_table(rows, summary["notes"])
    typer.echo("ready to use as it is" if ready else one_line(f"next: sonosynth data prepare {arguments}"))


def _print_written(out: Path, data: "ImageSet", notes: list[str], new: bool) -> None:
    classes = ", ".join(f"{name} {count}" for name, count in data.class_counts.items())
    height, width = data.size
    rows = {
        "images": f"{len(data)} ({classes})",
        "size": f"{width} × {height}",
        "groups": len(set(data.groups.tolist())),
    }
    _print_table(rows, notes)
    typer.echo(one_line(f"wrote {out}" if new else f"{out} is already done: nothing written"))


def _print_table(rows: dict[str, Any], notes: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in [*rows.items(), *(("note", note) for note in notes)]:
        table.add_row(name, one_line(str(value)))
    Console(markup=False, highlight=False).print(table)
