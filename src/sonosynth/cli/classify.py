"""``sonosynth classify``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sonosynth.cli.progress import progress_bar


def classify(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="real training images")],
    test: Annotated[Path, typer.Option(help="real test images of other patients")],
    synthetic: Annotated[Path | None, typer.Option(help="synthetic images, for the arms that use them")] = None,
    arm: Annotated[
        str, typer.Option(help="real, real+classical, real+synthetic or real+classical+synthetic")
    ] = "real+classical",
    ratio: Annotated[
        float | None, typer.Option(min=0.01, help="synthetic images a real one; default: all there are")
    ] = None,
    network: Annotated[str, typer.Option(help="classifier network")] = "resnet18",
    steps: Annotated[int, typer.Option(min=20, help="gradient steps, the same for every arm")] = 200,
    seed: Annotated[int, typer.Option(help="of initial weights, order and augmentation")] = 0,
    out: Annotated[Path | None, typer.Option(help="write the result, with all predictions, as JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Train a classifier on TRAIN, with or without synthetic images, and score it on other real images."""
    from sonosynth.classify.arms import ArmError, find_arm
    from sonosynth.classify.train import Training, share_of
    from sonosynth.classify.train import classify as run
    from sonosynth.data.prepare import load_image_set
    from sonosynth.data.split import shared_images
    from sonosynth.files import check_output, write_json

    chosen = find_arm(arm)
    if out is not None:
        check_output(out)
    real, held_out = load_image_set(train), load_image_set(test)
    extra = load_image_set(synthetic).with_classes(real.classes) if synthetic is not None else None
    if extra is None and ratio is not None:
        raise ArmError("--ratio counts synthetic images; give --synthetic, or leave --ratio out")
    if extra is not None and ratio is not None:
        extra = share_of(extra, max(1, round(ratio * len(real))), seed)
    if extra is not None and (copies := len(shared_images(real, extra))):
        typer.echo(f"note: {copies} of {len(extra)} synthetic images are exact copies of training images", err=True)
    with progress_bar("training") as tell:
        result = run(
            real,
            held_out.with_classes(real.classes),
            chosen,
            synthetic=extra,
            network=network,
            training=Training(steps=steps),
            seed=seed,
            progress=tell,
        )
    plain = {"arm": arm, "network": network, "steps": steps, "seed": seed, "classes": real.classes, **result.to_dict()}
    if out is not None:
        write_json(out, plain)
    if as_json:
        typer.echo(json.dumps(plain, indent=1))
        return
    typer.echo(
        f"{arm}: {result.n_train} real + {result.n_synthetic} synthetic training images, {result.n_test} test images"
    )
    for name, value in result.metrics.items():
        typer.echo(f"  {name:<20} {value:.3f}")
    typer.echo("confusion matrix (rows: true class)")
    for name, row in zip(real.classes, result.confusion, strict=True):
        typer.echo(f"  {name:<20} {'  '.join(f'{count:4d}' for count in row)}")
    if out is not None:
        typer.echo(str(out))
