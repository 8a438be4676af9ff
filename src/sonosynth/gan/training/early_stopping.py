"""How a run goes: how good its generator is, when it ends early, and back from a divergence."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sonosynth.core import distributed
from sonosynth.core.errors import DivergenceError
from sonosynth.core.seeds import seed_of
from sonosynth.gan.sample import class_sequence, synthesise
from sonosynth.gan.training.log_statistics import Entry
from sonosynth.gan.training.run_writer import RunWriter
from sonosynth.gan.training.trainer import Trainer

DISTANCE_IMAGES = 128  # generated for a distance to the training images, from the same latents every time
MAX_ROLLBACKS = 3

Distance = Callable[[np.ndarray], float]
"""Takes generated uint8 images ``[N, H, W]`` and returns their distance to the training images; smaller is better."""


class EarlyStopping:
    """How good the averaged generator of a run is, which was the best so far, and whether the run ends early.

    Without a `distance` nothing is measured. The run ends when it has not improved for `patience_kimg`.
    """

    def __init__(self, distance: Distance | None, patience_kimg: float | None):
        self.distance, self.patience_kimg = distance, patience_kimg
        self.best, self.best_kimg, self.ended = math.inf, 0.0, False

    def update(self, trainer: Trainer, writer: RunWriter, entry: Entry) -> None:
        """Measure the averaged generator, keep it if it is the best so far, and note both in `entry`."""
        if self.distance is None:
            return
        config, value = trainer.config, math.nan
        if distributed.is_main_process():
            labels = class_sequence(config.class_counts, DISTANCE_IMAGES)
            seed = seed_of("distance")  # nobody else's: images that chose the weights would flatter them
            value = self.distance(synthesise(trainer.ema, labels, conditional=config.conditional, seed=seed))
        entry["kid_train"] = value = distributed.broadcast_from_main(value, trainer.device)
        if value < self.best:
            self.best, self.best_kimg = value, trainer.kimg
            writer.best()
        elif self.is_too_long(trainer.kimg):
            self.ended = True
            entry["event"] = f"ended: no improvement since {self.best_kimg:.3f} kimg"

    def is_too_long(self, kimg: float) -> bool:
        """Return whether at `kimg` the distance has not improved for longer than is waited."""
        return self.patience_kimg is not None and kimg - self.best_kimg >= self.patience_kimg

    def state_dict(self) -> dict[str, float | bool]:
        """Return what a resumed run needs."""
        return {"best": self.best, "best_kimg": self.best_kimg, "ended": self.ended}

    def load_state_dict(self, state: dict[str, Any], kimg: float) -> None:
        """Go on at `kimg` from what `state_dict` returned; a run that has ended, where there is more patience now."""
        self.best, self.best_kimg = state["best"], state["best_kimg"]
        self.ended = state["ended"] and self.is_too_long(kimg)


def roll_back(trainer: Trainer, good: dict[str, Any], entry: Entry, wrong: list[str]) -> None:
    """Return `trainer` to the state `good` with new random draws, and note it in `entry`.

    `wrong` names its numbers that are not finite, none if a weight is not. Raises DivergenceError: too often.
    """
    what = f"{wrong[0]} was not finite" if wrong else "a weight was not finite"
    rollbacks, kimg = trainer.rollbacks + 1, trainer.kimg
    if rollbacks > MAX_ROLLBACKS:
        raise DivergenceError(
            f"{what} at {kimg:.3f} kimg, for the {rollbacks}th time; lower learning_rate (or, where the recipe has it, "
            "raise r1_gamma) and start a new run"
        )
    trainer.load_state_dict(good)
    trainer.rollbacks = rollbacks
    for name in wrong:
        entry[name] = None
    entry["event"] = f"rolled back from {kimg:.3f} kimg: {what} ({rollbacks} of {MAX_ROLLBACKS})"
    entry["kimg"] = trainer.kimg
