"""The one training loop, for every recipe."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sonosynth.core import distributed
from sonosynth.core.device import can_compile, default_device
from sonosynth.core.errors import ClassError, RecipeError, RunError
from sonosynth.core.file_names import folder_names
from sonosynth.core.files import check_file_types, is_vacant, locked, write_json
from sonosynth.data.imageset import ImageSet
from sonosynth.data.resize import common_original_area
from sonosynth.gan.checkpoint import (
    PRETRAINING,
    RECIPE,
    STATE,
    TRANSFER,
    RunConfig,
    check_run,
    claim_run,
    load_state,
    recorded,
)
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.training.early_stopping import Distance, EarlyStopping, is_finite, roll_back
from sonosynth.gan.training.interrupt import deferred_interrupt
from sonosynth.gan.training.log_statistics import Entry, StatisticsCollector
from sonosynth.gan.training.pretrain import pretraining_for
from sonosynth.gan.training.run_writer import RunWriter
from sonosynth.gan.training.tensorboard import Tracker
from sonosynth.gan.training.trainer import GRADIENT_NORM, Trainer
from sonosynth.gan.training.transfer import fingerprint, source_of, transfer

TICK_KIMG = 0.5  # a log line, and a distance to the training images
SAVE_SECONDS = 60.0  # between saved states; resuming is exact from any of them, unless the rest of that tick diverges
GRIDS = 8  # sample grids over a run

Progress = Callable[[float, float, Mapping[str, Any]], None]
"""Called as ``progress(kimg_done, kimg_total, latest)``; `latest` is the last log line."""


def run_config(data: ImageSet, recipe: Recipe, *, conditional: bool, seed: int, start: Path | None = None) -> RunConfig:
    """Return the configuration of a run on `data`, without the classes that have no images, starting from run `start`.

    Raises:
        RunError: the images are not square with a power-of-two side from 32 to 512.
        ClassError: `data` has fewer than two images.
    """
    height, width = data.size
    if height != width or width not in (32, 64, 128, 256, 512):
        raise RunError(
            f"a generator needs square images of 32, 64, 128, 256 or 512 pixels, not {width}×{height}; "
            "run 'sonosynth data prepare' with --size"
        )
    counts = {name: count for name, count in data.class_counts.items() if count}
    if len(data) < 2:
        of_class = "".join(f" of class '{name}'" for name in counts)
        raise ClassError(
            f"a generator needs at least two training images, there is {len(data)}{of_class}; add images"
            + ("" if conditional else ", leave the class out, or train one generator for all classes (--conditional)")
        )
    return RunConfig(
        recipe=recipe,
        size=width,
        classes=tuple(counts),
        class_counts=tuple(counts.values()),
        conditional=conditional,
        data=data.fingerprint(),
        seed=seed,
        start=fingerprint(start) if start else "",
        frame=common_original_area(data),
    )


def train(
    data: ImageSet,
    recipe: Recipe,
    out: Path,
    *,
    kimg: float,
    conditional: bool,
    seed: int = 0,
    distance: Distance | None = None,
    patience_kimg: float | None = None,
    start: Path | None = None,
    pretraining: Path | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    track: Tracker | None = None,
) -> Path:
    """Train one generator on all of `data` and return its run directory.

    The same call again continues an unfinished run to the identical result and log lines, and does nothing where the
    run is done; a larger `kimg` continues a finished one, with settings that follow from the length as they were (see
    `kept_settings`). A recipe with `pretrain_kimg` is trained on phantoms first, in a run of its
    own that goes on just so.

    A loss or weight that is not finite takes the run back to its last good log line, with new random draws; after
    `course.MAX_ROLLBACKS` of these the run ends.

    Args:
        data: training images; of one class unless `conditional`.
        recipe: the generator family and its settings.
        out: run directory.
        kimg: thousands of real images to show, rounded up to whole batches.
        conditional: train one generator for all classes.
        seed: of all random draws.
        distance: judges the averaged generator at every log line; the best is kept as ``best.safetensors``.
        patience_kimg: end the run when `distance` has not improved for so long.
        start: run directory to take weights from; what fitted and what did not is written to ``transfer.json``.
        pretraining: directory of pretraining runs, which runs of one recipe may share; ``out/pretraining`` by default.
        device: where to train; the first GPU if there is one. Inside `distributed.launch` the device it yields.
        progress: called before the first and after every step, of pretraining too; not at all where nothing is to do.
        track: called with `out` after every log line, e.g. a `TensorBoard`.

    Raises:
        RunError: `out` belongs to another run, the image size does not fit, `kimg` is not above 0 and finite, or there
            are two things to start from.
        OutputError: another process is training there.
        ClassError: too few images.
        DivergenceError: the run became non-finite too often.
        RecipeError: the run is to be compiled, and there is no compiler.
        KeyboardInterrupt: after saving the state.
    """
    if not 0 < kimg < math.inf:
        raise RunError(f"kimg must be a number above 0, not {kimg}")
    if start is not None and recipe.pretrain_kimg:
        raise RunError(
            f"GAN '{recipe.name}' starts from its own pretraining, so it cannot start from {start} too; "
            "leave one of them out (--from, or --set pretrain_kimg=0)"
        )
    device = device or default_device()
    if recipe.compiles(kimg) and not can_compile(device):
        raise RecipeError(
            f"GAN '{recipe.name}', compile = {recipe.compile}: a run of {kimg:g} kimg is compiled, but there is no C++ "
            "compiler; install one (g++), or train without (--set compile=off)"
        )
    config = run_config(data, _resolved(recipe, kimg, out), conditional=conditional, seed=seed, start=start)
    if distributed.is_main_process():
        claim_run(out, config)
    distributed.barrier()
    with locked(out) if distributed.is_main_process() else nullcontext(), deferred_interrupt() as interrupted:
        if recipe.pretrain_kimg and not (out / STATE).is_file():
            shared = pretraining or out / PRETRAINING
            # Runs that share it may be side by side: one pretrains, the others wait and find it done.
            with locked(shared, wait=True) if distributed.is_main_process() else nullcontext():
                start = _pretrain(recipe, config, shared, device, progress, track)
        trainer = Trainer(data.with_classes(config.classes), config, device)
        course, interval = _restore(trainer, out, start, patience_kimg)
        keeper = RunWriter(out, trainer, track)
        judge = partial(course.update, trainer, keeper, distance=distance, patience_kimg=patience_kimg)
        if (steps := math.ceil(round(kimg * 1000 / recipe.batch, 6))) > trainer.step_count and not course.ended:
            compiles = recipe.compiles(kimg)
            tick = StatisticsCollector(recipe.batch, course.seconds)
            tick.load_state_dict(interval)
            _advance(trainer, course, tick, keeper, steps, judge, interrupted, progress, compiles=compiles)
    return out


def _advance(
    trainer: Trainer,
    course: EarlyStopping,
    tick: StatisticsCollector,
    keeper: RunWriter,
    steps: int,
    judge: Callable[[Entry], None],
    interrupted: Callable[[], bool],
    progress: Progress | None,
    *,
    compiles: bool,
) -> None:
    """Train to step number `steps`, or until `course` has ended.

    Raises:
        DivergenceError: the run became non-finite too often.
        KeyboardInterrupt: after saving the state.
    """
    batch = trainer.config.recipe.batch
    tick_steps = max(1, int(TICK_KIMG * 1000 / batch))
    grid_steps = {max(1, round(steps * k / GRIDS)) for k in range(1, GRIDS + 1)}
    good, good_sums = copy.deepcopy(trainer.state_dict()), tick.state_dict()
    saved = time.monotonic()
    event: str | None = None
    if progress:
        progress(trainer.kimg, steps * batch / 1000, tick.latest)
    if compiles:
        with tick.pause():
            began = time.perf_counter()
            trainer.compile()
            event = f"compiled in {time.perf_counter() - began:.0f} s"
    while trainer.step_count < steps and not course.ended:
        regular = (trainer.step_count + 1) % tick_steps == 0
        closing = regular or trainer.step_count + 1 == steps
        statistics = trainer.step(gradient_norms=closing)
        norms = {name: statistics.pop(name) for name in list(statistics) if name.startswith(GRADIENT_NORM)}
        tick.add(statistics)
        done, stop = trainer.step_count, _stops(interrupted, closing, trainer.device)
        if closing:
            entry = tick.close(trainer.kimg, norms, regular=regular)
            entry["event"], event = event, None
            with tick.pause():
                if is_finite(entry) and trainer.is_finite():
                    judge(entry)
                    good, good_sums = copy.deepcopy(trainer.state_dict()), tick.state_dict()
                else:
                    roll_back(trainer, good, entry)
                    tick.load_state_dict(good_sums)
                keeper.line(entry)
        with tick.pause():
            if done in grid_steps:
                keeper.grid()
            if closing:
                keeper.show()
            due = done >= steps or course.ended or stop or time.monotonic() - saved > SAVE_SECONDS
            # What a rollback is to undo is not kept, and several processes bring their sums together at log lines only.
            if due and (closing or (distributed.rank_slice().count == 1 and trainer.is_finite())):
                course.seconds = tick.seconds
                keeper.state(asdict(course), tick.state_dict())
                saved = time.monotonic()
        if progress:
            progress(trainer.kimg, steps * batch / 1000, tick.latest)
        if stop:
            raise KeyboardInterrupt


def train_mode(
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
    track: Tracker | None = None,
) -> list[Path]:
    """Train on all classes of `data` and return the run directories; see `train`.

    In mode ``conditional`` that is one run in `out`; in mode ``per_class`` one run a class in its folders, `kimg` each,
    named after the classes by `files.folder_names`. `distance_to` makes the `distance` of `train` from the training
    images of a run. Every run is checked before the first is trained.

    Raises:
        RunError, ClassError, OutputError: as `train`, for any of the runs; nothing is written then, nor if `out` holds
            anything but runs of these classes.
    """
    if mode == "conditional":
        parts: dict[Path, tuple[str | None, ImageSet]] = {out: (None, data)}
    else:
        folders = folder_names((name for name, count in data.class_counts.items() if count), reserved=[PRETRAINING])
        _check_runs(out, set(folders.values()))
        parts = {out / folder: (name, data.of_class(name)) for name, folder in folders.items()}
        for run, (name, part) in parts.items():
            begin = source_of(start, name) if start else None
            check_run(run, run_config(part, _resolved(recipe, kimg, run), conditional=False, seed=seed, start=begin))
    return [
        train(
            part,
            recipe,
            run,
            kimg=kimg,
            conditional=mode == "conditional",
            seed=seed,
            distance=distance_to(part) if distance_to else None,
            patience_kimg=patience_kimg,
            start=source_of(start, name) if start else None,
            pretraining=pretraining or out / PRETRAINING,
            device=device,
            progress=progress,
            track=track,
        )
        for run, (name, part) in parts.items()
    ]


def _check_runs(out: Path, folders: set[str]) -> None:
    """Raise RunError unless `out` is free for one run a class in `folders`, or holds nothing but these."""
    if is_vacant(out):
        return
    if not out.is_file():  # a file is told below
        check_file_types(out, (RECIPE,), (PRETRAINING,))
    if (out / RECIPE).is_file():
        raise RunError(f"{out} is not empty and holds a single run, not one a class; choose another --out")
    for name in sorted({path.name for path in out.iterdir()} - {PRETRAINING}) if out.is_dir() else [out.name]:
        if name not in folders or not ((out / name / RECIPE).is_file() or is_vacant(out / name)):
            raise RunError(
                f"{out} is not empty and holds '{name}', which is not a run of one of these classes; "
                "choose another --out"
            )


def _pretrain(
    recipe: Recipe,
    config: RunConfig,
    directory: Path,
    device: torch.device | None,
    progress: Progress | None,
    track: Tracker | None,
) -> Path:
    """Train on the phantoms that fit `config`, or go on with it, and return that run under `directory`."""
    plan = pretraining_for(config.classes, config.conditional)
    if not distributed.is_main_process():
        distributed.barrier()  # the leader makes them, the others read them
    phantoms = plan.phantoms(recipe, config.size, directory / plan.name / "phantoms")
    if distributed.is_main_process():
        distributed.barrier()
    return train(
        phantoms,
        recipe.model_copy(update={"pretrain_kimg": 0.0}),
        directory / plan.name / "run",
        kimg=recipe.pretrain_kimg,
        conditional=plan.conditional,
        seed=recipe.pretrain_seed,
        device=device,
        progress=progress,
        track=track,
    )


def _resolved(recipe: Recipe, kimg: float, out: Path) -> Recipe:
    """Return `recipe` with what follows from its length written out, as the run in `out` has it if it has begun."""
    resolved, begun = recipe.resolved(kimg), recorded(out)
    derived = [name for name in type(recipe).model_fields if getattr(resolved, name) != getattr(recipe, name)]
    kept = begun.get("recipe", {}) if isinstance(begun.get("recipe"), dict) else {}
    return resolved.model_copy(update={name: kept[name] for name in derived if isinstance(kept.get(name), float)})


def kept_settings(recipe: Recipe, kimg: float, runs: Iterable[Path]) -> list[str]:
    """Return a line for every setting that follows from the length of a run and that one of `runs` has otherwise.

    Such a run began with another length than `kimg`, and goes on with the value of its beginning.
    """
    fresh, lines = recipe.resolved(kimg), list[str]()
    for run in runs:
        kept = _resolved(recipe, kimg, run)
        lines += [
            f"{name} = {getattr(kept, name):g} is kept, with which this run began; a new run of {kimg:g} kimg would "
            f"have {getattr(fresh, name):g}"
            for name in type(recipe).model_fields
            if getattr(kept, name) != getattr(fresh, name)
        ]
    return list(dict.fromkeys(lines))


def _restore(
    trainer: Trainer, out: Path, start: Path | None, patience_kimg: float | None
) -> tuple[EarlyStopping, dict[str, Any]]:
    """Load the saved state if there is one; otherwise take what fits from the run `start`.

    A run that has ended for want of patience goes on where more is given, or none is asked for.

    Returns:
        How the run has gone, and the sums of the log line to come; states of earlier versions have none.
    """
    if not (out / STATE).is_file():
        if start is not None:
            moved = transfer(trainer, start)
            if distributed.is_main_process():
                write_json(out / TRANSFER, asdict(moved))
        return EarlyStopping(), {}
    state = load_state(out / STATE, trainer.device)
    try:
        trainer.load_state_dict(state)
        course, interval = EarlyStopping(**state["course"]), dict(state.get("interval", {}))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{out / STATE} is no state of this run, or of another version; remove it to start this run again"
        ) from error
    waited = trainer.kimg - course.best_kimg
    course.ended = course.ended and patience_kimg is not None and waited >= patience_kimg
    return course, interval


def _stops(interrupted: Callable[[], bool], closing: bool, device: torch.device) -> bool:
    """Return whether to stop after this step; several processes settle it at log lines, in order to stop together."""
    if distributed.rank_slice().count == 1:
        return interrupted()
    return closing and distributed.any_process(interrupted(), device)
