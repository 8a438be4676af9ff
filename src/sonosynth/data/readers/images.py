"""One image file to grey pixels, by rules that are written down."""

import math
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from sonosynth.core.errors import UnreadableImageError
from sonosynth.core.files import unreadable_reason
from sonosynth.data.readers.bit_depth import FULL, UNKNOWN_RANGE, BitDepth, HighDepthImage, as_uint16
from sonosynth.data.readers.tiff import Tiff, is_tiff, quiet_decoder

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
# Named, so that no file can reach a decoder that starts another program (EPS).
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
# What Pillow, tifffile and imagecodecs raise on damaged files.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError, struct.error,
    zlib.error,
)  # fmt: skip
_COLOUR_TOLERANCE = 10  # grey levels between channels: JPEG stores grey as RGB with small differences
_ORIENTATION = 0x0112
_TURNS: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).T,
    8: np.rot90,
}  # from pixels as stored to upright, by EXIF orientation
_CLIP_NAMES = {"PNG": "APNG clip", "WEBP": "WebP clip", "GIF": "GIF clip"}
_SNIFFED = 32  # bytes at the start of a file that tell what it is
_MOST_CHUNKS = 10_000  # of a PNG before its pixels
_LONGEST_NUMBER = 10  # digits in a plain PGM or PPM
_LARGE = 1 << 24  # pixels from which on files are decoded one at a time, so that threads do not add up their memory
_opening, _decoding_large = threading.Lock(), threading.Lock()
LARGEST = 1 << 30  # bytes of a file; the most pixels that are read, stored plainly with 16 bits and four channels, fit

COLOUR = "colour overlay"
HOW_TO_SKIP = "; replace or remove it, or leave it out with 'sonosynth data prepare --skip-unreadable'"


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One decoded file.

    Attributes:
        grey: uint8 ``[H, W]``, 0 (black) to 255 (white).
        original_mode: Pillow's name of the stored pixel format, e.g. "L", "RGB", "I;16".
        note: what was converted, several things separated by "; "; None for plain 8-bit grey.
    """

    grey: np.ndarray
    original_mode: str
    note: str | None


def decode_file(path: Path, depth: BitDepth | None = None) -> DecodedImage:
    """Decode the image file at `path` to grey, upright as its EXIF orientation says, the first frame of several.

    8-bit grey is taken as it is, fewer bits are spread over 0 to 255, inverted where the file says that 0 is white.
    Transparent pixels are laid over black. Colours (RGB, CMYK, palette, ...) become ITU-R 601 luma; equal channels give
    exactly their value. More than 8 bits are scaled by the range that the file states (maxval of PGM and PPM, 9 to 15
    bits of TIFF); files of 16 bits that state nothing by what `depth` decides.

    Raises:
        UnreadableImageError: not an image or no plain file, damaged, cut short, too large, or of unknown value range.
        SourceError: values above the bits that the user gave.
    """
    with picture_file(path) as file:
        picture = file.picture(0, depth or BitDepth())
        notes = [picture.note] if picture.note else []
        if file.count > 1:
            notes.append(f"first of {file.count} frames")
        return replace(picture, note="; ".join(notes) or None)


class PictureFile(Protocol):
    """An open picture file: one image, or the frames of an animation or of a TIFF stack.

    Attributes:
        count: number of frames, 1 of a single image.
    """

    count: int

    def picture(self, frame: int, depth: BitDepth) -> DecodedImage:
        """Return frame `frame`, counted from 0, by the rules of `decode_file`. Raises what the decoder does."""
        ...


@contextmanager
def picture_file(path: Path) -> Iterator[PictureFile]:
    """Open the picture file at `path`; what decoders raise here and inside becomes an UnreadableImageError."""
    with readable(path) as file:
        # Decoders get an open file: given a path, Pillow maps plain TIFF pixels with the sides of a turned image.
        tiff = is_tiff(file.read(_SNIFFED))
        file.seek(0)
        if tiff:
            with quiet_decoder():
                yield _TiffFile(path, file)
        else:
            yield _PillowFile(path, file)


@contextmanager
def readable(path: Path) -> Iterator[IO[bytes]]:
    """Open the picture file at `path` for reading; what decoders raise inside becomes an UnreadableImageError."""
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


def count_pictures(path: Path) -> int:
    """Return the number of frames of the picture file at `path`, 1 of a single image; its pixels are not decoded.

    Raises:
        UnreadableImageError: the file cannot be opened, or its structure is damaged.
    """
    with readable(path) as file:
        start = file.read(_SNIFFED)
        animated = start[:4] == b"RIFF" and start[12:16] == b"VP8X" and bool(start[20:21]) and start[20] & 2
        if not (is_tiff(start) or start[:3] == b"GIF" or animated or b"acTL" in png_header(file)):
            return 1
    with picture_file(path) as opened:
        return opened.count


def is_undecided(path: Path) -> bool:
    """Return whether the picture file at `path` may have 16 bits and state no depth; its pixels are not decoded.

    Raises:
        UnreadableImageError: the file cannot be opened, or its structure is damaged.
    """
    with readable(path) as file:
        if is_tiff(file.read(_SNIFFED)):
            file.seek(0)
            tiff = Tiff(file)
            return any(tiff.is_deep(index) for index in tiff.frames)
        return png_header(file).get(b"IHDR", b"")[8:9] == b"\x10"


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open the picture file at `path` with Pillow, to look at its header; raises as `picture_file` does."""
    with readable(path) as file, _opened(file) as stored:
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
    """A picture in any format but TIFF."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self._png = png_header(file)
        file.seek(0)
        self._stored = _opened(file)
        # The first image of an animated PNG may be one for programs that show no animation, and no frame of it.
        self._first = int(getattr(self._stored, "default_image", False))
        frames = getattr(self._stored, "n_frames", 1) - self._first
        self.count = frames if frames > 1 else 1

    def picture(self, frame: int, depth: BitDepth) -> DecodedImage:
        stored, still = self._stored, self.count == 1
        with _one_at_a_time(*stored.size):
            deep, mode = self._deep()
            if deep is not None and not still:
                raise unreadable(self._path, "an animated PNG of 16 bits, which is not read; store its frames as files")
            if not still:
                stored.seek(frame + self._first)
            turn = stored.getexif().get(_ORIENTATION, 1)
            if deep is None:
                stored.load()
                mode = stored.mode if still else f"{_CLIP_NAMES[stored.format or '']} {stored.mode}"
                grey, notes = to_grey(ImageOps.exif_transpose(stored))
                return DecodedImage(grey, mode, _joined(notes, turn))
        return from_deep(self._path, deep, depth, mode, turn)  # outside, for `depth` may have to read other files

    def _deep(self) -> tuple[HighDepthImage | None, str]:
        """Return the pixels of a PNG of 16 bits, or of a PGM or PPM of more than 8, as they are stored; else None."""
        stored = self._stored
        if self._png.get(b"IHDR", b"")[8:9] == b"\x10":
            stated = max(self._png.get(b"sBIT", b"")[:3], default=0)
            return _deep_png(self._file, stored, stated if 1 <= stated <= 16 else None)  # else the chunk is not valid
        if stored.format == "PPM" and stored.mode in ("I", "RGB"):
            return _deep_pnm(self._file, stored), f"{stored.mode};16"
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

    def picture(self, frame: int, depth: BitDepth) -> DecodedImage:
        index, (height, width) = self._tiff.frames[frame], self._tiff.size
        turn = self._tiff.orientation(index)
        more = ["other pages left out: thumbnails, masks, or of another size"] if self._tiff.others else []
        stack = "TIFF stack " if self.count > 1 else ""
        if reason := too_large(height, width) or too_large(*self._tiff.tile(index)):
            raise unreadable(self._path, reason)
        with _one_at_a_time(width, height):
            deep = self._tiff.deep(index) if self._tiff.is_deep(index) else None
            if deep is None:
                grey, mode, notes = self._shallow(index)
                return DecodedImage(grey, stack + mode, _joined(notes, turn, more))
        picture = from_deep(self._path, deep[0], depth, stack + deep[1], turn)
        return replace(picture, note="; ".join(filter(None, [picture.note, *more])) or None)

    def _shallow(self, index: int) -> tuple[np.ndarray, str, list[str]]:
        """Return page `index` of at most 8 bits as grey, upright; its mode, and what was converted."""
        if self._stored is None:
            self._file.seek(0)
            self._stored = _opened(self._file)
        self._stored.seek(index)
        self._stored.load()
        upright = ImageOps.exif_transpose(self._stored)  # where Pillow has not done so while loading
        notes = []
        if palette := self._tiff.palette(index):
            upright.putpalette(palette)
            notes.append("palette entries of 8 bits in fields of 16")
        grey, converted = to_grey(upright)
        return grey, self._stored.mode, [*converted, *notes]


def _joined(notes: Sequence[str], turn: int, more: Sequence[str] = ()) -> str | None:
    turned = ["turned upright by its EXIF orientation"] if turn in _TURNS else []
    return "; ".join([*notes, *turned, *more]) or None


def from_deep(path: Path, deep: HighDepthImage, depth: BitDepth, mode: str, turn: int = 1) -> DecodedImage:
    """Return `deep` of the file at `path` as a picture, turned by the EXIF orientation `turn`. Raises SourceError."""
    grey, notes, spread = deep.grey(path, depth)
    if deep.values.ndim == 3:
        notes.append(_colour_note(spread, mode))
    return DecodedImage(np.ascontiguousarray(_TURNS.get(turn, np.asarray)(grey)), mode, _joined(notes, turn))


def png_header(file: IO[bytes]) -> dict[bytes, bytes]:
    """Return the chunks IHDR, sBIT and acTL of a PNG, as far as they stand before its pixels; nothing of other files.

    sBIT is the number of significant bits of each channel, acTL says that it is animated.
    """
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


def _deep_png(file: IO[bytes], stored: Image.Image, significant: int | None) -> tuple[HighDepthImage, str]:
    """Return the values of a PNG of 16 bits, of which Pillow keeps only the high byte unless it has one channel."""
    if stored.mode.startswith("I"):
        grey, clear = as_uint16(np.asarray(stored)), stored.info.get("transparency")
        alpha = None if clear is None else np.where(grey == clear, np.uint16(0), np.uint16(FULL))
        return HighDepthImage(grey, significant=significant, alpha=alpha), "I;16"
    from imagecodecs import png_decode

    file.seek(0)
    with quiet_decoder():
        values = png_decode(file.read())  # a transparent colour (tRNS) comes as a further channel
    channels = values.shape[2]
    alpha = values[..., -1] if channels in (2, 4) else None
    colours = values[..., :3] if channels > 2 else values[..., 0]
    return HighDepthImage(colours, significant=significant, alpha=alpha), {2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}[
        channels
    ]


def _deep_pnm(file: IO[bytes], stored: Image.Image) -> HighDepthImage | None:
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


def damaged(path: Path, error: Exception) -> UnreadableImageError:
    """Return the error that names `path` and repeats in one line what a decoder raised."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return unreadable(path, f"damaged or not readable: {' '.join(reason.split())}")


def unreadable(path: Path, reason: str) -> UnreadableImageError:
    """Return the error that names `path`, says why it cannot be read, and what to do."""
    return UnreadableImageError(f"{path}: {reason}{HOW_TO_SKIP}")


def to_grey(picture: Image.Image) -> tuple[np.ndarray, list[str]]:
    """Return uint8 ``[H, W]`` by the rules of `decode_file` for at most 8 bits, and what was converted."""
    mode, notes = picture.mode, list[str]()
    if mode == "1":
        return np.asarray(picture.convert("L")), ["1 bit a pixel (a mask?)"]
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        if layered.getchannel("A").getextrema() != (255, 255):
            notes.append("transparent pixels laid over black")
            layered = Image.alpha_composite(Image.new("RGBA", layered.size, (0, 0, 0, 255)), layered)
        picture = layered
    if picture.mode == "L":
        return np.asarray(picture), notes
    grey, note = from_colours(np.asarray(picture.convert("RGB")), mode)
    if note == COLOUR or mode not in ("L", "LA", "La"):
        notes.append(note)
    return grey, notes


def from_colours(rgb: np.ndarray, stored_as: str) -> tuple[np.ndarray, str]:
    """Return the ITU-R 601 luma of uint8 ``[H, W, 3]`` as uint8 ``[H, W]``, exactly the value where channels are equal.

    The second value says whether there are colours, or that it is grey `stored_as` something else.
    """
    spread = int((rgb.max(axis=2) - rgb.min(axis=2)).max(initial=0))
    grey = rgb[..., 0] if spread == 0 else np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))
    return grey, _colour_note(spread, stored_as)


def _colour_note(spread: float, stored_as: str) -> str:
    return COLOUR if spread > _COLOUR_TOLERANCE else f"grey stored as {stored_as}"


def too_large(height: int, width: int) -> str | None:
    """Return why a picture of this size is not decoded, or None. The limit is Pillow's, against decompression bombs."""
    limit = Image.MAX_IMAGE_PIXELS
    return f"more than {limit:,} pixels" if limit is not None and height * width > limit else None


def resize_longest_side(grey: np.ndarray, side: int) -> np.ndarray:
    """Return uint8 `grey` ``[H, W]`` enlarged or reduced so that its longest side is `side`."""
    import cv2

    factor = side / max(grey.shape)
    height, width = (max(1, round(length * factor)) for length in grey.shape)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, (width, height), interpolation=how))
