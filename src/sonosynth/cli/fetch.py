"""The command `sonosynth data fetch`: public data sets, with their terms."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonosynth.core.text import counted

if TYPE_CHECKING:
    from sonosynth.datasets.catalogue import PublicDataset


def fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A data set; without it, all are listed.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; must be empty or not there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Download a public data set, verify it and unpack it, ready to be a SOURCE; or list what there is.

    Its licence is shown first, with what it says of weights trained on the images. The same command goes on with a
    broken download, and does nothing where all is there.
    """
    from sonosynth.datasets.catalogue import public_dataset

    if name is None:
        if out is not None:
            raise typer.BadParameter("give the NAME of a data set too; 'sonosynth data fetch' lists them")
        _list(as_json)
        return
    entry = public_dataset(name)
    if out is None:
        raise typer.BadParameter(f"give --out DIR to fetch {entry.name} to")
    _fetch(entry, out, as_json)


def _fetch(entry: "PublicDataset", out: Path, as_json: bool) -> None:
    from sonosynth.cli.progress import progress_bar
    from sonosynth.datasets.catalogue_table import checksum_of, size_of
    from sonosynth.datasets.fetch import fetch as fetched

    for heading, text in (
        ("data set", f"{entry.name}: {entry.title}; {counted(entry.images, 'image')}"),
        ("licence", entry.licence),
        ("weights", entry.weights),
        ("cite", f"{entry.citation}. doi {entry.doi}"),
        ("download", f"{entry.page} ({size_of(entry.size)})"),
        ("labels", entry.layout),
    ):
        typer.echo(f"{heading:10}{text}", err=as_json)
    with progress_bar("fetching") as progress:
        found = fetched(entry, out, progress=progress)
    if as_json:
        typer.echo(json.dumps({**found.record, "source": str(found.source)}, indent=1, ensure_ascii=False))
        return
    for file in found.record["downloads"]:
        published = file["published_checksum"]
        how = f"verified, {published}" if published else f"{checksum_of(published)}; sha256 of what came"
        typer.echo(f"{'checksum':10}{file['name']}: {how}{'' if published else ' ' + file['sha256']}")
    typer.echo(f"wrote {out}" if found.new else f"{out} is already done: nothing downloaded")
    typer.echo(f"next: sonosynth data info {shlex.quote(str(found.source))}")


def _list(as_json: bool) -> None:
    from sonosynth.datasets.catalogue import CATALOGUE
    from sonosynth.datasets.catalogue_table import as_record, size_of

    if as_json:
        typer.echo(json.dumps([as_record(entry) for entry in CATALOGUE], indent=1, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    files = Table("name", "images", "what", "download", "checksum", box=None, pad_edge=False)
    terms = Table("name", "licence", "weights trained on it", box=None, pad_edge=False)
    for entry in CATALOGUE:
        published = {"all": "published", "some": "partly published", "none": "none published"}[entry.checksums]
        files.add_row(entry.name, str(entry.images), entry.title, size_of(entry.size), published)
        terms.add_row(entry.name, entry.licence, entry.weights)
    console = Console(markup=False, highlight=False)
    console.print(files, "", terms, sep="\n")
    typer.echo("fetch one with: sonosynth data fetch NAME --out DIR")
