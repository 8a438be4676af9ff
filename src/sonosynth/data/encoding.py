"""How files store their pixels: format, compression, bit depth and size, which leave marks that a network can learn.

Only headers are read. A JPEG and a PNG of the same tissue differ in the grid of 8 × 8 blocks of the JPEG, so where one
class is stored as JPEG and the other as PNG, the format stands for the class.
"""

import io
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from sonosynth.core.errors import ManifestError, UnreadableImageError
from sonosynth.data.readers import clips
from sonosynth.data.readers.dicom import header as dicom
from sonosynth.data.readers.images import DAMAGE, SUFFIXES, opened, png_header, readable, unreadable
from sonosynth.data.source import ReadOptions, SourceItem

COLUMNS = ("original_format", "original_lossy", "original_quality", "original_bits", "original_bytes_per_pixel")
"""What a prepared image set keeps of the encoding of the file that each image came from."""
_PREPARED = {"original_path", "scale_x"}  # columns by which a set that was prepared is known
_HEAD = 1 << 18  # bytes from the start in which the tables of a frame, or the kind of a WebP file, are looked for
_DICOM_TAGS = ("Rows", "Columns", "NumberOfFrames", "BitsStored", "LossyImageCompression")
_JPEG_SYNTAXES = frozenset(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"))  # baseline and extended
# These may lose detail too: JPEG-LS near-lossless, JPEG 2000, high-throughput JPEG 2000.
_LOSSY_SYNTAXES = _JPEG_SYNTAXES | {f"1.2.840.10008.1.2.4.{end}" for end in (81, 91, 203)}
_JPEG_START = b"\xff\xd8"
_LOSSY_TIFF = ("jpeg", "webp")
_TIFF_BITS = 258  # the tag BitsPerSample
_MODE_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 16, "F": 32}
# ITU-T T.81, table K.1, in raster order.
_LUMINANCE = np.array((
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
))  # fmt: skip


@dataclass(frozen=True)
class Encoding:
    """How one file stores its pixels.

    Attributes:
        format: such as "JPEG", "PNG", "TIFF (LZW)", "MP4 (h264)", or "DICOM RLE Lossless" with its transfer syntax.
        lossy: whether the compression loses detail: by the format, or because the DICOM header says so (0028,2110).
        quality: of a JPEG, 1 to 100 on the scale of libjpeg; None for other formats, and where no table is found.
        bits: stored per channel; None if the header of the format is not read for it.
        bytes_per_pixel: of the whole file, over the pixels of all its frames; None if their number is not known.
    """

    format: str
    lossy: bool
    quality: int | None = None
    bits: int | None = None
    bytes_per_pixel: float | None = None


def encodings(items: Sequence[SourceItem], options: ReadOptions) -> list[Encoding | None]:
    """Return how the pixels of each image were stored before anything was done with them; each file is read once.

    Of a prepared image set that is what its columns `COLUMNS` say; None where they are empty or missing, as in sets
    that older versions prepared: that its own files are PNG says nothing.

    Raises:
        UnreadableImageError: a file cannot be opened.
        ManifestError: a column of a prepared set does not hold what `prepare` writes.
    """
    of_file = cache(lambda path: encoding_of(path, options))
    return [_recorded(item) if item.extra.keys() >= _PREPARED else of_file(item.path) for item in items]


def encoding_of(path: Path, options: ReadOptions | None = None) -> Encoding:
    """Return how the file at `path`, which a reader decodes with `options`, stores its pixels.

    Raises:
        UnreadableImageError: it cannot be opened.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return _of_picture(path)
    if suffix in clips.SUFFIXES:
        codec, lossy, size = clips.stored_as(path)
        return Encoding(f"{_named(path)} ({codec})", lossy, None, None, size)
    if dicom.is_dicom(path, options is not None and options.force_dicom):
        return _of_dicom(path)
    return Encoding(_named(path), lossy=False)


def encodings_to_columns(found: Sequence[Encoding | None]) -> dict[str, tuple[str, ...]]:
    """Return the manifest columns `COLUMNS`, a value per image; empty where nothing is known or nothing applies."""
    rows = [_row(encoding) for encoding in found]
    return dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)) if rows else {}


def encodings_from_columns(columns: Mapping[str, Sequence[str]], ids: Sequence[str]) -> list[Encoding | None]:
    """Return what `as_columns` made columns of; None for all images if there are none. Raises ManifestError."""
    if not columns.keys() >= set(COLUMNS):
        return [None] * len(ids)
    rows = zip(*(columns[name] for name in COLUMNS), strict=True)
    return [_from_row(row, name) for row, name in zip(rows, ids, strict=True)]


def _recorded(item: SourceItem) -> Encoding | None:
    return _from_row([item.extra.get(name, "") for name in COLUMNS], item.id)


def _row(encoding: Encoding | None) -> tuple[str, ...]:
    if encoding is None:
        return ("",) * len(COLUMNS)
    size = encoding.bytes_per_pixel
    numbers = (encoding.quality, encoding.bits, None if size is None else f"{size:.6g}")
    return encoding.format, str(int(encoding.lossy)), *("" if number is None else str(number) for number in numbers)


def _from_row(row: Sequence[str], name: str) -> Encoding | None:
    kind, lossy, quality, bits, size = row
    if not kind:
        return None
    try:
        return Encoding(
            kind,
            {"0": False, "1": True}[lossy],
            int(quality) if quality else None,
            int(bits) if bits else None,
            float(size) if size else None,
        )
    except (ValueError, KeyError) as error:
        raise ManifestError(
            f"the columns {', '.join(COLUMNS)} of image '{name}' hold no record of a file ({', '.join(row)}); restore "
            "the manifest, or run 'sonosynth data prepare' on the original images"
        ) from error


# ---------------------------------------------------------------------------------------------------- formats


def _named(path: Path) -> str:
    """Return the format that the name of `path` gives, of files whose headers are not read here."""
    suffixes = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    name = "".join(suffixes).lstrip(".").upper()
    return {"TIF": "TIFF", "JPG": "JPEG"}.get(name, name) or "no suffix"


def _of_picture(path: Path) -> Encoding:
    try:
        with readable(path) as file:  # most files are PNG, whose header says all without a decoder
            chunks = png_header(file)
        if len(header := chunks.get(b"IHDR", b"")) >= 9 and all(sides := struct.unpack(">II", header[:8])):
            frames = int.from_bytes(chunks.get(b"acTL", b"\0\0\0\1")[:4], "big")
            return Encoding("PNG", False, None, header[8], path.stat().st_size / (math.prod(sides) * max(frames, 1)))
        with opened(path) as stored:
            pixels = stored.width * stored.height * getattr(stored, "n_frames", 1)
            size, bits = path.stat().st_size / pixels, _MODE_BITS.get(stored.mode, 8)
            match stored.format:
                case "JPEG" | "MPO":
                    return Encoding("JPEG", True, jpeg_quality(stored), int(getattr(stored, "bits", 8)), size)
                case "TIFF":
                    name = str(stored.info.get("compression", "raw")).removeprefix("tiff_").replace("_", " ")
                    kind = "TIFF" if name == "raw" else f"TIFF ({name.upper() if len(name) < 5 else name})"
                    stored_bits = np.ravel(getattr(stored, "tag_v2", {}).get(_TIFF_BITS, bits))
                    return Encoding(kind, name in _LOSSY_TIFF, None, int(stored_bits.max()), size)
                case "WEBP":
                    found = re.search(rb"VP8[ L]", _start(path, _HEAD))
                    lossy = found is None or found.group() == b"VP8 "
                    return Encoding("WebP" if lossy else "WebP (lossless)", lossy, None, 8, size)
                case other:
                    return Encoding({"PPM": "PNM"}.get(str(other), str(other)), False, None, bits, size)
    except UnreadableImageError:
        return Encoding(_named(path), lossy=False)  # of a reader of files that Pillow does not open


def jpeg_quality(stored: Image.Image) -> int | None:
    """Return the quality, 1 to 100, whose table of libjpeg is nearest to the first quantisation table of a JPEG.

    Exact for files that libjpeg wrote; an estimate for others (Photoshop, scanners), whose tables are not scaled
    copies of that in ITU-T T.81, annex K.
    """
    tables: Mapping[int, Sequence[int]] = getattr(stored, "quantization", {})
    if not tables:
        return None
    table = np.asarray(tables[min(tables)])
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    known = ((_LUMINANCE * scale[:, None] + 50) // 100).clip(1, 255 if table.max() <= 255 else 32767)
    return int(quality[np.abs(known - table).sum(axis=1).argmin()])


def _start(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _of_dicom(path: Path) -> Encoding:
    try:
        with path.open("rb") as file:
            data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_DICOM_TAGS))
            pixels = file.read(_HEAD)
        syntax = dicom.transfer_syntax(data)
        lossy = syntax in _LOSSY_SYNTAXES or data.get("LossyImageCompression") == "01"
        rows, columns, bits = (int(data.get(name) or 0) for name in ("Rows", "Columns", "BitsStored"))
        size = path.stat().st_size / (rows * columns * dicom.frame_count(data)) if rows and columns else None
    except dicom.DAMAGE as error:
        raise unreadable(path, "the DICOM header is damaged") from error
    quality = _frame_quality(pixels) if syntax in _JPEG_SYNTAXES else None
    name = syntax.name if syntax and not syntax.is_private else "transfer syntax not given"
    return Encoding(f"DICOM {name}", lossy, quality, bits or None, size)


def _frame_quality(pixels: bytes) -> int | None:
    """Return the quality of the first JPEG in `pixels`, the start of the pixel data of a DICOM file."""
    try:
        with Image.open(io.BytesIO(pixels[pixels.index(_JPEG_START) :]), formats=("JPEG",)) as frame:
            return jpeg_quality(frame)
    except DAMAGE:
        return None  # its tables are not at the start, or the frame is none that Pillow knows
