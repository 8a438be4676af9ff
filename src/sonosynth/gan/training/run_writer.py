"""What a run writes while it trains; of several processes, only the main one writes."""

import json
from pathlib import Path
from typing import Any, Self

from sonosynth.core import distributed
from sonosynth.core.files import write_text
from sonosynth.gan.checkpoint import BEST, GENERATOR, LOG, SAMPLES, STATE, RunConfig, save_generator, save_state
from sonosynth.gan.sample import save_sample_grid
from sonosynth.gan.training.log_statistics import Entry
from sonosynth.gan.training.trainer import Trainer
from sonosynth.priors.prior import list_priors
from sonosynth.tracking.tracker import Mirrors, Params
from sonosynth.tracking.trackers import Trackers


class RunWriter:
    """Keeps the run of `trainer` in the directory `out`, and mirrors it in the trackers until the block ends."""

    def __init__(self, out: Path, trainer: Trainer, track: Trackers | None):
        self._out, self._trainer = out, trainer
        self._writes = distributed.is_main_process()
        self._saved = round(1000 * trainer.kimg)
        self._mirrors = mirrors_of(out, trainer.config, track) if self._writes and track is not None else None
        if self._writes:  # the log is cut back to what the restored state had seen
            lines = (out / LOG).read_text(encoding="utf-8").splitlines() if (out / LOG).exists() else []
            write_text(out / LOG, "".join(f"{line}\n" for line in lines if _kimg_of(line) <= trainer.kimg))

    def __enter__(self) -> Self:
        if self._mirrors is not None:
            self._mirrors.catch_up(self._saved)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._mirrors is not None:
            self._mirrors.close(kind is None)

    def line(self, entry: Entry) -> None:
        """Add a line to the log, one JSON object; numbers are rounded to six significant digits."""
        if self._writes:
            plain = {name: float(f"{x:.6g}") if isinstance(x, float) else x for name, x in entry.items()}
            with (self._out / LOG).open("a", encoding="utf-8", newline="\n") as file:
                file.write(f"{json.dumps(plain, allow_nan=False)}\n")

    def show(self) -> None:
        """Tell the trackers that there is more to see."""
        if self._mirrors is not None:
            self._mirrors.update(self._saved)

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
            self._saved = round(1000 * trainer.kimg)


def mirrors_of(run: Path, config: RunConfig, track: Trackers) -> Mirrors:
    """Return what mirrors the log and the sample grids of `run` in trackers, which are told `config`."""
    title = f"{config.recipe.name}, n={sum(config.class_counts)}, seed {config.seed}"
    part = "" if config.conditional else config.classes[0]
    return track.follow(run, title, part, _params(config), run / LOG, run / SAMPLES)


def _params(config: RunConfig) -> Params:
    """Return what trackers are told: no path, and nothing of single images."""
    recipe = config.recipe.record()
    if recipe.get("prior") is not None and recipe["prior"] not in list_priors():
        recipe["prior"] = "of a folder"
    return {
        "size": config.size,
        "n": sum(config.class_counts),
        "classes": ", ".join(config.classes),
        "counts": ", ".join(map(str, config.class_counts)),
        "conditional": config.conditional,
        "seed": config.seed,
        **{f"recipe.{name}": _plain(value) for name, value in recipe.items()},
    }


def _plain(value: Any) -> str | float | bool | None:
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)


def _kimg_of(line: str) -> float:
    try:
        return float(json.loads(line)["kimg"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # a line cut short by a kill
