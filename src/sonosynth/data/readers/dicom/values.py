"""From the stored values of a DICOM frame to greys, by the tables, rescales and windows of its header.

PS3.3 C.11.1 (modality), C.11.2 (values of interest, VOI), C.7.6.3.1.5 and C.7.9 (palettes), and the functional groups
of Enhanced objects, C.7.6.16.2.9 (pixel value transformation) and C.7.6.16.2.10 (frame VOI).
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from sonosynth.data.readers.dicom.header import DicomError, transfer_syntax

_DISCRETE, _LINEAR = 0, 1  # kinds of segments of a palette
_MODALITY = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
_VOI = ("VOILUTSequence", "WindowWidth")
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


# ---------------------------------------------------------------------------------------------------- one channel


def monochrome(stored: np.ndarray, data: Dataset, frame: int) -> tuple[np.ndarray, list[str]]:
    """Return uint8 of the shape of `stored`, before any inversion, and what was done.

    The modality table or rescale, then the VOI table or window of frame `frame` (counted from 0): of its own functional
    group, else of the shared one, else of the data set. Raises DicomError.
    """
    bits, signed = int(data.BitsStored), data.PixelRepresentation == 1
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    values, dark = stored, list[str]()
    place = _place(data, frame, "PixelValueTransformationSequence", _MODALITY)
    if items := place.get("ModalityLUTSequence"):
        table = _lookup_table("modality table", items[0], data, signed)
        values, bits = table.of(stored), table.bits
        low, high = 0.0, 2.0**bits - 1
    else:
        rescale = [*_numbers(place, "RescaleSlope", 1), *_numbers(place, "RescaleIntercept", 0)]
        if len(rescale) != 2 or rescale[0] == 0 or not np.isfinite(rescale).all():
            raise DicomError("its rescale slope is 0, or its rescale slope or intercept is no finite number")
        slope, intercept = rescale
        if (slope, intercept) != (1, 0):
            values = stored * slope + intercept
            low, high = sorted((low * slope + intercept, high * slope + intercept))
        dark = unused_bits_note(stored, bits)
    place = _place(data, frame, "FrameVOILUTSequence", _VOI)
    if items := place.get("VOILUTSequence"):
        table = _lookup_table("VOI table", items[0], data, low < 0)
        depth = table.depth()
        grey = _scaled(table.of(np.rint(values)), 0.0, 2.0**depth - 1)
        narrow = ["VOI table entries of 8 bits in fields of 16"] if depth < table.bits else []
        return grey, ["VOI table of the header applied", *narrow]
    function, ignored = place.get("VOILUTFunction"), ""
    for center, width in zip(_numbers(place, "WindowCenter"), _numbers(place, "WindowWidth"), strict=False):
        window = _Window(center, width, str(function) if function in _FUNCTIONS else "LINEAR")
        if reason := window.why_not():
            ignored = ignored or reason
            continue
        notes = ["window of the header applied", *([f"{ignored}: next one applied"] if ignored else [])]
        if function not in (None, "", *_FUNCTIONS):
            notes.append("window of an unknown function taken as linear")
        return _scaled(window.of(values), 0.0, 1.0), notes
    whole = [f"{ignored}: full range of {bits} bits"] if ignored else []
    if not whole and bits != 8:
        whole = [f"full range of {bits} bits scaled to 8"]
    return _scaled(values, low, high), [*whole, *dark]


def _place(data: Dataset, frame: int, group: str, keywords: tuple[str, ...]) -> Dataset:
    """Return what holds the values of one kind for `frame`: an item of a functional group, or the data set itself."""
    own, shared = data.get("PerFrameFunctionalGroupsSequence"), data.get("SharedFunctionalGroupsSequence")
    for groups in (own[frame] if own else {}, shared[0] if shared else {}):
        items = groups.get(group)
        if items and any(keyword in items[0] for keyword in keywords):
            item: Dataset = items[0]
            return item
    return data


def check_groups(data: Dataset, frames: int) -> None:
    """Raise DicomError if the header of `data` has functional groups for another number of frames than `frames`."""
    own = data.get("PerFrameFunctionalGroupsSequence")
    if own and len(own) != frames:
        raise DicomError(
            f"its header has functional groups for {len(own):,} frames, but the pixel data hold {frames:,}"
        )


def unused_bits_note(stored: np.ndarray, bits: int) -> list[str]:
    """Return a note if `stored` uses so little of the range of `bits` bits that the header may state too many."""
    used = int(stored.max()) - min(int(stored.min()), 0)
    if bits <= 8 or used >= 2.0**bits / 16:
        return []
    return [f"little contrast: values use less than a sixteenth of the {bits} bits that the header states"]


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint((values - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


def _numbers(place: Dataset, keyword: str, default: float | None = None) -> list[float]:
    """Return the numbers of an element; `default` where it is missing or empty; NaN if they are no numbers."""
    try:
        value = place.get(keyword)
        if value is None or value == "":
            return [] if default is None else [default]
        return [float(part) for part in (value if isinstance(value, MultiValue) else [value])]
    except (ValueError, TypeError, ArithmeticError):  # which pydicom raises as well, on text that is no number
        return [math.nan]


# ---------------------------------------------------------------------------------------------------- windows


@dataclass(frozen=True)
class _Window:
    center: float
    width: float
    function: str

    def why_not(self) -> str | None:
        """Return what makes the window none, or None."""
        if not math.isfinite(self.width) or not math.isfinite(self.center):
            return "window whose centre or width is no finite number ignored"
        least = 1 if self.function == "LINEAR" else 0
        if self.width < least or self.width == 0:
            return f"window of width {self.width:g} ignored"
        return None

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return how far up in the window `values` lie, not yet cut to 0 to 1; PS3.3 C.11.2.1.2 and C.11.2.1.3."""
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp((-4 * (values - self.center) / self.width).clip(-700, 700))))
        if self.function == "LINEAR_EXACT":
            return np.asarray((values - self.center) / self.width + 0.5)
        if self.width == 1:
            return (values > self.center - 0.5).astype(np.float64)
        return np.asarray((values - (self.center - 0.5)) / (self.width - 1) + 0.5)


# ---------------------------------------------------------------------------------------------------- lookup tables


@dataclass(frozen=True)
class _Table:
    """A lookup table: `entries[0]` stands for the stored value `first` and all below, the last one for all above."""

    first: int
    entries: np.ndarray
    bits: int

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return the entries of the whole numbers `values`."""
        return np.asarray(self.entries[(values.astype(np.int64) - self.first).clip(0, len(self.entries) - 1)])

    def depth(self) -> int:
        """Return how many bits the entries have: 8 also where they are stored, as many writers do, in fields of 16."""
        return 8 if int(self.entries.max()) < 256 else self.bits


def _lookup_table(name: str, item: Dataset, data: Dataset, signed: bool) -> _Table:
    count, first, bits = _descriptor(name, item.get("LUTDescriptor"), signed)
    return _Table(first, _entries(name, item.get("LUTData"), count, bits, transfer_syntax(data).is_little_endian), bits)


def _descriptor(name: str, value: Any, signed: bool) -> tuple[int, int, int]:
    """Return number of entries, first stored value and bits of an entry; PS3.3 C.11.1.1.1."""
    try:
        count, first, bits = (int(part) for part in value)
    except (TypeError, ValueError):
        raise DicomError(f"its {name} has no descriptor of three numbers") from None
    if not 8 <= bits <= 16:
        raise DicomError(f"its {name} has entries of {bits} bits; 8 to 16 are read")
    first = first - 65536 if signed and first > 32767 else first
    return (count & 0xFFFF) or 65536, first, bits


def _entries(name: str, content: Any, count: int, bits: int, little_endian: bool) -> np.ndarray:
    """Return the `count` entries in `content`: words of 16 bits, or bytes, two in a word with the lower one first."""
    packed = _packed(name, content, little_endian)
    if len(packed) >= 2 * count and not (bits == 8 and count == 1):
        return np.frombuffer(packed, "<u2", count).astype(np.int64)
    if len(packed) in (count, count + count % 2):
        return np.frombuffer(packed, np.uint8, count).astype(np.int64)
    raise DicomError(f"its {name} has {len(packed):,} bytes, which do not fit the {count:,} entries of its descriptor")


def _packed(name: str, content: Any, little_endian: bool) -> bytes:
    """Return the words in `content`, which pydicom gives as stored bytes or as numbers, in little endian."""
    if isinstance(content, bytes) and little_endian:
        return content
    if isinstance(content, bytes):
        return np.frombuffer(content[: len(content) // 2 * 2], ">u2").astype("<u2").tobytes()
    if content is None or isinstance(content, str):
        raise DicomError(f"its {name} has no entries")
    return np.asarray(content, np.int64).astype("<u2").tobytes()


# ---------------------------------------------------------------------------------------------------- palettes


def palette_colours(stored: np.ndarray, data: Dataset) -> tuple[np.ndarray, list[str]]:
    """Return the colours that a palette gives to `stored`, uint8 ``[H, W, 3]``, and notes. Raises DicomError."""
    little_endian, signed = transfer_syntax(data).is_little_endian, data.PixelRepresentation == 1
    descriptors, columns = set(), []
    for colour in ("Red", "Green", "Blue"):
        name, key = f"palette of {colour.lower()}", f"{colour}PaletteColorLookupTable"
        count, first, bits = _descriptor(name, data.get(f"{key}Descriptor"), signed)
        descriptors.add((count, first, bits))
        if data.get(f"{key}Data") is not None:
            columns.append(_entries(name, data.get(f"{key}Data"), count, bits, little_endian))
        else:
            packed = _packed(name, data.get(f"Segmented{key}Data"), little_endian)
            columns.append(_expanded(name, np.frombuffer(packed, np.uint8 if bits == 8 else "<u2").tolist(), count))
    if len(descriptors) > 1:
        raise DicomError("its palettes of red, green and blue differ in length, first value or bits")
    table = _Table(first, np.stack(columns, axis=1), bits)
    if bits == 8 and table.entries.max() > 255:  # words of 16 bits, whatever the header states
        table = replace(table, bits=16)
    depth = table.depth()
    if depth == 8:
        notes = ["palette entries of 8 bits in fields of 16"] if bits > 8 else []
        return table.of(stored).astype(np.uint8), notes
    return _scaled(table.of(stored), 0.0, 2.0**depth - 1), [f"{depth} bits per colour scaled to 8"]


def _expanded(name: str, segments: list[int], count: int) -> np.ndarray:
    """Return the `count` entries of a segmented palette, PS3.3 C.7.9.2, of discrete and linear segments."""
    entries: list[int] = []
    at = 0
    while at + 2 < len(segments) and len(entries) < count:
        kind, length, at = segments[at], segments[at + 1], at + 2
        if kind == _DISCRETE:
            entries += segments[at : at + length]
            at += length
        elif kind == _LINEAR and entries and length:
            step = (segments[at] - entries[-1]) / length
            entries += np.rint(np.linspace(entries[-1] + step, segments[at], length)).astype(int).tolist()
            at += 1
        else:
            raise DicomError(f"its segmented {name} has segments that are not read: only discrete and linear ones are")
    if len(entries) != count:
        raise DicomError(f"its segmented {name} gives {len(entries):,} entries where its descriptor gives {count:,}")
    return np.asarray(entries, np.int64)
