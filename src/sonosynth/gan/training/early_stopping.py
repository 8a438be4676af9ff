"""How a run goes: how good its generator is, which was the best, when it ends early, and back from a divergence."""

import math
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass
class EarlyStopping:
    """How a run has gone so far, apart from its networks.

    Attributes:
        seconds: spent in training steps.
        best: smallest distance to the training images so far.
        best_kimg: when that was.
        ended: the distance has not improved for too long.
    """

    seconds: float = 0.0
    best: float = math.inf
    best_kimg: float = 0.0
    ended: bool = False

    def update(
        self,
        trainer: Trainer,
        writer: RunWriter,
        entry: Entry,
        *,
        distance: Distance | None,
        patience_kimg: float | None,
    ) -> None:
        """Measure the averaged generator, keep it if it is the best so far, and note both in `entry`."""
        if distance is None:
            return
        config, value = trainer.config, math.nan
        if distributed.is_main_process():
            labels = class_sequence(config.class_counts, DISTANCE_IMAGES)
            seed = seed_of("distance")  # nobody else's: images that chose the weights would flatter them
            value = distance(synthesise(trainer.ema, labels, conditional=config.conditional, seed=seed))
        entry["kid_train"] = value = distributed.broadcast_from_main(value, trainer.device)
        if value < self.best:
            self.best, self.best_kimg = value, trainer.kimg
            writer.best()
        elif patience_kimg is not None and trainer.kimg - self.best_kimg >= patience_kimg:
            self.ended = True
            entry["event"] = f"ended: no improvement since {self.best_kimg:.3f} kimg"


def is_finite(entry: Entry) -> bool:
    """Return whether every number of a log line is finite."""
    return all(math.isfinite(value) for value in entry.values() if isinstance(value, float))


def roll_back(trainer: Trainer, good: dict[str, Any], entry: Entry) -> None:
    """Return `trainer` to the state `good` with new random draws, and note it in `entry`.

    Raises:
        DivergenceError: it has happened too often.
    """
    wrong = [name for name, value in entry.items() if isinstance(value, float) and not math.isfinite(value)]
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
