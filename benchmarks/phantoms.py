"""How fast are phantoms made? Images a second, by size and number of processes.

    python benchmarks/phantoms.py --out results/2026-11-speed/phantoms.json

`seconds_1000` is the time that 1,000 images took, or would take. Run it on an idle machine with as many cores as
processes.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from joblib import cpu_count

from bench import line, save
from sonosynth.phantoms.phantom import CLASSES, phantom

KEY = ("size", "workers")
COLUMNS = (
    ("size", "{:>5}"),
    ("workers", "{:>8}"),
    ("cores", "{:>6}"),
    ("n", "{:>5}"),
    ("img_per_s", "{:>10.1f}"),
    ("seconds_1000", "{:>13.1f}"),
)


def measure(size: int, workers: int, n: int) -> dict[str, Any]:
    """Return one line of the table."""
    per_class = -(-n // len(CLASSES))
    phantom(2, size, workers=workers)
    began = time.perf_counter()
    made = len(phantom(per_class, size, workers=workers))
    took = time.perf_counter() - began
    return {
        "size": size,
        "workers": workers,
        "cores": cpu_count(),
        "n": made,
        "img_per_s": made / took,
        "seconds_1000": 1000 * took / made,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("-n", type=int, default=300, help="images a measurement, rounded up to whole classes")
    parser.add_argument("--out", type=Path, help="a JSON file; lines of an earlier call with other cases stay in it")
    arguments = parser.parse_args()
    rows = []
    print(line(COLUMNS))
    for size in arguments.sizes:
        for workers in arguments.workers:
            rows.append(measure(size, workers, arguments.n))
            print(line(COLUMNS, rows[-1]), flush=True)
            if arguments.out:
                save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()
