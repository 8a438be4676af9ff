"""Synthetic images beside their nearest real ones: the most suspicious, and some drawn at random."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sonosynth.core.seeds import numpy_generator
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.neighbours import euclidean_distances
from sonosynth.metrics.scores import HELD_OUT, SYNTHETIC, TRAIN
from sonosynth.report.render import picture_uri

if TYPE_CHECKING:
    from sonosynth.metrics.memorisation.similarity import Matches
    from sonosynth.metrics.scorecard import Scorecard

SUSPICIOUS, COPIES, RANDOM = 8, 16, 8
"""Rows: of the most similar to training images; of these at most, where so many are near-copies; drawn at random."""
LISTED = 500
"""Near-copies that are listed by name."""
_LARGEST = 256  # pixels of a side
_ROLES = {TRAIN: "training", HELD_OUT: "held-out"}


@dataclass(frozen=True)
class Tile:
    """A picture; `lines` stand under it."""

    uri: str
    alt: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A synthetic image and, in the order of `Gallery.columns`, its nearest real ones."""

    copied: bool
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Gallery:
    """What the page shows.

    Attributes:
        columns: headings.
        order: what the suspicious rows are sorted by.
        suspicious: rows, the most suspicious first.
        random: rows drawn whatever they look like.
        copies: of every near-copy, the most similar first: synthetic image, training image, similarity, mirrored.
    """

    columns: tuple[str, ...]
    order: str
    suspicious: tuple[Row, ...]
    random: tuple[Row, ...]
    copies: tuple[tuple[str, str, str, bool], ...]


@dataclass(frozen=True, eq=False)
class _Column:
    heading: str
    role: str
    nearest: np.ndarray
    text: str  # under the picture, to be formatted with a value
    values: np.ndarray
    mirrored: np.ndarray


def gallery(card: "Scorecard", seed: int = 0) -> Gallery | None:
    """Return the rows to show; None if `card` has neither near-copies nor features.

    Nearest by pixels are those of the search for near-copies, nearest by features those of the first feature network.
    """
    columns = _columns(card)
    if not columns:
        return None
    first = columns[0]
    n = len(card.sets[SYNTHETIC])
    copied = np.zeros(n, bool) if card.near_copies is None else card.near_copies.copied
    order = np.argsort(first.values if card.near_copies is None else -first.values, kind="stable")
    shown = order[: min(COPIES, max(SUSPICIOUS, int(copied.sum())))]
    drawn = np.sort(numpy_generator(seed, "gallery").choice(n, min(RANDOM, n), replace=False))
    return Gallery(
        columns=("synthetic image", *(column.heading for column in columns)),
        order="distance between features" if card.near_copies is None else "similarity of pixels",
        suspicious=tuple(_row(card, columns, i, bool(copied[i])) for i in shown),
        random=tuple(_row(card, columns, i, bool(copied[i])) for i in drawn),
        copies=_listed(card, [i for i in order if copied[i]]),
    )


def _columns(card: "Scorecard") -> list[_Column]:
    found = []
    if card.near_copies is not None:
        found = [(TRAIN, card.near_copies.training)]
        if card.near_copies.held_out is not None:
            found.append((HELD_OUT, card.near_copies.held_out))
    columns = [_by_pixels(role, matches) for role, matches in found]
    for network, features in list(card.features.items())[:1]:
        parts = {role: features[place].astype(np.float64) for role, place in card.slices.items()}
        for role in (TRAIN, HELD_OUT):
            if role in parts and len(parts[role]) >= 2:
                distances = euclidean_distances(parts[SYNTHETIC], parts[role])
                columns.append(_by_features(role, distances.argmin(axis=1), distances.min(axis=1), network))
    return columns


def _by_pixels(role: str, matches: "Matches") -> _Column:
    heading = f"most similar {_ROLES[role]} image, by pixels"
    return _Column(heading, role, matches.nearest, "similarity {:.2f}", matches.similarity, matches.mirrored)


def _by_features(role: str, nearest: np.ndarray, distance: np.ndarray, network: str) -> _Column:
    heading = f"nearest {_ROLES[role]} image, by {network}"
    return _Column(heading, role, nearest, "distance {:#.3g}", distance, np.zeros(len(nearest), bool))


def _row(card: "Scorecard", columns: Sequence[_Column], i: int, copied: bool) -> Row:
    tiles = [_tile(card.sets[SYNTHETIC], i, ())]
    for column in columns:
        mirrored = bool(column.mirrored[i])
        lines = (column.text.format(column.values[i]), *(["shown mirrored"] if mirrored else []))
        tiles.append(_tile(card.sets[column.role], int(column.nearest[i]), lines, mirrored))
    return Row(copied, tuple(tiles))


def _tile(part: ImageSet, i: int, lines: tuple[str, ...], mirrored: bool = False) -> Tile:
    label = part.classes[part.labels[i]]
    pixels = part.images[i][:, ::-1] if mirrored else part.images[i]
    return Tile(picture(pixels), f"{part.ids[i]}, {label}", (f"{part.ids[i]} ({label})", *lines))


def _listed(card: "Scorecard", images: Sequence[int]) -> tuple[tuple[str, str, str, bool], ...]:
    if card.near_copies is None:
        return ()
    made, seen, matches = card.sets[SYNTHETIC].ids, card.sets[TRAIN].ids, card.near_copies.training
    return tuple(
        (made[i], seen[matches.nearest[i]], f"{matches.similarity[i]:.2f}", bool(matches.mirrored[i]))
        for i in images[:LISTED]
    )


def picture(grey: np.ndarray) -> str:
    """Return uint8 ``[H, W]`` as a data URI: PNG, without loss, reduced only if a side exceeds 256 pixels."""
    image = Image.fromarray(np.ascontiguousarray(grey))
    if max(image.size) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BICUBIC)
    return picture_uri(image, "png", optimize=True)
