"""Unpacking archives of unknown origin: every file lands inside the folder, and a decompression bomb is stopped."""

import errno
import gzip
import lzma
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, cast

from sonosynth.core.errors import ArchiveError
from sonosynth.core.file_names import is_portable
from sonosynth.core.types import Progress

_CHUNK = 1 << 20
_HEADER_BYTES = 1 << 20
_EXTENDED = frozenset((tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, *tarfile.GNU_TYPES))
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    struct.error,
    EOFError,
    OverflowError,
    ValueError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to."""

    max_entries: int = 200_000  # files and folders
    max_bytes: int = 20 << 30  # of all files together
    max_ratio: int = 100  # unpacked bytes per packed byte; images hardly shrink, so more is a decompression bomb
    allowed_bytes: int = 64 << 20  # unpacked bytes up to which the ratio does not count

    def bytes_for(self, packed: int) -> int:
        """Return how many bytes an archive of `packed` bytes may unpack to."""
        return min(self.max_bytes, max(self.allowed_bytes, self.max_ratio * packed))


def unpack(archive: Path, out: Path, limits: Limits | None = None, progress: Progress | None = None) -> dict[str, int]:
    """Unpack a zip or tar.gz into the folder `out`, which must be there and empty; on an error it may hold a part.

    The kind is told by the first bytes, not by the name. Only ordinary files and folders are written, with the
    permissions of new files. Names are checked for every file system, so that what unpacks here unpacks anywhere.
    Returns the size in bytes of each file, by its path under `out` with slashes.

    Raises:
        ArchiveError: a file would land outside `out`, on another file or on one that differs only in case; there are
            links, devices or passwords; it unpacks to more than `limits`; or it is damaged or of another kind.
    """
    with archive.open("rb") as file:
        head = file.read(64)
    members = _zip_members if head.startswith(b"PK") else _tar_members if head.startswith(b"\x1f\x8b") else None
    if members is None:
        raise ArchiveError(f"{archive.name} is neither a zip nor a tar.gz archive (it begins with {head[:24]!r})")
    writer = _Writer(archive, out, limits or Limits())
    try:
        for name, folder, packed, content in members(archive, writer.most):
            writer.add(name, folder, content)
            if progress is not None:
                progress(min(packed, writer.packed_size), writer.packed_size)
    except _BROKEN as error:
        raise ArchiveError(f"{archive.name} is damaged ({error or type(error).__name__})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # zipfile seeks to before the beginning where a damaged archive says so
            raise
        raise ArchiveError(f"{archive.name} is damaged (it points outside itself)") from error
    except RuntimeError as error:  # what zipfile says of a packing or version it does not know
        raise ArchiveError(f"{archive.name} is packed in a way that cannot be read ({error})") from error
    return writer.sizes


_Member = tuple[str, bool, int, IO[bytes] | None]
"""Name, whether it is a folder, packed bytes read so far, and the content of a file."""


def _zip_members(path: Path, _: int) -> Iterator[_Member]:
    packed = 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.orig_filename
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"{path.name}: {name!r} is a link or a device, which are not unpacked")
            if info.flag_bits & 1:
                raise ArchiveError(f"{path.name}: {name!r} needs a password; unpack it by hand")
            packed += info.compress_size
            if kind == stat.S_IFDIR or name.endswith(("/", "\\")):
                yield name, True, packed, None
                continue
            with archive.open(info) as content:
                yield name, False, packed, content


def _tar_members(path: Path, most: int) -> Iterator[_Member]:
    # Read once from front to end, so that a bomb is stopped where it becomes too large and nothing is unpacked twice.
    with (
        path.open("rb") as packed,
        gzip.GzipFile(fileobj=packed) as stream,
        tarfile.open(fileobj=cast(Any, _Bounded(stream, path, 2 * most)), mode="r|", tarinfo=_Header) as archive,
    ):
        for info in archive:
            if info.isdir():
                yield info.name, True, packed.tell(), None
            elif info.isreg() and not info.issparse():
                yield info.name, False, packed.tell(), archive.extractfile(info)
            else:
                raise ArchiveError(f"{path.name}: {info.name!r} is a link or a device, which are not unpacked")


@dataclass
class _Bounded:
    """A stream that ends in an error after `most` bytes; what is skipped counts too."""

    stream: gzip.GzipFile
    path: Path
    most: int

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes."""
        data = self.stream.read(size)
        self.most -= len(data)
        if self.most < 0:
            raise ArchiveError(f"{self.path.name} holds far more bytes than its files may have")
        return data


class _Header(tarfile.TarInfo):
    """A header that may not ask for more memory than a name needs."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "_Header":
        info = super().frombuf(buf, encoding, errors)
        if info.type in _EXTENDED and not 0 <= info.size <= _HEADER_BYTES:
            raise ArchiveError(f"a header of the archive claims {info.size} bytes")
        return info


class _Writer:
    """Writes checked members and keeps the accounts."""

    def __init__(self, archive: Path, out: Path, limits: Limits) -> None:
        self.archive, self.out, self.limits = archive, out, limits
        self.packed_size = archive.stat().st_size
        self.most = limits.bytes_for(self.packed_size)
        self.sizes: dict[str, int] = {}
        self._total = self._entries = 0
        self._taken: dict[str, tuple[str, bool]] = {}  # folded path -> as it is written, whether it is a folder

    def add(self, name: str, folder: bool, content: IO[bytes] | None) -> None:
        """Write one member."""
        self._entries += 1
        if self._entries > self.limits.max_entries:
            raise ArchiveError(f"{self.archive.name} holds more than {self.limits.max_entries} files and folders")
        place = self._claim(name, folder)
        target = self.out / place
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        before = self._total
        with target.open("xb") as file:
            while chunk := content.read(_CHUNK):
                self._total += len(chunk)
                if self._total > self.most:
                    raise ArchiveError(
                        f"{self.archive.name} of {self.packed_size} bytes unpacks to more than {self.most}, "
                        "as no archive of images does"
                    )
                file.write(chunk)
        self.sizes[place.as_posix()] = self._total - before

    def _claim(self, name: str, folder: bool) -> PurePosixPath:
        """Return where `name` is to lie, having made sure that it may, and that nothing else does on any file system.

        Backslashes count as slashes.
        """
        text = name.replace("\\", "/")
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if text.startswith("/") or PureWindowsPath(name).drive or ".." in parts or not (parts or folder):
            raise ArchiveError(f"{self.archive.name}: {name!r} would lie outside the folder")
        if len(text) > 1024 or any(not is_portable(part) for part in parts):
            raise ArchiveError(f"{self.archive.name}: {name!r} is not a name that every file system takes")
        place = PurePosixPath(*parts)
        for path in (*reversed(place.parents[:-1]), place):
            is_folder = folder or path != place
            key = unicodedata.normalize("NFC", path.as_posix()).casefold()
            before = self._taken.setdefault(key, (path.as_posix(), is_folder))
            twice = path == place and not folder and path.as_posix() in self.sizes
            if before != (path.as_posix(), is_folder) or twice:
                raise ArchiveError(f"{self.archive.name}: {name!r} would overwrite {before[0]!r}")
        return place
