"""DICOM files: which files are, and what their headers say about images, owners and pixels.

No value that identifies a person, a study or a file (names, ids, dates, UIDs) leaves this module as text: owners and
UIDs are keys to compare by, and no message repeats what a header or pydicom says. Their elements are taken as bytes,
for pydicom quotes a malformed value in its warnings.
"""

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset as read_elements
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import VR

from sonosynth.core.errors import SourceError, UnreadableImageError
from sonosynth.data.readers.base import unreadable
from sonosynth.data.readers.dicom.regions import Region, region_of
from sonosynth.data.source import walk_files

SUFFIXES = frozenset((".dcm", ".dicom", ".ima"))
DIRECTORY = "DICOMDIR"
_PREAMBLE, _MAGIC = bytes(128), b"DICM"
_BODY = len(_PREAMBLE) + len(_MAGIC)
_FIRST_GROUPS = frozenset((0x0002, 0x0004, 0x0008, 0x0010, 0x0018, 0x0020, 0x0028))  # that a data set may begin with
_HOW_TO_FORCE = "give --force-dicom (in a study file data.force_dicom: true) to read it as little endian"
# What pydicom and the decoders it calls raise on damaged files; it has no base class of its own.
DAMAGE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, RuntimeError, ArithmeticError, zlib.error,
    MemoryError, AssertionError, SyntaxError, struct.error, InvalidDicomError, BytesLengthException,
)  # fmt: skip
_SOP_INSTANCE, _PATIENT, _ISSUER, _STUDY = 0x00080018, 0x00100020, 0x00100021, 0x0020000D
SYNTHETIC_DATA = 0x0008001C  # which pydicom does not know by name in every version
# What decodes the pixels of each transfer syntax: the plugin of pydicom that is asked, "" for uncompressed pixels, or
# imagecodecs, called by `dicom_streams`. Named, so that no plugin that happens to be installed moves a value.
IMAGECODECS = "imagecodecs"
DECODERS: dict[UID, str] = {
    **dict.fromkeys(uid.UncompressedTransferSyntaxes, ""),
    **dict.fromkeys((uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit), "pillow"),
    **dict.fromkeys((uid.JPEGLossless, uid.JPEGLosslessSV1), IMAGECODECS),
    **dict.fromkeys(uid.JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys((uid.JPEG2000Lossless, uid.JPEG2000), "pylibjpeg"),
    **dict.fromkeys((uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K), "pylibjpeg"),
    uid.RLELossless: "pydicom",
}
_INFLATED_LIMIT = 2**31  # bytes of a deflated file; one that inflates to more is refused before it fills the memory


class DicomError(UnreadableImageError):
    """Why a DICOM file or one frame of it is not read, before the name of the file is put in front of it."""


@dataclass(frozen=True)
class Header:
    """What a reader needs of a DICOM header; `owner` and `uid` are for comparison only."""

    frames: int | None  # their number if there are several; None for a single image or pixels that are not read
    region: Region | None  # the area taken; None if the header has no size of frames
    image: bool  # whether the object is of a kind that holds images
    depth: int | None  # number of bits that a stored value has; None if the header has no such number
    synthetic: bool  # whether it says that a generator made the image: Synthetic Data (0008,001C)
    burned_in: bool  # whether it says that text which identifies the patient is part of the pixels
    owner: tuple[bytes, ...] | None = field(repr=False)  # the patient, or the study where no patient is given, or None
    uid: str = field(repr=False)  # the SOP instance UID

    def columns(self) -> dict[str, str]:
        """Return the manifest columns `region_...` (stored pixels) and, where known, `spacing_..._mm`."""
        if (region := self.region) is None:
            return {}
        columns = {f"region_{name}": str(getattr(region, name)) for name in ("left", "top", "width", "height")}
        spacings = {"spacing_x_mm": region.spacing_x, "spacing_y_mm": region.spacing_y}
        return columns | {name: f"{spacing:.10g}" for name, spacing in spacings.items() if spacing is not None}


# ---------------------------------------------------------------------------------------------------- files


def is_dicom(path: Path, force: bool = False) -> bool:
    """Return whether `path` has a suffix of DICOM files, or none (or a number) and the mark of one inside.

    With `force` a file without suffix also counts if it has no mark, but begins as the data set of a DICOM file does.
    Raises SourceError if a file without suffix cannot be opened.
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
            head = file.read(_BODY + 8)
        return head[len(_PREAMBLE) :].startswith(_MAGIC) or (force and _unmarked_start(head) is not None)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); check its permissions or remove it") from error


def dicom_files(folder: Path, force: bool = False) -> list[Path]:
    """Return the DICOM files in `folder` and below, in natural order; hidden ones and linked folders are left out."""
    return [file for file in walk_files(folder) if is_dicom(file, force)]


def _unmarked_start(head: bytes) -> int | None:
    """Return where the data set of a DICOM file without the mark begins, given its first 140 bytes, or None.

    At once, perhaps after the mark, after a preamble of 128 bytes, or after four bytes more that should be the mark;
    with an element of one of the first groups in little endian, that gives a type (explicit) or else a length that such
    an element may have.
    """
    for start in (len(_MAGIC) if head.startswith(_MAGIC) else 0, len(_PREAMBLE), _BODY):
        element = head[start : start + 8]
        if len(element) < 8 or int.from_bytes(element[:2], "little") not in _FIRST_GROUPS:
            continue
        explicit = element[4:6].decode("latin-1") in VR.__members__
        if explicit or int.from_bytes(element[4:], "little") < 1 << 16:
            return start
    return None


# ---------------------------------------------------------------------------------------------------- headers


@contextmanager
def quiet_pydicom() -> Iterator[None]:
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


def read_dataset(path: Path, pixels: bool, force: bool = False) -> Dataset:
    """Return the data set in `path`, with or without its pixels.

    With `force` a file without the mark of DICOM files, or without a transfer syntax, is read as little endian,
    implicit or explicit as its first element looks. Raises UnreadableImageError if it is no DICOM file, has no mark and
    is not forced, or is damaged.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_BODY + 8)
            if not head:
                raise unreadable(path, "empty file")
            stored: BinaryIO = file
            if not head[len(_PREAMBLE) :].startswith(_MAGIC):
                start = _unmarked_start(head)
                if start is None:
                    raise unreadable(path, "not a DICOM file: it lacks the mark 'DICM' after 128 bytes")
                if not force:
                    missing = "lacks the 128 bytes and the mark 'DICM' that a DICOM file begins with"
                    raise unreadable(path, f"{missing}; {_HOW_TO_FORCE}")
                file.seek(start)
                stored = io.BytesIO(_PREAMBLE + _MAGIC + file.read())
            _check_deflated(path, stored)
            stored.seek(0)
            data = pydicom.dcmread(stored, stop_before_pixels=not pixels)
        implicit, little_endian = data.original_encoding
        if force and not transfer_syntax(data) and little_endian:
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return data
    except DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged or cut short"
        raise unreadable(path, reason) from error


def _check_deflated(path: Path, file: BinaryIO) -> None:
    file.seek(_BODY)
    meta = read_elements(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while size <= _INFLATED_LIMIT and not inflater.eof and (chunk := file.read(1 << 20)):
        while chunk and size <= _INFLATED_LIMIT:
            size += len(inflater.decompress(chunk, 1 << 24))
            chunk = inflater.unconsumed_tail
    if size > _INFLATED_LIMIT:
        raise unreadable(path, f"inflates to more than {_INFLATED_LIMIT:,} bytes")


def read_header(path: Path, force: bool = False) -> Header:
    """Return what the header of `path` says. `force` and what is raised are as of `read_dataset`."""
    data = read_dataset(path, False, force)
    try:
        rows, columns, count, syntax = data.get("Rows"), data.get("Columns"), frame_count(data), transfer_syntax(data)
        # A frame takes at least a byte: more frames than that are a damaged number, told when the file is decoded.
        most = _INFLATED_LIMIT if syntax == DeflatedExplicitVRLittleEndian else path.stat().st_size
        patient, study = _raw(data, _PATIENT), _raw(data, _STUDY)
        return Header(
            frames=count if 1 < count <= most and not undecodable_reason(syntax) else None,
            region=region_of(data) if rows and columns else None,
            image=rows is not None or may_hold_images(data),
            depth=None if data.get("BitsStored") is None else int(data.BitsStored),
            synthetic=_raw(data, SYNTHETIC_DATA).upper() == b"YES",
            burned_in=data.get("BurnedInAnnotation") == "YES",
            owner=(b"patient", _raw(data, _ISSUER), patient) if patient else (b"study", study) if study else None,
            uid=_raw(data, _SOP_INSTANCE).decode("ascii", "replace"),
        )
    except DicomError as error:
        raise unreadable(path, str(error)) from error
    except DAMAGE as error:
        raise unreadable(path, "its DICOM header holds values that are not valid") from error


def frame_count(data: Dataset) -> int:
    """Return the number of frames that the header of `data` gives; 1 if it gives none. Raises DicomError."""
    try:
        return int(data.get("NumberOfFrames") or 1)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise DicomError("its NumberOfFrames (0028,0008) is no whole number") from error


def transfer_syntax(data: Dataset) -> UID:
    """Return the transfer syntax of `data`; an empty UID if its header gives none."""
    meta = getattr(data, "file_meta", None)
    return UID((meta.get("TransferSyntaxUID") if meta is not None else None) or "")


def undecodable_reason(syntax: UID) -> str | None:
    """Return why pixels in transfer syntax `syntax` are not decoded, or None."""
    if not syntax:
        return f"gives no transfer syntax; {_HOW_TO_FORCE}"
    if syntax.name.startswith(("MPEG", "Fragmentable MPEG", "HEVC")):
        return f"holds video ({syntax.name}), which is not read from DICOM; export it as MP4 or as JPEG frames"
    if syntax in DECODERS:
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
