"""What does a scorecard cost? Seconds with and without cached features, by part, and the most memory that was in use.

    python benchmarks/scorecard.py --features efficientnet-lite0 inception --out results/2026-11-speed/scorecard.json

Phantoms of three classes against phantoms of a narrower dynamic range, all metrics; the phantoms are simulated once and
kept in --runs. Every case runs in a process of its own, first without any features in the cache, then with all of them.
CPU seconds are those of all threads together: on a machine that does something else too, they say more than seconds.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import line, save
from pools import Pool, pool
from sonosynth.data.imageset import ImageSet
from sonosynth.features.extract import load_features
from sonosynth.features.registry import list_features
from sonosynth.metrics.metric import PARTS
from sonosynth.metrics.scorecard import score
from sonosynth.phantoms.phantom import CLASSES

KEY = ("features", "size", "n_train", "n_held_out", "n_synthetic", "threads")
COLUMNS = (
    ("features", "{:<19}"),
    ("size", "{:>4}"),
    ("n_train", "{:>7}"),
    ("n_held_out", "{:>10}"),
    ("n_synthetic", "{:>11}"),
    ("cold_s", "{:>7.1f}"),
    ("cached_s", "{:>8.1f}"),
    ("cold_cpu_s", "{:>10.1f}"),
    ("cached_cpu_s", "{:>12.1f}"),
    ("peak_mb", "{:>8.0f}"),
)
SHIFTED = {"dynamic_range_db": (42.0, 56.0)}
"""Of the phantoms that stand for synthetic images; others have 48 to 62 dB."""


def image_set(phantoms: Pool, name: str, first_group: int) -> ImageSet:
    """Return phantoms of all classes as an image set."""
    return ImageSet(
        images=phantoms.images,
        labels=phantoms.labels,
        classes=CLASSES,
        groups=first_group + np.arange(len(phantoms), dtype=np.int64),
        ids=tuple(f"{name}-{i}" for i in range(len(phantoms))),
        synthetic=name == "synthetic",
    )


def measure(name: str, sets: Mapping[str, ImageSet], threads: int) -> dict[str, Any]:
    """Return one line of the table."""
    torch.set_num_threads(threads)
    load_features(name)
    row: dict[str, Any] = {
        "features": name,
        "size": sets["train"].size[0],
        "n_train": len(sets["train"]),
        "n_held_out": len(sets["held-out"]) if "held-out" in sets else 0,
        "n_synthetic": len(sets["synthetic"]),
        "threads": threads,
    }
    given = (sets["train"], sets["synthetic"], sets.get("held-out"), (name,))
    with tempfile.TemporaryDirectory() as cache:
        for state in ("cold", "cached"):
            with _timed(row, state):
                score(*given, cache=Path(cache))
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
        for part in PARTS:
            with _timed(row, f"cached_{part}"):
                score(*given, cache=Path(cache), parts=(part,))
    return row


@contextmanager
def _timed(row: dict[str, Any], name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    row |= {f"{name}_s": time.perf_counter() - wall, f"{name}_cpu_s": time.process_time() - cpu}


def apart(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what `function` does in a new process, so that the memory of one case is not counted for the next."""
    with get_context("spawn").Pool(1) as process:
        return process.apply(function, arguments)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=1000, help="training images, and as many synthetic ones")
    parser.add_argument("--held-out", type=int, nargs="+", default=[0, 500])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--features", nargs="+", choices=list_features(), default=["efficientnet-lite0"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=Path, default=Path("runs/scorecard"), help="where phantoms are kept")
    parser.add_argument("--out", type=Path, help="a JSON file; lines of an earlier call with other cases stay in it")
    arguments = parser.parse_args()
    n, size, most = arguments.n, arguments.size, max(arguments.held_out)
    real = pool(arguments.runs / f"real-{size}", n + most, size, 11, "efficientnet-lite0", CLASSES)
    made = pool(arguments.runs / f"synthetic-{size}", n, size, 12, "efficientnet-lite0", CLASSES, SHIFTED)
    rows = []
    print(line(COLUMNS))
    for name in arguments.features:
        for held_out in arguments.held_out:
            chosen = np.random.default_rng(0).permutation(len(real))
            sets = {
                "train": image_set(real.take(chosen[:n]), "train", 0),
                "synthetic": image_set(made, "synthetic", n + most),
            }
            if held_out:
                sets["held-out"] = image_set(real.take(chosen[n : n + held_out]), "held-out", n)
            rows.append(apart(measure, name, sets, arguments.threads))
            print(line(COLUMNS, rows[-1]), flush=True)
            parts = ", ".join(f"{part} {rows[-1][f'cached_{part}_cpu_s']:.1f}" for part in PARTS)
            print(f"  CPU seconds of the parts alone, features cached: {parts}", flush=True)
            if arguments.out:
                save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()
