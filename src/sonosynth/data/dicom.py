"""DICOM files: which files are, and what their headers say about images, owners, regions and spacing.

No value that identifies a person, a study or a file (names, ids, dates, UIDs) leaves this module as text: owners and
UIDs are keys to compare by, and no message repeats what a header or pydicom says. Their elements are taken as bytes,
for pydicom quotes a malformed value in its warnings.
"""

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from sonosynth.data.pictures import unreadable
from sonosynth.data.source import entries
from sonosynth.errors import SourceError

SUFFIXES = frozenset((".dcm", ".dicom", ".ima"))
DIRECTORY = "DICOMDIR"
_MAGIC_AT, _MAGIC = 128, b"DICM"
# What pydicom and the decoders it calls raise on damaged files; it has no base class of its own.
DAMAGE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, RuntimeError, ArithmeticError, zlib.error,
    MemoryError, AssertionError, SyntaxError, struct.error, InvalidDicomError, BytesLengthException,
)  # fmt: skip
_SOP_INSTANCE, _PATIENT, _ISSUER, _STUDY = 0x00080018, 0x00100020, 0x00100021, 0x0020000D
_TISSUE, _TWO_DIMENSIONAL, _CENTIMETRES = 1, 1, 3
_INFLATED_LIMIT = 2**31  # bytes of a deflated file; one that inflates to more is refused before it fills the memory


@dataclass(frozen=True)
class Region:
    """The B-mode area of a frame in stored pixels, and the size of a pixel in millimetres where the header gives it."""

    left: int
    top: int
    width: int
    height: int
    spacing_x: float | None = None
    spacing_y: float | None = None


@dataclass(frozen=True)
class Header:
    """What a reader needs of a DICOM header.

    Attributes:
        frames: number of frames if there are several; None for a single image or pixels that are not read.
        region: the area taken; None if the header has no size of frames.
        image: whether the object is of a kind that holds images.
        burned_in: whether the header says that text which identifies the patient is part of the pixels.
        owner: the patient, or the study where no patient is given, or None. For comparison only.
        uid: the SOP instance UID. For comparison only.
    """

    frames: int | None
    region: Region | None
    image: bool
    burned_in: bool
    owner: tuple[bytes, ...] | None = field(repr=False)
    uid: str = field(repr=False)

    def columns(self) -> dict[str, str]:
        """Return the manifest columns `region_...` (stored pixels) and, where known, `spacing_..._mm`."""
        if (region := self.region) is None:
            return {}
        columns = {f"region_{name}": str(getattr(region, name)) for name in ("left", "top", "width", "height")}
        for axis, spacing in (("x", region.spacing_x), ("y", region.spacing_y)):
            if spacing is not None:
                columns[f"spacing_{axis}_mm"] = f"{spacing:.10g}"
        return columns


# ---------------------------------------------------------------------------------------------------- files


def is_dicom(path: Path) -> bool:
    """Return whether `path` has a suffix of DICOM files, or none (or a number) and the mark of one inside.

    Raises:
        SourceError: a file without suffix cannot be opened.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix and not suffix[1:].isdigit():
        return False
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            file.seek(_MAGIC_AT)
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); check its permissions or remove it") from error


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files in `folder` and below, in natural order; hidden ones and linked folders are left out."""
    found = []
    for entry in entries(folder)[0]:
        if entry.is_dir():
            found += [] if entry.is_symlink() else dicom_files(entry)
        elif is_dicom(entry):
            found.append(entry)
    return found


# ---------------------------------------------------------------------------------------------------- headers


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom, whose warnings quote header values: what matters in them is checked here and told in one line.

    To be entered by one thread at a time, which may start others inside.
    """
    log = logging.getLogger("pydicom")
    before, log.propagate = log.propagate, False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pydicom")
            yield
    finally:
        log.propagate = before


def read_dataset(path: Path, pixels: bool) -> Dataset:
    """Return the data set in `path`, with or without its pixels. Raises UnreadableImageError."""
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise unreadable(path, "empty file")
            file.seek(_MAGIC_AT)
            if file.read(len(_MAGIC)) != _MAGIC:
                raise unreadable(path, "not a DICOM file: it lacks the mark 'DICM' after 128 bytes")
        _check_deflated(path)
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged or cut short"
        raise unreadable(path, reason) from error


def _check_deflated(path: Path) -> None:
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    length = meta.get("FileMetaInformationGroupLength")
    if length is None:
        raise unreadable(path, "the DICOM header is damaged")
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(_MAGIC_AT + len(_MAGIC) + 12 + length)  # 12: the element that gives the length
        while size <= _INFLATED_LIMIT and not inflater.eof and (chunk := file.read(1 << 20)):
            while chunk and size <= _INFLATED_LIMIT:
                size += len(inflater.decompress(chunk, 1 << 24))
                chunk = inflater.unconsumed_tail
    if size > _INFLATED_LIMIT:
        raise unreadable(path, f"inflates to more than {_INFLATED_LIMIT:,} bytes")


def read_header(path: Path) -> Header:
    """Return what the header of `path` says.

    Raises:
        UnreadableImageError: not a DICOM file, or a damaged header.
    """
    data = read_dataset(path, pixels=False)
    try:
        rows, columns = data.get("Rows"), data.get("Columns")
        return Header(
            frames=_frames(data, path.stat().st_size),
            region=region_of(data) if rows and columns else None,
            image=rows is not None or may_hold_images(data),
            burned_in=data.get("BurnedInAnnotation") == "YES",
            owner=_owner(data),
            uid=_raw(data, _SOP_INSTANCE).decode("ascii", "replace"),
        )
    except DAMAGE as error:
        raise unreadable(path, "the DICOM header is damaged") from error


def frame_count(data: Dataset) -> int:
    """Return the number of frames that the header of `data` gives; 1 if it gives none."""
    return int(data.get("NumberOfFrames") or 1)


def _frames(data: Dataset, size: int) -> int | None:
    count = frame_count(data)
    if why_not_syntax(transfer_syntax(data)):
        return None
    # A frame takes at least a byte: more frames than that are a damaged number, told when the file is decoded.
    deflated = transfer_syntax(data) == DeflatedExplicitVRLittleEndian
    return count if 1 < count <= (_INFLATED_LIMIT if deflated else size) else None


def transfer_syntax(data: Dataset) -> UID:
    """Return the transfer syntax of `data`; an empty UID if its header gives none."""
    meta = getattr(data, "file_meta", None)
    return UID((meta.get("TransferSyntaxUID") if meta is not None else None) or "")


def why_not_syntax(syntax: UID) -> str | None:
    """Return why pixels in transfer syntax `syntax` are not decoded, or None."""
    if not syntax:
        return "gives no transfer syntax"
    if syntax.name.startswith(("MPEG", "Fragmentable MPEG", "HEVC")):
        return f"holds video ({syntax.name}), which is not read from DICOM; export it as MP4 or as JPEG frames"
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if available:
        return None
    name = syntax.name if not syntax.is_private and syntax.name != str(syntax) else "an unknown one"
    return f"its transfer syntax ({name}) is not read; convert it to JPEG 2000, JPEG-LS, RLE or uncompressed"


def may_hold_images(data: Dataset) -> bool:
    """Return whether the class of the object in `data` is one of images, or is not known."""
    # Reports, directories and the like have a class of their own; an unknown or missing class is told when decoded.
    name = UID(data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID") or "").name
    return "Image" in name or "Storage" not in name


def _raw(data: Dataset, tag: int) -> bytes:
    element: Any = data.get_item(tag)
    value = getattr(element, "value", None) or b""
    return (value if isinstance(value, bytes) else str(value).encode()).strip(b" \0")


def _owner(data: Dataset) -> tuple[bytes, ...] | None:
    if patient := _raw(data, _PATIENT):
        return b"patient", _raw(data, _ISSUER), patient
    return (b"study", study) if (study := _raw(data, _STUDY)) else None


# ---------------------------------------------------------------------------------------------------- regions


def region_of(data: Dataset) -> Region:
    """Return the largest region of two-dimensional tissue that the header of `data` marks, else the whole frame.

    Sequence of Ultrasound Regions (0018,6011), PS3.3 C.8.5.5: spatial format 1 (2D), data type 1 (tissue). Both corners
    belong to a region; what lies outside the frame is cut off. Spacing is known where the unit is 3 (centimetres).
    """
    height, width = int(data.Rows), int(data.Columns)
    found = [region for item in _marked(data) if (region := _region(item, width, height))]
    return max(found, key=lambda region: region.width * region.height, default=Region(0, 0, width, height))


def has_region(data: Dataset) -> bool:
    """Return whether the header of `data` marks a region of two-dimensional tissue inside the frame."""
    return any(_region(item, int(data.Columns), int(data.Rows)) for item in _marked(data))


def _marked(data: Dataset) -> Iterable[Dataset]:
    for item in data.get("SequenceOfUltrasoundRegions") or ():
        if item.get("RegionSpatialFormat") == _TWO_DIMENSIONAL and item.get("RegionDataType") == _TISSUE:
            yield item


def _region(item: Dataset, width: int, height: int) -> Region | None:
    corners = [item.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
    if any(corner is None for corner in corners):
        return None
    left, top, right, bottom = (int(corner) for corner in corners)
    right, bottom = min(right, width - 1), min(bottom, height - 1)
    if not (0 <= left < right and 0 <= top < bottom):
        return None
    return Region(left, top, right - left + 1, bottom - top + 1, _spacing(item, "X"), _spacing(item, "Y"))


def _spacing(item: Dataset, axis: str) -> float | None:
    delta = item.get(f"PhysicalDelta{axis}")
    if item.get(f"PhysicalUnits{axis}Direction") != _CENTIMETRES or delta is None:
        return None
    millimetres = abs(float(delta)) * 10
    return millimetres if millimetres > 0 and math.isfinite(millimetres) else None
