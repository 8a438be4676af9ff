"""``sonosynth classify``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sonosynth.cli.progress import progress_bar

ARM_NAMES = (
    "real, real+classical, real+synthetic, real+classical+synthetic, oversampled, synthetic-only or test-on-synthetic"
)


def classify(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="real training images")],
    test: Annotated[Path, typer.Option(help="real test images of other patients")],
    synthetic: Annotated[Path | None, typer.Option(help="synthetic images, for the arms that use them")] = None,
    arm: Annotated[str, typer.Option(help=ARM_NAMES)] = "real+classical",
    ratio: Annotated[
        float | None, typer.Option(help="added images per real one; default: all synthetic ones, or 1 for oversampled")
    ] = None,
    class_balance: Annotated[
        str, typer.Option(help="classes of added images: proportional, as the real ones, or balanced, to even them out")
    ] = "proportional",
    filter_by: Annotated[
        str | None, typer.Option("--filter", help="drop synthetic images by classifier confidence or by distance")
    ] = None,
    filter_quantile: Annotated[
        float | None, typer.Option(help="share of real images that such a filter would drop [0.1]")
    ] = None,
    validation: Annotated[Path | None, typer.Option(help="real images that choose the step; default: the last")] = None,
    network: Annotated[
        str, typer.Option(help="resnet18, densenet121, efficientnet-lite0, or one of MONAI, as monai:NAME")
    ] = "resnet18",
    steps: Annotated[int, typer.Option(min=20, help="gradient steps, the same for every arm")] = 200,
    batch: Annotated[int, typer.Option(help="images per step")] = 32,
    learning_rate: Annotated[float | None, typer.Option(help="peak; default: the network's own")] = None,
    schedule: Annotated[str, typer.Option(help="of the learning rate: cosine or constant")] = "cosine",
    balance: Annotated[str, typer.Option(help="of the classes in training: none, weights or sampling")] = "none",
    label_smoothing: Annotated[float, typer.Option(help="share of a label spread over all classes")] = 0.0,
    dropout: Annotated[float, typer.Option(help="for networks that have dropout")] = 0.0,
    seed: Annotated[int, typer.Option(help="of initial weights, order and augmentation")] = 0,
    out: Annotated[Path | None, typer.Option(help="write the result, with all predictions, as JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Train a classifier on TRAIN, with or without synthetic images, and score it on other real images."""
    from sonosynth.classify.classify import classify as run
    from sonosynth.classify.training import TrainingSettings
    from sonosynth.core.files import check_outputs, write_json

    settings: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "balance": balance,
        "label_smoothing": label_smoothing,
        "dropout": dropout,
    }
    training = TrainingSettings(**settings)
    if out is not None:
        check_outputs([out], filter(None, (train, test, validation, synthetic)))
    with progress_bar("classifying") as progress:
        result = run(
            train,
            test,
            synthetic=synthetic,
            arm=arm,
            ratio=ratio,
            class_balance=class_balance,
            filter_by=filter_by,
            filter_quantile=filter_quantile,
            validation=validation,
            network=network,
            training=training,
            seed=seed,
            progress=progress,
        )
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    if out is not None:
        write_json(out, result.record())
    typer.echo(json.dumps(result.record(), indent=1) if as_json else str(result))
    if out is not None and not as_json:
        typer.echo(str(out))
