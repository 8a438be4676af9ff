"""Pixel values of more than 8 bits: which value is white, and how they become 8-bit grey."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonosynth.core.errors import SourceError

BIT_DEPTHS = range(8, 17)
STATED = "values scaled by the range that the file states"
FULL = 65535
UNKNOWN_RANGE = "pixel values of unknown range; store it with 8 or 16 bits"
_GUESSES = (255, 4095, FULL)  # 8 bits, the 12 bits of scanners, and 16 bits
_LUMA = (299, 587, 114)  # thousandths of red, green and blue, ITU-R 601
_ROWS = 256  # converted at a time, so that wide numbers take little memory


class BitDepth:
    """Decides which value is white in files of 16 bits that do not state it, once for all files that share it.

    It is the full range of the smallest of 8, 12 and 16 bits that holds the largest value of all these files. For any
    number of threads.
    """

    def __init__(
        self, bits: int | None = None, largest: Callable[[int | None, Callable[[int], bool]], int] | None = None
    ) -> None:
        """Set how the decision is made.

        Args:
            bits: the depth as the user gives it, 8 to 16; None: from the values.
            largest: called once for all files that state `significant` bits (None: nothing), with that number and a
                function that says of a value whether larger ones can change nothing; returns their largest value.
                None: every file is decided alone.
        """
        self._bits, self._search, self._lock = bits, largest, threading.Lock()
        self._found: dict[int | None, int] = {}

    def white(self, path: Path, largest: int, significant: int | None = None) -> int:
        """Return the value of white for the file at `path` with values up to `largest`.

        `significant` is the number of significant bits that it states without saying whether its values were scaled to
        the full range (sBIT of PNG): scaled, unless the values of all such files fit into so many bits. Raises
        SourceError if the user gave fewer bits than the values need.
        """
        if significant is None and self._bits is not None:
            white = (1 << self._bits) - 1
            if largest > white:
                raise SourceError(
                    f"{path}: the value {largest} is above {white}, the largest of {self._bits} bits; give more bits "
                    "(--bits, or data.bits in a study), or leave them out"
                )
            return white

        def white_of(value: int) -> int:
            guesses = _GUESSES if significant is None else ((1 << significant) - 1, FULL)
            return next(guess for guess in guesses if value <= guess)

        if self._search is not None:
            with self._lock:
                if significant not in self._found:
                    self._found[significant] = self._search(significant, lambda value: white_of(value) == FULL)
            largest = max(largest, self._found[significant])
        return white_of(largest)


@dataclass(frozen=True, eq=False)
class HighDepthImage:
    """One image whose values have more than 8 bits, or another number than formats of 8 bits hold."""

    values: np.ndarray  # uint16, [H, W] grey or [H, W, 3] red, green, blue
    white: int | None = None  # the value of white, if the file states it
    significant: int | None = None  # number of significant bits, if it states no more; see `BitDepth.white`
    inverted: bool = False  # whether 0 is white
    alpha: np.ndarray | None = None  # uint16 [H, W], 0 (transparent) to 65535, which multiplies `values`; None: opaque

    def grey(self, path: Path, depth: BitDepth) -> tuple[np.ndarray, list[str], float]:
        """Return the image as uint8 ``[H, W]``: luma · 255 / white, rounded; transparent pixels are laid over black.

        Also returns what was converted, and the largest difference between channels in grey levels. Raises SourceError
        if the values do not fit into the bits that the user gave.
        """
        alpha, values, notes = self.alpha, self.values, list[str]()
        if alpha is not None and alpha.min() < FULL:
            values = values.copy()
            values[alpha == 0] = 0
            notes.append("transparent pixels laid over black")
        if (white := self.white) is None:
            white = depth.white(path, int(values.max()), self.significant)
            notes.append(f"16-bit file with {white.bit_length()}-bit values")
            if 4 * int(values.max()) <= white:
                notes.append("dark, at most a quarter of that range is used: give --bits if the values have fewer bits")
        else:
            notes.append(STATED)
        grey, spread = np.empty(values.shape[:2], np.uint8), 0
        for top in range(0, len(values), _ROWS):
            rows = slice(top, top + _ROWS)
            part = np.minimum(values[rows], white).astype(np.int64)
            if self.inverted:
                part = white - part
            if part.ndim == 3:
                spread = max(spread, int(np.ptp(part, axis=2).max(initial=0)))
                part = part @ np.array(_LUMA)
            else:
                part = part * sum(_LUMA)
            share = FULL if alpha is None else alpha[rows].astype(np.int64)
            # Numerator and denominator are exact in float64, so equal channels give the value of one channel.
            grey[rows] = np.rint((part * 255 * share) / (sum(_LUMA) * white * FULL))
        return grey, notes, spread * 255 / white


def as_uint16(values: np.ndarray) -> np.ndarray:
    """Return numbers of any type as uint16, if all are whole and of 0 to 65535. Raises ValueError if they are not."""
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise ValueError(UNKNOWN_RANGE)
    if values.size and (values.min() < 0 or values.max() > FULL):
        raise ValueError(UNKNOWN_RANGE)
    return values.astype(np.uint16, copy=False)
