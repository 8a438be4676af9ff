"""One image file to grey pixels, by rules that are written down."""

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sonosynth.data.quiet import quiet_decoder
from sonosynth.errors import UnreadableImageError
from sonosynth.files import refusal

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
# Named, so that no file can reach a decoder that starts another program (EPS).
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
# What Pillow's decoders raise on damaged files.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)
_COLOUR_TOLERANCE = 10  # grey levels between channels: JPEG stores grey as RGB with small differences
_DEPTHS = {255: 8, 4095: 12, 65535: 16}
_ORIENTATION = 0x0112
_LARGE = 1 << 24  # pixels from which on files are decoded one at a time, so that threads do not add up their memory
_opening, _decoding_large = threading.Lock(), threading.Lock()
LARGEST = 1 << 30  # bytes of a file; the most pixels that are read, stored plainly with 16 bits and four channels, fit

COLOUR = "colour overlay"
HOW_TO_SKIP = "; replace or remove it, or leave it out with 'sonosynth data prepare --skip-unreadable'"


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded file.

    Attributes:
        grey: uint8 ``[H, W]``, 0 (black) to 255 (white).
        original_mode: Pillow's name of the stored pixel format, e.g. "L", "RGB", "I;16".
        note: what was converted, several things separated by "; "; None for plain 8-bit grey.
    """

    grey: np.ndarray
    original_mode: str
    note: str | None


def decode_file(path: Path) -> Picture:
    """Decode the image file at `path` to grey, upright as its EXIF orientation says, the first frame of several.

    8-bit grey is taken as it is, 1-bit becomes 0 and 255. Transparent pixels are laid over black. Colours (RGB, CMYK,
    palette, ...) become ITU-R 601 luma; equal channels give exactly their value. 16-bit files are scaled by the full
    range of the smallest of 8, 12 and 16 bits that holds their largest value, as scanners store 12-bit data so.

    Raises:
        UnreadableImageError: not an image or no plain file, damaged, cut short, too large, or of unknown value range.
    """
    with opened(path) as stored:
        with quiet_decoder() if stored.format == "TIFF" else nullcontext():
            stored.load()
        grey, notes = to_grey(ImageOps.exif_transpose(stored))
        if stored.getexif().get(_ORIENTATION, 1) != 1:
            notes.append("turned upright by its EXIF orientation")
        if (frames := getattr(stored, "n_frames", 1)) > 1:
            notes.append(f"first of {frames} frames")
        return Picture(grey, stored.mode, "; ".join(notes) or None)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open the image file at `path`; what Pillow raises here and inside becomes an UnreadableImageError."""
    try:
        if why := refusal(path, LARGEST):
            raise unreadable(path, why)
        # The filter is global to the process, hence the lock; only the header is read inside.
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            stored = Image.open(path, formats=_FORMATS)
        if 0 in stored.size:
            raise ValueError("no pixels")
        with stored, _decoding_large if stored.width * stored.height > _LARGE else nullcontext():
            yield stored
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise unreadable(path, f"more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels") from error
    except MemoryError as error:
        raise unreadable(path, "needs more memory than there is") from error
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise unreadable(path, "empty file" if empty else "no image in a format that is read") from error
    except DAMAGE as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UnreadableImageError:
    """Return the error that names `path` and repeats in one line what a decoder raised."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return unreadable(path, f"damaged or not readable: {' '.join(reason.split())}")


def unreadable(path: Path, reason: str) -> UnreadableImageError:
    """Return the error that names `path`, says why it cannot be read, and what to do."""
    return UnreadableImageError(f"{path}: {reason}{HOW_TO_SKIP}")


def to_grey(picture: Image.Image) -> tuple[np.ndarray, list[str]]:
    """Return uint8 ``[H, W]`` by the rules of `decode_file`, and what was converted."""
    mode, notes = picture.mode, []
    if mode == "F" or mode.startswith("I"):
        return _from_deep(picture)
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
    return grey, COLOUR if spread > _COLOUR_TOLERANCE else f"grey stored as {stored_as}"


def _from_deep(picture: Image.Image) -> tuple[np.ndarray, list[str]]:
    values = np.asarray(picture)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError("pixel values of unknown range; store it with 8 or 16 bits")
    top, note = depth_in_use(int(values.max()))
    return np.rint(values * (255 / top)).astype(np.uint8), [note]


def depth_in_use(largest: int) -> tuple[int, str]:
    """Return the full range of the smallest of 8, 12 and 16 bits that holds `largest`, and a note about it."""
    top = next(limit for limit in _DEPTHS if largest <= limit)
    return top, f"16-bit file with {_DEPTHS[top]}-bit values"


def too_large(height: int, width: int) -> str | None:
    """Return why a picture of this size is not decoded, or None. The limit is Pillow's, against decompression bombs."""
    limit = Image.MAX_IMAGE_PIXELS
    return f"more than {limit:,} pixels" if limit is not None and height * width > limit else None


def to_side(grey: np.ndarray, side: int) -> np.ndarray:
    """Return uint8 `grey` ``[H, W]`` enlarged or reduced so that its longest side is `side`."""
    import cv2

    factor = side / max(grey.shape)
    height, width = (max(1, round(length * factor)) for length in grey.shape)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, (width, height), interpolation=how))
