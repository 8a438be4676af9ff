"""Image files of other depths than 8 bits, written by hand, so that each test knows what a file states."""

import struct
import zlib
from pathlib import Path

import numpy as np


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def packed(values: np.ndarray, bits: int) -> bytes:
    """Return rows of `values` ``[H, W]`` with `bits` each, every row filled up to whole bytes."""
    rows = []
    for row in values:
        digits = "".join(format(int(value), f"0{bits}b") for value in row)
        digits += "0" * (-len(digits) % 8)
        rows.append(int(digits, 2).to_bytes(len(digits) // 8, "big"))
    return b"".join(rows)


def png(path: Path, values: np.ndarray, bits: int = 16, more: bytes = b"") -> Path:
    """Write ``[H, W]`` or ``[H, W, C]`` (2: grey and alpha, 3: RGB, 4: RGBA); `more` are chunks before the pixels."""
    height, width = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = [
        packed(row[None], bits) if bits < 8 else row.astype(">u2" if bits == 16 else "u1").tobytes() for row in values
    ]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + more + pixels + chunk(b"IEND", b""))
    return path


def tiff(
    path: Path,
    values: np.ndarray,
    bits: int,
    order: str = "<",
    photometric: int = 1,
    colour_map: np.ndarray | None = None,
    deflate: bool = False,
) -> Path:
    """Write one strip of ``[H, W]`` with `bits` per value; `photometric` 0: 0 is white, 1: 0 is black, 3: a palette."""
    height, width = values.shape
    data = packed(values, bits) if bits not in (8, 16) else values.astype(f"{order}u{bits // 8}").tobytes()
    data = zlib.compress(data) if deflate else data
    table = b"" if colour_map is None else colour_map.astype(f"{order}u2").tobytes()
    count = 9 + (colour_map is not None)
    after = 8 + 2 + 12 * count + 4
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 8 if deflate else 1)]
    tags += [(262, 3, 1, photometric), (273, 4, 1, after + len(table)), (277, 3, 1, 1), (278, 4, 1, height)]
    tags += [(279, 4, 1, len(data))] + ([] if colour_map is None else [(320, 3, colour_map.size, after)])
    directory = struct.pack(f"{order}H", count)
    for tag, kind, number, value in tags:
        directory += struct.pack(f"{order}HHI", tag, kind, number)
        short = kind == 3 and number == 1
        directory += struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    path.write_bytes(start + directory + bytes(4) + table + data)
    return path


def pnm(path: Path, values: np.ndarray, maxval: int, plain: bool = False) -> Path:
    """Write ``[H, W]`` as PGM or ``[H, W, 3]`` as PPM, binary, or in plain numbers with comments."""
    height, width = values.shape[:2]
    kind = (2 if values.ndim == 2 else 3) + (0 if plain else 3)
    head = f"P{kind}\n# made by hand\n{width} {height}\n{maxval}\n".encode()
    words = b"# and more\n" + "\n".join(" ".join(map(str, row.ravel())) for row in values).encode()
    path.write_bytes(head + (words if plain else values.astype(">u2" if maxval > 255 else "u1").tobytes()))
    return path
