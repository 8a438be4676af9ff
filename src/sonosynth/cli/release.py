"""``sonosynth release`` and ``sonosynth verify``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sonosynth.cli.options import Best, ClassName, HowMany, NewFolder, OriginalShape, SampleSeed, Truncation
from sonosynth.cli.progress import later_bar, progress_bar


def release(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run directory that 'train' or a study wrote")],
    out: NewFolder,
    n: HowMany,
    train: Annotated[
        Path | None, typer.Option(help="the images that RUN was trained on, to look for copies of them")
    ] = None,
    held_out: Annotated[Path | None, typer.Option(help="real images of other patients, for the privacy gate")] = None,
    class_name: ClassName = None,
    truncation: Truncation = 1.0,
    seed: SampleSeed = 0,
    best: Best = False,
    original_shape: OriginalShape = False,
    name: Annotated[str | None, typer.Option(help="of the release; default: that of --out")] = None,
    data_name: Annotated[
        str, typer.Option(help="what the training images are called; licence and citation of BUS-BRA, ... are known")
    ] = "",
    citation: Annotated[str, typer.Option(help="what users of the release have to cite")] = "",
    data_licence: Annotated[str, typer.Option(help="licence of the training images")] = "",
    notice: Annotated[
        Path | None, typer.Option(metavar="FILE", help="text that has to go along, such as that licence")
    ] = None,
    licence: Annotated[str, typer.Option(help="licence of the release")] = "",
    accept: Annotated[
        str, typer.Option(metavar="REASON", help="release what the privacy gate refuses; the card says why")
    ] = "",
    features: Annotated[
        list[str] | None, typer.Option(help="feature network; may be repeated [efficientnet-lite0]")
    ] = None,
    weights: Annotated[bool, typer.Option("--weights/--no-weights", help="put the generator in too")] = True,
    dicom: Annotated[bool, typer.Option("--dicom/--no-dicom", help="write the images as DICOM too")] = True,
    clip: Annotated[
        int, typer.Option(metavar="FRAMES", help="also a DICOM clip per class: a walk through the latents; 4 or more")
    ] = 0,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="sign the checksums with this private key (OpenSSH or minisign)")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(envvar="SONOSYNTH_CACHE", metavar="DIR", help="where features are kept [the user's cache folder]"),
    ] = None,
) -> None:
    """Write synthetic images as a folder to hand on: PNG, DICOM, cards, checksums.

    A privacy gate looks at them first. Near-copies of training images are replaced. If the gate refuses, nothing is
    written and the exit status is 2.
    """
    from sonosynth.core.files import user_cache
    from sonosynth.release.release import release as make

    with later_bar("releasing") as progress:
        made = make(
            run,
            out,
            n,
            train=train,
            held_out=held_out,
            class_name=class_name,
            truncation=truncation,
            seed=seed,
            snapshot="best" if best else "last",
            original_shape=original_shape,
            name=name,
            data_name=data_name,
            citation=citation,
            data_licence=data_licence,
            notice=notice,
            licence=licence,
            accept=accept,
            features=features,
            weights=weights,
            with_dicom=dicom,
            clip_frames=clip,
            sign=sign,
            cache=cache or user_cache() / "features",
            progress=progress,
            tell=partial(typer.echo, err=True),
        )
    privacy = made.record.privacy
    for check in privacy.checks:
        typer.echo(f"{check.state}: {check.title} ({check.features}): {check.says}", err=True)
    typer.echo(f"{privacy.replaced} near-copies replaced", err=True)
    typer.echo(str(out))


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a release")],
    signed_by: Annotated[
        Path | None, typer.Option(metavar="KEY", help="public key (OpenSSH or minisign) of whom it must be from")
    ] = None,
) -> None:
    """Check a release: checksums, marks, counts, cards, signature. The exit status is 2 if anything is wrong."""
    from sonosynth.core.errors import ReleaseError
    from sonosynth.core.text import counted
    from sonosynth.release.verify import verify as check

    with progress_bar("verifying") as progress:
        found = check(folder, signed_by=signed_by, progress=progress)
    for problem in found.problems:
        typer.echo(problem)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    if found.problems:
        what = counted(len(found.problems), "problem")
        raise ReleaseError(f"{folder} is not the release that was made: {what}, listed above; get it anew")
    typer.echo(f"{folder}: {counted(found.files, 'file')} as released, marks, counts and cards in order")
