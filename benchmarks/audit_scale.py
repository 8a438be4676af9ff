"""How long does an audit of many images take, and how much memory? Whole commands, timed from outside.

    python benchmarks/audit_scale.py '$SONOSYNTH_DATA/Dataset_BUSI_with_GT' '$SONOSYNTH_DATA/hc18_256' -n 10000

The sources' images are written to one folder, then changed copies of them (`planting.py`) until there are `n`. Copies
are dear: every pair of them is aligned and compared.
"""

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from PIL import Image

from bench import line, save
from planting import PLANTED
from sonosynth.data.scan import decode_image, read_source
from sonosynth.study.study_file import expand

KEY = ("images", "seed")
COLUMNS = (
    ("images", "{:>7}"),
    ("cores", "{:>6}"),
    ("minutes", "{:>8.1f}"),
    ("peak_gb", "{:>8.2f}"),
    ("copies", "{:>7}"),
    ("recall", "{:>7.1%}"),
    ("clusters", "{:>9}"),
)


def plant(sources: list[str], n: int, folder: Path, seed: int) -> list[tuple[str, int]]:
    """Write `n` images to `folder` and return their paths there, each with the number of the image it is a copy of."""
    originals = [(item, Path(source).name) for source in sources for item in read_source(expand(source)).items]
    rng, kinds = np.random.default_rng(seed), list(PLANTED.values())
    written = []
    for i in range(n):
        of = i if i < len(originals) else int(rng.integers(len(originals)))
        item, source = originals[of]
        picture = decode_image(item).grey
        if i != of:
            picture = kinds[i % len(kinds)](picture, rng)
        path = Path(f"{source}-{item.label}") / f"{i:06}.png"
        (folder / path).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / path, compress_level=1)
        written.append((path.as_posix(), of))
    return written


def measure(sources: list[str], n: int, seed: int) -> dict[str, Any]:
    """Return one line of the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary, "images"), Path(temporary, "audit")
        folder.mkdir()
        written = plant(sources, n, folder, seed)
        began = time.perf_counter()
        command = [str(Path(sys.executable).parent / "sonosynth"), "data", "audit", str(folder), "--out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - began
        with (out / "groups.csv").open(encoding="utf-8", newline="") as file:
            group = {row["path"]: row["group"] for row in csv.DictReader(file)}
    found = [group[path] == group[written[of][0]] for i, (path, of) in enumerate(written) if i != of]
    return {
        "images": len(written),
        "seed": seed,
        "cores": cpu_count(),
        "minutes": took / 60,
        "peak_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
        "copies": len(found),
        "recall": float(np.mean(found)) if found else 1.0,
        "clusters": len(set(group.values())),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sources", nargs="+", help="environment variables are expanded")
    parser.add_argument("-n", nargs="+", type=int, default=[10_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    print(line(COLUMNS))
    for n in arguments.n:
        rows.append(measure(arguments.sources, n, arguments.seed))
        print(line(COLUMNS, rows[-1]), flush=True)
        if arguments.out:
            save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()
