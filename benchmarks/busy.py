"""How fast is training on a busy machine? Images per second, for fixed settings of threads and for ours.

    python benchmarks/busy.py --out results/2026-12-busy/busy.json

Other programs are processes that count, one thread each. StyleGAN2 (64 px, channel_base 2048, not compiled) trains
beside none, one and two of them, in a process of its own per setting: with all threads that spin while they wait, as
OpenMP does by default; with all threads that sleep; with one; and as `sonosynth train` does it. The rate is that from
the tenth second on. Settings take turns; medians over the turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench import line, save
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.training.loop import train_run
from train_step import some_images

SETTINGS: dict[str, dict[str, str]] = {
    "all threads, spinning": {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": str(os.cpu_count())},
    "all threads, sleeping": {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(os.cpu_count())},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "sonosynth": {},
}
# Not longer than this process.
COUNTING = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(10000))"
WARM_UP = 10.0  # seconds
KEY = ("others", "setting")
COLUMNS = (
    ("others", "{:>6}"),
    ("setting", "{:<24}"),
    ("img_per_s", "{:>10.2f}"),
    ("lowest", "{:>8.2f}"),
    ("highest", "{:>8.2f}"),
    ("of_best", "{:>8.1%}"),
)


class _EnoughError(Exception):
    """Ends a run that has been timed."""


def rate(seconds: float) -> float:
    """Return the images per second of a run between `WARM_UP` and `seconds` after its first step."""
    seen: list[tuple[float, float]] = []

    def progress(done: float, *_: object) -> None:
        seen.append((time.perf_counter(), done))
        if seen[-1][0] - seen[0][0] > seconds:
            raise _EnoughError

    recipe = make_recipe("stylegan2", channel_base=2048, compile="off")
    with tempfile.TemporaryDirectory() as folder, suppress(_EnoughError):
        train_run(some_images(64, 64), recipe, Path(folder) / "run", kimg=1e3, conditional=True, progress=progress)
    timed = [moment for moment in seen if moment[0] - seen[0][0] >= WARM_UP]
    return 1000 * (timed[-1][1] - timed[0][1]) / (timed[-1][0] - timed[0][0])


@contextmanager
def other_programs(number: int) -> Iterator[None]:
    """Keep `number` processes busy inside the block, each in a session of its own as programs of a desktop are."""
    others = [subprocess.Popen([sys.executable, "-c", COUNTING], start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(setting: str, others: int, seconds: float) -> float:
    """Return the rate in a process with the environment of `setting`."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    with other_programs(others):
        told = subprocess.run(
            [sys.executable, __file__, "--one", str(seconds)],
            env=plain | SETTINGS[setting],
            stdout=subprocess.PIPE,
            check=True,
            start_new_session=True,
        )
    return float(told.stdout.splitlines()[-1])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--others", nargs="+", type=int, default=[0, 1, 2], help="other programs")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="that each run is trained")
    parser.add_argument("--out", type=Path, help="a JSON file; lines of an earlier call with other cases stay in it")
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(rate(arguments.one)))
        return
    rows: list[dict[str, Any]] = []
    print(line(COLUMNS))
    for others in arguments.others:
        rates: dict[str, list[float]] = {name: [] for name in SETTINGS}
        for _ in range(arguments.turns):
            for name, found in rates.items():
                found.append(measure(name, others, arguments.seconds))
        medians = {name: statistics.median(found) for name, found in rates.items()}
        best = max(medians[name] for name in SETTINGS if name != "sonosynth")
        for name, found in rates.items():
            row = {"others": others, "setting": name, "img_per_s": medians[name], "of_best": medians[name] / best}
            rows.append(row | {"lowest": min(found), "highest": max(found)})
            print(line(COLUMNS, rows[-1]), flush=True)
        if arguments.out:
            save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()
