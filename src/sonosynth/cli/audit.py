"""``sonosynth data audit``."""

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sonosynth.cli.options import (
    AcrossAxis,
    Bits,
    ForceDicom,
    GroupColumn,
    LabelColumn,
    PathColumn,
    SkipUnreadable,
    Source,
)
from sonosynth.core.errors import OutputError
from sonosynth.core.text import one_line

if TYPE_CHECKING:
    from sonosynth.audit.audit import Audit


def audit(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for audit.html, duplicates.csv and groups.csv.")],
    sizes: Annotated[
        list[int] | None, typer.Option("--size", min=4, help="A data-set size of a planned study; may be repeated.")
    ] = None,
    skip_unreadable: SkipUnreadable = False,
    path: PathColumn = None,
    label: LabelColumn = None,
    group: GroupColumn = None,
    force_dicom: ForceDicom = False,
    bits: Bits = None,
    axis: AcrossAxis = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the summary.")] = False,
) -> None:
    """Look for what spoils a study: duplicates, conflicting labels, shortcuts, bad images.

    Findings are no errors: the exit status is 0 with them.
    """
    from sonosynth.audit.audit import AUDIT, already_audited, write_tables
    from sonosynth.audit.audit import audit as look
    from sonosynth.cli.progress import progress_bar
    from sonosynth.core.files import atomic_directory, check_output, read_json, write_json
    from sonosynth.data.prepare import source_fingerprint
    from sonosynth.data.scan import read_source
    from sonosynth.data.source import ReadOptions
    from sonosynth.report.audit_page import PAGE, write_audit_page

    options = ReadOptions(path, label, group, force_dicom, bits, axis)
    images = read_source(source, options)
    # A table or a file of arrays says itself what its images are, so what else lies beside it does not matter.
    inside = Path(os.path.realpath(out)).is_relative_to(images.root.resolve())  # out may be a link to itself
    if source.is_dir() and inside:
        raise OutputError(f"--out {out} lies inside the images; choose a folder outside {images.root}")
    arguments: dict[str, Any] = {"source": source_fingerprint(images), "sizes": sizes or []}
    arguments |= {"skip_unreadable": skip_unreadable}
    arguments |= {name: value for name, value in (("bits", bits), ("axis", axis)) if value is not None}
    if already_audited(out, arguments):
        _tell(read_json(out / AUDIT)["found"], as_json)
        typer.echo(one_line(f"{out / PAGE} is already done: nothing written"), err=as_json)
        return
    check_output(out, directory=True)
    with progress_bar("auditing") as tell:
        found = look(images, skip_unreadable, sizes or (), tell)
    drop = " --drop-conflicts" if found.conflicts else ""
    skip = " --skip-unreadable" if skip_unreadable else ""
    command = (
        f"sonosynth data prepare {shlex.quote(str(source))}{options.as_flags()} --out DIR --size 128 "
        f"--groups {shlex.quote(str(out / 'groups.csv'))}{drop}{skip}"
    )
    summary = _summary(found) | {"next": command}
    with atomic_directory(out) as beside:
        write_tables(found, beside)
        write_audit_page(found, beside, command)
        write_json(beside / AUDIT, {"arguments": arguments, "found": summary})
    _tell(summary, as_json)
    typer.echo(one_line(f"wrote {out / PAGE}"), err=as_json)


def _summary(found: "Audit") -> dict[str, Any]:
    names = [f"{image.item.label}/{image.item.id}" for image in found.report.images]
    shortcut = found.shortcut
    return {
        "images": len(names),
        "groups": len(set(found.groups.tolist())),
        "clusters": [[names[i] for i in members] for members in found.clusters],
        "known": len(found.known),
        "conflicts": [[names[i] for i in members] for members in found.conflicts],
        "associations": [
            {"name": a.name, "values": dict(a.values), "effect": a.effect, "p": a.p, "n": a.n}
            for a in found.associations
        ],
        "storage": found.storage,
        "shortcut_f1": shortcut and {"value": shortcut.f1, "chance": shortcut.chance, "high": shortcut.chance_high},
        "oddities": {name: [names[i] for i in images] for name, images in found.oddities().items()},
        "outliers": [names[i] for i in found.outliers],
        "notes": list(found.notes),
    }


def _tell(found: dict[str, Any], as_json: bool) -> None:
    """Print what was found: one JSON object, or a finding a line."""
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    from sonosynth.core.text import counted

    clusters, shortcut = found["clusters"], found["shortcut_f1"]
    typer.echo(f"images      {found['images']} in {counted(found['groups'], 'group')}")
    known = f", {found['known']} of them within one group of the source" if found["known"] else ""
    typer.echo(f"duplicates  {counted(len(clusters), 'cluster')} of {counted(sum(map(len, clusters)), 'image')}{known}")
    typer.echo(f"conflicts   {counted(len(found['conflicts']), 'cluster')} with two labels")
    if shortcut:
        verdict = ": the classes can be told apart without looking at tissue"
        typer.echo(
            f"shortcuts   macro-F1 {shortcut['value']:.2f} from overlays, frames and storage alone (chance "
            f"{shortcut['chance']:.2f}, at most {shortcut['high']:.2f} in 19 of 20)"
            f"{verdict if shortcut['value'] > shortcut['high'] else ''}"
        )
    for line in found.get("storage", []):  # an audit of an older version has none
        typer.echo(one_line(f"shortcuts   {line}"))
    for name, images in found["oddities"].items():
        typer.echo(f"quality     {len(images)} {name}")
    for note in found["notes"]:
        typer.echo(f"note        {note}")
    typer.echo(one_line(f"next: {found['next']}"))
