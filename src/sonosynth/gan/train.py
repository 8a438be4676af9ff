"""The one training loop, for every recipe."""

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from sonosynth.data.imageset import ImageSet
from sonosynth.draws import Draws, shuffled_indices
from sonosynth.engine import default_device, seed_of
from sonosynth.errors import ClassError, DivergenceError, RunError
from sonosynth.gan.checkpoint import (
    GENERATOR,
    LOG,
    STATE,
    Log,
    RunConfig,
    claim_run,
    load_state,
    save_generator,
    save_state,
)
from sonosynth.gan.game import Batch, Phase
from sonosynth.gan.recipes import Recipe
from sonosynth.gan.sample import save_sample_grid

TICK_KIMG = 0.25  # a log line
SAVE_SECONDS = 60.0  # between saved states; resuming is exact from any of them
GRIDS = 8  # sample grids over a run

Progress = Callable[[float, float, dict[str, float]], None]
"""Called as ``progress(kimg_done, kimg_total, {"img_per_s": ..., "loss_g": ..., "loss_d": ...})``."""


class TrainingImages:
    """A small data set on the device as one uint8 tensor, served in shuffled epochs."""

    def __init__(self, data: ImageSet, *, conditional: bool, mirror: bool, seed: int, device: torch.device):
        self.images = torch.from_numpy(data.images.copy()).to(device)
        self.labels = torch.from_numpy(data.labels.copy()).to(device) if conditional else None
        self.mirror, self.seed, self.device = mirror, seed, device

    def batch(self, phase: str, step: int, size: int) -> Batch:
        """Return the batch of `phase` in `step`: `size` real images, and labels drawn in training proportions."""
        draws = Draws(self.seed, phase, step, self.device)
        index = shuffled_indices(len(self.images), step * size, size, self.seed).to(self.device)
        real = self.images[index][:, None].float().div_(127.5).sub_(1)
        if self.mirror:
            real = torch.where(draws.uniform(size, 1, 1, 1) < 0.5, real.flip(3), real)
        if self.labels is None:
            return Batch(real, None, None, draws)
        fake_labels = self.labels[draws.integers(0, len(self.labels), size)]
        return Batch(real, self.labels[index], fake_labels, draws)


class Trainer:
    """The state of one run: networks, their moving average, optimisers and the step counter."""

    def __init__(self, data: ImageSet, config: RunConfig, device: torch.device):
        recipe = config.recipe
        self.config, self.device, self.batch_size = config, device, recipe.batch
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(config.seed, "init"))
            self.generator = recipe.build_generator(config.size, config.n_classes).to(device)
            self.discriminator = recipe.build_discriminator(config.size, config.n_classes).to(device)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        optimizers = recipe.build_optimizers(self.generator, self.discriminator)
        self.optimizers = dict(zip(("generator", "discriminator"), optimizers, strict=True))
        self.objective = recipe.build_objective(self.generator, self.discriminator)
        self.phases = self.objective.phases()
        self.images = TrainingImages(
            data, conditional=config.conditional, mirror=recipe.mirror, seed=config.seed, device=device
        )
        self.step_count = 0

    @property
    def kimg(self) -> float:
        """Thousands of real images shown so far."""
        return self.step_count * self.batch_size / 1000

    def step(self) -> dict[str, Tensor]:
        """Run every phase that is due, then move the average; return statistics that are still on the device."""
        statistics: dict[str, Tensor] = {}
        for phase in self.phases:
            if self.step_count % phase.interval == 0:
                statistics |= self.run_phase(phase)
        self.step_count += 1
        self._update_ema()
        return statistics

    def run_phase(self, phase: Phase) -> dict[str, Tensor]:
        """Take one optimiser step of `phase` on its batch of the current step."""
        active = phase.player == "generator"
        self.generator.requires_grad_(active)
        self.discriminator.requires_grad_(not active)
        loss, statistics = phase.loss(self.images.batch(phase.name, self.step_count, self.batch_size))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer = self.optimizers[phase.player]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return statistics

    @torch.no_grad()
    def _update_ema(self) -> None:
        recipe = self.config.recipe
        halflife = min(recipe.ema_halflife_kimg, self.kimg * recipe.ema_rampup)
        decay = 0.5 ** (self.batch_size / 1000 / halflife)
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.generator.parameters()), 1 - decay)
        for averaged, current in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            averaged.copy_(current)

    def state_dict(self) -> dict[str, object]:
        """Return all that an exact resume needs; random draws need nothing but the step."""
        return {
            "step": self.step_count,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "objective": self.objective.state_dict(),
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore what `state_dict` returned."""
        self.step_count = state["step"]  # type: ignore[assignment]
        for name in ("generator", "discriminator", "ema", "objective"):
            getattr(self, name).load_state_dict(state[name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])  # type: ignore[index]


def run_config(data: ImageSet, recipe: Recipe, *, conditional: bool, seed: int) -> RunConfig:
    """Return the configuration of a run on `data`, whose classes without images are left out.

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
    if len(data) < 2:
        raise ClassError(f"a generator needs at least two training images, there is {len(data)}")
    counts = {name: count for name, count in data.class_counts.items() if count}
    return RunConfig(
        recipe=recipe,
        size=width,
        classes=tuple(counts),
        class_counts=tuple(counts.values()),
        conditional=conditional,
        data=data.fingerprint(),
        seed=seed,
    )


def train(
    data: ImageSet,
    recipe: Recipe,
    out: Path,
    *,
    kimg: float,
    conditional: bool,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train one generator on all of `data` and return its run directory.

    The same call again continues an unfinished run to the identical result, and does nothing where the run is done; a
    larger `kimg` continues a finished one.

    Args:
        data: training images; of one class unless `conditional`.
        recipe: the generator family and its settings.
        out: run directory.
        kimg: thousands of real images to show, rounded up to whole batches.
        conditional: train one generator for all classes.
        seed: of all random draws.
        device: where to train; the first GPU if there is one.
        progress: called after every step.

    Raises:
        RunError: `out` belongs to another run, or the image size does not fit.
        ClassError: too few images.
        DivergenceError: a loss became infinite or NaN.
        KeyboardInterrupt: after saving the state.
    """
    config = run_config(data, recipe, conditional=conditional, seed=seed)
    data = data.with_classes(config.classes)
    claim_run(out, config)
    trainer = Trainer(data, config, device or default_device())
    seconds = _restore(trainer, out)
    log = Log(out / LOG, trainer.kimg)
    steps = math.ceil(round(kimg * 1000 / recipe.batch, 6))
    grid_steps = {max(1, round(steps * k / GRIDS)) for k in range(1, GRIDS + 1)}
    tick = _Tick(recipe.batch, seconds)
    saved = time.monotonic()
    with _deferred_interrupt() as interrupted:
        while trainer.step_count < steps:
            tick.add(trainer.step())
            done, stop = trainer.step_count, interrupted()
            if done % max(1, int(TICK_KIMG * 1000 / recipe.batch)) == 0 or done == steps:
                log.append(tick.close(trainer.kimg))
            if done in grid_steps:
                with tick.pause():
                    save_sample_grid(trainer.ema, config, out / "samples" / f"kimg-{trainer.kimg:09.3f}.png")
            if done == steps or stop or time.monotonic() - saved > SAVE_SECONDS:
                with tick.pause():
                    save_state(out / STATE, trainer.state_dict() | {"seconds": tick.seconds})
                    save_generator(out / GENERATOR, trainer.ema, config, trainer.kimg)
                saved = time.monotonic()
            if progress:
                progress(trainer.kimg, steps * recipe.batch / 1000, tick.latest)
            if stop:
                raise KeyboardInterrupt
    return out


def train_mode(
    data: ImageSet,
    recipe: Recipe,
    out: Path,
    *,
    kimg: float,
    mode: str,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Train on all classes of `data` and return the run directories; see `train`.

    In mode ``conditional`` that is one run in `out`; in mode ``per_class`` one run a class in its folders, `kimg` each.
    """
    if mode == "conditional":
        return [train(data, recipe, out, kimg=kimg, conditional=True, seed=seed, device=device, progress=progress)]
    names = [name for name, count in data.class_counts.items() if count]
    return [
        train(
            data.of_class(name),
            recipe,
            out / name,
            kimg=kimg,
            conditional=False,
            seed=seed,
            device=device,
            progress=progress,
        )
        for name in names
    ]


def _restore(trainer: Trainer, out: Path) -> float:
    """Load the saved state if there is one; return the seconds of training it had taken."""
    if not (out / STATE).is_file():
        return 0.0
    state = load_state(out / STATE, trainer.device)
    trainer.load_state_dict(state)
    return float(state["seconds"])


class _Tick:
    """Collects statistics between two log lines without waiting for the device, and the time spent in steps alone."""

    def __init__(self, batch: int, seconds: float):
        self._batch, self._total = batch, seconds
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._images, self._started = 0, time.perf_counter()
        self._opening = seconds
        self.latest: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        return self._total + time.perf_counter() - self._started

    @contextmanager
    def pause(self) -> Iterator[None]:
        self._total = self.seconds
        try:
            yield
        finally:
            self._started = time.perf_counter()

    def add(self, statistics: dict[str, Tensor]) -> None:
        self._images += self._batch
        for name, value in statistics.items():
            total, count = self._sums.get(name, (torch.zeros_like(value), 0))
            self._sums[name] = (total + value, count + 1)

    def close(self, kimg: float) -> dict[str, Tensor | float | str | None]:
        means = {name: float(total / count) for name, (total, count) in self._sums.items()}
        for name, value in means.items():
            if not np.isfinite(value):
                raise DivergenceError(
                    f"{name} became {value} at {kimg:.3f} kimg; "
                    "lower learning_rate or raise r1_gamma and start a new run"
                )
        seconds = self.seconds
        rate = self._images / (seconds - self._opening)
        self.latest = {"img_per_s": rate, "loss_g": means["loss_g"], "loss_d": means["loss_d"]}
        self._sums, self._images, self._opening = {}, 0, seconds
        entry: dict[str, Tensor | float | str | None] = {"kimg": round(kimg, 6), "seconds": seconds, "img_per_s": rate}
        return entry | {"r1": None, "augment_p": None, "kid_train": None, "event": None} | means


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed, so that a step is never cut in half."""
    pressed = False

    def remember(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True

    try:
        previous = signal.signal(signal.SIGINT, remember)
    except ValueError:  # not the main thread, which alone receives signals
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)
