"""The pixels of a DICOM file as grey pictures, by rules that are written down."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, JPEGExtended12Bit

from sonosynth.data.dicom import (
    DAMAGE,
    frame_count,
    has_region,
    may_hold_images,
    read_dataset,
    region_of,
    transfer_syntax,
    why_not_syntax,
)
from sonosynth.data.pictures import Picture, from_colours, too_large, unreadable

_SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3}
_SAMPLES |= dict.fromkeys(("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3)
_JPEG_START, _J2K_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
_NOT_SIZES = (0xC4, 0xC8, 0xCC)  # markers among those of frame headers (C0 to CF) that are none


class DicomFile:
    """One DICOM file, read once, whose frames can be decoded one by one. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Read `path`. Raises UnreadableImageError if no frame of it can be decoded."""
        self._path = path
        self._data = read_dataset(path, pixels=True)
        try:
            self._frames = frame_count(self._data)
            if reason := _why_not(self._data, self._frames):
                raise unreadable(path, reason)
            self._region = region_of(self._data)
            self._marked = has_region(self._data)
        except DAMAGE as error:
            raise unreadable(path, "the DICOM header is damaged or lacks what describes the pixels") from error

    def picture(self, frame: int | None) -> Picture:
        """Return the B-mode area of frame `frame`, counted from 0, or of the only one.

        One channel: the modality rescale or table is applied, then the first VOI table or window (linear, linear exact
        or sigmoid), scaled to 0 to 255; without one, the full range of the stored bits is. MONOCHROME1 is inverted.
        Palettes and YBR become RGB; colours become ITU-R 601 luma, of more than 8 bits by the full range of their bits.

        Raises:
            UnreadableImageError: the frame is missing, damaged, or not of the size that the header gives.
        """
        where = "" if frame is None else f"frame {frame} "
        if frame is None and self._frames > 1:
            raise unreadable(self._path, f"the header gives {self._frames:,} frames, more than the file can hold")
        if frame is not None and not 0 <= frame < self._frames:
            raise unreadable(self._path, f"{where}is not there: the header gives {self._frames:,} frames")
        try:
            if reason := _why_not_frame(self._data, frame or 0, self._frames):
                raise unreadable(self._path, where + reason)
            grey, notes = self._grey(pixel_array(self._data, index=frame or 0))
        except DAMAGE as error:
            name = transfer_syntax(self._data).name
            raise unreadable(self._path, f"{where}is damaged or cut short ({name})") from error
        notes.append(
            "cut to the B-mode region of the header"
            if self._marked
            else "whole frame: the header marks no B-mode region"
        )
        kind = f"DICOM {self._data.PhotometricInterpretation} {self._data.BitsStored}-bit"
        return Picture(grey, kind, "; ".join(notes))

    def _grey(self, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
        region, photometric = self._region, self._data.PhotometricInterpretation
        cut = values[region.top : region.top + region.height, region.left : region.left + region.width]
        if photometric.startswith("MONOCHROME"):
            grey, notes = _monochrome(cut, self._data)
            return (255 - grey, [*notes, "inverted: MONOCHROME1"]) if photometric.endswith("1") else (grey, notes)
        if photometric == "PALETTE COLOR":
            rgb = apply_color_lut(cut, self._data)[..., :3]
            bits = int(self._data.RedPaletteColorLookupTableDescriptor[2])
        else:
            rgb, bits = cut, int(self._data.BitsStored)
        notes = []
        if bits != 8:
            rgb = np.rint(rgb * (255 / (2**bits - 1))).astype(np.uint8)
            notes.append(f"{bits} bits a colour scaled to 8")
        grey, note = from_colours(rgb, photometric)
        return grey, [*notes, note]


def _why_not(data: Dataset, frames: int) -> str | None:
    """Return why no frame of `data` is decoded, or None."""
    if data.get("Rows") is None or data.get("Columns") is None:
        return "gives no image size" if may_hold_images(data) else "holds no image, but another kind of DICOM object"
    if reason := why_not_syntax(transfer_syntax(data)):
        return reason
    if "PixelData" not in data:
        return "has no pixel data, or is cut short before it"
    photometric, bits = data.PhotometricInterpretation, int(data.BitsAllocated)
    if photometric not in _SAMPLES or data.SamplesPerPixel != _SAMPLES[photometric]:
        known = ", ".join(_SAMPLES)
        return f"its photometric interpretation or number of samples is none that is read ({known})"
    if bits not in (8, 16) or not 1 <= data.BitsStored <= bits:
        return "stores neither 8 nor 16 bits a pixel; only these are read"
    if reason := _why_not_depth(transfer_syntax(data), int(data.BitsStored), _SAMPLES[photometric]):
        return f"holds {reason}, which are not read; convert it to JPEG-LS or RLE"
    if photometric == "PALETTE COLOR":
        entries, _, depth = data.RedPaletteColorLookupTableDescriptor
        if depth not in (8, 16) or (depth == 8 and not 0 < entries <= 256):
            return "has a palette of more than 256 entries of 8 bits, or of another depth than 8 and 16 bits"
    rows, columns = int(data.Rows), int(data.Columns)
    if rows < 1 or columns < 1 or frames < 1:
        return "gives an image size of 0"
    if reason := too_large(rows, columns):
        return reason
    if transfer_syntax(data).is_encapsulated:
        return None
    samples = 2 if photometric == "YBR_FULL_422" else int(data.SamplesPerPixel)
    expected = rows * columns * samples * (bits // 8) * frames
    if len(data.PixelData) not in (expected, expected + expected % 2):
        return f"has {len(data.PixelData):,} bytes of pixels where its header describes {expected:,}"
    return None


def _why_not_depth(syntax: UID, bits: int, samples: int) -> str | None:
    """Return which combination it is that Pillow, which decodes these syntaxes for pydicom, lacks; or None."""
    if syntax == JPEGExtended12Bit and bits > 8:
        return "JPEG pixels of more than 8 bits"
    if "JPEG 2000" in syntax.name and samples > 1 and bits > 8:
        return "JPEG 2000 colours of more than 8 bits"
    return None


def _why_not_frame(data: Dataset, frame: int, frames: int) -> str | None:
    """Return why frame `frame` is not decoded, or None: its own header must agree before a decoder allocates memory."""
    if not transfer_syntax(data).is_encapsulated or "RLE" in transfer_syntax(data).name:
        return None
    offsets = [data.get(f"ExtendedOffsetTable{name}") for name in ("", "Lengths")]
    extended = (offsets[0], offsets[1]) if all(offsets) else None
    size = coded_size(get_frame(data.PixelData, frame, extended_offsets=extended, number_of_frames=frames))
    if size is None:
        return "has no JPEG header"
    if size != (data.Rows, data.Columns):
        return f"is {size[1]} × {size[0]} where the header gives {data.Columns} × {data.Rows}"
    return None


def coded_size(frame: bytes) -> tuple[int, int] | None:
    """Return height and width in the header of a JPEG, JPEG-LS or JPEG 2000 code stream; None if it has none."""
    if (start := frame.find(_J2K_START, 0, 512)) >= 0 and len(frame) >= start + 24:
        right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in range(start + 8, start + 24, 4))
        return bottom - top, right - left
    at = 2 if frame.startswith(_JPEG_START) else len(frame)
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif (0xC0 <= marker <= 0xCF and marker not in _NOT_SIZES) or marker == 0xF7:
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


# ---------------------------------------------------------------------------------------------------- one channel


def _monochrome(stored: np.ndarray, data: Dataset) -> tuple[np.ndarray, list[str]]:
    """Return uint8 of the shape of `stored`, before any inversion; PS3.3 C.11.1 (modality) and C.11.2 (VOI)."""
    bits = int(data.BitsStored)
    signed = data.PixelRepresentation == 1
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    values = stored
    _widen_tables(data)
    if data.get("ModalityLUTSequence"):
        values = apply_modality_lut(stored, data)
        low, high = 0.0, 2.0 ** _table_bits(data.ModalityLUTSequence) - 1
    elif data.get("RescaleSlope") is not None or data.get("RescaleIntercept") is not None:
        slope = 1.0 if data.get("RescaleSlope") is None else float(data.RescaleSlope)
        intercept = float(data.get("RescaleIntercept") or 0)
        if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
            raise ValueError("rescale slope or intercept")
        values = stored * slope + intercept
        low, high = sorted((low * slope + intercept, high * slope + intercept))
    if data.get("VOILUTSequence"):
        values = apply_voi(np.rint(values).astype(np.int64), data)
        return _scaled(values, 0.0, 2.0 ** _table_bits(data.VOILUTSequence) - 1), ["VOI table of the header applied"]
    if data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:
        share = _windowed(values, _first(data.WindowCenter), _first(data.WindowWidth), data.get("VOILUTFunction"))
        return _scaled(share, 0.0, 1.0), ["window of the header applied"]
    return _scaled(values, low, high), [] if bits == 8 else [f"full range of {bits} bits scaled to 8"]


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if not high > low:
        raise ValueError("range of values")
    return np.rint((values - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


def _windowed(values: np.ndarray, center: float, width: float, function: str | None) -> np.ndarray:
    """Return how far up in the window `values` lie, not yet cut to 0 to 1; PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    exact = function in ("LINEAR_EXACT", "SIGMOID")
    if not math.isfinite(center) or not math.isfinite(width) or width <= 0 or (width < 1 and not exact):
        raise ValueError("window")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp((-4 * (values - center) / width).clip(-700, 700))))
    if exact:
        return np.asarray((values - center) / width + 0.5)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.asarray((values - (center - 0.5)) / (width - 1) + 0.5)


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) else value)


def _widen_tables(data: Dataset) -> None:
    """Write tables of 8 bits, packed in bytes (PS3.3 C.11.1.1.1), as numbers: pydicom takes all for 16 bits."""
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        for table in data.get(name) or []:
            entries, packed = int(table.LUTDescriptor[0]) or 2**16, table.LUTData
            if _table_bits([table]) == 8 and isinstance(packed, bytes) and entries <= len(packed) <= entries + 1:
                table.add_new("LUTData", "US", list(packed[:entries]))


def _table_bits(tables: Any) -> int:
    return int(tables[0].LUTDescriptor[2])
