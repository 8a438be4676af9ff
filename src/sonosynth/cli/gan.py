"""``sonosynth train`` and ``sonosynth generate``."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sonosynth.cli.options import (
    Best,
    ClassName,
    HowMany,
    NewFolder,
    OriginalShape,
    SampleSeed,
    TrackerName,
    Truncation,
    chosen_trackers,
)
from sonosynth.cli.progress import progress_bar, training_bar


def train(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="images: what 'data prepare' wrote, or any source with --size")
    ],
    gan: Annotated[
        str,
        typer.Option(
            help="recipe, such as stylegan2-ada, stylegan2-diffaug, fastgan, projected or r3gan; those that end in "
            "+prior start from a generator of other patients' images, those in +phantom train on simulated ones first"
        ),
    ],
    out: Annotated[Path, typer.Option(help="run directory; the same command again resumes it")],
    size: Annotated[
        int | None, typer.Option(help="side of the images in pixels: 32, 64, 128, 256 or 512; default: theirs")
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", "--n", min=4, help="train on a random, class-stratified subset")
    ] = None,
    kimg: Annotated[
        float | None, typer.Option(min=0.001, help="thousands of images to show; default: the recipe's")
    ] = None,
    seed: Annotated[int, typer.Option(help="of all random draws")] = 0,
    class_name: Annotated[str | None, typer.Option("--class", help="train on this class alone")] = None,
    conditional: Annotated[
        bool | None, typer.Option("--conditional/--per-class", help="one generator for all classes, or one per class")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="RUN", help="start from the weights of another run, where they fit, or from prior:NAME"
        ),
    ] = None,
    patience: Annotated[
        float | None, typer.Option(min=0.5, metavar="KIMG", help="end when the distance has not improved for so long")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting of the recipe")
    ] = None,
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs of this machine (or, without one, processes) that share every batch")
    ] = 1,
    nodes: Annotated[
        int,
        typer.Option(
            min=1,
            help="machines; run this command on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK set, or by torchrun",
        ),
    ] = 1,
    track: Annotated[
        list[TrackerName] | None,
        typer.Option(
            "--track",
            help="show losses, augmentation, speed and sample grids while training, in as many of these as are named; "
            "default: tensorboard, for 'tensorboard --logdir OUT'",
        ),
    ] = None,
) -> None:
    """Train a generator on DATA, or one per class.

    Prints the run directory. Interrupt it at any time: the same command goes on to the identical result
    (on a GPU, whose sums have no fixed order, to rounding).
    """
    from sonosynth.gan.train import train as train_gan
    from sonosynth.metrics.distances.kernel import snapshot_distance

    with training_bar() as progress:
        train_gan(
            data,
            gan,
            out,
            settings=parse_settings(settings or []),
            kimg=kimg,
            size=size,
            n=n,
            class_name=class_name,
            conditional=conditional,
            seed=seed,
            start=start,
            distance_to=snapshot_distance,
            patience_kimg=patience,
            track=chosen_trackers(track or [TrackerName.TENSORBOARD]),
            devices=devices,
            nodes=nodes,
            progress=progress,
            tell=partial(typer.echo, err=True),
        )
    typer.echo(str(out))


def parse_settings(given: list[str]) -> dict[str, Any]:
    """Return the settings in words KEY=VALUE, values as YAML writes them. Raises RecipeError."""
    import yaml

    from sonosynth.core.errors import RecipeError
    from sonosynth.core.strict_yaml import DuplicateKeyError, parse_yaml

    settings = {}
    for word in given:
        key, equals, value = word.partition("=")
        try:
            settings[key] = parse_yaml(value)
        except DuplicateKeyError as error:
            raise RecipeError(f"--set {word}: {error}") from error
        except (yaml.YAMLError, ValueError) as error:  # such as a date that no calendar has
            raise RecipeError(f"--set {word}: '{value}' is not a value in YAML; put text into quotes") from error
        if not equals or not key:
            raise RecipeError(f"--set {word}: give it as KEY=VALUE, for example --set channel_base=2048")
    return settings


def generate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run directory that 'train' wrote")],
    out: NewFolder,
    n: HowMany,
    class_name: ClassName = None,
    truncation: Truncation = 1.0,
    seed: SampleSeed = 0,
    best: Best = False,
    original_shape: OriginalShape = False,
    grid: Annotated[
        bool, typer.Option("--grid", help="also write grid.png, all images (at most 100) side by side")
    ] = False,
    interpolation: Annotated[
        int | None,
        typer.Option(min=4, metavar="FRAMES", help="also write interpolation.png and .gif of so many frames"),
    ] = None,
) -> None:
    """Make synthetic images with a trained generator: an image folder with a manifest, marked as synthetic."""
    from sonosynth.core.files import atomic_directory, check_output
    from sonosynth.gan.sample import generate as make
    from sonosynth.gan.sample import interpolate, save_animation, save_image_grid

    check_output(out, directory=True)
    how: dict[str, Any] = {
        "class_name": class_name,
        "truncation": truncation,
        "seed": seed,
        "snapshot": "best" if best else "last",
    }
    with progress_bar("generating") as tell:
        made = make(run, n, original_shape=original_shape, progress=tell, **how)
    typer.echo(", ".join(f"{count} {name}" for name, count in made.class_counts.items()), err=True)
    with atomic_directory(out) as beside:
        made.save(beside)
        if grid:
            save_image_grid(made.images[:100], beside / "grid.png", columns=10)
        if interpolation is not None:
            frames = interpolate(run, interpolation, **how)
            save_image_grid(frames, beside / "interpolation.png", columns=len(frames))
            save_animation(frames, beside / "interpolation.gif")
    typer.echo(str(out))
