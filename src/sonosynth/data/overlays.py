"""What was drawn onto an image after the scan: words, calipers and their dotted lines, empty borders.

Words are read by RapidOCR (PP-OCR detection and recognition; its models come inside the package). Calipers are found as
crosses, upright or diagonal, of four equally bright thin arms that end.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from sonosynth.core.types import Array
from sonosynth.data.resize import resize_longest_side

_SIDE = 512  # pixels of the longest side at which overlays are looked for, enlarged or reduced
_SURE = 0.75  # what the reader must be sure of a word
_ARMS = (4, 6, 8)  # pixels of a caliper's arm at `_SIDE`
_BRIGHT = 160  # grey levels of every arm
_EVEN = 0.82  # of the brightest arm, for every arm: tissue crosses by chance, and unevenly
_ABOVE = 50  # grey levels of the arms above what lies between and behind them
_DOTTED = 0.3  # share of a line that must stand out
_EMPTY = 2  # grey levels: spread of a row or column that shows nothing

Box = tuple[int, int, int, int]
Cross = tuple[int, int, int]
_Steps = tuple[tuple[int, int], ...]

_STRAIGHT: _Steps = ((0, -1), (1, 0), (0, 1), (-1, 0))
_SLANTING: _Steps = ((1, -1), (1, 1), (-1, 1), (-1, -1))
_REACH = _ARMS[-1] + 5  # pixels around a cross that are looked at


@dataclass(frozen=True)
class Overlays:
    """What was found on one image; pixels of the image."""

    words: tuple[str, ...]  # texts as read, two signs or more, at least one of them a letter
    boxes: tuple[Box, ...]  # left, top, right, bottom of each of `words`
    calipers: tuple[Cross, ...]  # x, y and length of arm of each cross
    lines: tuple[tuple[int, int], ...]  # dotted lines between two calipers: indices into `calipers`
    border: Box  # empty columns at the left, rows at the top, columns at the right, rows at the bottom

    def mask(self, shape: tuple[int, int]) -> Array:
        """Return where words, calipers and their lines lie, bool ``[H, W]`` of `shape`."""
        import cv2

        drawn = np.zeros(shape, np.uint8)
        for left, top, right, bottom in self.boxes:
            drawn[max(0, top - 2) : bottom + 3, max(0, left - 2) : right + 3] = 1
        thick = max(3, 2 * round(max(shape) / _SIDE) + 3)
        for x, y, arm in self.calipers:
            reach = round(1.6 * arm) + 2
            drawn[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 1
        for i, j in self.lines:
            cv2.line(drawn, self.calipers[i][:2], self.calipers[j][:2], 1, thick)
        return cast(Array, drawn.astype(bool))


def find_overlays(grey: Array) -> Overlays:
    """Return what lies over uint8 `grey` ``[H, W]``."""
    small = resize_longest_side(grey, _SIDE)
    factor = max(grey.shape) / _SIDE
    texts = _read(small)
    crosses = [
        (x, y, arm)
        for x, y, arm in _crosses(small)
        if not any(left <= x <= right and top <= y <= bottom for _, (left, top, right, bottom) in texts)
    ]
    return Overlays(
        tuple(text for text, _ in texts),
        tuple(_scaled(box, factor) for _, box in texts),
        tuple(_scaled(cross, factor) for cross in crosses),
        tuple(_lines(small, crosses)),
        _border(grey),
    )


def remove_overlays(grey: Array) -> tuple[Array, int]:
    """Return uint8 `grey` ``[H, W]`` with words, calipers and their lines filled, and how many pixels that are.

    They are filled from their surroundings (Telea, J. Graphics Tools 9:23, 2004): smooth where tissue was, for the hole
    has no speckle.
    """
    import cv2

    hole = find_overlays(grey).mask(grey.shape)
    if not hole.any():
        return grey, 0
    return cast(Array, cv2.inpaint(grey, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)), int(hole.sum())


def _scaled(values: tuple[int, ...], factor: float) -> Any:
    return tuple(round(value * factor) for value in values)


_readers = threading.local()  # one per thread: readers keep state while they read


def _read(grey: Array) -> list[tuple[str, Box]]:
    """Return the words on `grey` and their boxes."""
    if not hasattr(_readers, "own"):
        from rapidocr_onnxruntime import RapidOCR

        limits = {"det_limit_side_len": _SIDE, "det_limit_type": "max"}
        _readers.own = RapidOCR(**limits, intra_op_num_threads=1, inter_op_num_threads=1)
    colours = np.repeat(grey[..., None], 3, axis=2)
    found, _ = _readers.own(colours, use_det=True, use_cls=False, use_rec=True)
    words = []
    for corners, text, sure in found or ():
        text = " ".join(str(text).split())
        if float(sure) >= _SURE and len(text) > 1 and any(sign.isalpha() for sign in text):
            x, y = np.array(corners, dtype=float).T
            words.append((text, (int(x.min()), int(y.min()), int(np.ceil(x.max())), int(np.ceil(y.max())))))
    return words


def _crosses(grey: Array) -> list[Cross]:
    """Return x, y and arm of all crosses, the clearest first; a single one is none, as calipers come in pairs."""
    if min(grey.shape) <= 2 * _REACH:
        return []
    found: list[tuple[float, int, int, int]] = []
    slanting = {arm: max(3, round(0.75 * arm)) for arm in _ARMS}
    upright = dict(zip(_ARMS, _ARMS, strict=True))
    for arms, between, lengths in ((_STRAIGHT, _SLANTING, upright), (_SLANTING, _STRAIGHT, slanting)):
        levels = [_levels(grey, step, set(lengths.values())) for step in arms]
        for arm, length in lengths.items():
            four = np.stack([level[length] for level in levels])
            found += _peaks(grey, four, arms, between, arm, length)
    kept: list[Cross] = []
    for _, x, y, arm in sorted(found, reverse=True):
        if all(max(abs(x - u), abs(y - v)) > _ARMS[-1] for u, v, _ in kept):
            kept.append((x, y, arm))
    return kept if len(kept) > 1 else []


def _levels(grey: Array, step: tuple[int, int], lengths: set[int]) -> dict[int, Array]:
    """Return for each of `lengths` the mean grey level of so many pixels from every pixel on in direction `step`."""
    margin = max(lengths)
    padded = np.pad(grey, margin).astype(np.uint16)
    height, width = grey.shape
    total, found = np.zeros(grey.shape, np.uint16), {}
    for k in range(margin + 1):
        top, left = margin + k * step[1], margin + k * step[0]
        total += padded[top : top + height, left : left + width]
        if k in lengths:
            found[k] = total / np.float32(k + 1)
    return found


def _peaks(
    grey: Array, four: Array, arms: _Steps, between: _Steps, arm: int, length: int
) -> list[tuple[float, int, int, int]]:
    """Return clearness, x, y and `arm` of crosses whose arms of so many pixels have the mean levels `four`."""
    import cv2

    lowest = four.min(axis=0)
    peaks = (lowest >= _BRIGHT) & (lowest == cv2.dilate(lowest, np.ones((5, 5), np.uint8)))
    peaks &= lowest >= _EVEN * four.max(axis=0)
    peaks[:_REACH], peaks[-_REACH:], peaks[:, :_REACH], peaks[:, -_REACH:] = False, False, False, False
    y, x = np.nonzero(peaks)
    gaps = np.sort([_along(grey, x, y, step, range(3, length + 1)) for step in between], axis=0)
    ends = np.sort([_along(grey, x, y, step, range(length + 3, length + 5)) for step in arms], axis=0)
    # A label may stand in one gap, and a dotted line leaves at one end.
    clearness = lowest[y, x] - np.maximum(gaps[2], ends[2])
    clear = np.flatnonzero(clearness >= _ABOVE)
    return [(float(clearness[i]), int(x[i]), int(y[i]), arm) for i in clear]


def _along(grey: Array, x: Array, y: Array, step: tuple[int, int], distances: range) -> Array:
    """Return the mean grey level at `distances` from the points `x`, `y` in direction `step`."""
    return cast(Array, np.mean([grey[y + k * step[1], x + k * step[0]] for k in distances], axis=0))


def _lines(grey: Array, crosses: list[Cross]) -> Iterator[tuple[int, int]]:
    """Yield pairs of crosses that a dotted line joins."""
    import cv2

    if len(crosses) < 2:
        return
    above: Array = grey.astype(np.float32) - cv2.medianBlur(grey, 9)
    above = cv2.dilate(above, np.ones((5, 5), np.uint8))
    for i, (x, y, arm) in enumerate(crosses):
        for j, (u, v, _) in enumerate(crosses[i + 1 :], start=i + 1):
            length = float(np.hypot(u - x, v - y))
            inner = np.arange(arm + 2, length - arm - 2) / length
            if len(inner) < 8:
                continue
            dots = above[np.rint(y + inner * (v - y)).astype(int), np.rint(x + inner * (u - x)).astype(int)]
            if float((dots > 25).mean()) >= _DOTTED and float((dots > 25)[: len(dots) // 2].mean()) >= _DOTTED / 2:
                yield i, j


def _border(grey: Array) -> Box:
    """Return how many columns and rows at each side show nothing: hardly any difference between their pixels."""
    rows = np.percentile(grey, 98, axis=1) - np.percentile(grey, 2, axis=1) <= _EMPTY
    columns = np.percentile(grey, 98, axis=0) - np.percentile(grey, 2, axis=0) <= _EMPTY
    if rows.all() or columns.all():
        return 0, 0, 0, 0
    return int(np.argmin(columns)), int(np.argmin(rows)), int(np.argmin(columns[::-1])), int(np.argmin(rows[::-1]))
