"""Does the audit find planted duplicates, and does it leave strangers apart? Recall and false clusters by kind.

    python benchmarks/duplicates.py '$SONOSYNTH_DATA/hc18_256' phantoms --out results/duplicates/planted.json

Of every source's images, a part is planted once more, changed in one way each. With `--words` every image carries the
same burned-in words. Images of one group of the manifest are no strangers.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench import line, save
from sonosynth.data.duplicates import find_duplicates, view
from sonosynth.data.phantom import phantom
from sonosynth.data.readers import decode, read_source
from sonosynth.study.design import expand

Array = np.ndarray[Any, Any]
COLUMNS = (
    ("source", "{:<24}"),
    ("images", "{:>7}"),
    ("words", "{:>6}"),
    ("planted", "{:<9}"),
    ("n", "{:>5}"),
    ("recall", "{:>8.1%}"),
    ("lowest", "{:>7.2f}"),
)
KEY = ("source", "words", "planted", "seed")


def resized(grey: Array, width: int, height: int) -> Array:
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC))


def crop(grey: Array, rng: np.random.Generator) -> Array:
    """Keep 70 % of both sides, anywhere."""
    height, width = (round(0.7 * side) for side in grey.shape)
    top, left = (rng.integers(0, full - part + 1) for full, part in zip(grey.shape, (height, width), strict=True))
    return grey[top : top + height, left : left + width].copy()


def zoom(grey: Array, rng: np.random.Generator) -> Array:
    """Crop, and bring what is left to the size of the original."""
    return resized(crop(grey, rng), *grey.shape[::-1])


def gain(grey: Array, rng: np.random.Generator) -> Array:
    return np.clip(grey * rng.choice([0.85, 1.15]), 0, 255).astype(np.uint8)


def jpeg(grey: Array, rng: np.random.Generator) -> Array:
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=50)
    return np.asarray(Image.open(stream))


def flip(grey: Array, rng: np.random.Generator) -> Array:
    return np.ascontiguousarray(grey[:, ::-1])


def calipers(grey: Array, rng: np.random.Generator) -> Array:
    """Draw two crosses and a dotted line between them."""
    picture = Image.fromarray(grey)
    pen = ImageDraw.Draw(picture)
    height, width = grey.shape
    (x0, x1), (y0, y1) = rng.uniform(0.2, 0.8, 2) * width, rng.uniform(0.2, 0.8, 2) * height
    arm = max(3, width // 50)
    for x, y in ((x0, y0), (x1, y1)):
        pen.line((x - arm, y, x + arm, y), fill=255)
        pen.line((x, y - arm, x, y + arm), fill=255)
    for t in np.linspace(0, 1, 24):
        pen.point((x0 + t * (x1 - x0), y0 + t * (y1 - y0)), fill=255)
    return np.asarray(picture)


def words(grey: Array, text: str, place: tuple[float, float]) -> Array:
    picture = Image.fromarray(grey)
    at = (place[0] * grey.shape[1], place[1] * grey.shape[0])
    ImageDraw.Draw(picture).text(at, text, fill=255, font=ImageFont.load_default(max(9, grey.shape[1] // 16)))
    return np.asarray(picture)


def text(grey: Array, rng: np.random.Generator) -> Array:
    return words(grey, "RT AXILLA", (rng.uniform(0, 0.5), rng.uniform(0, 0.9)))


def both(grey: Array, rng: np.random.Generator) -> Array:
    """Crop, flip, change the gain and compress."""
    return jpeg(gain(flip(crop(grey, rng), rng), rng), rng)


PLANTED: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "crop": crop,
    "zoom": zoom,
    "gain": gain,
    "jpeg": jpeg,
    "flip": flip,
    "calipers": calipers,
    "text": text,
    "all": both,
}


def load(source: str, n: int | None, seed: int, size: int) -> tuple[list[Array], list[object]]:
    """Return pictures and what says which of them are strangers."""
    if source == "phantoms":
        data = phantom((n or 300) // 3, size, seed=seed)
        return list(data.images), list(range(len(data)))
    items = read_source(expand(source)).items
    chosen = np.random.default_rng(seed).permutation(len(items))[:n]
    return [decode(items[i]).grey for i in chosen], [items[i].group or i for i in chosen]


def measure(source: str, n: int | None, each: int, seed: int, size: int, burned: bool) -> list[dict[str, Any]]:
    """Plant `each` copies a kind, search, and return a line a kind."""
    pictures, groups = load(source, n, seed, size)
    rng = np.random.default_rng(seed)
    origin, kinds = list(range(len(pictures))), [""] * len(pictures)
    for kind, change in PLANTED.items():
        for i in rng.permutation(len(groups))[:each]:
            pictures.append(change(pictures[i], rng))
            origin.append(int(i))
            kinds.append(kind)
    if burned:
        pictures = [words(words(p, "RT AXILLA", (0.05, 0.85)), "BREAST 12 MHz", (0.4, 0.03)) for p in pictures]
    found = find_duplicates([view(picture) for picture in pictures])
    similarity = {(pair.a, pair.b): pair.similarity for pair in found}
    root = list(range(len(pictures)))
    for pair in found:
        a, b = root[pair.a], root[pair.b]
        root = [min(a, b) if r in (a, b) else r for r in root]
    clusters: dict[int, list[int]] = {}
    for i, r in enumerate(root):
        clusters.setdefault(r, []).append(i)
    several = [members for members in clusters.values() if len(members) > 1]
    joined = [c for c in several if len({groups[origin[i]] for i in c}) > 1]
    rows = []
    for kind in PLANTED:
        copies = [i for i, k in enumerate(kinds) if k == kind]
        values = [similarity.get((origin[i], i), 0.0) for i in copies]
        rows.append({
            "source": Path(source).name,
            "images": len(pictures),
            "words": "all" if burned else "none",
            "planted": kind,
            "n": len(copies),
            "recall": float(np.mean([root[i] == root[origin[i]] for i in copies])),
            "lowest": float(min((v for v in values if v > 0), default=0)),
            "seed": seed,
            "clusters": len(several),
            "clusters_joining_strangers": len(joined),
        })  # fmt: skip
    for cluster in joined:
        inside = [
            f"{p.a}-{p.b} {p.kind} {p.similarity}"
            for p in found
            if p.a in cluster and groups[origin[p.a]] != groups[origin[p.b]]
        ]
        print("  strangers:", ", ".join(inside))
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sources", nargs="+", help="'phantoms', or images; environment variables are expanded")
    parser.add_argument("-n", type=int, help="images of each source (phantoms: 300; else all)")
    parser.add_argument("--each", type=int, default=50, help="copies planted of each kind")
    parser.add_argument("--size", type=int, default=128, help="of phantoms, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(line(COLUMNS))
    for source in arguments.sources:
        for burned in (False, True):
            found = measure(source, arguments.n, arguments.each, arguments.seed, arguments.size, burned)
            for row in found:
                print(line(COLUMNS, row), flush=True)
            print(f"  {found[0]['clusters']} clusters, joining strangers: {found[0]['clusters_joining_strangers']}")
            rows += found
            if arguments.out:
                save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()
