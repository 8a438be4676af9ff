"""TIFF files: which pages are images, and their pixels where Pillow does not keep all bits."""

import logging
import os
import threading
from contextlib import suppress
from typing import IO, cast

import numpy as np
from PIL import UnidentifiedImageError

from sonosynth.data.readers.bit_depth import UNKNOWN_RANGE, HighDepthImage, as_uint16

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it warns of is an error here, or is harmless
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _TRANSPARENCY = 0, 1, 2, 4  # PhotometricInterpretation
_UNASSOCIATED = 2  # ExtraSamples; colours with an associated alpha (1) are multiplied by it already
_COLOUR_MAP, _ORIENTATION = 320, 274
_MOST_PAGES, _MOST_SAMPLES = 100_000, 8
# None, LZW, deflate (two numbers), PackBits, LZMA, Zstandard: decoded into no more than the page that is declared.
_BOUNDED = (1, 5, 8, 32946, 32773, 34925, 50000)


def is_tiff(start: bytes) -> bool:
    """Return whether a file that begins with `start` says that it is a TIFF, a BigTIFF included."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Tiff:
    """The pages of an open TIFF file: `frames` are the numbers of those that are images, of the size of the largest.

    Pages marked as of reduced resolution or as masks (NewSubfileType 1 and 4, photometric interpretation 4), and pages
    of 1 bit beside deeper ones, are none; `others` says whether there are any.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Read the tags of all pages. Raises ValueError, UnidentifiedImageError, and what tifffile raises."""
        from tifffile import TiffFile, TiffPage

        self._pages: list[TiffPage] = []
        seen: set[int] = set()
        for page in TiffFile(file).pages:
            if page.offset in seen:  # the directories form a loop
                break
            seen.add(page.offset)
            if len(self._pages) == _MOST_PAGES:
                raise ValueError(f"more than {_MOST_PAGES:,} pages")
            self._pages.append(cast(TiffPage, page))
        if not self._pages:
            raise UnidentifiedImageError("a TIFF without pages")
        images = [
            i
            for i, page in enumerate(self._pages)
            if not (page.subfiletype & (_REDUCED | _MASK) or page.photometric == _TRANSPARENCY)
        ]
        deepest = max((self._pages[i].bitspersample for i in images), default=1)
        images = [i for i in images if self._pages[i].bitspersample > 1 or deepest == 1] or [0]
        sizes = {i: (self._pages[i].imagelength, self._pages[i].imagewidth) for i in images}
        largest = max(sizes.values(), key=lambda size: size[0] * size[1])
        if 0 in largest:
            raise ValueError("no pixels")
        self.frames = [i for i in images if sizes[i] == largest]
        self.others = len(self.frames) < len(self._pages)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels, as stored."""
        page = self._pages[self.frames[0]]
        return int(page.imagelength), int(page.imagewidth)

    def tile(self, index: int) -> tuple[int, int]:
        """Return height and width of the tiles of page `index` in pixels, 0 if it has none."""
        return int(self._pages[index].tilelength), int(self._pages[index].tilewidth)

    def orientation(self, index: int) -> int:
        """Return the orientation that page `index` states, 1 to 8; 1 if it states none."""
        value = self._pages[index].tags.valueof(_ORIENTATION, 1)
        return value if isinstance(value, int) else 1

    def palette(self, index: int) -> bytes | None:
        """Return the colour map of page `index` as RGB triples, if its entries of 16 bits hold 8 bits; else None.

        The tools of libtiff take a map so if no entry is above 255 (`checkcmap`).
        """
        entries = np.asarray(self._pages[index].tags.valueof(_COLOUR_MAP, ()))
        if self._pages[index].photometric != 3 or not entries.size or entries.size % 3 or entries.max() > 255:
            return None
        return entries.reshape(3, -1).T.astype(np.uint8).tobytes()

    def is_high_depth(self, index: int) -> bool:
        """Return whether page `index` is grey or RGB of another number of bits than 1, 2, 4 and 8."""
        page, kinds = self._pages[index], (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
        return page.bitspersample not in (1, 2, 4, 8) and page.photometric in kinds

    def high_depth(self, index: int) -> tuple[HighDepthImage, str]:
        """Return page `index`, of which `is_high_depth` is true, as stored, and what Pillow would call its format.

        9 to 15 bits per sample state their range; 16 do not, as many hold 12-bit data.
        """
        page = self._pages[index]
        bits, extra = int(page.bitspersample), tuple(int(kind) for kind in page.extrasamples)
        if page.compression not in _BOUNDED:
            used = f"compression {int(page.compression)} of {bits} bits"
            raise ValueError(f"{used} is not read; use none, LZW or deflate")
        if page.imagedepth != 1 or page.samplesperpixel > _MOST_SAMPLES:
            what = f"pages of several planes, or of more than {_MOST_SAMPLES} samples per pixel"
            raise ValueError(f"{what}, are not read")
        if page.dtype is None or page.dtype.kind == "f":
            raise ValueError(UNKNOWN_RANGE)
        samples = page.shaped[0]
        stored = as_uint16(page.asarray(maxworkers=1)).reshape(page.shaped)[:, 0]
        channels = np.moveaxis(stored[..., 0], 0, -1) if samples > 1 else stored[0]
        colours = 3 if page.photometric == _RGB else 1
        if channels.shape[2] < colours or (colours == 1 and channels.shape[2] > 2):
            raise ValueError(f"{channels.shape[2]} samples per pixel, of which none is said to be grey or a colour")
        values = channels[..., :colours] if colours == 3 else channels[..., 0]
        white = 2**bits - 1 if bits < 16 else None
        alpha = channels[..., colours] if extra[:1] == (_UNASSOCIATED,) and channels.shape[2] > colours else None
        if alpha is not None and white is not None:
            alpha = np.rint(alpha * (65535 / white)).astype(np.uint16)
        name = ("RGB" if colours == 3 else "I") if alpha is None else ("RGBA" if colours == 3 else "LA")
        return HighDepthImage(values, white, None, page.photometric == _WHITE_IS_ZERO, alpha), f"{name};{bits}"


_STANDARD_ERROR = 2


class _QuietDecoder:
    """Drops what is written to file descriptor 2 from when the first thread comes in until the last has gone out."""

    def __init__(self) -> None:
        self.lock, self.inside, self.kept = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        # Where there is no standard error, or no descriptor left, it is as loud as it is.
        with self.lock, suppress(OSError):
            self.inside += 1
            if self.inside == 1:
                self.kept = os.dup(_STANDARD_ERROR)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, _STANDARD_ERROR)
                os.close(nowhere)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0 and self.kept >= 0:
                os.dup2(self.kept, _STANDARD_ERROR)
                os.close(self.kept)
                self.kept = -1


quiet_decoder = _QuietDecoder()
"""Drops what is written to standard error inside; what other threads write there meanwhile is lost too."""
