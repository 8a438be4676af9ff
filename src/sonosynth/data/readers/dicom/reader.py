"""The reader of DICOM files: what a file holds, its pixels as grey pictures, and what a user has to know of all."""

import io
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import JPEGExtended12Bit

from sonosynth.core.text import counted
from sonosynth.data.readers import base
from sonosynth.data.readers.base import DecodedImage, Encoding, FileContents, Reader, colours_to_grey, unreadable
from sonosynth.data.readers.bit_depth import BitDepth
from sonosynth.data.readers.dicom.header import (
    DAMAGE,
    DIRECTORY,
    DicomError,
    frame_count,
    is_dicom,
    may_hold_images,
    read_dataset,
    read_header,
    transfer_syntax,
    undecodable_reason,
)
from sonosynth.data.readers.dicom.regions import marked_regions, region_note, region_of
from sonosynth.data.readers.dicom.streams import Frames
from sonosynth.data.readers.dicom.values import check_groups, monochrome, palette_colours, unused_bits_note
from sonosynth.data.readers.images import jpeg_quality
from sonosynth.data.source import ReadOptions, some_of

_REPORT, _BURNED_IN = "report", "burned in"
_TAGS = ("Rows", "Columns", "NumberOfFrames", "BitsStored", "LossyImageCompression")
_JPEG_SYNTAXES = frozenset(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"))  # baseline and extended
# These may lose detail too: JPEG-LS near-lossless, JPEG 2000, high-throughput JPEG 2000.
_LOSSY_SYNTAXES = _JPEG_SYNTAXES | {f"1.2.840.10008.1.2.4.{end}" for end in (81, 91, 203)}
_JPEG_START = b"\xff\xd8"
_HEAD = 1 << 18  # bytes from the start of the pixels in which the tables of the first frame are looked for
_SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3}
_SAMPLES |= dict.fromkeys(("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3)
_NEEDED = ("BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation")


class DicomReader(Reader):
    """DICOM files: every frame is an image, and the header says of which patient it is."""

    def recognises(self, path: Path, options: ReadOptions) -> bool:
        """By the suffix, or without one by the mark of DICOM files."""
        return is_dicom(path, options.force_dicom)

    def contents(self, path: Path, options: ReadOptions) -> FileContents:
        """Read the header; reports and directories hold no images."""
        header = read_header(path, options.force_dicom)
        if not header.image:
            return FileContents((), remark=DIRECTORY if path.name.upper() == DIRECTORY else _REPORT)
        frames = range(header.frames) if header.frames else (None,)
        remark = _BURNED_IN if header.burned_in else None
        return FileContents(
            frames,
            header.owner or path,
            header.columns(),
            remark=remark,
            bits=header.depth,
            synthetic=header.synthetic,
        )

    def open(self, path: Path, options: ReadOptions, depth: BitDepth) -> "DicomFile":
        """Read the file once; its header states the depth, so that of other files does not matter."""
        return DicomFile(path, options.force_dicom)

    def encoding(self, path: Path) -> Encoding:
        """Give the transfer syntax, and the quality of JPEG pixels."""
        try:
            with path.open("rb") as file:
                data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
                pixels = file.read(_HEAD)
            syntax = transfer_syntax(data)
            lossy = syntax in _LOSSY_SYNTAXES or data.get("LossyImageCompression") == "01"
            rows, columns, bits = (int(data.get(name) or 0) for name in ("Rows", "Columns", "BitsStored"))
            size = path.stat().st_size / (rows * columns * frame_count(data)) if rows and columns else None
        except DAMAGE as error:
            raise unreadable(path, "the DICOM header is damaged") from error
        quality = None
        if syntax in _JPEG_SYNTAXES:
            with (
                suppress(*base.DAMAGE),  # its tables are not at the start, or the frame is none that Pillow knows
                Image.open(io.BytesIO(pixels[pixels.index(_JPEG_START) :]), formats=("JPEG",)) as frame,
            ):
                quality = jpeg_quality(frame)
        name = syntax.name if syntax and not syntax.is_private else "transfer syntax not given"
        return Encoding(f"DICOM {name}", lossy, quality, bits or None, size)

    def notes(self, files: Collection[tuple[Path, FileContents]], listed: bool) -> list[str]:
        """Tell of reports left out, of patients, of different depths and of identifying text."""
        remarks, notes = Counter(contents.remark for _, contents in files), []
        if remarks[DIRECTORY] and not listed:
            notes.append(f"{remarks[DIRECTORY]} DICOMDIR ignored: the files themselves are read")
        if remarks[_REPORT] and not listed:
            reports = some_of(path.name for path, contents in files if contents.remark == _REPORT)
            notes.append(f"{counted(remarks[_REPORT], 'DICOM file')} without images left out: {reports}")
        owners = [contents.owner for path, contents in files if contents.columns]
        if owners:
            notes.append(
                f"{counted(len(set(owners)), 'patient (or study)', 'patients (or studies)')} found in DICOM headers: "
                "images are grouped under a running number; no name, id, date or UID is copied"
            )
        if len(owners) > 1 and len(set(owners)) == 1:
            notes.append(
                "all DICOM files carry one and the same patient, so all are one group; if that comes from anonymising, "
                "give a manifest with a column 'group'"
            )
        if len(depths := sorted({contents.bits for _, contents in files if contents.bits})) > 1:
            notes.append(
                f"DICOM headers state different depths ({', '.join(map(str, depths))} bits): each image is scaled by "
                "its own, so equal stored values do not give equal greys"
            )
        if remarks[_BURNED_IN]:
            notes.append(
                f"{counted(remarks[_BURNED_IN], 'DICOM file says', 'DICOM files say')} that identifying text is burned "
                "into the pixels: look at the images before you share them"
            )
        return notes


class DicomFile:
    """One DICOM file, read once, whose frames can be decoded one by one. For one thread at a time."""

    def __init__(self, path: Path, force: bool = False) -> None:
        """Read `path`; `force` as in `read_dataset`. Raises UnreadableImageError if no frame of it can be decoded."""
        self._path = path
        self._data = read_dataset(path, True, force)
        with _named(path, "", "its header describes the pixels (group 0028) by values that are not valid"):
            _check(self._data)
            self._count = frame_count(self._data)
        self._damaged = f"is damaged or cut short ({transfer_syntax(self._data).name})"
        with _named(path, "", self._damaged):
            self._frames = Frames(self._data)
        with _named(path, "", "its header gives regions (0018,6011) or functional groups that are not valid"):
            check_groups(self._data, self._count)
            self._region = region_of(self._data)
            self._region_note = region_note(marked_regions(self._data))

    def image(self, frame: int | None) -> DecodedImage:
        """Return the B-mode area of frame `frame`, counted from 0, or of the only one.

        One channel: the modality rescale or table is applied, then the first VOI table or window (linear, linear exact
        or sigmoid), scaled to 0 to 255; without one, the full range of the stored bits is. MONOCHROME1 is inverted.
        Palettes and YBR become RGB; colours become ITU-R 601 luma, of more than 8 bits by the full range of their bits.
        Raises UnreadableImageError if the frame is missing, damaged, or not of the size that the header gives.
        """
        if frame is None and self._count > 1:
            raise unreadable(self._path, f"holds {self._count:,} frames, of which none was asked for")
        if frame is not None and not 0 <= frame < self._count:
            raise unreadable(self._path, f"frame {frame} is not there: the header gives {self._count:,} frames")
        with _named(self._path, "" if frame is None else f"frame {frame} ", self._damaged):
            values = self._frames.values(frame or 0)
        # Without groups of their own all frames are refused by one line.
        own = frame is not None and "PerFrameFunctionalGroupsSequence" in self._data
        with _named(
            self._path, f"frame {frame}: " if own else "", "its header gives tables or windows that are not valid"
        ):
            grey, notes = self._grey(values, frame or 0)
        kind = f"DICOM {self._data.PhotometricInterpretation} {self._data.BitsStored}-bit"
        return DecodedImage(grey, kind, "; ".join([*notes, self._region_note]))

    def _grey(self, values: np.ndarray, frame: int) -> tuple[np.ndarray, list[str]]:
        region, photometric = self._region, self._data.PhotometricInterpretation
        cut = values[region.top : region.top + region.height, region.left : region.left + region.width]
        if photometric.startswith("MONOCHROME"):
            grey, notes = monochrome(cut, self._data, frame)
            return (255 - grey, [*notes, "inverted: MONOCHROME1"]) if photometric.endswith("1") else (grey, notes)
        notes, bits = [], int(self._data.BitsStored)
        if photometric == "PALETTE COLOR":
            cut, notes = palette_colours(cut, self._data)
        elif bits != 8:
            notes = unused_bits_note(cut, bits)
            cut = np.rint(cut * (255 / (2**bits - 1))).clip(0, 255).astype(np.uint8)
            notes.append(f"{bits} bits per colour scaled to 8")
        grey, note = colours_to_grey(cut, photometric)
        return grey, [*notes, note]


@contextmanager
def _named(path: Path, before: str, otherwise: str) -> Iterator[None]:
    """Turn what is raised inside into an UnreadableImageError of `path`: `before` and why, or `otherwise`."""
    try:
        yield
    except DicomError as error:
        raise unreadable(path, f"{before}{error}") from error
    except DAMAGE as error:
        raise unreadable(path, f"{before}{otherwise}") from error


def _check(data: Dataset) -> None:
    """Raise DicomError if the header of `data` describes pixels that are not decoded, or none."""
    if data.get("Rows") is None or data.get("Columns") is None:
        raise DicomError(
            "gives no image size" if may_hold_images(data) else "holds no image, but another kind of DICOM object"
        )
    syntax = transfer_syntax(data)
    if reason := undecodable_reason(syntax):
        raise DicomError(reason)
    if "PixelData" not in data:
        raise DicomError("has no pixel data, or is cut short before it")
    if missing := [keyword for keyword in _NEEDED if data.get(keyword) is None]:
        raise DicomError(f"its header lacks {', '.join(missing)}, without which the pixels have no meaning")
    photometric, bits, stored = data.PhotometricInterpretation, data.BitsAllocated, data.BitsStored
    if photometric not in _SAMPLES or data.SamplesPerPixel != _SAMPLES[photometric]:
        known = ", ".join(_SAMPLES)
        raise DicomError(f"its photometric interpretation or number of samples is none that is read ({known})")
    if bits not in (8, 16):
        raise DicomError("stores neither 8 nor 16 bits per pixel; only these are read")
    if not 1 <= stored <= bits:
        raise DicomError(f"gives {stored} stored bits (BitsStored) of {bits} allocated ones")
    if data.PixelRepresentation not in (0, 1):
        raise DicomError("gives a PixelRepresentation that is neither 0 nor 1")
    if data.SamplesPerPixel > 1 and data.get("PlanarConfiguration") not in (0, 1):
        raise DicomError("gives no PlanarConfiguration of 0 or 1, which colours need")
    if photometric in ("YBR_FULL", "YBR_FULL_422") and bits > 8:
        raise DicomError(f"holds {photometric} of more than 8 bits, which is not read; convert it to RGB")
    if syntax == JPEGExtended12Bit and photometric == "RGB" and stored > 8:
        raise DicomError("holds JPEG colours of more than 8 bits, which are not read; convert it to JPEG-LS or RLE")
    if data.Rows < 1 or data.Columns < 1:
        raise DicomError("gives an image size of 0")
    if frame_count(data) < 1:
        raise DicomError(f"gives {frame_count(data)} frames")
    if reason := base.too_large(data.Rows, data.Columns):
        raise DicomError(reason)
