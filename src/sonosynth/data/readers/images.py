"""Still images, animations and TIFF stacks: PNG, JPEG, BMP, TIFF, GIF, WebP, PGM and PPM to grey pixels."""

import math
import re
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from sonosynth.core.errors import UnreadableImageError
from sonosynth.core.files import unreadable_reason
from sonosynth.core.types import Array
from sonosynth.data.readers.base import (
    COLOUR,
    DAMAGE,
    LARGEST,
    DecodedFrames,
    DecodedImage,
    Encoding,
    FileContents,
    Reader,
    colours_to_grey,
    damaged,
    evenly_spaced,
    from_high_depth,
    joined_notes,
    too_large,
    unreadable,
)
from sonosynth.data.readers.bit_depth import FULL, UNKNOWN_RANGE, BitDepth, HighDepthImage, as_uint16
from sonosynth.data.readers.tiff import Tiff, is_tiff, quiet_decoder
from sonosynth.data.source import ReadOptions

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
# Named, so that no file can reach a decoder that starts another program (EPS).
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
_ORIENTATION = 0x0112
_CLIP_NAMES = {"PNG": "APNG clip", "WEBP": "WebP clip", "GIF": "GIF clip"}
_SNIFFED = 32  # bytes at the start of a file that tell what it is
_MOST_CHUNKS = 10_000  # of a PNG before its pixels
_LONGEST_NUMBER = 10  # digits in a plain PGM or PPM
_LARGE = 1 << 24  # pixels from which on files are decoded one at a time, so that threads do not add up their memory
_opening, _decoding_large = threading.Lock(), threading.Lock()
_HEAD = 1 << 18  # bytes from the start of a WebP file in which its kind is looked for
_LOSSY_TIFF = ("jpeg", "webp")
_TIFF_BITS = 258  # the tag BitsPerSample
_MODE_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 16, "F": 32}
# ITU-T T.81, table K.1, in raster order.
_LUMINANCE = np.array((
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
))  # fmt: skip


class ImageReader(Reader):
    """Files that Pillow and tifffile open; those of several frames are clips."""

    max_bytes = LARGEST

    def recognises(self, path: Path, options: ReadOptions) -> bool:
        """By the suffix; what the file is goes by its content."""
        return path.suffix.lower() in SUFFIXES

    def contents(self, path: Path, options: ReadOptions) -> FileContents:
        """Count the frames; pixels are not decoded."""
        count = _count_frames(path)
        return FileContents() if count == 1 else FileContents(evenly_spaced(count), path, sampled=("clip", "frames"))

    def open(self, path: Path, options: ReadOptions, depth: BitDepth) -> "_StillOrFrames":
        """Decode nothing yet: of a still image all, of a clip the frames that are taken."""
        return _StillOrFrames(path, depth)

    def encoding(self, path: Path) -> Encoding:
        """Give format, compression, JPEG quality and bits."""
        with suppress(UnreadableImageError):  # it is told when the image is decoded
            return _encoding(path)
        return super().encoding(path)

    def has_unstated_depth(self, path: Path) -> bool:
        """Whether it is a TIFF of more than 8 bits, or a PNG of 16."""
        with open_checked(path) as file:
            if is_tiff(file.read(_SNIFFED)):
                file.seek(0)
                tiff = Tiff(file)
                return any(tiff.is_high_depth(index) for index in tiff.frames)
            return png_header(file).get(b"IHDR", b"")[8:9] == b"\x10"


class _StillOrFrames:
    def __init__(self, path: Path, depth: BitDepth) -> None:
        self._path, self._depth = path, depth
        self._frames: DecodedFrames | None = None

    def image(self, frame: int | None) -> DecodedImage:
        if frame is None:
            return decode_image_file(self._path, self._depth)
        self._frames = self._frames or DecodedFrames(self._path, self._decoded())
        return self._frames.image(frame)

    def _decoded(self) -> Iterator[tuple[int, DecodedImage]]:
        with _open_frames(self._path) as file:
            for index in evenly_spaced(file.count):
                yield index, file.image(index, self._depth)


def decode_image_file(path: Path, depth: BitDepth | None = None) -> DecodedImage:
    """Decode the image file at `path` to grey, upright as its EXIF orientation says, the first frame of several.

    8-bit grey is taken as it is, fewer bits are spread over 0 to 255, inverted where the file says that 0 is white.
    Transparent pixels are laid over black. Colours (RGB, CMYK, palette, ...) become ITU-R 601 luma; equal channels give
    exactly their value. More than 8 bits are scaled by the range that the file states (maxval of PGM and PPM, 9 to 15
    bits of TIFF); files of 16 bits that state nothing by what `depth` decides. Raises UnreadableImageError if it is no
    image or no plain file, damaged, cut short, too large, or of unknown value range, and SourceError for values above
    the bits that the user gave.
    """
    with _open_frames(path) as file:
        image = file.image(0, depth or BitDepth())
        more = f"first of {file.count} frames" if file.count > 1 else None
        return replace(image, note="; ".join(filter(None, (image.note, more))) or None)


@contextmanager
def _open_frames(path: Path) -> Iterator["_PillowFile | _TiffFile"]:
    """Open the file at `path`; what decoders raise here and inside becomes an UnreadableImageError."""
    with open_checked(path) as file:
        # Decoders get an open file: given a path, Pillow maps plain TIFF pixels with the sides of a turned image.
        tiff = is_tiff(file.read(_SNIFFED))
        file.seek(0)
        if tiff:
            with quiet_decoder:
                yield _TiffFile(path, file)
        else:
            yield _PillowFile(path, file)


@contextmanager
def open_checked(path: Path) -> Iterator[IO[bytes]]:
    """Open the image file at `path` for reading; what decoders raise inside becomes an UnreadableImageError."""
    try:
        if why := unreadable_reason(path, LARGEST):
            raise unreadable(path, why)
        with path.open("rb") as file:
            yield file
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise unreadable(path, f"more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels") from error
    except MemoryError as error:
        raise unreadable(path, "needs more memory than there is") from error
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise unreadable(path, "empty file" if empty else "no image in a format that is read") from error
    except DAMAGE as error:
        raise damaged(path, error) from error


def _count_frames(path: Path) -> int:
    """Return the number of frames, 1 of a single image; pixels are not decoded. Raises UnreadableImageError."""
    with open_checked(path) as file:
        start = file.read(_SNIFFED)
        animated = start[:4] == b"RIFF" and start[12:16] == b"VP8X" and bool(start[20:21]) and start[20] & 2
        if not (is_tiff(start) or start[:3] == b"GIF" or animated or b"acTL" in png_header(file)):
            return 1
    with _open_frames(path) as opened:
        return opened.count


@contextmanager
def open_with_pillow(path: Path) -> Iterator[Image.Image]:
    """Open the image file at `path` with Pillow, to look at its header. Raises UnreadableImageError."""
    with open_checked(path) as file, _opened(file) as stored:
        yield stored


def _opened(file: IO[bytes]) -> Image.Image:
    # The filter is global to the process, hence the lock; only the header is read inside.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        stored = Image.open(file, formats=_FORMATS)
    if 0 in stored.size:
        raise ValueError("no pixels")
    return stored


def _one_at_a_time(width: int, height: int) -> AbstractContextManager[object]:
    return _decoding_large if width * height > _LARGE else nullcontext()


class _PillowFile:
    """A file in any format but TIFF."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self._png = png_header(file)
        file.seek(0)
        self._stored = _opened(file)
        # The first image of an animated PNG may be one for programs that show no animation, and no frame of it.
        self._first = int(getattr(self._stored, "default_image", False))
        frames = getattr(self._stored, "n_frames", 1) - self._first
        self.count = frames if frames > 1 else 1

    def image(self, frame: int, depth: BitDepth) -> DecodedImage:
        stored, still = self._stored, self.count == 1
        with _one_at_a_time(*stored.size):
            deep, mode = self._high_depth()
            if deep is not None and not still:
                raise unreadable(self._path, "an animated PNG of 16 bits, which is not read; store its frames as files")
            if not still:
                stored.seek(frame + self._first)
            turn = stored.getexif().get(_ORIENTATION, 1)
            if deep is None:
                stored.load()
                mode = stored.mode if still else f"{_CLIP_NAMES[stored.format or '']} {stored.mode}"
                grey, notes = _to_grey(ImageOps.exif_transpose(stored))
                return DecodedImage(grey, mode, joined_notes(notes, turn))
        return from_high_depth(self._path, deep, depth, mode, turn)  # outside, for `depth` may have to read other files

    def _high_depth(self) -> tuple[HighDepthImage | None, str]:
        """Return the pixels of a PNG of 16 bits, or of a PGM or PPM of more than 8, as they are stored; else None."""
        stored = self._stored
        if self._png.get(b"IHDR", b"")[8:9] == b"\x10":
            stated = max(self._png.get(b"sBIT", b"")[:3], default=0)
            significant = stated if 1 <= stated <= 16 else None  # else the chunk is not valid
            return _high_depth_png(self._file, stored, significant)
        if stored.format == "PPM" and stored.mode in ("I", "RGB"):
            return _high_depth_pnm(self._file, stored), f"{stored.mode};16"
        if stored.mode == "F" or stored.mode.startswith("I"):
            raise ValueError(UNKNOWN_RANGE)
        return None, stored.mode


class _TiffFile:
    """A TIFF: its pages of 1, 2, 4 and 8 bits are decoded by Pillow, which knows the most kinds; others by tifffile."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self._tiff = Tiff(file)
        self.count = len(self._tiff.frames)
        self._stored: Image.Image | None = None

    def image(self, frame: int, depth: BitDepth) -> DecodedImage:
        index, (height, width) = self._tiff.frames[frame], self._tiff.size
        turn = self._tiff.orientation(index)
        more = ["other pages left out: thumbnails, masks, or of another size"] if self._tiff.others else []
        stack = "TIFF stack " if self.count > 1 else ""
        if reason := too_large(height, width) or too_large(*self._tiff.tile(index)):
            raise unreadable(self._path, reason)
        with _one_at_a_time(width, height):
            if not self._tiff.is_high_depth(index):
                if self._stored is None:
                    self._file.seek(0)
                    self._stored = _opened(self._file)
                self._stored.seek(index)
                self._stored.load()
                upright = ImageOps.exif_transpose(self._stored)  # where Pillow has not done so while loading
                if palette := self._tiff.palette(index):
                    upright.putpalette(palette)
                grey, notes = _to_grey(upright)
                notes += ["palette entries of 8 bits in fields of 16"] if palette else []
                return DecodedImage(grey, stack + self._stored.mode, joined_notes(notes, turn, more))
            deep, mode = self._tiff.high_depth(index)
        return from_high_depth(self._path, deep, depth, stack + mode, turn, more)


def png_header(file: IO[bytes]) -> dict[bytes, bytes]:
    """Return the chunks IHDR, sBIT (significant bits) and acTL (if animated) of a PNG; nothing of other files."""
    found: dict[bytes, bytes] = {}
    file.seek(0)
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return found
    for _ in range(_MOST_CHUNKS):
        start = file.read(8)
        length, name = int.from_bytes(start[:4], "big"), start[4:]
        if len(start) < 8 or name == b"IDAT":
            break
        if name in (b"IHDR", b"sBIT", b"acTL"):
            found[name] = file.read(min(length, 16))
        file.seek(max(0, length - len(found.get(name, b""))) + 4, 1)
    return found


def _high_depth_png(file: IO[bytes], stored: Image.Image, significant: int | None) -> tuple[HighDepthImage, str]:
    """Return the values of a PNG of 16 bits, of which Pillow keeps only the high byte unless it has one channel."""
    if stored.mode.startswith("I"):
        grey, clear = as_uint16(np.asarray(stored)), stored.info.get("transparency")
        alpha = None if clear is None else np.where(grey == clear, np.uint16(0), np.uint16(FULL))
        return HighDepthImage(grey, significant=significant, alpha=alpha), "I;16"
    from imagecodecs import png_decode

    file.seek(0)
    with quiet_decoder:
        values = png_decode(file.read())  # a transparent colour (tRNS) comes as a further channel
    channels = values.shape[2]
    alpha = values[..., -1] if channels in (2, 4) else None
    colours = values[..., :3] if channels > 2 else values[..., 0]
    mode = {2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}[channels]
    return HighDepthImage(colours, significant=significant, alpha=alpha), mode


def _high_depth_pnm(file: IO[bytes], stored: Image.Image) -> HighDepthImage | None:
    """Return the values of a PGM or PPM with maxval above 255, which Pillow scales and rounds; None of another."""
    codec, _, offset, arguments = cast(ImageFile.ImageFile, stored).tile[0]
    maxval = arguments[1] if isinstance(arguments, tuple) else 65535 if arguments == "I;16B" else 255
    if not isinstance(maxval, int) or maxval < 256:
        return None
    shape = (stored.height, stored.width, 3)[: 3 if stored.mode == "RGB" else 2]
    file.seek(offset)
    if codec != "ppm_plain":
        values = np.frombuffer(file.read(2 * math.prod(shape)), ">u2")
    else:
        words = re.sub(rb"#[^\r\n]*", b"", file.read()).split()[: math.prod(shape)]
        if max(map(len, words), default=0) > _LONGEST_NUMBER:
            raise ValueError("a number that is too long")
        values = as_uint16(np.array(words or [b"0"]).astype(np.int64))
    return HighDepthImage(values.reshape(shape), white=maxval)


def _to_grey(picture: Image.Image) -> tuple[Array, list[str]]:
    """Return uint8 ``[H, W]`` by the rules of `decode_image_file` for at most 8 bits, and what was converted."""
    mode, notes = picture.mode, list[str]()
    if mode == "1":
        return np.asarray(picture.convert("L")), ["1 bit per pixel (a mask?)"]
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        if layered.getchannel("A").getextrema() != (255, 255):
            notes.append("transparent pixels laid over black")
            layered = Image.alpha_composite(Image.new("RGBA", layered.size, (0, 0, 0, 255)), layered)
        picture = layered
    if picture.mode == "L":
        return np.asarray(picture), notes
    grey, note = colours_to_grey(np.asarray(picture.convert("RGB")), mode)
    if note == COLOUR or mode not in ("L", "LA", "La"):
        notes.append(note)
    return grey, notes


# ---------------------------------------------------------------------------------------------------- encoding


def _encoding(path: Path) -> Encoding:
    with open_checked(path) as file:  # most files are PNG, whose header says all without a decoder
        chunks = png_header(file)
    if len(header := chunks.get(b"IHDR", b"")) >= 9 and all(sides := struct.unpack(">II", header[:8])):
        frames = int.from_bytes(chunks.get(b"acTL", b"\0\0\0\1")[:4], "big")
        return Encoding("PNG", False, None, header[8], path.stat().st_size / (math.prod(sides) * max(frames, 1)))
    with open_with_pillow(path) as stored:
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
                with path.open("rb") as file:
                    found = re.search(rb"VP8[ L]", file.read(_HEAD))
                lossy = found is None or found.group() == b"VP8 "
                return Encoding("WebP" if lossy else "WebP (lossless)", lossy, None, 8, size)
            case other:
                return Encoding({"PPM": "PNM"}.get(str(other), str(other)), False, None, bits, size)


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
