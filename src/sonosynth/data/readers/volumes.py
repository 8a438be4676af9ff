"""Volumes: NIfTI, MetaImage and NRRD files, of which a few evenly spaced slices become images."""

import gzip
import importlib
import math
import re
import struct
import threading
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sonosynth.core.errors import SourceError, UnreadableImageError
from sonosynth.core.files import unreadable_reason
from sonosynth.core.types import Array
from sonosynth.data.readers.base import (
    LARGEST,
    DecodedFrames,
    DecodedImage,
    FileContents,
    Reader,
    damaged,
    evenly_spaced,
    from_high_depth,
    too_large,
    unreadable,
)
from sonosynth.data.readers.bit_depth import BitDepth, HighDepthImage, as_uint16
from sonosynth.data.readers.tiff import quiet_decoder
from sonosynth.data.source import AXES, ReadOptions

_FORMATS = {
    ".nii": "NIfTI", ".nii.gz": "NIfTI", ".mha": "MetaImage", ".mhd": "MetaImage", ".nrrd": "NRRD", ".nhdr": "NRRD",
}  # fmt: skip
_DETACHED = (".mhd", ".nhdr")
_LONGEST_HEADER = 1 << 20  # bytes
_LARGEST_VOLUME = 1 << 31  # bytes of pixels
_ANY_DEFLATE = zlib.MAX_WBITS | 32  # with the header of gzip or of zlib
_DEFLATE = 1032  # bytes that deflate makes of one byte, at most
_MOST_DIMENSIONS = 10  # of MetaImage; it prints a warning of more
_LONG_HEADER = f"a header of more than {_LONGEST_HEADER:,} bytes"
_TYPES = ("UInt8", "Int8", "UInt16", "Int16", "UInt32", "Int32", "UInt64", "Int64", "Float32", "Float64")
_reading = threading.Lock()  # one volume at a time, so that threads do not add up their memory
# What SimpleITK raises, and gzip and struct on a header.
_DAMAGE = (RuntimeError, OSError, ValueError, EOFError, OverflowError, struct.error, zlib.error)


def _format_of(path: Path) -> str | None:
    """Return the format that the name of `path` says, or None."""
    name = path.name.lower()
    return next((kind for suffix, kind in _FORMATS.items() if name.endswith(suffix) and name != suffix), None)


class VolumeReader(Reader):
    """NIfTI, MetaImage and NRRD, read with SimpleITK."""

    def recognises(self, path: Path, options: ReadOptions) -> bool:
        """By the name alone."""
        return _format_of(path) is not None

    def contents(self, path: Path, options: ReadOptions) -> FileContents:
        """Count the slices; a two-dimensional file is one image."""
        axis, size = options.axis or AXES[-1], _read(path, pixels=False)[0].size
        count = size[AXES.index(axis)] if len(size) == len(AXES) else 1
        sampled = ("volume", f"slices across {axis}")
        return FileContents() if count == 1 else FileContents(evenly_spaced(count), path, sampled=sampled)

    def open(self, path: Path, options: ReadOptions, depth: BitDepth) -> DecodedFrames:
        """Decode the slices across ``options.axis`` (z if None) that are taken.

        Rows and columns are as stored, the first axis along rows: across z, rows are y and columns x; across y, rows
        are z and columns x; across x, rows are z and columns y.
        """
        header, stored = _read(path, pixels=True)
        mode = f"{_format_of(path)} {header.dtype}"
        planes = stored if stored.ndim == 3 else stored[None]
        across = AXES[::-1].index(options.axis or "z") if stored.ndim == 3 else 0  # arrays have the slowest axis first
        try:
            if header.dtype != "uint8":
                for plane in planes:  # all of them, for a negative or broken number anywhere tells of another range
                    as_uint16(plane)
        except ValueError as error:
            raise unreadable(path, str(error)) from error
        taken = {index: np.take(planes, index, axis=across) for index in evenly_spaced(planes.shape[across])}
        del stored, planes

        def decoded(values: Array) -> DecodedImage:
            if header.dtype == "uint8":
                return DecodedImage(np.ascontiguousarray(values), mode, None)
            return from_high_depth(path, HighDepthImage(as_uint16(values)), depth, mode)

        return DecodedFrames(path, ((index, decoded(values)) for index, values in taken.items()), kind="slice")

    def has_unstated_depth(self, path: Path) -> bool:
        """Whether it has values of more than 8 bits: no volume states their range."""
        return _read(path, pixels=False)[0].dtype != "uint8"

    def data_files(self, paths: Iterable[Path]) -> set[Path]:
        """Return the files of pixels that headers in files of their own name."""
        found: set[Path | None] = set()
        for path in filter(_format_of, paths):
            with suppress(UnreadableImageError):  # it is told when the volume is decoded
                found.add(_storage(path).file)
        return {file for file in found if file}


class _Header(NamedTuple):
    """Lengths in pixels along x, y and z, as they are stored (x changes fastest), and NumPy's name of the values."""

    size: tuple[int, ...]
    dtype: str


def _read(path: Path, pixels: bool) -> tuple[_Header, np.ndarray]:
    """Return header and, if asked for, values ``[z, y, x]`` or ``[y, x]`` of the volume at `path`; else no values.

    The header is checked before any memory is taken for pixels. Raises UnreadableImageError if the volume is damaged,
    cut short, larger than the file can hold, of more than 2 GiB, has pixels in several files or in another folder, or
    is neither 2D nor 3D with one number per pixel, and SourceError if SimpleITK is not installed.
    """
    name = _format_of(path) or ""
    try:
        sitk: Any = importlib.import_module("SimpleITK")
    except ImportError as error:
        raise SourceError(
            f"{path}: {name} volumes are read with SimpleITK, which is not installed: pip install 'sonosynth[volumes]'"
        ) from error
    storage = _storage(path)
    try:
        with _reading, quiet_decoder:
            reader = sitk.ImageFileReader()
            reader.SetGlobalWarningDisplay(False)
            reader.SetImageIO({"NIfTI": "NiftiImageIO", "MetaImage": "MetaImageIO", "NRRD": "NrrdImageIO"}[name])
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            header = _checked(path, reader, sitk, storage)
            if not pixels:
                return header, np.empty(0)
            if storage.deflated is not None:
                begin, before = storage.deflated
                width = storage.width or np.dtype(header.dtype).itemsize
                _check_deflated(storage.file or path, begin, before + math.prod(header.size) * width)
            values = sitk.GetArrayFromImage(reader.Execute())
            return header, values.reshape(header.size[::-1])
    except MemoryError as error:
        raise unreadable(path, "needs more memory than there is") from error
    except _DAMAGE as error:  # its own words are many lines about ITK
        raise unreadable(path, f"damaged, or no {name} file that SimpleITK reads") from error


def _checked(path: Path, reader: Any, sitk: Any, storage: "_Storage") -> _Header:
    size = tuple(int(length) for length in reader.GetSize())
    while len(size) > 2 and size[-1] == 1:
        size = size[:-1]
    if len(size) > len(AXES):
        raise unreadable(path, f"{len(size)} dimensions (a series in time?), of which 2 or 3 are read; divide the file")
    if len(size) < 2 or 0 in size:
        raise unreadable(path, "not an image of 2 or 3 dimensions")
    if (values := reader.GetNumberOfComponents()) != 1:
        raise unreadable(path, f"{values} numbers per pixel (colours or vectors), of which one is read; store grey")
    names = {getattr(sitk, f"sitk{kind}"): kind.lower() for kind in _TYPES}
    dtype = names.get(reader.GetPixelID())
    if dtype is None:
        raise unreadable(path, "values that are no plain numbers; store grey values of 8 or 16 bits")
    for height, width in ((size[1], size[0]), (size[-1], size[0]), (size[-1], size[1])):
        if reason := too_large(height, width):
            raise unreadable(path, f"slices of {reason}")
    width = np.dtype(dtype).itemsize
    if math.prod(size) * width > _LARGEST_VOLUME:
        raise unreadable(path, f"declares more than {_LARGEST_VOLUME:,} bytes of pixels; divide the file")
    if math.prod(size) * (2 if storage.text else storage.width or width) - storage.text > storage.room:
        raise unreadable(path, "cut short: its header declares more pixels than the file can hold")
    return _Header(size, dtype)


# ---------------------------------------------------------------------------------------------------- headers


@dataclass(frozen=True)
class _Storage:
    """Where the pixels of a volume lie."""

    file: Path | None  # the file beside the header; None for the file itself
    room: int  # the most bytes that its pixels can have, by the length of the file
    text: bool = False  # whether values are written as text, at least two letters each
    width: int | None = None  # bytes of a stored value, where that is not the width of the values that are read
    # Of NIfTI and MetaImage files: at which byte a deflated part begins, and how many bytes of it precede the pixels.
    deflated: tuple[int, int] | None = None


def _storage(path: Path) -> _Storage:
    """Return where the pixels of the volume at `path` lie.

    Raises UnreadableImageError if its header is damaged, longer than 1 MiB, or names other files than one beside it.
    """
    try:
        if reason := unreadable_reason(path, LARGEST):
            raise unreadable(path, reason)
        return {"NIfTI": _nifti, "MetaImage": _metaimage, "NRRD": _nrrd}[_format_of(path) or ""](path)
    except _DAMAGE as error:
        raise damaged(path, error) from error


def _nifti(path: Path) -> _Storage:
    """The header has 348 bytes (NIfTI-1) or 540 (NIfTI-2) and says where the pixels begin; nifti.nimh.nih.gov."""
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path) if packed else path.open("rb") as file:
        header = file.read(540)
    if header[344:348] == b"n+1\0":
        length, bits_at, begin_at, kind = 348, 72, 108, "f"
    elif header[4:8] == b"n+2\0":
        length, bits_at, begin_at, kind = 540, 14, 168, "q"
    else:
        raise ValueError("no NIfTI header of a single file")
    order = "<" if header[:4] == struct.pack("<i", length) else ">"
    bits = struct.unpack_from(f"{order}h", header, bits_at)[0]
    begin = struct.unpack_from(order + kind, header, begin_at)[0]
    if not 0 <= begin <= _LONGEST_HEADER:
        raise ValueError(_LONG_HEADER)
    size = path.stat().st_size
    room, deflated = (size * _DEFLATE, (0, int(begin))) if packed else (size - int(begin), None)
    return _Storage(None, room, width=max(1, bits // 8), deflated=deflated)


def _check_deflated(file: Path, begin: int, length: int) -> None:
    """Raise zlib.error or ValueError if `file`, deflated from byte `begin` on, is damaged or inflates to too little.

    SimpleITK reads NIfTI and MetaImage files of that kind without a word, with zeros for what is missing.
    """
    inflater, found, rest = zlib.decompressobj(_ANY_DEFLATE), 0, b""
    with file.open("rb") as stream:
        stream.seek(begin)
        while rest := rest or stream.read(1 << 16):
            found += len(inflater.decompress(rest, 1 << 20))
            rest = inflater.unconsumed_tail
            if found >= length and (inflater.eof or found > length + _LONGEST_HEADER):
                return
            if inflater.eof:
                inflater, rest = zlib.decompressobj(_ANY_DEFLATE), inflater.unused_data
    raise ValueError("cut short")


def _metaimage(path: Path) -> _Storage:
    """A text of lines ``Name = value``, of which ElementDataFile is the last."""
    fields, length = dict[str, str](), 0
    for line in _header_lines(path):
        length += len(line) + 1
        name, *value = re.split("[=:]", line.decode(errors="surrogateescape"), maxsplit=1)
        fields[name.strip().lower()] = value[0].strip() if value else ""
        if "elementdatafile" in fields:
            break
    else:
        raise ValueError("no ElementDataFile in its header")
    if not fields.get("ndims", "").isdecimal() or int(fields["ndims"]) > _MOST_DIMENSIONS:
        raise ValueError(f"no NDims of at most {_MOST_DIMENSIONS} in its header")
    name = fields["elementdatafile"]
    file = None if name.upper() == "LOCAL" else _beside(path, name)
    text, packed = fields.get("binarydata", "").lower() == "false", fields.get("compresseddata", "").lower() == "true"
    begin = length if file is None else 0
    room = (file or path).stat().st_size - begin
    return _Storage(file, room * _DEFLATE if packed else room, text, deflated=(begin, 0) if packed else None)


def _nrrd(path: Path) -> _Storage:
    """A text of lines ``name: value`` that ends with an empty one; https://teem.sourceforge.net/nrrd/format.html."""
    fields, length = dict[str, str](), 0
    lines = _header_lines(path)
    if not lines[0].startswith(b"NRRD"):
        raise ValueError("no NRRD header")
    for line in lines:
        length += len(line) + 1
        if not line.strip():
            break
        name, colon, value = line.decode(errors="surrogateescape").partition(": ")
        if colon and not name.startswith("#"):
            fields[name.strip().lower()] = value.strip()
    else:
        if length > _LONGEST_HEADER:
            raise ValueError(_LONG_HEADER)
    data = fields.get("data file", fields.get("datafile"))
    file = None if data is None else _beside(path, data)
    encoding = fields.get("encoding", "").lower()
    room = (file or path).stat().st_size - (length if file is None else 0)
    packed, text = encoding in ("gzip", "gz"), encoding in ("text", "txt", "ascii", "hex")
    return _Storage(file, room * _DEFLATE if packed else room, text)


def _header_lines(path: Path) -> list[bytes]:
    """Return the lines of a header, and of what follows it, without their ends. Raises ValueError if it is too long."""
    with path.open("rb") as file:
        start = file.read(_LONGEST_HEADER + 1)
    if len(start) > _LONGEST_HEADER and path.name.lower().endswith(_DETACHED):
        raise ValueError(_LONG_HEADER)
    return start.split(b"\n")


def _beside(path: Path, name: str) -> Path:
    """Return the file that the header at `path` calls `name`. Raises UnreadableImageError."""
    if not name or "%" in name or name.split()[0].upper() == "LIST":
        raise unreadable(path, "its pixels lie in several files, which are not read; write it as one file")
    if name.startswith("/") or "\\" in name or name[1:2] == ":" or ".." in name.split("/"):
        raise unreadable(path, f"its header names pixels in another folder ('{name}'); put that file beside it")
    file = path.parent / name
    if not file.is_file():
        raise unreadable(path, f"the file of its pixels, '{name}', is not there; restore it or correct the header")
    if reason := unreadable_reason(file, LARGEST):
        raise unreadable(file, reason)
    return file
