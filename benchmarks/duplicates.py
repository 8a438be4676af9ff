"""Does the audit find planted duplicates, and does it leave unrelated images apart? Recall and false clusters by kind.

    python benchmarks/duplicates.py '$SONOSYNTH_DATA/hc18_256' phantoms --out results/2026-11-duplicates/planted.json

As in `sonosynth data audit`, words and calipers are masked first. Of every source's images, some are planted once more,
changed in one way each; then all over again with the same words burned into every image. Images of one group of the
manifest are not unrelated.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bench import line, save
from planting import PLANTED, words
from sonosynth.audit.duplicates import find_duplicates, signature
from sonosynth.data.overlays import find_overlays
from sonosynth.data.scan import decode_image, read_source
from sonosynth.phantoms.phantom import phantom
from sonosynth.study.study_file import expand

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


def load(source: str, n: int | None, seed: int, size: int) -> tuple[list[Array], list[object]]:
    """Return pictures and what says which of them are unrelated."""
    if source == "phantoms":
        data = phantom((n or 300) // 3, size, seed=seed)
        return list(data.images), list(range(len(data)))
    items = read_source(expand(source)).items
    chosen = np.random.default_rng(seed).permutation(len(items))[:n]
    return [decode_image(items[i]).grey for i in chosen], [items[i].group or i for i in chosen]


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
    signatures = [signature(picture, find_overlays(picture).mask(picture.shape)) for picture in pictures]
    found = find_duplicates(signatures)
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
