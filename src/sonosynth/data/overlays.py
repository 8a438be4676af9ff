"""What was drawn onto an image after the scan: words, calipers and their dotted lines, empty borders.

Words are read by RapidOCR (PP-OCR detection and recognition; its models come inside the package). Calipers are found as
crosses, upright or diagonal, of four equally bright thin arms that end.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np

from sonosynth.data.keypoints import to_side

_SIDE = 512  # pixels of the longest side at which overlays are looked for, enlarged or reduced
_SURE = 0.75  # what the reader must be sure of a word
_ARMS = (4, 6, 8)  # pixels of a caliper's arm at `_SIDE`
_BRIGHT = 160  # grey levels of every arm
_EVEN = 0.82  # of the brightest arm, for every arm: tissue crosses by chance, and unevenly
_ABOVE = 50  # grey levels of the arms above what lies between and behind them
_DOTTED = 0.3  # share of a line that must stand out
_EMPTY = 2  # grey levels: spread of a row or column that shows nothing

Array = np.ndarray[Any, Any]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Overlays:
    """What was found on one image; pixels of the image.

    Attributes:
        words: texts as read, two signs or more, at least one of them a letter.
        boxes: left, top, right, bottom of each of `words`.
        calipers: x, y and length of arm of each cross.
        lines: dotted lines between two calipers: indices into `calipers`.
        border: empty columns at the left, rows at the top, columns at the right, rows at the bottom.
    """

    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    calipers: tuple[Box | tuple[int, int, int], ...]
    lines: tuple[tuple[int, int], ...]
    border: Box

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
    small = to_side(grey, _SIDE)
    factor = max(grey.shape) / _SIDE
    texts = _read(small)
    crosses = [cross for cross in _crosses(small) if not any(_inside(cross, box) for _, box in texts)]
    lines = tuple(_lines(small, crosses))
    left, top, right, bottom = _border(grey)
    return Overlays(
        tuple(text for text, _ in texts),
        tuple(_scaled(box, factor) for _, box in texts),
        tuple(cast(tuple[int, int, int], _scaled(cross, factor)) for cross in crosses),
        lines,
        (left, top, right, bottom),
    )


def _scaled(values: tuple[int, ...], factor: float) -> Any:
    return tuple(round(value * factor) for value in values)


def _inside(cross: tuple[int, int, int], box: Box) -> bool:
    return box[0] <= cross[0] <= box[2] and box[1] <= cross[1] <= box[3]


# ---------------------------------------------------------------------------------------------------- words


@cache
def _reader(thread: int) -> Any:
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(det_limit_side_len=_SIDE, det_limit_type="max", intra_op_num_threads=1, inter_op_num_threads=1)


def _read(grey: Array) -> list[tuple[str, Box]]:
    """Return the words on `grey` and their boxes."""
    colours = np.repeat(grey[..., None], 3, axis=2)
    found, _ = _reader(threading.get_ident())(colours, use_det=True, use_cls=False, use_rec=True)
    words = []
    for corners, text, sure in found or ():
        text = " ".join(str(text).split())
        if float(sure) >= _SURE and len(text) > 1 and any(sign.isalpha() for sign in text):
            x, y = np.array(corners, dtype=float).T
            words.append((text, (int(x.min()), int(y.min()), int(np.ceil(x.max())), int(np.ceil(y.max())))))
    return words


# ---------------------------------------------------------------------------------------------------- calipers


def _crosses(grey: Array) -> list[tuple[int, int, int]]:
    """Return x, y and arm of all crosses, the clearest first; a single one is none, as calipers come in pairs."""
    found: list[tuple[float, int, int, int]] = []
    for arm in _ARMS:
        for diagonal in (False, True):
            found += _crosses_of(grey, arm, diagonal)
    kept: list[tuple[int, int, int]] = []
    for _, x, y, arm in sorted(found, reverse=True):
        if all(max(abs(x - u), abs(y - v)) > _ARMS[-1] for u, v, _ in kept):
            kept.append((x, y, arm))
    return kept if len(kept) > 1 else []


def _crosses_of(grey: Array, arm: int, diagonal: bool) -> list[tuple[float, int, int, int]]:
    """Return clearness, x, y and arm of crosses with arms of one length, upright or `diagonal`."""
    import cv2

    straight = [(0, -1), (1, 0), (0, 1), (-1, 0)]
    slanting = [(1, -1), (1, 1), (-1, 1), (-1, -1)]
    arms, between = (slanting, straight) if diagonal else (straight, slanting)
    length = max(3, round(arm * 0.75)) if diagonal else arm
    reach = length + 5
    if min(grey.shape) <= 2 * reach:
        return []
    picture = grey.astype(np.float32)
    lowest, highest = np.full(grey.shape, np.inf, np.float32), np.zeros(grey.shape, np.float32)
    for dx, dy in arms:
        kernel = np.zeros((2 * length + 1,) * 2, np.float32)
        for k in range(length + 1):
            kernel[length + k * dy, length + k * dx] = 1 / (length + 1)
        level = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        lowest, highest = np.minimum(lowest, level), np.maximum(highest, level)
    peaks = (lowest >= _BRIGHT) & (lowest == cv2.dilate(lowest, np.ones((5, 5), np.uint8)))
    peaks &= lowest >= _EVEN * highest
    found = []
    for y, x in np.argwhere(peaks):
        if not (reach <= x < grey.shape[1] - reach and reach <= y < grey.shape[0] - reach):
            continue
        gaps = sorted(_along(picture, x, y, step, range(3, length + 1)) for step in between)
        ends = sorted(_along(picture, x, y, step, range(length + 3, length + 5)) for step in arms)
        # A label may stand in one gap, and a dotted line leaves at one end.
        clearness = float(lowest[y, x]) - max(gaps[2], ends[2])
        if clearness >= _ABOVE:
            found.append((clearness, int(x), int(y), arm))
    return found


def _along(picture: Array, x: int, y: int, step: tuple[int, int], distances: range) -> float:
    return float(np.mean([picture[y + k * step[1], x + k * step[0]] for k in distances]))


def _lines(grey: Array, crosses: list[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Yield pairs of crosses that a dotted line joins."""
    import cv2

    if len(crosses) < 2:
        return
    above = grey.astype(np.float32) - cv2.medianBlur(grey, 9)
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


# ---------------------------------------------------------------------------------------------------- borders


def _border(grey: Array) -> Box:
    """Return how many columns and rows at each side show nothing: hardly any difference between their pixels."""
    rows = np.percentile(grey, 98, axis=1) - np.percentile(grey, 2, axis=1) <= _EMPTY
    columns = np.percentile(grey, 98, axis=0) - np.percentile(grey, 2, axis=0) <= _EMPTY
    if rows.all() or columns.all():
        return 0, 0, 0, 0
    return int(np.argmin(columns)), int(np.argmin(rows)), int(np.argmin(columns[::-1])), int(np.argmin(rows[::-1]))
