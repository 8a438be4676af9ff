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

    from sonosynth.metrics.families import Part
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

    from sonosynth.core.device import provenance
    from sonosynth.core.files import check_folder, check_outputs, user_cache
    from sonosynth.data.prepare import load_together
    from sonosynth.features.registry import require_weights
    from sonosynth.metrics.scorecard import score as score_images
    from sonosynth.metrics.scores import as_json, write_scores
    from sonosynth.report.scorecard.page import write_score_page

    check_outputs(filter(None, (out, page)), filter(None, (real, synthetic, held_out)))
    kept = cache or user_cache() / "features"
    check_folder(kept, "--cache, or SONOSYNTH_CACHE")
    parts = _parts(only)
    names = tuple(dict.fromkeys(features or ("inception",)))
    train, made, *more = load_together([real, synthetic, *filter(None, [held_out])])
    unseen = more[0] if more else None
    with progress_bar("weights") as progress:
        require_weights(names, progress)
    with progress_bar("scoring") as progress:
        card = score_images(train, made, unseen, names, seed, kept, progress, parts, allow_shared)
    for note in card.notes:
        typer.echo(f"note: {note}", err=True)
    if out:
        write_scores(out, card.scores)
    if page:
        sources = {"train": str(real), "synthetic": str(synthetic)} | ({"held-out": str(held_out)} if held_out else {})
        command = shlex.join(["sonosynth", *sys.argv[1:]])
        write_score_page(card, page, sources, seed, command, provenance())
    if as_json_list:
        typer.echo(json.dumps([as_json(row) for row in card.scores], indent=1, sort_keys=True, allow_nan=False))
        return
    console = Console(width=max(150, Console().width))
    for table in _tables(card.scores, by_class):
        console.print(table)
    typer.echo(
        "real baseline: the same between two sets of m real images; at m: value with m images; n: real/synthetic"
    )
    for path in filter(None, (out, page)):
        typer.echo(str(path))


def _parts(only: "Sequence[str] | None") -> "tuple[Part, ...]":
    from sonosynth.core.text import did_you_mean
    from sonosynth.metrics.families import PARTS

    for name in only or ():
        if name not in PARTS:
            raise typer.BadParameter(f"--only: no part '{name}'{did_you_mean(name, PARTS)}; known: {', '.join(PARTS)}")
    return tuple(part for part in PARTS if not only or part in only)


def _tables(scores: "Sequence[Score]", by_class: bool) -> "list[Table]":
    """Return one table a feature space, wide enough that no number is ever cut."""
    from rich.table import Table

    from sonosynth.metrics.interpretation import reading, shown, with_baseline_rows
    from sonosynth.metrics.scores import ALL, PIXELS

    titles = {name: "pixels" if name == PIXELS else f"{name} features" for name in {row.features for row in scores}}
    of_all = set.intersection(*({*row.note.split("; ")} for row in scores)) - {""}  # what is to be known of every value
    caption = "; ".join(sorted(of_all)) or None
    tables = {
        name: Table(title=titles[name], caption=caption) for name in dict.fromkeys(row.features for row in scores)
    }
    for table in tables.values():
        for heading in ("metric", "to", *(["class"] if by_class else [])):
            table.add_column(heading, no_wrap=True)
        for heading in ("value", "95 % interval", "at m", "real baseline", "m", "n"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("reading")
    for row, same in with_baseline_rows(scores):
        if row.class_ != ALL and not by_class:
            continue
        tables[row.features].add_row(
            row.metric.removesuffix("_distance").replace("_", " "),
            row.reference,
            *([row.class_] if by_class else []),
            shown(row.metric, row.value),
            f"{shown(row.metric, row.low)} to {shown(row.metric, row.high)}" if row.low is not None else "",
            shown(row.metric, same.value if same else None),
            shown(row.metric, row.real_baseline),
            "" if row.real_baseline_n is None else str(row.real_baseline_n),
            f"{row.n_real}/{row.n_synthetic}",
            reading(row, same),
        )
    return list(tables.values())
