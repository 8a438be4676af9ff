"""The training loop of all families: one run, from its first step or where it was interrupted."""

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from sonosynth.core import distributed
from sonosynth.core.device import ThreadAdjuster, can_compile, default_device
from sonosynth.core.errors import RecipeError, RunError
from sonosynth.core.files import locked, write_json
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import (
    PRETRAINING,
    STATE,
    TRANSFER,
    RunConfig,
    claim_run,
    load_state,
    resolved_recipe,
    run_config,
)
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.training.early_stopping import Distance, EarlyStopping, roll_back
from sonosynth.gan.training.log_statistics import StatisticsCollector
from sonosynth.gan.training.run_writer import RunWriter
from sonosynth.gan.training.trainer import Trainer
from sonosynth.gan.training.transfer import pretraining_for, settle_start, transfer
from sonosynth.tracking.trackers import Trackers

TICK_KIMG = 0.5  # a log line, and a distance to the training images
SAVE_SECONDS = 60.0  # between saved states; resuming is exact from any of them, unless the rest of that tick diverges
GRIDS = 8  # sample grids over a run

Progress = Callable[[float, float, Mapping[str, Any]], None]
"""Called as ``progress(kimg_done, kimg_total, latest)``; `latest` is the last log line."""


def train_run(
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
    track: Trackers | None = None,
) -> Path:
    """Train one generator on all of `data` and return its run directory `out`; arguments and errors as in `gan.train`.

    The same call again continues an unfinished run to the identical result and log lines, and does nothing where the
    run is done; a larger `kimg` continues a finished one, with settings that follow from the length as they were (see
    `kept_settings`). A recipe with `pretrain_kimg` is trained on phantoms first, in a run of its own that goes on so.
    A loss or weight that is not finite takes the run back to its last good log line, with new random draws; after
    `early_stopping.MAX_ROLLBACKS` of these the run ends.

    Args:
        distance: taken of the averaged generator at every log line; the best is kept as ``best.safetensors``.
        pretraining: directory of pretraining runs, which runs of one recipe may share; ``out/pretraining`` by default.
        device: where to train; the first GPU if there is one. Inside `distributed.launch` the device it yields.
        progress: called before the first and after every step, of pretraining too; not at all where nothing is to do.
        track: the trackers that mirror the log and the sample grids.
    """
    if not 0 < kimg < math.inf:
        raise RunError(f"kimg must be a number above 0, not {kimg}")
    recipe, start = settle_start(recipe, start, data.size[0])
    conditional = conditional or recipe.prior is not None  # whose networks know classes
    device = device or default_device()
    if recipe.compiles(kimg) and not can_compile(device):
        raise RecipeError(
            f"GAN '{recipe.name}', compile = {recipe.compile}: a run of {kimg:g} kimg is compiled, but there is no C++ "
            "compiler; install one (g++), or train without (--set compile=off)"
        )
    config = run_config(data, resolved_recipe(recipe, kimg, out), conditional=conditional, seed=seed, start=start)
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
        stopping = EarlyStopping(distance, patience_kimg)
        threads = ThreadAdjuster(device)
        statistics = _restore(trainer, stopping, threads, out, start)
        with RunWriter(out, trainer, track) as writer:
            _advance(trainer, stopping, statistics, threads, writer, kimg, interrupted, progress)
    return out


def _advance(
    trainer: Trainer,
    stopping: EarlyStopping,
    statistics: StatisticsCollector,
    threads: ThreadAdjuster,
    writer: RunWriter,
    kimg: float,
    interrupted: Callable[[], bool],
    progress: Progress | None,
) -> None:
    """Train to `kimg`, or until `stopping` has ended; raises like `train_run`."""
    recipe, alone = trainer.config.recipe, distributed.rank_slice().count == 1
    adjusts = alone and not recipe.compiles(kimg)  # what is compiled has its own number of threads
    steps = math.ceil(round(kimg * 1000 / recipe.batch, 6))
    if trainer.step_count >= steps or stopping.ended:
        return
    tick_steps = max(1, int(TICK_KIMG * 1000 / recipe.batch))
    grid_steps = {max(1, round(steps * k / GRIDS)) for k in range(1, GRIDS + 1)}
    good, good_sums = copy.deepcopy(trainer.state_dict()), statistics.state_dict()
    saved = time.monotonic()
    events: list[str] = []
    if progress:
        progress(trainer.kimg, steps * recipe.batch / 1000, statistics.latest)
    if recipe.compiles(kimg):
        with statistics.pause():
            began = time.perf_counter()
            trainer.compile()
            events.append(f"compiled in {time.perf_counter() - began:.0f} s")
    while trainer.step_count < steps and not stopping.ended:
        regular = (trainer.step_count + 1) % tick_steps == 0
        closing = regular or trainer.step_count + 1 == steps
        statistics.add(trainer.step(gradient_norms=closing))
        done = trainer.step_count
        if adjusts and (changed := threads.adjust()):
            events.append(changed)
        # Several processes settle it at log lines, in order to stop together.
        stop = (alone or closing) and distributed.any_process(interrupted(), trainer.device)

        # Report
        if closing:
            entry = statistics.close(trainer.kimg, regular=regular)
            with statistics.pause():
                wrong = [name for name, value in entry.items() if isinstance(value, float) and not math.isfinite(value)]
                if not wrong and trainer.is_finite():
                    trainer.recompute_statistics()
                    stopping.update(trainer, writer, entry)
                    good, good_sums = copy.deepcopy(trainer.state_dict()), statistics.state_dict()
                else:
                    roll_back(trainer, good, entry, wrong)
                    statistics.load_state_dict(good_sums)
                entry["event"] = "; ".join([*events, *([str(entry["event"])] if entry["event"] else [])]) or None
                events.clear()
                writer.line(entry)

        # Save
        with statistics.pause():
            if done in grid_steps:
                writer.grid()
            due = done >= steps or stopping.ended or stop or time.monotonic() - saved > SAVE_SECONDS
            # What a rollback is to undo is not kept, and several processes bring their sums together at log lines only.
            if due and (closing or (alone and trainer.is_finite())):
                if not closing:
                    trainer.recompute_statistics()
                course = stopping.state_dict() | {"seconds": statistics.seconds, "threads": torch.get_num_threads()}
                writer.state(course, statistics.state_dict())
                saved = time.monotonic()
            if closing:
                writer.show()

        # Done
        if progress:
            progress(trainer.kimg, steps * recipe.batch / 1000, statistics.latest)
        if stop:
            raise KeyboardInterrupt


def _pretrain(
    recipe: Recipe,
    config: RunConfig,
    directory: Path,
    device: torch.device | None,
    progress: Progress | None,
    track: Trackers | None,
) -> Path:
    """Train on the phantoms that fit `config`, or go on with it, and return that run under `directory`."""
    plan = pretraining_for(config.classes, config.conditional)
    if not distributed.is_main_process():
        distributed.barrier()  # the main process makes them, the others read them
    phantoms = plan.phantoms(recipe, config.size, directory / plan.name / "phantoms")
    if distributed.is_main_process():
        distributed.barrier()
    return train_run(
        phantoms,
        recipe.model_copy(update={"pretrain_kimg": 0.0}),
        directory / plan.name / "run",
        kimg=recipe.pretrain_kimg,
        conditional=plan.conditional,
        seed=recipe.pretrain_seed,
        device=device,
        progress=progress,
        track=track and track.of_pretraining(),
    )


def _restore(
    trainer: Trainer, stopping: EarlyStopping, threads: ThreadAdjuster, out: Path, start: Path | None
) -> StatisticsCollector:
    """Load the saved state if there is one; otherwise take what fits from the run `start`.

    Return the statistics of the log line to come; states of earlier versions have none.
    """
    if not (out / STATE).is_file():
        if start is not None:
            moved = transfer(trainer, start)
            if distributed.is_main_process():
                write_json(out / TRANSFER, moved)
        return StatisticsCollector(trainer.batch_size)
    state = load_state(out / STATE, trainer.device)
    try:
        trainer.load_state_dict(state)
        stopping.load_state_dict(state["course"], trainer.kimg)
        statistics = StatisticsCollector(trainer.batch_size, state["course"]["seconds"])
        statistics.load_state_dict(state.get("interval", {}))
        threads.take(state["course"].get("threads", threads.most))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{out / STATE} is no state of this run, or of another version; remove it to start this run again"
        ) from error
    return statistics


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed, so that a step is never cut in half.

    Where interrupts are ignored, as by a background job, they stay so. Only the main thread receives signals.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield lambda: False
        return
    pressed: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, previous)
