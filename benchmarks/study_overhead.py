"""What does a study cost beside its work? Time not spent in training, sampling, embedding, metrics or classification.

    python benchmarks/study_overhead.py --out results/2026-11-speed/study_overhead.json

Runs the study of `sonosynth demo` with its report, in this process, with a stopwatch around the work itself: steps of
generators, images from generators, features, metrics with their intervals, steps and predictions of classifiers. The
rest is overhead: starting Python (measured apart), reading and dividing images, building networks, checkpoints, tables,
figures and the report. The bar is 3 %.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from bench import line, save
from sonosynth.classify import classify as classifying
from sonosynth.classify.training import TrainedClassifier
from sonosynth.features.extract import FeatureExtractor
from sonosynth.gan import sample
from sonosynth.gan.training import early_stopping as course
from sonosynth.gan.training.run_writer import RunWriter
from sonosynth.gan.training.trainer import Trainer
from sonosynth.metrics import scorecard
from sonosynth.phantoms.phantom import phantom
from sonosynth.report.study.demo import PER_CLASS, SIZE, demo_study
from sonosynth.report.study.page import write_report
from sonosynth.study.run import run_design
from sonosynth.study.store import Store
from sonosynth.study.study_file import load_design

WORK: tuple[tuple[str, Any, str], ...] = (
    ("training", Trainer, "step"),
    ("sampling", sample, "synthesise"),
    ("sampling", course, "synthesise"),
    ("sampling", RunWriter, "grid"),
    ("embedding", FeatureExtractor, "__call__"),
    ("classification", classifying, "train_classifier"),
    ("classification", TrainedClassifier, "predict"),
    ("metrics", scorecard, "measure"),
)
COLUMNS = (("part", "{:<16}"), ("seconds", "{:>9.2f}"), ("share", "{:>7.1%}"))
START = "from sonosynth.cli.main import app; import sonosynth.study.run, sonosynth.report.study.page"


class Stopwatch:
    """Adds up the time in each part; a part inside another counts for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {part: 0.0 for part, _, _ in WORK}
        self._inside = False

    def around(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return `work`, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return work(*args, **kwargs)
            self._inside, began = True, time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self._inside = False
                self.seconds[part] += time.perf_counter() - began

        return timed


class Quiet:
    """A monitor that shows nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def start(self, cell: Any, number: int, total: int) -> None:
        """Show nothing."""

    def progress(self, cell: Any, done: float, total: float, text: str) -> None:
        """Show nothing."""

    def finish(self, cell: Any, seconds: float | None) -> None:
        """Show nothing."""


def starting(repeats: int = 3) -> float:
    """Return how long Python takes to load what a study needs, the median."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", START], check=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(kimg: float | None, folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the table."""
    phantom(PER_CLASS, SIZE).save(folder / "phantoms")
    text = demo_study(folder / "phantoms")
    if kimg is not None:
        text = re.sub(r"kimg: [\d.]+", f"kimg: {kimg:g}", text)
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    watch = Stopwatch()
    with ExitStack() as patched:
        for part, owner, name in WORK:
            patched.enter_context(mock.patch.object(owner, name, watch.around(part, getattr(owner, name))))
        began = time.perf_counter()
        run_design(load_design(file), text, Store(folder / "study"), Quiet(), "benchmarks/study_overhead.py")
        write_report(folder / "study")
        total = time.perf_counter() - began
    start = starting()
    parts = watch.seconds | {"start of Python": start, "rest": total - sum(watch.seconds.values())}
    overhead = parts["start of Python"] + parts["rest"]
    return [
        {"part": part, "seconds": value, "share": value / (total + start)}
        for part, value in (parts | {"overhead": overhead, "all": total + start}).items()
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kimg", type=float, help="a shorter study than the demo's, to try this script")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.kimg, Path(folder))
    print(line(COLUMNS))
    for row in rows:
        print(line(COLUMNS, row))
    if arguments.out:
        save(arguments.out, rows, ["part"])


if __name__ == "__main__":
    main()
