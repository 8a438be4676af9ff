"""What a reader of one file format has to do, and what all of them share.

To add a format, write a subclass of `Reader` in a file of its own and list it in `registry.READERS`.
"""

import struct
import zlib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from sonosynth.core.errors import UnreadableImageError
from sonosynth.core.types import Array
from sonosynth.data.readers.bit_depth import BitDepth, HighDepthImage
from sonosynth.data.source import ReadOptions

# What Pillow, tifffile, imagecodecs and PyAV raise on damaged files.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError, struct.error,
    zlib.error,
)  # fmt: skip
# Neighbouring frames are nearly alike, and a clip is one patient: more frames add weight to it but hardly anything new.
MOST_FRAMES = 10
LARGEST = 1 << 30  # bytes of a file; the most pixels that are read, stored plainly with 16 bits and four channels, fit
COLOUR = "colour overlay"
HOW_TO_SKIP = "; replace or remove it, or leave it out with 'sonosynth data prepare --skip-unreadable'"
_COLOUR_TOLERANCE = 10  # grey levels between channels: JPEG stores grey as RGB with small differences
_ORIENTATIONS: Mapping[int, Callable[[Array], Array]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).T,
    8: np.rot90,
}  # from pixels as stored to upright, by EXIF orientation


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One decoded image."""

    grey: Array  # uint8 [H, W], 0 (black) to 255 (white)
    original_mode: str  # the stored pixel format, by Pillow's name where there is one: "L", "RGB", "I;16"
    note: str | None  # what was converted, several things separated by "; "; None for plain 8-bit grey


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


@dataclass(frozen=True)
class FileContents:
    """What one file holds, by its header."""

    # Numbers of the frames to take: (None,) of a single image, none of a file without images.
    frames: Sequence[int | None] = (None,)
    owner: Hashable = field(default=None, repr=False)  # equal for files of one group, such as a patient; never shown
    columns: Mapping[str, str] = field(default_factory=dict)  # what the manifest tells of each image
    sampled: tuple[str, str] | None = None  # if only some are taken: what the file is, and what they are called
    remark: str | None = None  # for `Reader.notes`
    bits: int | None = None  # of a stored value, where the header states them and they may differ between files
    synthetic: bool = False  # whether the header says that a generator made the image


class OpenFile(Protocol):
    """A file that was opened, to decode one frame after the other; for one thread at a time."""

    def image(self, frame: int | None) -> DecodedImage:
        """Return frame `frame`, counted from 0, or the only image. Raises UnreadableImageError and SourceError."""
        ...


class Reader(Protocol):
    """One file format."""

    in_folders: bool = True
    """Whether files of this kind are images where they lie in a folder, or only what a table may name."""
    max_bytes: int | None = None
    """Size above which a file is refused unread; None: no limit that holds for all."""

    def recognises(self, path: Path, options: ReadOptions) -> bool:
        """Return whether `path` is of this format, by its name and perhaps its first bytes. Raises SourceError."""
        ...

    def contents(self, path: Path, options: ReadOptions) -> FileContents:
        """Return what the file holds; its pixels are not decoded. Raises UnreadableImageError."""
        return FileContents()

    def open(self, path: Path, options: ReadOptions, depth: BitDepth) -> OpenFile:
        """Open the file to decode it; `depth` decides on white where 16-bit values state none.

        Raises UnreadableImageError, and SourceError where a library is missing.
        """
        ...

    def encoding(self, path: Path) -> Encoding:
        """Return how the file stores its pixels. Raises UnreadableImageError."""
        return Encoding(format_from_name(path), lossy=False)

    def has_unstated_depth(self, path: Path) -> bool:
        """Return whether it may have values of 16 bits without a stated depth. Raises UnreadableImageError."""
        return False

    def data_files(self, paths: Iterable[Path]) -> set[Path]:
        """Return the other files in which those of `paths` keep their pixels."""
        return set()

    def notes(self, files: Collection[tuple[Path, FileContents]], listed: bool) -> list[str]:
        """Return lines to tell the user about all files of this format in a source; `listed`: a manifest lists them."""
        return []


class DecodedFrames:
    """The frames that are taken of one file, decoded in one pass; those from a damaged one on are unreadable."""

    def __init__(self, path: Path, frames: Iterable[tuple[int, DecodedImage]], kind: str = "frame") -> None:
        self._images: dict[int, DecodedImage] = {}
        self._path, self._kind, self._error = path, kind, None
        try:
            for index, image in frames:
                self._images[index] = image
        except UnreadableImageError as error:
            self._error = error

    def image(self, frame: int | None) -> DecodedImage:
        """Return frame `frame`, counted from 0, or the only one. Raises UnreadableImageError."""
        if (frame or 0) in self._images:
            return self._images[frame or 0]
        raise self._error or unreadable(self._path, f"{self._kind} {frame} is not there")


def evenly_spaced(count: int) -> list[int]:
    """Return the frames taken of a clip of `count`: all, or the middles of `MOST_FRAMES` parts of equal length."""
    if count <= MOST_FRAMES:
        return list(range(count))
    return [(2 * part + 1) * count // (2 * MOST_FRAMES) for part in range(MOST_FRAMES)]


def format_from_name(path: Path) -> str:
    """Return the format that the name of `path` gives, such as "NII.GZ"."""
    suffixes = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    name = "".join(suffixes).lstrip(".").upper()
    return {"TIF": "TIFF", "JPG": "JPEG"}.get(name, name) or "no suffix"


def unreadable(path: Path, reason: str) -> UnreadableImageError:
    """Return the error that names `path`, says why it cannot be read, and what to do."""
    return UnreadableImageError(f"{path}: {reason}{HOW_TO_SKIP}")


def damaged(path: Path, error: Exception) -> UnreadableImageError:
    """Return the error that names `path` and repeats in one line what a decoder raised."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return unreadable(path, f"damaged or not readable: {' '.join(reason.split())}")


def too_large(height: int, width: int) -> str | None:
    """Return why an image of this size is not decoded, or None. The limit is Pillow's, against decompression bombs."""
    limit = Image.MAX_IMAGE_PIXELS
    return f"more than {limit:,} pixels" if limit is not None and height * width > limit else None


def colours_to_grey(rgb: Array, stored_as: str) -> tuple[Array, str]:
    """Return the ITU-R 601 luma of uint8 ``[H, W, 3]`` as uint8 ``[H, W]``, exactly the value where channels are equal.

    The second value says whether there are colours, or that it is grey `stored_as` something else.
    """
    spread = int((rgb.max(axis=2) - rgb.min(axis=2)).max(initial=0))
    grey = rgb[..., 0] if spread == 0 else np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))
    return grey, _colour_note(spread, stored_as)


def from_high_depth(
    path: Path, stored: HighDepthImage, depth: BitDepth, mode: str, orientation: int = 1, more: Sequence[str] = ()
) -> DecodedImage:
    """Return what the file at `path` stores with more than 8 bits, turned by its EXIF `orientation`.

    Raises SourceError if its values are above the bits that the user gave.
    """
    grey, notes, spread = stored.grey(path, depth)
    if stored.values.ndim == 3:
        notes.append(_colour_note(spread, mode))
    upright = _ORIENTATIONS.get(orientation, np.asarray)(grey)
    return DecodedImage(np.ascontiguousarray(upright), mode, joined_notes(notes, orientation, more))


def joined_notes(notes: Sequence[str], orientation: int, more: Sequence[str] = ()) -> str | None:
    """Return the note of a decoded image that was turned by its EXIF `orientation`."""
    turned = ["turned upright by its EXIF orientation"] if orientation in _ORIENTATIONS else []
    return "; ".join([*notes, *turned, *more]) or None


def _colour_note(spread: float, stored_as: str) -> str:
    return COLOUR if spread > _COLOUR_TOLERANCE else f"grey stored as {stored_as}"
