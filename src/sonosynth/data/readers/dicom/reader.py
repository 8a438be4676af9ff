"""The reader of DICOM files: what a file holds, how it stores its pixels, and what a user has to know of all files."""

import io
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import pydicom
from PIL import Image

from sonosynth.core.text import counted
from sonosynth.data.readers import base
from sonosynth.data.readers.base import Encoding, FileContents, Reader, unreadable
from sonosynth.data.readers.bit_depth import BitDepth
from sonosynth.data.readers.dicom.header import DAMAGE, DIRECTORY, frame_count, is_dicom, read_header, transfer_syntax
from sonosynth.data.readers.dicom.pixels import DicomFile
from sonosynth.data.readers.images import jpeg_quality
from sonosynth.data.source import ReadOptions, some_of

_REPORT, _BURNED_IN = "report", "burned in"
_TAGS = ("Rows", "Columns", "NumberOfFrames", "BitsStored", "LossyImageCompression")
_JPEG_SYNTAXES = frozenset(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"))  # baseline and extended
# These may lose detail too: JPEG-LS near-lossless, JPEG 2000, high-throughput JPEG 2000.
_LOSSY_SYNTAXES = _JPEG_SYNTAXES | {f"1.2.840.10008.1.2.4.{end}" for end in (81, 91, 203)}
_JPEG_START = b"\xff\xd8"
_HEAD = 1 << 18  # bytes from the start of the pixels in which the tables of the first frame are looked for


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
        return FileContents(frames, header.owner or path, header.columns(), remark=remark, bits=header.depth)

    def open(self, path: Path, options: ReadOptions, depth: BitDepth) -> DicomFile:
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
