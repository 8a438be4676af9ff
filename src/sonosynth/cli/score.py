"""``sonosynth score``."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonosynth.cli.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from sonosynth.metrics.scores import Score


def score(
    real: Annotated[Path, typer.Argument(metavar="REAL", help="images that the generator was trained on")],
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTHETIC", help="images that it made")],
    held_out: Annotated[Path | None, typer.Option(help="real images that the generator has not seen")] = None,
    features: Annotated[
        list[str] | None, typer.Option(help="feature network or 'texture'; may be repeated [inception]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="also write the scores to this JSON file")] = None,
    page: Annotated[
        Path | None, typer.Option(help="also write this HTML page, with nearest neighbours and plots")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="distances, diversity, memorisation or realism; may be repeated [all]")
    ] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="show the rows of each class too")] = False,
    allow_shared: Annotated[
        bool, typer.Option("--allow-shared", help="score even if held-out images are training images; marks all rows")
    ] = False,
    seed: Annotated[int, typer.Option(help="of the random subsamples behind intervals and real baselines")] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(
            envvar="SONOSYNTH_CACHE",
            metavar="DIR",
            help="where features and measures are kept, so that no set is embedded twice [the user's cache folder]",
        ),
    ] = None,
    as_json_list: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Measure what synthetic images are worth.

    Distances, fidelity and diversity, memorisation and ultrasound realism, against the training images and against
    held-out ones, each with an interval and a real baseline: the same between real images and other real images.
    """
    from rich.console import Console

    from sonosynth.core.files import check_outputs, user_cache
    from sonosynth.metrics.metric import PARTS
    from sonosynth.metrics.scorecard import score as score_images

    check_outputs(filter(None, (out, page)), filter(None, (real, synthetic, held_out)))
    kept = cache or user_cache() / "features"
    names, parts = features or ["inception"], only or tuple(PARTS)
    with progress_bar("scoring") as progress:
        card = score_images(real, synthetic, held_out, names, seed, kept, progress, parts, allow_shared)
    for note in card.notes:
        typer.echo(f"note: {note}", err=True)
    if out:
        card.to_json(out)
    if page:
        card.to_html(page, shlex.join(["sonosynth", *sys.argv[1:]]))
    if as_json_list:
        rows = [row.model_dump(by_alias=True) for row in card.scores]
        typer.echo(json.dumps(rows, indent=1, sort_keys=True, allow_nan=False))
        return
    console = Console(width=max(150, Console().width))
    for table in _tables(card.scores, by_class):
        console.print(table)
    typer.echo(
        "real baseline: the same between m reference and m other real images; at m: with m synthetic ones; the "
        f"interpretation compares these two; seed {seed}"
    )
    for path in filter(None, (out, page)):
        typer.echo(str(path))


def _tables(scores: "Sequence[Score]", by_class: bool) -> "list[Table]":
    """Return one table per feature space, wide enough that no number is ever cut."""
    from rich.table import Table

    from sonosynth.metrics.interpretation import format_value, interpret, with_baseline_rows
    from sonosynth.metrics.metric import get_metric
    from sonosynth.metrics.scores import ALL, PIXELS

    of_all = set.intersection(*({*row.note.split("; ")} for row in scores)) - {""}  # what is to be known of every value
    caption = "; ".join(sorted(of_all)) or None
    tables = {
        name: Table(title=name if name == PIXELS else f"{name} features", caption=caption)
        for name in dict.fromkeys(row.features for row in scores)
    }
    for table in tables.values():
        for heading in ("metric", "to", *(["class"] if by_class else [])):
            table.add_column(heading, no_wrap=True)
        for heading in ("value", "95 % interval", "at m", "real baseline", "m", "n"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("interpretation")
    for row, same in with_baseline_rows(scores):
        if row.class_ != ALL and not by_class:
            continue
        metric = get_metric(row.metric, row.features)
        low, high = format_value(metric, row.low), format_value(metric, row.high)
        tables[row.features].add_row(
            metric.title_for(row.features),
            "both" if metric.compares == "both" else row.reference,
            *([row.class_] if by_class else []),
            format_value(metric, row.value),
            f"{low} to {high}" if low else "",
            format_value(metric, same.value if same else None),
            format_value(metric, row.real_baseline),
            "" if row.real_baseline_n is None else str(row.real_baseline_n),
            f"{row.n_real}/{row.n_synthetic}",
            interpret(row, same).text,
        )
    return list(tables.values())
