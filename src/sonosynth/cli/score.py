"""``sonosynth score``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonosynth.cli.progress import progress_bar

if TYPE_CHECKING:
    from rich.table import Table

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
    from sonosynth.metrics.scorecard import as_json, check_sizes, common_classes, scorecard, write_scores

    paths = {"train": real, "synthetic": synthetic} | ({"held-out": held_out} if held_out else {})
    sets = {name: load_image_set(path) for name, path in paths.items()}
    check_sizes({str(path): sets[name] for name, path in paths.items()})
    given = (sets["train"], sets["synthetic"], sets.get("held-out"))
    _, notes = common_classes(*given)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    with progress_bar("features") as progress:
        scores = scorecard(*given, features=features or ("inception",), seed=seed, progress=progress)
    if out:
        write_scores(out, scores)
    if as_json_list:
        typer.echo(json.dumps([as_json(row) for row in scores], indent=1, sort_keys=True, allow_nan=False))
        return
    Console().print(_table(scores))
    if out:
        typer.echo(str(out))


def _table(scores: "list[Score]") -> "Table":
    from rich.table import Table

    table = Table("metric", "features", "reference", "class", title=None)
    for heading in ("value", "95 % interval", "floor", "floor n", "n real", "n synthetic"):
        table.add_column(heading, justify="right")
    for row in scores:
        decimals = 4 if row.metric.startswith("kernel") else 2
        interval = "" if row.low is None or row.high is None else f"{row.low:.{decimals}f} to {row.high:.{decimals}f}"
        table.add_row(
            row.metric,
            row.features,
            row.reference,
            row.class_,
            f"{row.value:.{decimals}f}",
            interval,
            "" if row.floor is None else f"{row.floor:.{decimals}f}",
            "" if row.floor_n is None else str(row.floor_n),
            str(row.n_real),
            str(row.n_synthetic),
        )
    return table
