"""Synthetic images beside their nearest real ones: the most suspicious, and some drawn at random."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sonosynth.core.seeds import numpy_generator
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.neighbours import euclidean_distances
from sonosynth.metrics.scores import HELD_OUT, SYNTHETIC, TRAIN
from sonosynth.report.render import picture_uri

if TYPE_CHECKING:
    from sonosynth.metrics.scorecard import Scorecard

SUSPICIOUS, COPIES, RANDOM = 8, 16, 8
"""Rows: of the most similar to training images; of these at most, where so many are near-copies; drawn at random."""
LISTED = 500
"""Near-copies that are listed by name."""
_LARGEST = 256  # pixels of a side
_ROLES = {TRAIN: "training", HELD_OUT: "held-out"}


@dataclass(frozen=True)
class Gallery:
    """What the page shows: rows of a synthetic image and its nearest real ones, under headings, the `columns`."""

    columns: tuple[str, ...]
    order: str  # what the suspicious rows are sorted by
    suspicious: list[dict[str, Any]]  # the most suspicious first
    random: list[dict[str, Any]]  # drawn whatever they look like
    copies: list[tuple[str, str, str, bool]]  # of near-copies: synthetic image, training image, similarity, mirrored


@dataclass(frozen=True, eq=False)
class _Column:
    heading: str
    role: str
    nearest: np.ndarray
    text: str  # under the picture, to be formatted with a value
    values: np.ndarray
    mirrored: np.ndarray


def gallery(card: "Scorecard") -> Gallery | None:
    """Return the rows to show; None if `card` has neither near-copies nor features.

    Nearest by pixels are those of the search for near-copies, nearest by features those of the first feature network.
    """
    columns, near, synthetic = _columns(card), card.near_copies, card.sets[SYNTHETIC]
    if not columns:
        return None
    n, nearest = len(synthetic), columns[0]
    copied = np.zeros(n, bool) if near is None else near.copied
    order = np.argsort(nearest.values if near is None else -nearest.values, kind="stable")
    shown = order[: min(COPIES, max(SUSPICIOUS, int(copied.sum())))]
    drawn = np.sort(numpy_generator(card.seed, "gallery").choice(n, min(RANDOM, n), replace=False))

    def row(i: int) -> dict[str, Any]:
        tiles = [_tile(synthetic, i, ())]
        for column in columns:
            mirrored = bool(column.mirrored[i])
            lines = (column.text.format(column.values[i]), *(["shown mirrored"] if mirrored else []))
            tiles.append(_tile(card.sets[column.role], int(column.nearest[i]), lines, mirrored))
        return {"copied": bool(copied[i]), "tiles": tiles}

    return Gallery(
        columns=("synthetic image", *(column.heading for column in columns)),
        order="distance between features" if near is None else "similarity of pixels",
        suspicious=[row(i) for i in shown],
        random=[row(i) for i in drawn],
        copies=[
            (
                synthetic.ids[i],
                card.sets[TRAIN].ids[nearest.nearest[i]],
                f"{nearest.values[i]:.2f}",
                bool(nearest.mirrored[i]),
            )
            for i in [i for i in order if copied[i]][:LISTED]
        ],
    )


def _columns(card: "Scorecard") -> list[_Column]:
    columns = []
    if card.near_copies is not None:
        for role, found in ((TRAIN, card.near_copies.training), (HELD_OUT, card.near_copies.held_out)):
            if found is not None:
                heading = f"most similar {_ROLES[role]} image, by pixels"
                text, values = "similarity {:.2f}", found.similarity
                columns.append(_Column(heading, role, found.nearest, text, values, found.mirrored))
    for network, features in list(card.features.items())[:1]:
        parts = {role: features[place].astype(np.float64) for role, place in card.slices.items()}
        for role in (TRAIN, HELD_OUT):
            if role in parts and len(parts[role]) >= 2:
                heading = f"nearest {_ROLES[role]} image, by {network}"
                distances = euclidean_distances(parts[SYNTHETIC], parts[role])
                nearest, straight = distances.argmin(axis=1), np.zeros(len(distances), bool)
                columns.append(_Column(heading, role, nearest, "distance {:#.3g}", distances.min(axis=1), straight))
    return columns


def _tile(part: ImageSet, i: int, lines: tuple[str, ...], mirrored: bool = False) -> dict[str, Any]:
    """Return a picture, without loss, reduced only if a side exceeds `_LARGEST`, and the lines under it."""
    label = part.classes[part.labels[i]]
    image = Image.fromarray(np.ascontiguousarray(part.images[i][:, ::-1] if mirrored else part.images[i]))
    if max(image.size) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BICUBIC)
    uri = picture_uri(image, "png", optimize=True)
    return {"uri": uri, "alt": f"{part.ids[i]}, {label}", "lines": (f"{part.ids[i]} ({label})", *lines)}
