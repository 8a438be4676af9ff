"""The frames in the pixel data of a DICOM file: how many there are, what their code streams say, and their values."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, parse_basic_offsets, parse_fragments
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import as_pixel_options, pixel_array
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGTransferSyntaxes, RLELossless

from sonosynth.data.readers.dicom.header import DECODERS, IMAGECODECS, DicomError, frame_count, transfer_syntax

_JPEG_START, _J2K_START, _JP2_START = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
_END = b"\xff\xd9"  # of every code stream but RLE
# Where one code stream ends, perhaps with a byte of padding, and the next begins inside one fragment. Neither marker
# can occur among coded pixels.
_BETWEEN = re.compile(rb"\xff\xd9\0?(?=\xff\xd8\xff|\xff\x4f\xff\x51|\0\0\0\x0cjP  )")
_RLE_HEADER, _RLE_SEGMENTS = 64, 15  # bytes; the most segments
_LOSSLESS, _JPEG_LS = 0xC3, 0xF7  # kinds of JPEG by the marker of their frame header
_NOT_SIZES = (0xC4, 0xC8, 0xCC)  # markers among those of frame headers (C0 to CF) that are none
_RGB_IDS = (b"RGB", b"rgb")
_ITEM_TAG = b"\xfe\xff\x00\xe0"
_ITEM = 8  # bytes of the tag and the length before a fragment


class Frames:
    """The frames of one DICOM file.

    In encapsulated pixel data a frame begins with a fragment that begins as a code stream does, or that the basic or
    extended offset table names; fragments that follow belong to it. In native pixel data all frames are of one length.
    """

    def __init__(self, data: Dataset) -> None:
        """Find the frames of `data`, whose header is checked. Raises DicomError if they are not as many as it says."""
        self._data = data
        self._syntax = transfer_syntax(data)
        self._pieces: list[list[slice]] = []
        count = frame_count(data)
        if not self._syntax.is_encapsulated:
            if data["PixelData"].is_undefined_length:
                raise DicomError("its pixels are compressed, which its transfer syntax does not say")
            _check_native(data, count)
            return
        if not data.PixelData.startswith(_ITEM_TAG):
            raise DicomError("its pixels are uncompressed, which its transfer syntax does not say")
        pieces = list(_pieces(data))
        self._pieces = _frames([piece[:2] for piece in pieces])
        if (held := len(self._pieces)) != count:
            extended = data.get("ExtendedOffsetTable")
            if isinstance(extended, bytes) and len(extended) % 8 == 0:
                named = np.frombuffer(extended, "<u8").tolist()
            else:
                named = parse_basic_offsets(data.PixelData)
            named = frozenset(named)
            self._pieces = _frames([(piece, starts or at in named) for piece, starts, at in pieces])
            if len(self._pieces) != count:
                raise DicomError(_other_count(data, count, held))

    def values(self, index: int) -> np.ndarray:
        """Return the stored values of frame `index`, which exists: ``[H, W]``, or ``[H, W, 3]`` with YBR as RGB.

        Raises DicomError if the code stream contradicts the header, and one of `DAMAGE` if it cannot be decoded.
        """
        if not self._syntax.is_encapsulated:
            return pixel_array(self._data, index=index)
        frame = b"".join(self._data.PixelData[piece] for piece in self._pieces[index])
        decoder = DECODERS[self._syntax]
        if self._syntax != RLELossless:
            if (stream := code_stream(frame)) is None:
                raise DicomError("has no JPEG header")
            _check(stream, self._data)
            if self._syntax == JPEGExtended12Bit and {stream.precision, int(self._data.BitsStored)} != {8}:
                decoder = IMAGECODECS  # for Pillow decodes 8 bits alone
            if decoder == IMAGECODECS:
                return _imagecodecs(frame, stream, self._data)
        options = as_pixel_options(self._data, number_of_frames=1, pixel_keyword="PixelData")
        options.pop("extended_offsets", None)
        one = encapsulate([frame])
        return get_decoder(self._syntax).as_array(one, index=0, decoding_plugin=decoder, **options)[0]


def _check_native(data: Dataset, count: int) -> None:
    samples = 2 if data.PhotometricInterpretation == "YBR_FULL_422" else int(data.SamplesPerPixel)
    size = int(data.Rows) * int(data.Columns) * samples * (int(data.BitsAllocated) // 8)
    length = len(data.PixelData)
    held = length // size
    if held != count and held > 0 and length - held * size <= (held * size) % 2:
        raise DicomError(_other_count(data, count, held))
    if length not in (count * size, count * size + count * size % 2):
        raise DicomError(f"has {length:,} bytes of pixels where its header describes {count * size:,}")


def _other_count(data: Dataset, count: int, held: int) -> str:
    given = f"{count:,} frame{'s' * (count != 1)}" if data.get("NumberOfFrames") else "no number of frames, so 1"
    return f"the header gives {given}, the pixel data hold {held:,}; correct NumberOfFrames (0028,0008)"


def _pieces(data: Dataset) -> Iterator[tuple[slice, bool, int]]:
    """Yield the parts of the pixel data that hold coded bytes: where, whether a code stream starts there, item offset.

    Offsets count from the first item after the basic offset table, as in the tables of offsets; -1 inside a fragment.
    """
    pixels, rle = data.PixelData, transfer_syntax(data) == RLELossless
    buffer = BytesIO(pixels)
    parse_basic_offsets(buffer)
    first = buffer.tell()
    for at in parse_fragments(buffer)[1]:
        start = at + _ITEM
        end = start + int.from_bytes(pixels[start - 4 : start], "little")
        if start == end:
            continue
        if rle:
            segments, header = (int.from_bytes(pixels[place : place + 4], "little") for place in (start, start + 4))
            yield slice(start, end), 1 <= segments <= _RLE_SEGMENTS and header == _RLE_HEADER, at - first
            continue
        cuts = (start, *(match.end() for match in _BETWEEN.finditer(pixels, start, end)), end)
        begins = pixels.startswith((_JPEG_START, _J2K_START, _JP2_START), start)
        for one, after in pairwise(cuts):
            yield (slice(one, after), begins, at - first) if one == start else (slice(one, after), True, -1)


def _frames(pieces: Sequence[tuple[slice, bool]]) -> list[list[slice]]:
    frames: list[list[slice]] = []
    for piece, starts in pieces:
        if starts or not frames:
            frames.append([])
        frames[-1].append(piece)
    return frames


@dataclass(frozen=True)
class CodeStream:
    """What the header of a JPEG, JPEG-LS or JPEG 2000 code stream says.

    Height and width are in pixels; `precision` is the bits of a value, the most of all components; `sampled` says that
    components differ in size. `kind` is the second byte of the marker of the frame header, such as 0xC3 for lossless
    JPEG, and `ids` has a byte per component: for JPEG 2000 they are 0 and empty.
    """

    height: int
    width: int
    components: int
    precision: int
    kind: int
    sampled: bool
    ids: bytes


def code_stream(frame: bytes) -> CodeStream | None:
    """Return what the header of a code stream says; None if `frame` has none."""
    start = frame.find(_J2K_START, 0, 512)  # not at 0 where it is wrapped in a JP2 file
    if start >= 0:
        return _jpeg2000(frame[start : start + 42 + 3 * 4])
    at = 2 if frame.startswith(_JPEG_START) else len(frame)
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif (0xC0 <= marker <= 0xCF and marker not in _NOT_SIZES) or marker == _JPEG_LS:
            count = frame[at + 9]
            parts = frame[at + 10 : at + 10 + 3 * count]
            height, width = (int.from_bytes(frame[place : place + 2], "big") for place in (at + 5, at + 7))
            if not count or len(parts) < 3 * count:
                return None
            sampled = len(set(parts[1::3])) > 1
            return CodeStream(height, width, count, frame[at + 4], marker, sampled, parts[::3])
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _jpeg2000(head: bytes) -> CodeStream | None:
    right, bottom, left, top = (int.from_bytes(head[at : at + 4], "big") for at in range(8, 24, 4))
    count = int.from_bytes(head[40:42], "big")
    parts = head[42 : 42 + 3 * count]
    if len(parts) < 3:
        return None
    precision = max((depth & 0x7F) + 1 for depth in parts[::3])  # the highest bit says that values are signed
    return CodeStream(bottom - top, right - left, count, precision, 0, len(set(parts[1::3])) > 1, b"")


def _check(stream: CodeStream, data: Dataset) -> None:
    """Raise DicomError if `stream` does not agree with the header of its file: before a decoder allocates memory."""
    lossless = DECODERS[transfer_syntax(data)] == IMAGECODECS
    if (stream.height, stream.width) != (data.Rows, data.Columns):
        raise DicomError(f"is {stream.width} × {stream.height} where the header gives {data.Columns} × {data.Rows}")
    if stream.components != data.SamplesPerPixel:
        raise DicomError(f"has {stream.components} components where the header gives {data.SamplesPerPixel}")
    if stream.precision > data.BitsAllocated:
        raise DicomError(f"has values of {stream.precision} bits where the header allocates {data.BitsAllocated}")
    if transfer_syntax(data) == JPEGBaseline8Bit and stream.precision != 8:
        raise DicomError(
            f"has values of {stream.precision} bits, which its transfer syntax, JPEG Baseline, cannot have"
        )
    if transfer_syntax(data) in JPEGTransferSyntaxes and (stream.kind == _LOSSLESS) != lossless:
        name = transfer_syntax(data).name
        raise DicomError(f"is {'' if stream.kind == _LOSSLESS else 'not '}lossless JPEG; its transfer syntax is {name}")
    if lossless and stream.sampled:
        raise DicomError("is lossless JPEG with components of different sizes, which is not read")


def _imagecodecs(frame: bytes, stream: CodeStream, data: Dataset) -> np.ndarray:
    """Return the values of a JPEG frame, lossless or of 12 bits, cut to the bits stored as native pixels are."""
    import imagecodecs

    if not frame.rstrip(b"\0\xff").endswith(_END):  # what pads it to an even length
        raise ValueError("no end of image")  # which the decoder fills up without a word
    stored = int(data.BitsStored)
    if stream.kind != _LOSSLESS and stream.precision > stored:
        raise DicomError(f"has values of {stream.precision} bits where the header states {stored}")
    if stream.components == 1:
        values = imagecodecs.jpeg8_decode(frame)
    else:
        values = imagecodecs.jpeg8_decode(frame, colorspace="RGB", outcolorspace="RGB")  # the components as they are
    size, spare = int(data.BitsAllocated) // 8, int(data.BitsAllocated) - min(stored, stream.precision)
    kind = "i" if data.PixelRepresentation == 1 else "u"
    values = (values.astype(f"u{size}") << spare).view(f"{kind}{size}") >> spare  # which extends a sign
    if data.PhotometricInterpretation in ("YBR_FULL", "YBR_FULL_422") and stream.ids not in _RGB_IDS:
        return convert_color_space(values, "YBR_FULL", "RGB")
    return np.asarray(values)
