"""The readers of image files. To add a format, write a `Reader` (see `base`) and list it here."""

from collections.abc import Collection
from pathlib import Path

from sonosynth.data.readers.base import Reader
from sonosynth.data.readers.clips import ClipReader
from sonosynth.data.readers.dicom.reader import DicomReader
from sonosynth.data.readers.images import ImageReader
from sonosynth.data.readers.npz import NpzReader
from sonosynth.data.readers.volumes import VolumeReader
from sonosynth.data.source import ReadOptions

DEFAULT = ImageReader()
"""What tries a file that a table names and no reader recognises."""
READERS: tuple[Reader, ...] = (DEFAULT, ClipReader(), VolumeReader(), NpzReader(), DicomReader())


def find_reader(path: Path, options: ReadOptions) -> Reader | None:
    """Return the reader that recognises `path`, or None. Raises SourceError if its first bytes cannot be read."""
    return next((reader for reader in READERS if reader.recognises(path, options)), None)


def is_image(path: Path, options: ReadOptions) -> bool:
    """Return whether `path` is a file that a folder of images may hold. Raises SourceError."""
    reader = find_reader(path, options)
    return reader is not None and reader.in_folders


def data_files(paths: Collection[Path]) -> set[Path]:
    """Return the files beside `paths` in which those keep their pixels, such as the ``.raw`` of an ``.mhd``."""
    return {file for reader in READERS for file in reader.data_files(paths)}
