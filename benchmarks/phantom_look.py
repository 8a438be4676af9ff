"""Can one tell phantoms from real images? One figure of both, shuffled, and the answers.

    python benchmarks/phantom_look.py '$SONOSYNTH_DATA/Dataset_BUSI_with_GT' --out docs/explanation/phantom_look.png

Phantoms are the first of each class. Real images are the first of a random order that show no text and no calipers,
which would give them away, as many of each class; they are named below. The answers are printed.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sonosynth.core.files import atomic_file
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source
from sonosynth.phantoms.phantom import phantom
from sonosynth.study.study_file import expand

REAL = (
    *("benign (186)", "benign (91)", "benign (24)", "benign (166)"),
    *("malignant (194)", "malignant (101)", "malignant (102)", "malignant (187)"),
    *("normal (52)", "normal (38)"),
)
COUNTS = {"benign": 4, "malignant": 4, "normal": 2}
SIZE, COLUMNS, GAP, TITLE = 128, 5, 4, 12


def pictures(source: str, seed: int) -> list[tuple[str, np.ndarray]]:
    """Return what each picture is, and its pixels uint8 ``[SIZE, SIZE]``, shuffled."""
    found = read_source(expand(source))
    real, _ = prepare_images(replace(found, items=tuple(item for item in found.items if item.id in REAL)), SIZE, "crop")
    made = phantom(max(COUNTS.values()), SIZE, seed)
    chosen = made.subset(np.concatenate([np.flatnonzero(made.labels == k)[:n] for k, n in enumerate(COUNTS.values())]))
    both = [(f"BUSI {name}", image) for name, image in zip(real.ids, real.images, strict=True)]
    both += [(f"phantom {name}", image) for name, image in zip(chosen.ids, chosen.images, strict=True)]
    return [both[i] for i in np.random.default_rng(seed).permutation(len(both))]


def draw(shown: list[tuple[str, np.ndarray]]) -> Image.Image:
    """Return the figure: numbered pictures in rows."""
    width, height = SIZE + GAP, SIZE + TITLE + GAP
    sheet = Image.new("L", (COLUMNS * width - GAP, -(-len(shown) // COLUMNS) * height - GAP), 255)
    pen = ImageDraw.Draw(sheet)
    for k, (_, image) in enumerate(shown):
        x, y = k % COLUMNS * width, k // COLUMNS * height
        pen.text((x + 2, y), str(k + 1), fill=0)
        sheet.paste(Image.fromarray(image), (x, y + TITLE))
    return sheet


def main() -> None:
    """Write the figure and print the answers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="BUSI, with its own file names; environment variables are expanded")
    parser.add_argument("--seed", type=int, default=0, help="of the phantoms and of the order")
    parser.add_argument("--out", type=Path, required=True, help="a PNG file")
    arguments = parser.parse_args()
    shown = pictures(arguments.source, arguments.seed)
    with atomic_file(arguments.out) as beside:
        draw(shown).save(beside, "PNG", optimize=True)
    print("\n".join(f"{k}. {name}" for k, (name, _) in enumerate(shown, 1)))


if __name__ == "__main__":
    main()
