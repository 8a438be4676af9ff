"""Files that are no images, or not whole ones, or that promise more than a computer holds."""

import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from hostile.case import Case, encoded, one_bad, put, sound

DAMAGED = "damaged or not readable"
NO_IMAGE = "no image in a format that is read"
BROKEN = f"{DAMAGED}|{NO_IMAGE}"  # which of them is a matter of Pillow's version


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def flipped(content: bytes, place: int, mask: int = 0xFF) -> bytes:
    changed = bytearray(content)
    changed[place] ^= mask
    return bytes(changed)


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    code = zlib.crc32(kind + body) if checksum is None else checksum
    return len(body).to_bytes(4, "big") + kind + body + code.to_bytes(4, "big")


def png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 0, more: bytes = b"") -> bytes:
    """Return a PNG put together by hand, whatever its header says; `more` are chunks before the pixels."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, 0])
    pixels = chunk(b"IDAT", data)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + pixels + chunk(b"IEND", b"")


def blank(width: int, height: int, bytes_a_pixel: int = 1) -> bytes:
    """Return the packed rows of a black PNG, made without holding them all."""
    packer, row = zlib.compressobj(9), bytes(1 + width * bytes_a_pixel)
    return b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHI", 62, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, *[1, 24], *[0] * 6)
    )


def tiff(entries: dict[int, tuple[int, int, int]], following: int = 0) -> bytes:
    """Return a TIFF with one directory; `entries` maps a tag to its type, count and value."""
    rows = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + struct.pack("<I", following) + bytes(64)


def tiff_of(width: int, height: int, following: int = 0, **changes: tuple[int, int, int]) -> bytes:
    entries = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 8 + 2 + 9 * 12 + 4),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, min(width * height, 2**32 - 1)),
    }
    return tiff(entries | {int(tag[1:]): entry for tag, entry in changes.items()}, following)


def gif_of_many_frames() -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0\0\0\0\xff\xff\xff" + frame * 20_000 + b"\x3b"


@cache
def packed_zeros() -> bytes:
    """Return 200 MB of zeros, packed."""
    return zlib.compress(bytes(200_000_000))


def bomb_in(kind: bytes) -> bytes:
    """Return a PNG with a chunk that unpacks to 200 MB of zeros."""
    return png(8, 8, blank(8, 8), more=chunk(kind, b"name\0\0" + packed_zeros()))


def sparse(folder: Path) -> None:
    sound(folder)
    with (folder / "a" / "bad.png").open("wb") as file:
        file.write(encoded()[:60])
        file.truncate(1 << 40)


def nothing_readable(folder: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        put(folder / name, b"")


def a_class_lost(folder: Path) -> None:
    put(folder / "a" / "1.png", encoded())
    put(folder / "b" / "1.png", b"text")


def long_and_thin(folder: Path) -> None:
    sound(folder)
    put(folder / "a" / "wide.png", encoded(9, size=(30_000, 1)))
    put(folder / "b" / "high.png", encoded(8, size=(1, 30_000)))


def deep(folder: Path) -> None:
    sound(folder)
    values = np.full((6000, 6000), 4000, dtype=np.uint16)
    Image.fromarray(values).save(folder / "a" / "deep.png")


PNG, JPEG, TIFF = encoded(), encoded(format="JPEG", size=(64, 64)), encoded(format="TIFF", compression="tiff_lzw")
PACKED = encoded(format="TIFF", compression="tiff_adobe_deflate")
IDAT = PNG.index(b"IDAT")


def _bad(name: str, what: str, suffix: str, content: "bytes | Callable[[], bytes]", stops: str) -> Case:
    return Case(name, what, one_bad(f"bad{suffix}", content), rf"bad{suffix}.*({stops})", skipped=1)


def _fine(name: str, what: str, build: "Callable[[Path], None]", tells: str = "ready|next") -> Case:
    return Case(name, what, build, tells=tells)


CASES = [
    _bad("empty", "no bytes at all", ".png", b"", "empty file"),
    _bad("one-byte", "one byte", ".png", b"\x89", NO_IMAGE),
    _bad("text", "a text file", ".png", b"this is text\n", NO_IMAGE),
    _bad("zeros", "a megabyte of zeros", ".jpg", bytes(1 << 20), NO_IMAGE),
    _bad("html", "an error page of a web server", ".jpg", b"<!DOCTYPE html><title>404</title>", NO_IMAGE),
    _bad("zip", "an archive", ".png", b"PK\x03\x04" + bytes(26), NO_IMAGE),
    _bad("postscript", "a program for Ghostscript", ".png", b"%!PS-Adobe-3.0 EPSF-3.0\n", NO_IMAGE),
    _bad("svg", "a drawing that names a file", ".png", b'<svg><image href="file:///etc/passwd"/></svg>', NO_IMAGE),
    _bad("git-lfs", "a pointer of Git LFS", ".png", b"version https://git-lfs.github.com/spec/v1\n", NO_IMAGE),
    _bad("png-signature", "PNG of a signature alone", ".png", PNG[:8], NO_IMAGE),
    _bad("png-header-cut", "PNG cut in its header", ".png", PNG[:20], BROKEN),
    _bad("png-half", "PNG cut in the middle", ".png", cut(PNG, 0.5), DAMAGED),
    _bad("png-tail", "PNG without its last fifty bytes", ".png", PNG[:-50], DAMAGED),
    _bad("png-flip-pixels", "PNG with a byte of its pixels changed", ".png", flipped(PNG, IDAT + 20), DAMAGED),
    _bad("png-flip-width", "PNG with a bit of its width changed", ".png", flipped(PNG, 19, 2), BROKEN),
    # Whole chunks and sums: only the number of rows is wrong, and Pillow leaves the missing ones black.
    _fine("png-few-rows", "PNG with fewer rows than it says", one_bad("few.png", png(64, 64, blank(64, 3)))),
    _bad("png-no-pixels", "PNG of no width", ".png", png(0, 8, blank(0, 8)), BROKEN),
    _bad("png-depth", "PNG of 7 bits per pixel", ".png", png(8, 8, blank(8, 8), depth=7), NO_IMAGE),
    _bad("png-chunk", "PNG with a chunk of four gigabytes", ".png", PNG[:33] + b"\xff\xff\xff\xffIDAT", DAMAGED),
    _bad("png-bomb", "PNG that says 50,000 by 50,000", ".png", png(50_000, 50_000, blank(1, 9)), "more than .* pixels"),
    _bad("png-bomb-max", "PNG of the largest size", ".png", png(2**31 - 1, 2**31 - 1, b""), "more than .* pixels"),
    _bad("png-bomb-text", "PNG with 200 MB of packed text", ".png", lambda: bomb_in(b"zTXt"), DAMAGED),
    _bad("png-bomb-profile", "PNG with 200 MB of packed profile", ".png", lambda: bomb_in(b"iCCP"), DAMAGED),
    Case(
        "png-large",
        "PNG of 64 million RGBA pixels in 300 kB, just within the limit",
        one_bad("large.png", lambda: png(8000, 8000, blank(8000, 8000, 4), colour=6)),
        tells="grey stored as RGBA",
        large=True,
    ),
    Case("png-deep", "36 million 16-bit pixels", deep, tells="12-bit values", large=True),
    _bad("jpeg-half", "JPEG cut in the middle", ".jpg", cut(JPEG, 0.5), DAMAGED),
    _bad("jpeg-header", "JPEG cut in its header", ".jpg", JPEG[:12], BROKEN),
    _bad("jpeg-start", "JPEG of two bytes", ".jpg", JPEG[:2], BROKEN),
    _bad("jpeg-flip", "JPEG with its frame marker changed", ".jpg", flipped(JPEG, JPEG.index(b"\xff\xc0") + 1), BROKEN),
    _bad(
        "jpeg-bomb",
        "JPEG that says 65,000 by 65,000",
        ".jpg",
        JPEG.replace(b"\x08\x00\x40\x00\x40", b"\x08" + struct.pack(">HH", 65_000, 65_000)),
        "more than .* pixels",
    ),
    _bad(
        "jpeg-no-height",
        "JPEG that says it has no rows",
        ".jpg",
        JPEG.replace(b"\x08\x00\x40\x00\x40", b"\x08\x00\x00\x00\x40"),
        BROKEN,
    ),
    _bad("tiff-half", "TIFF cut in the middle", ".tif", cut(TIFF, 0.5), BROKEN),
    _bad("tiff-flip", "TIFF with a byte of its packed pixels changed", ".tif", flipped(PACKED, 40), DAMAGED),
    _bad("tiff-samples", "TIFF with 480 values a pixel", ".tif", tiff_of(8, 8, t277=(3, 1, 480)), BROKEN),
    _fine(
        "tiff-tag", "TIFF with a tag larger than itself, not needed", one_bad("x.tif", tiff_of(8, 8, t270=(2, 9999, 8)))
    ),
    _bad("tiff-nowhere", "TIFF whose directory lies behind its end", ".tif", b"II*\0\xff\xff\xff\x7f", NO_IMAGE),
    _bad("tiff-bomb", "TIFF that says 100,000 by 100,000", ".tif", tiff_of(100_000, 100_000), "more than .* pixels"),
    _bad(
        "tiff-strips",
        "TIFF with 4 billion strips",
        ".tif",
        tiff_of(8, 8, t273=(4, 2**32 - 1, 8)),
        BROKEN,
    ),
    _fine("tiff-loop", "TIFF whose second directory is its first", one_bad("loop.tif", tiff_of(8, 8, following=8))),
    _bad("gif-half", "GIF cut in the middle", ".gif", cut(encoded(format="GIF"), 0.6), DAMAGED),
    _fine(
        "gif-frames",
        "GIF of 20,000 frames",
        one_bad("many.gif", gif_of_many_frames()),
        "at most 10 evenly spaced frames",
    ),
    _bad("webp-half", "WebP cut in the middle", ".webp", cut(encoded(format="WEBP"), 0.5), BROKEN),
    _bad("bmp-bomb", "BMP that says 60,000 by 60,000", ".bmp", bmp(60_000, 60_000), "more than .* pixels"),
    _bad("bmp-no-pixels", "BMP of no width", ".bmp", bmp(0, 8), BROKEN),
    _bad("pgm-no-pixels", "PGM of no rows", ".pgm", b"P5 8 0 255\n", BROKEN),
    _bad("pgm-words", "PGM with words for numbers", ".pgm", b"P2 2 2 255\n1 2 three 4\n", DAMAGED),
    _bad("pgm-digits", "PGM with a million digits for its width", ".pgm", b"P5 " + b"9" * 10**6, BROKEN),
    _bad("float", "floating point of unknown range", ".tif", encoded(format="TIFF", mode="F"), "unknown range"),
    _bad("dicom-as-png", "a DICOM file named .png", ".png", bytes(128) + b"DICM" + bytes(64), NO_IMAGE),
    _fine("jpeg-as-png", "a sound JPEG named .png", one_bad("other.png", JPEG)),
    _fine("png-as-tif", "a sound PNG named .tif", one_bad("other.tif", PNG)),
    _fine(
        "png-as-txt",
        "a sound PNG named .txt",
        one_bad("other.txt", PNG),
        r"1 file that is not an image left out: \.txt",
    ),
    _fine("trailing", "a sound PNG with a zip behind it", one_bad("more.png", PNG + b"PK\x03\x04")),
    _fine("one-pixel", "one pixel", one_bad("dot.png", encoded(size=(1, 1))), "1 to 24"),
    _fine("thin", "one pixel by 30,000, and the other way round", long_and_thin, "30000"),
    Case("sparse", "a PNG of a terabyte, all holes", sparse, r"bad\.png.*larger than", skipped=1),
    Case("all-bad", "no file that can be read", nothing_readable, r"(1\.png: empty file|none of 2 image files)"),
    Case(
        "class-bad",
        "a class with no file that can be read",
        a_class_lost,
        r"(1\.png: no image|class 'b' has no readable)",
    ),
]
