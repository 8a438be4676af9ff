"""``sonosynth score``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonosynth.cli.progress import progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from sonosynth.data.imageset import ImageSet
    from sonosynth.metrics.scorecard import Score


def score(
    real: Annotated[Path, typer.Argument(metavar="REAL", help="images that the generator was trained on")],
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTHETIC", help="images that it made")],
    held_out: Annotated[Path | None, typer.Option(help="real images that the generator has not seen")] = None,
    features: Annotated[list[str] | None, typer.Option(help="feature network; may be repeated [inception]")] = None,
    out: Annotated[Path | None, typer.Option(help="also write the scores to this JSON file")] = None,
    seed: Annotated[int, typer.Option(help="of the random subsamples behind intervals and floors")] = 0,
    as_json_list: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Measure how near synthetic images are to real ones.

    Distances to the training images and to held-out images, each with an interval and a floor: the same distance
    between real images and other real images.
    """
    from rich.console import Console

    from sonosynth.data.prepare import load_image_set
    from sonosynth.files import check_output
    from sonosynth.metrics.scorecard import as_json, check_roles, check_sizes, common_classes, scorecard, write_scores

    if out is not None:
        check_output(out)
    paths = {"train": real, "synthetic": synthetic} | ({"held-out": held_out} if held_out else {})
    sets = {name: load_image_set(path) for name, path in paths.items()}
    check_sizes({str(path): sets[name] for name, path in paths.items()})
    given = (sets["train"], sets["synthetic"], sets.get("held-out"))
    check_roles(given[0], given[2])
    _, notes = common_classes(*given)
    for note in (*notes, *_copies(*given)):
        typer.echo(f"note: {note}", err=True)
    with progress_bar("features") as progress:
        scores = scorecard(*given, features=features or ("inception",), seed=seed, progress=progress)
    if out:
        write_scores(out, scores)
    if as_json_list:
        typer.echo(json.dumps([as_json(row) for row in scores], indent=1, sort_keys=True, allow_nan=False))
        return
    console = Console(width=max(100, Console().width))
    for table in _tables(scores):
        console.print(table)
    typer.echo("floor: distance between two sets of m real images; at m: value with m images; n: real/synthetic")
    if out:
        typer.echo(str(out))


def _copies(train: "ImageSet", synthetic: "ImageSet", held_out: "ImageSet | None") -> list[str]:
    """Return lines that tell how many synthetic images are real ones, pixel for pixel."""
    from sonosynth.data.split import shared_images

    told = []
    for name, real in (("training", train), ("held-out", held_out)):
        copies = len(shared_images(real, synthetic)) if real is not None else 0
        whole = ": this is the distance of a set to itself" if copies == len(synthetic) else ""
        if copies:
            told.append(f"{copies} of {len(synthetic)} synthetic images are exact copies of {name} images{whole}")
    return told


def _tables(scores: "list[Score]") -> "list[Table]":
    """Return one table a feature network, wide enough that no number is ever cut."""
    from rich.table import Table

    from sonosynth.metrics.scorecard import AT_FLOOR

    at_floor = {(r.features, r.metric, r.reference, r.class_): r.value for r in scores if r.metric.endswith(AT_FLOOR)}
    tables = {name: Table(title=f"{name} features") for name in dict.fromkeys(row.features for row in scores)}
    for table in tables.values():
        for heading in ("distance", "to", "class"):
            table.add_column(heading, no_wrap=True)
        for heading in ("value", "95 % interval", "at m", "floor", "m", "n"):
            table.add_column(heading, justify="right", no_wrap=True)
    for row in scores:
        if row.metric.endswith(AT_FLOOR):
            continue
        decimals = 4 if row.metric.startswith("kernel") else 1
        same = at_floor.get((row.features, row.metric + AT_FLOOR, row.reference, row.class_))
        tables[row.features].add_row(
            row.metric.removesuffix("_distance"),
            row.reference,
            row.class_,
            _number(row.value, decimals),
            f"{_number(row.low, decimals)} to {_number(row.high, decimals)}" if row.low is not None else "",
            _number(same, decimals),
            _number(row.floor, decimals),
            "" if row.floor_n is None else str(row.floor_n),
            f"{row.n_real}/{row.n_synthetic}",
        )
    return list(tables.values())


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
