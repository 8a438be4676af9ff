"""What a case is, and the sound images that every case starts from."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Case:
    """One bad input and what must become of it.

    Attributes:
        name: of the case, and of its folder in the corpus.
        what: what is wrong with it, in a few words.
        build: fills the folder it is given, and returns the SOURCE in it if that is not the folder itself.
        stops: a pattern that the one line on standard error must match; None where the source is read.
        info_reads: whether ``data info``, which does not need all that is wrong, reads it nevertheless.
        skipped: files that ``--skip-unreadable`` leaves out and counts; 0 where it changes nothing.
        tells: a pattern that ``data info`` must print where the source is read, spaces and line ends being one space.
        large: whether it takes seconds, and is given to one command only.
        either: whether the reader may also read it; what it may never do is the same for all.
    """

    name: str
    what: str
    build: Callable[[Path], Path | None]
    stops: str | None = None
    skipped: int = 0
    info_reads: bool = False
    tells: str | None = None
    large: bool = False
    either: bool = False


def encoded(seed: int = 0, format: str = "PNG", size: tuple[int, int] = (24, 20), mode: str = "L", **how: Any) -> bytes:
    """Return noise of `size` (width, height) as the bytes of a file."""
    noise = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, format, **how)
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    """Write a file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sound(folder: Path) -> None:
    """Two classes of two good images each."""
    for seed, name in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png")):
        put(folder / name, encoded(seed))


def one_bad(name: str, content: bytes | Callable[[], bytes]) -> Callable[[Path], None]:
    """Return what puts one more file, of class a, beside the good images; what takes long to make is made then."""

    def build(folder: Path) -> None:
        sound(folder)
        put(folder / "a" / name, content if isinstance(content, bytes) else content())

    return build
