"""Training as a user asks for it: one generator for all classes, or one per class, each in a run of its own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sonosynth.core import distributed
from sonosynth.core.device import precision
from sonosynth.core.errors import MixedSizesError, RecipeError, RunError
from sonosynth.core.file_names import folder_names
from sonosynth.core.files import check_file_types, is_vacant, read_json
from sonosynth.core.text import counted
from sonosynth.data.imageset import ImageSet
from sonosynth.data.load import load
from sonosynth.data.split import nested_subsets
from sonosynth.gan.checkpoint import (
    PRETRAINING,
    RECIPE,
    TRANSFER,
    Run,
    check_run,
    kept_settings,
    resolved_recipe,
    run_config,
    run_of_class,
)
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.training.early_stopping import Distance
from sonosynth.gan.training.loop import Progress, train_run
from sonosynth.gan.training.transfer import (
    check_start,
    describe_pretraining,
    describe_prior,
    settle_start,
    sizes_of_priors,
    with_prior,
)
from sonosynth.priors.prior import PREFIX, is_prior
from sonosynth.tracking.trackers import TRACKERS, Trackers

MIRRORED = "half of the real images are mirrored; --set mirror=false where left and right differ, as of the heart"


def train(
    data: ImageSet | str | Path,
    gan: str | Recipe,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    kimg: float | None = None,
    size: int | None = None,
    n: int | None = None,
    class_name: str | None = None,
    conditional: bool | None = None,
    seed: int = 0,
    start: str | Path | Run | None = None,
    distance_to: Callable[[ImageSet], Distance] | None = None,
    patience_kimg: float | None = None,
    track: Sequence[str] = (),
    devices: int = 1,
    nodes: int = 1,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Run:
    """Train a generator on `data`, or one per class, and return the run.

    The same call again continues an unfinished run to the identical result (on a GPU, whose sums have no fixed order,
    to rounding), and does nothing where the run is done; a larger `kimg` continues a finished one.

    Args:
        data: square images with a side of 32, 64, 128, 256 or 512 pixels, the folder that `prepare` wrote them to, or
            any source that `load` reads.
        gan: a recipe, or its name: one of `list_gans`.
        out: run directory.
        settings: settings of the recipe to change; docs/reference/recipes.md lists them.
        kimg: thousands of real images to show, per run; the recipe's own if not given.
        size: bring the images to this side. If not given they stay as they are, and images of several sizes are brought
            to that of the prior, where the run starts from one.
        n: train on a random, class-stratified subset of so many images.
        class_name: train on this class alone.
        conditional: one generator for all classes (True) or one per class (False); the recipe's own if not given.
        seed: of all random draws.
        start: run whose weights are taken where they fit, ``prior:NAME`` (see `list_priors`) or the folder of a prior,
            whose networks must fit; what was taken is written to ``transfer.json``.
        distance_to: makes, from the training images of a run, the distance of generated images to them; the generator
            with the smallest is kept as the snapshot "best". The command takes `snapshot_distance`.
        patience_kimg: end a run when the distance has not improved for so long.
        track: trackers that mirror the log and sample grids: ``tensorboard``, ``csv``, ``mlflow``, ``wandb``. One that
            fails while the run is trained is given up with a warning.
        devices: GPUs of this machine, or processes where it has none, that share every batch.
        nodes: machines; see `distributed.launch`. Of several processes only the main one returns.
        progress: called before the first and after every step.
        tell: called with lines for the user: the plan before the first step, and what was taken from other runs.

    Example:
        >>> run = train(load("prepared"), "stylegan2-ada", "run", kimg=5, settings={"channel_base": 2048})
        >>> last = run.log()[-1]
        >>> last["kimg"]
        5.0

    Raises:
        RecipeError: no such recipe or setting, or arguments that contradict each other.
        PriorError: no such prior, or it does not fit the recipe or the size.
        RunError: `out` belongs to another run, the image size does not fit, `kimg` is not above 0 and finite, or there
            are two things to start from.
        ClassError: an unknown class, or too few images.
        OutputError: another process is training there.
        TrackingError: no such tracker, its client is not installed, or its server does not answer.
        DivergenceError: the run became non-finite too often.
        KeyboardInterrupt: after saving the state.
    """
    if class_name is not None and conditional:
        raise RecipeError(
            "class_name (--class) trains on one class alone, and conditional (--conditional) on all of them; leave one "
            "of them out"
        )
    if patience_kimg is not None and distance_to is None:
        raise RecipeError("patience_kimg needs a distance to the training images; give distance_to too")
    recipe = make_recipe(gan, **(settings or {}))
    out, source = Path(out), None if start is None else Path(start)
    if source is not None and (str(source).startswith(PREFIX) or is_prior(source)):
        if "prior" in recipe.given:
            check_start(recipe, source)
        recipe, source = make_recipe(recipe, prior=str(source)), None
    images = _read(data, size, recipe)
    recipe = with_prior(recipe, images.size[0])
    if class_name is not None:
        images = images.of_class(class_name)
    present = tuple(name for name, count in images.class_counts.items() if count)
    if n is not None:
        images = images.with_classes(present)
        images = images.subset(nested_subsets(images, range(len(images)), [n], 0, seed)[n])
    mode: str = recipe.mode if conditional is None else "conditional" if conditional else "per_class"
    if class_name is not None:
        mode = "one class"
    length = recipe.kimg if kimg is None else kimg
    plan = _plan(images, recipe, out, length, mode, seed, present)
    recipe.check_processes(devices * nodes)
    trackers = Trackers.of(track, out) if track else None
    if trackers is not None and tell is not None:
        trackers = trackers.telling(lambda line: tell(f"warning: {line}"))
    begun = False

    def report(done: float, total: float, latest: Mapping[str, Any]) -> None:
        nonlocal begun
        if not begun and tell:  # not earlier: what is wrong is told first, and alone
            tell(f"{plan}\nprecision: {precision(device)}")
        begun = True
        if progress:
            progress(done, total, latest)

    with distributed.launch(devices, nodes) as device:
        if trackers is not None and distributed.is_main_process():
            trackers.check()
        train_runs(
            images,
            recipe,
            out,
            kimg=length,
            mode=mode,
            seed=seed,
            distance_to=distance_to,
            patience_kimg=patience_kimg,
            start=source,
            device=device,
            progress=report if distributed.is_main_process() else None,
            track=trackers,
        )
    if tell and not begun:
        done = f"{out} is already trained for {length:g} kimg, or ended by --patience"
        tell(f"{done}: nothing to do; more of either goes on")
    for path in sorted(out.rglob(TRANSFER)):
        moved = read_json(path)
        taken, left = counted(len(moved["taken"]), "tensor"), ", ".join(moved["left"]) or "nothing"
        if tell:
            origin = source or (f"prior '{recipe.prior}'" if recipe.prior else "pretraining")
            tell(f"{path}: took {taken} from {origin}; left as initialised: {left}")
    return Run(out)


def _read(data: ImageSet | str | Path, size: int | None, recipe: Recipe) -> ImageSet:
    """Return the images to train on, at `size` or, without one, at the size that they have or a prior needs."""
    if isinstance(data, ImageSet):
        return data if size is None else data.resized(size)
    try:
        return load(Path(data), size)
    except MixedSizesError as error:
        of_prior = sizes_of_priors(recipe)
        if not of_prior:
            raise MixedSizesError(f"{error}, or bring it to one size here (--size 64)") from error
        return load(Path(data), of_prior[0])


def _plan(
    images: ImageSet, recipe: Recipe, out: Path, kimg: float, mode: str, seed: int, classes: tuple[str, ...]
) -> str:
    """Return what will be done, in lines for the user."""
    counts = ", ".join(f"{count} {name}" for name, count in images.class_counts.items() if count)
    runs = [path.parent for path in (out / RECIPE, *sorted(out.glob(f"*/{RECIPE}"))) if path.is_file()]
    lines = [
        *describe_pretraining(recipe, classes, mode == "conditional"),
        *describe_prior(recipe, classes),
        f"{recipe.name} on {counted(len(images), 'image')} of {images.size[0]} px ({counts}), {kimg:g} kimg"
        f"{' per class' if mode == 'per_class' else ''}, batch {recipe.batch}, seed {seed}, mode {mode}",
        *([MIRRORED] if all(resolved_recipe(recipe, kimg, run).mirror for run in runs or [out]) else []),
        recipe.compile_plan(kimg),
        *(f"note: {line}" for line in kept_settings(recipe, kimg, runs)),
    ]
    return "\n".join(lines)


def train_runs(
    data: ImageSet,
    recipe: Recipe,
    out: Path,
    *,
    kimg: float,
    mode: str,
    seed: int = 0,
    distance_to: Callable[[ImageSet], Distance] | None = None,
    patience_kimg: float | None = None,
    start: Path | None = None,
    pretraining: Path | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    track: Trackers | None = None,
) -> list[Path]:
    """Train on `data` and return the run directories; see `train_run`.

    Mode ``conditional`` is one run on all classes in `out`, ``one class`` one on the only class there, ``per_class``
    one run per class, `kimg` each, in folders that are named after the classes by `file_names.folder_names`. From a
    prior, whose networks know classes, those of every run do, also of a single one.
    `distance_to` makes the `distance` of `train_run` from the training images of a run. Every run is checked before the
    first is trained, and nothing is written if one is refused, or if `out` holds anything but runs of these classes.
    """
    recipe, origin = settle_start(recipe, start, data.size[0])
    conditional = mode == "conditional" or recipe.prior is not None
    present = [name for name, count in data.class_counts.items() if count]
    parts: dict[Path, tuple[ImageSet, str | None]] = {
        out: (data, None if mode == "conditional" else next(iter(present), None))
    }
    if mode == "per_class":
        folders = folder_names(present, reserved=[PRETRAINING, *TRACKERS])
        _check_runs(out, set(folders.values()))
        parts = {out / folder: (data.of_class(name), name) for name, folder in folders.items()}
    begins = {run: run_of_class(origin, name) if origin else None for run, (_, name) in parts.items()}
    for run, (part, _) in parts.items():
        resolved = resolved_recipe(recipe, kimg, run)
        check_run(run, run_config(part, resolved, conditional=conditional, seed=seed, start=begins[run]))
    return [
        train_run(
            part,
            recipe,
            run,
            kimg=kimg,
            conditional=conditional,
            seed=seed,
            distance=distance_to(part) if distance_to else None,
            patience_kimg=patience_kimg,
            start=None if recipe.prior else begins[run],
            pretraining=pretraining or out / PRETRAINING,
            device=device,
            progress=progress,
            track=track,
        )
        for run, (part, _) in parts.items()
    ]


def _check_runs(out: Path, folders: set[str]) -> None:
    """Raise RunError unless `out` is free for one run per class in `folders`, or holds nothing but these."""
    if is_vacant(out):
        return
    if not out.is_file():  # a file is told below
        check_file_types(out, (RECIPE,), (PRETRAINING, *TRACKERS))
    if (out / RECIPE).is_file():
        raise RunError(f"{out} is not empty and holds a single run, not one per class; choose another --out")
    found = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    for name in sorted(found - {PRETRAINING, *TRACKERS}):
        if name not in folders or not ((out / name / RECIPE).is_file() or is_vacant(out / name)):
            raise RunError(
                f"{out} is not empty and holds '{name}', which is not a run of one of these classes; "
                "choose another --out"
            )
