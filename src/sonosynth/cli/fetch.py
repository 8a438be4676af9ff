"""The command `sonosynth data fetch`: public data sets, with their terms."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from sonosynth.cli.progress import progress_bar


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
    from sonosynth.core.text import counted
    from sonosynth.datasets.catalogue import public_dataset
    from sonosynth.datasets.fetch import fetch as fetch_dataset

    if name is None:
        if out is not None:
            raise typer.BadParameter("give the NAME of a data set too; 'sonosynth data fetch' lists them")
        _print_catalogue(as_json)
        return
    entry = public_dataset(name)
    if out is None:
        raise typer.BadParameter(f"give --out DIR to fetch {entry.name} to")
    for heading, text in (
        ("data set", f"{entry.name}: {entry.title}; {counted(entry.images, 'image')}"),
        ("licence", entry.licence),
        ("weights", entry.weights),
        ("cite", f"{entry.citation}. doi {entry.doi}"),
        ("download", f"{entry.page} ({entry.size_text})"),
        ("labels", entry.layout),
    ):
        typer.echo(f"{heading:10}{text}", err=as_json)
    with progress_bar("fetching") as progress:
        fetched = fetch_dataset(entry, out, progress=progress)
    if as_json:
        typer.echo(json.dumps({**fetched.record, "source": str(fetched.source)}, indent=1, ensure_ascii=False))
        return
    for file in fetched.record["downloads"]:
        published = file["published_checksum"]
        how = f"verified, {published}" if published else f"none published; sha256 of what came {file['sha256']}"
        typer.echo(f"{'checksum':10}{file['name']}: {how}")
    typer.echo(f"wrote {out}" if fetched.new else f"{out} is already done: nothing downloaded")
    typer.echo(f"next: sonosynth data info {shlex.quote(str(fetched.source))}")


def _print_catalogue(as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from sonosynth.datasets.catalogue import list_datasets, public_dataset

    entries = [public_dataset(name) for name in list_datasets()]
    if as_json:
        typer.echo(json.dumps([entry.as_record() for entry in entries], indent=1, ensure_ascii=False))
        return
    files = Table("name", "images", "what", "download", "checksum", box=None, pad_edge=False)
    terms = Table("name", "licence", "weights trained on it", box=None, pad_edge=False)
    for entry in entries:
        published = {"all": "published", "some": "partly published", "none": "none published"}[entry.checksums]
        files.add_row(entry.name, str(entry.images), entry.title, entry.size_text, published)
        terms.add_row(entry.name, entry.licence, entry.weights)
    Console(markup=False, highlight=False).print(files, "", terms, sep="\n")
    typer.echo("fetch one with: sonosynth data fetch NAME --out DIR")
