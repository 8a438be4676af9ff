"""``sonosynth priors`` and ``sonosynth prior make``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonosynth.cli.gan import parse_settings
from sonosynth.cli.options import Source, with_read_options
from sonosynth.cli.progress import later_bar, training_bar

if TYPE_CHECKING:
    from sonosynth.data.source import ReadOptions

app = typer.Typer(no_args_is_help=True, help="Make generators for others to start from.")


def priors(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="print the card of this one")] = None,
) -> None:
    """List the pretrained generators that come with this package, or print the card of one."""
    from sonosynth.priors.prior import README, find_prior, shipped_priors

    if name is not None:
        typer.echo((find_prior(name).folder / README).read_text(encoding="utf-8"), nl=False)
        return
    found = shipped_priors()
    if not found:
        typer.echo("no prior comes with this version; 'sonosynth prior make' makes one", err=True)
    for prior in found:
        card = prior.card
        n = sum(card.data.images["train"].values())
        typer.echo(
            f"{card.name:<24} {card.family}, {card.size} px, {', '.join(card.classes)}; "
            f"{card.kimg:g} kimg on {n} images of {card.data.name}"
        )


@app.command()
@with_read_options
def make(
    source: Source,
    out: Annotated[Path, typer.Option(help="folder of the prior to write; the same command again goes on")],
    gan: Annotated[
        str, typer.Option(help="recipe; networks of a quarter of the published width: --set ngf=16 --set ndf=16")
    ] = ("fastgan"),
    name: Annotated[str | None, typer.Option(help="of the prior; default: that of --out")] = None,
    size: Annotated[int, typer.Option(help="side of the images in pixels: 32, 64, 128, 256 or 512")] = 64,
    kimg: Annotated[float, typer.Option(min=0.001, help="thousands of images to show")] = 150.0,
    patience: Annotated[
        float | None,
        typer.Option(min=0.5, metavar="KIMG", help="end when images of other patients have come no nearer for so long"),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting of the recipe")
    ] = None,
    seed: Annotated[int, typer.Option(help="of training and of the division by patient")] = 0,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where images and run are kept, not to be shared [OUT-work]")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(metavar="GROUPS.CSV", help="which images belong together, as 'data audit' found")
    ] = None,
    data_name: Annotated[str | None, typer.Option(help="what to call the images")] = None,
    citation: Annotated[str, typer.Option(help="what users of the prior have to cite")] = "",
    licence: Annotated[str, typer.Option(help="terms of the images, and of weights made from them")] = "",
    notice: Annotated[
        Path | None, typer.Option(metavar="FILE", help="text that has to go along, such as the licence of the images")
    ] = None,
    *,
    options: "ReadOptions",
) -> None:
    """Train a generator on SOURCE, look for copies of its images, and write it with a card.

    70 % of the images train it, 10 % tell when it has learnt enough, and 20 %, opened once, score it; no patient is in
    two parts. OUT is what others start from ('sonosynth train --from OUT').
    """
    from sonosynth.release.prior import make_prior

    with training_bar() as training, later_bar("scoring") as scoring:
        made = make_prior(
            source,
            out,
            gan,
            name=name,
            size=size,
            kimg=kimg,
            patience_kimg=patience,
            settings=parse_settings(settings or []),
            seed=seed,
            work=work,
            data_name=data_name,
            citation=citation,
            licence=licence,
            notice=notice,
            groups=groups,
            options=options,
            progress=training,
            scoring=scoring,
            tell=partial(typer.echo, err=True),
        )
    for line in made.card.audit:
        typer.echo(line, err=True)
    typer.echo(str(out))
