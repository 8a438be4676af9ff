"""What a run writes while it trains; of several processes, only the main one writes."""

import json
from pathlib import Path
from typing import Any

from sonosynth.core import distributed
from sonosynth.core.files import write_text
from sonosynth.gan.checkpoint import BEST, GENERATOR, LOG, SAMPLES, STATE, save_generator, save_state
from sonosynth.gan.sample import save_sample_grid
from sonosynth.gan.training.log_statistics import Entry
from sonosynth.gan.training.tensorboard import Tracker
from sonosynth.gan.training.trainer import Trainer


class RunWriter:
    """Keeps the run of `trainer` in the directory `out`; `track` is called with it after every log line."""

    def __init__(self, out: Path, trainer: Trainer, track: Tracker | None):
        self._out, self._trainer, self._track = out, trainer, track
        self._writes = distributed.is_main_process()
        if self._writes:  # the log is cut back to what the restored state had seen
            lines = (out / LOG).read_text(encoding="utf-8").splitlines() if (out / LOG).exists() else []
            write_text(out / LOG, "".join(f"{line}\n" for line in lines if _kimg_of(line) <= trainer.kimg))

    def line(self, entry: Entry) -> None:
        """Add a line to the log, one JSON object; numbers are rounded to six significant digits."""
        if self._writes:
            plain = {name: float(f"{x:.6g}") if isinstance(x, float) else x for name, x in entry.items()}
            with (self._out / LOG).open("a", encoding="utf-8", newline="\n") as file:
                file.write(f"{json.dumps(plain, allow_nan=False)}\n")

    def show(self) -> None:
        """Tell the tracker that there is more to see."""
        if self._writes and self._track is not None:
            self._track(self._out)

    def grid(self) -> None:
        """Write a grid of samples of the averaged generator."""
        if self._writes:
            trainer = self._trainer
            save_sample_grid(trainer.ema, trainer.config, self._out / SAMPLES / f"kimg-{trainer.kimg:09.3f}.png")

    def best(self) -> None:
        """Write the averaged generator as the best so far."""
        if self._writes:
            save_generator(self._out / BEST, self._trainer.ema, self._trainer.config, self._trainer.kimg)

    def state(self, course: dict[str, Any], interval: dict[str, Any]) -> None:
        """Write the averaged generator, and all that an exact resume needs.

        `course` is how the run has gone; `interval` has the sums of the log line to come.
        """
        if self._writes:
            trainer = self._trainer
            # The generator first: a run whose state says that it is done has its last generator.
            save_generator(self._out / GENERATOR, trainer.ema, trainer.config, trainer.kimg)
            save_state(self._out / STATE, trainer.state_dict() | {"course": course, "interval": interval})


def _kimg_of(line: str) -> float:
    try:
        return float(json.loads(line)["kimg"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # a line cut short by a kill
