"""``sonosynth classify``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sonosynth.cli.progress import progress_bar
from sonosynth.core.text import agreeing, counted

if TYPE_CHECKING:
    from sonosynth.classify.arms import Arm
    from sonosynth.classify.filters import FilterResult
    from sonosynth.classify.scores import Classification
    from sonosynth.classify.training import TrainingSettings
    from sonosynth.data.imageset import ImageSet

ARM_NAMES = (
    "real, real+classical, real+synthetic, real+classical+synthetic, oversampled, synthetic-only or test-on-synthetic"
)
DISTANCE_FEATURES = "efficientnet-lite0"


def classify(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="real training images")],
    test: Annotated[Path, typer.Option(help="real test images of other patients")],
    synthetic: Annotated[Path | None, typer.Option(help="synthetic images, for the arms that use them")] = None,
    arm: Annotated[str, typer.Option(help=ARM_NAMES)] = "real+classical",
    ratio: Annotated[
        float | None, typer.Option(help="added images a real one; default: all synthetic ones, or 1 for oversampled")
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
    batch: Annotated[int, typer.Option(help="images a step")] = 32,
    learning_rate: Annotated[float | None, typer.Option(help="peak; default: the network's own")] = None,
    schedule: Annotated[str, typer.Option(help="of the learning rate: cosine or constant")] = "cosine",
    balance: Annotated[str, typer.Option(help="of classes: none, weights in the loss, or sampling")] = "none",
    label_smoothing: Annotated[float, typer.Option(help="share of a label spread over all classes")] = 0.0,
    dropout: Annotated[float, typer.Option(help="for networks that have dropout")] = 0.0,
    seed: Annotated[int, typer.Option(help="of initial weights, order and augmentation")] = 0,
    out: Annotated[Path | None, typer.Option(help="write the result, with all predictions, as JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Train a classifier on TRAIN, with or without synthetic images, and score it on other real images."""
    from sonosynth.classify.arms import ArmError, find_arm, find_class_balance
    from sonosynth.classify.classify import classify as run
    from sonosynth.classify.filters import DEFAULT_QUANTILE
    from sonosynth.classify.networks import find_network
    from sonosynth.classify.training import TrainingSettings
    from sonosynth.core.files import check_outputs, write_json
    from sonosynth.data.prepare import load_image_sets

    chosen, filling = find_arm(arm), find_class_balance(class_balance)
    find_network(network)
    training = TrainingSettings.of(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        schedule=schedule,
        balance=balance,
        label_smoothing=label_smoothing,
        dropout=dropout,
    )
    _check_options(chosen, synthetic is not None, ratio, class_balance, filter_by, filter_quantile)
    quantile = DEFAULT_QUANTILE if filter_quantile is None else filter_quantile
    given = list(dict.fromkeys(filter(None, [train, test, validation, synthetic])))
    if out is not None:
        check_outputs([out], given)
    sets = dict(zip(given, load_image_sets(given), strict=True))
    real = sets[train]
    tested = _like(real, sets[test], test, "test")
    chooses = None if validation is None else _like(real, sets[validation], validation, "validation")
    extra, filtered = None, None
    if synthetic is not None:
        extra = _like(real, sets[synthetic], synthetic, "synthetic")
        if filter_by is not None:
            filtered = _filter(real, extra, filter_by, quantile, network, training, seed)
            extra = extra.subset(filtered.kept)
        try:
            extra = _share(real, extra, ratio, class_balance, chosen.synthetic_alone, seed)
        except ArmError as error:
            if filtered is None:
                raise
            raise ArmError(f"after the filter, {error}; or lower --filter-quantile") from error
    with progress_bar("training") as tell:
        result = run(
            real,
            tested,
            chosen,
            synthetic=extra,
            ratio=1.0 if ratio is None else ratio,
            class_balance=filling,
            validation=chooses,
            network=network,
            training=training,
            seed=seed,
            progress=tell,
        )
    plain: dict[str, Any] = {"arm": arm, "network": network, "steps": steps, "seed": seed, "classes": real.classes}
    plain |= {"training": training.to_dict(), **result.to_dict()}
    if filtered is not None:
        plain["filter"] = {"by": filter_by, "quantile": quantile, **filtered.to_dict()}
    if out is not None:
        write_json(out, plain)
    if as_json:
        typer.echo(json.dumps(plain, indent=1))
        return
    _show(arm, result, real.classes)
    if out is not None:
        typer.echo(str(out))


def _check_options(
    arm: "Arm", synthetic: bool, ratio: float | None, class_balance: str, filter_by: str | None, quantile: float | None
) -> None:
    """Raise where an option would do nothing, or arm and images do not belong together: before any work."""
    from sonosynth.classify.arms import ArmError, check_synthetic
    from sonosynth.classify.filters import FilterError, check_quantile, find_filter

    if filter_by is not None:
        find_filter(filter_by)
        if not synthetic:
            raise ArmError("--filter drops synthetic images; give --synthetic, or leave --filter out")
    elif quantile is not None:
        raise FilterError("--filter-quantile belongs to a filter; give --filter, or leave --filter-quantile out")
    if quantile is not None:
        check_quantile(quantile)
    if not (synthetic or arm.synthetic or arm.oversampled):
        if ratio is not None:
            raise ArmError("--ratio counts synthetic images; give --synthetic, or leave --ratio out")
        if class_balance != "proportional":
            raise ArmError(
                f"--class-balance chooses among added images, and arm '{arm.name}' adds none; leave --class-balance out"
            )
    check_synthetic(arm, synthetic)
    if synthetic and ratio is None and class_balance != "proportional":
        raise ArmError(
            f"--class-balance {class_balance} chooses among synthetic images; say with --ratio how many are used"
        )


def _like(real: "ImageSet", images: "ImageSet", path: Path, role: str) -> "ImageSet":
    """Return `images` of `path` with the classes of `real`. Raises ClassError where some are of other classes."""
    from sonosynth.core.errors import ClassError
    from sonosynth.data.split import other_classes

    if others := other_classes(images.class_counts, real.classes):
        raise ClassError(
            f"{path} has {others}, and the training images are of {', '.join(real.classes)} alone; remove those {role} "
            "images, or train on their class too"
        )
    return images.with_classes(real.classes)


def _filter(
    real: "ImageSet",
    extra: "ImageSet",
    name: str,
    quantile: float,
    network: str,
    training: "TrainingSettings",
    seed: int,
) -> "FilterResult":
    """Return what the filter keeps, and say how much that is. Raises FilterError if that is nothing of a class."""
    from sonosynth.classify.filters import FilterError, confidence_filter, distance_filter
    from sonosynth.features.extract import embed

    with progress_bar("filtering") as tell:
        if name == "confidence":
            settings: dict[str, Any] = {"network": network, "training": training, "seed": seed, "progress": tell}
            filtered = confidence_filter(real, extra, quantile=quantile, **settings)
        else:
            features = (embed(images, DISTANCE_FEATURES, progress=tell) for images in (real, extra))
            filtered = distance_filter(real, extra, *features, quantile=quantile)
    for class_name in filtered.emptied:
        raise FilterError(
            f"the filter '{name}' leaves none of {extra.class_counts[class_name]} synthetic images of class "
            f"'{class_name}', so the classes would be trained on in other proportions than meant; lower "
            f"--filter-quantile (it is {quantile:g}), give other synthetic images, or leave --filter out"
        )
    by_class = ", ".join(f"{name} {share:.0%}" for name, share in filtered.acceptance_by_class.items())
    of_all = counted(len(extra), "synthetic image")
    stay = agreeing(len(filtered.kept), "stays", "stay")
    typer.echo(f"filter: {len(filtered.kept)} of {of_all} {stay} ({by_class})", err=True)
    return filtered


def _share(
    real: "ImageSet", extra: "ImageSet", ratio: float | None, class_balance: str, alone: bool, seed: int
) -> "ImageSet":
    """Return the synthetic images that are used, and tell how many of them are copies."""
    from sonosynth.classify.arms import added_counts, draw_synthetic, find_class_balance
    from sonosynth.data.split import shared_images

    if ratio is not None:
        extra = draw_synthetic(extra, added_counts(real, ratio, find_class_balance(class_balance), alone), seed)
    if copies := len(shared_images(real, extra)):
        of_all = counted(len(extra), "synthetic image")
        are = agreeing(copies, "is an exact copy", "are exact copies")
        typer.echo(f"note: {copies} of {of_all} {are} of training images", err=True)
    return extra


def _show(arm: str, result: "Classification", classes: tuple[str, ...]) -> None:
    """Print scores and confusion matrix."""
    kind = "synthetic test image" if result.tested_on == "synthetic" else "test image"
    training = counted(result.n_synthetic, "synthetic training image")
    typer.echo(f"{arm}: {result.n_train} real + {training}, {counted(result.n_test, kind)}")
    width = max(len(name) for name in (*result.metrics, *classes))
    for name, value in result.metrics.items():
        typer.echo(f"  {name:<{width}} {value:.3f}")
    typer.echo("confusion matrix (rows: true class)")
    for name, row in zip(classes, result.confusion, strict=True):
        typer.echo(f"  {name:<{width}} {'  '.join(f'{count:4d}' for count in row)}")
