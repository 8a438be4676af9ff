"""How files store their pixels: format, compression, bit depth and size, which leave marks that a network can learn.

Only headers are read. A JPEG and a PNG of the same tissue differ in the grid of 8 × 8 blocks of the JPEG, so where one
class is stored as JPEG and the other as PNG, the format stands for the class.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from sonosynth.core.errors import ManifestError
from sonosynth.data.readers.base import Encoding, format_from_name
from sonosynth.data.readers.registry import find_reader
from sonosynth.data.source import ReadOptions, SourceItem

COLUMNS = ("original_format", "original_lossy", "original_quality", "original_bits", "original_bytes_per_pixel")
"""What a prepared image set keeps of the encoding of the file that each image came from."""
_PREPARED = {"original_path", "scale_x"}  # columns by which a set that was prepared is known


def encodings(items: Sequence[SourceItem], options: ReadOptions) -> list[Encoding | None]:
    """Return how the pixels of each image were stored before anything was done with them; each file is read once.

    Of a prepared image set that is what its columns `COLUMNS` say; None where they are empty or missing, as in sets
    that older versions prepared: that its own files are PNG says nothing. Raises UnreadableImageError if a file cannot
    be opened, and ManifestError if a column of a prepared set does not hold what `prepare` writes.
    """
    of_file = cache(lambda path: encoding_of(path, options))
    return [
        _from_row([item.extra.get(name, "") for name in COLUMNS], item.id)
        if item.extra.keys() >= _PREPARED
        else of_file(item.path)
        for item in items
    ]


def encoding_of(path: Path, options: ReadOptions | None = None) -> Encoding:
    """Return how the file at `path` stores its pixels. Raises UnreadableImageError if it cannot be opened."""
    reader = find_reader(path, options or ReadOptions())
    return reader.encoding(path) if reader is not None else Encoding(format_from_name(path), lossy=False)


def encodings_to_columns(found: Sequence[Encoding | None]) -> dict[str, tuple[str, ...]]:
    """Return the manifest columns `COLUMNS`, a value per image; empty where nothing is known or nothing applies."""
    rows = []
    for one in found:
        row: tuple[object, ...] = (None,) * len(COLUMNS)
        if one is not None:
            size = None if one.bytes_per_pixel is None else f"{one.bytes_per_pixel:.6g}"
            row = one.format, int(one.lossy), one.quality, one.bits, size
        rows.append(["" if value is None else str(value) for value in row])
    return dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)) if rows else {}


def encodings_from_columns(columns: Mapping[str, Sequence[str]], ids: Sequence[str]) -> list[Encoding | None]:
    """Return what `as_columns` made columns of; None for all images if there are none. Raises ManifestError."""
    if not columns.keys() >= set(COLUMNS):
        return [None] * len(ids)
    rows = zip(*(columns[name] for name in COLUMNS), strict=True)
    return [_from_row(row, name) for row, name in zip(rows, ids, strict=True)]


def _from_row(row: Sequence[str], name: str) -> Encoding | None:
    kind, lossy, quality, bits, size = row
    if not kind:
        return None
    try:
        numbers = int(quality) if quality else None, int(bits) if bits else None, float(size) if size else None
        return Encoding(kind, {"0": False, "1": True}[lossy], *numbers)
    except (ValueError, KeyError) as error:
        raise ManifestError(
            f"the columns {', '.join(COLUMNS)} of image '{name}' hold no record of a file ({', '.join(row)}); restore "
            "the manifest, or run 'sonosynth data prepare' on the original images"
        ) from error
