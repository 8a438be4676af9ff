"""``sonosynth data audit``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonosynth.cli.options import SkipUnreadable, Source, with_read_options
from sonosynth.cli.progress import progress_bar

if TYPE_CHECKING:
    from sonosynth.data.source import ReadOptions


@with_read_options
def audit(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for audit.html, duplicates.csv and groups.csv.")],
    sizes: Annotated[
        list[int] | None, typer.Option("--size", min=4, help="A data-set size of a planned study; may be repeated.")
    ] = None,
    skip_unreadable: SkipUnreadable = False,
    *,
    options: "ReadOptions",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the summary.")] = False,
) -> None:
    """Look for what spoils a study: duplicates, conflicting labels, shortcuts, bad images.

    Findings are no errors: the exit status is 0 with them.
    """
    from sonosynth.audit.audit import PAGE
    from sonosynth.audit.audit import audit as audit_source
    from sonosynth.core.text import one_line

    with progress_bar("auditing") as progress:
        summary = audit_source(
            source, out, sizes=sizes or (), skip_unreadable=skip_unreadable, options=options, progress=progress
        )
    typer.echo(json.dumps(summary.model_dump(), indent=1, ensure_ascii=False) if as_json else str(summary))
    page = out / PAGE
    done = f"wrote {page}" if summary.new else f"{page} is already done: nothing written"
    typer.echo(one_line(done), err=as_json)
