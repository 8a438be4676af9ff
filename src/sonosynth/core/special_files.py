"""Outputs that are no ordinary files: devices, pipes and open descriptors such as ``/dev/stdout``.

They are written through, never replaced by a file and never removed. Block devices and sockets that have a name are
refused: to write to a disk would destroy it, and a socket cannot be opened.
"""

import errno
import os
import select
import stat
import time
from pathlib import Path

from sonosynth.core.errors import OutputError

_READER_SECONDS = 10.0  # how long a named pipe may be without a reader; both ends of a shell command start together
_BLOCK = 1 << 20
_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFBLK: "block device", stat.S_IFCHR: "device"}
# Named pipes, by device and inode, that `check` has opened: closed in between, their readers would see the end.
_opened: dict[tuple[int, int], int] = {}


def kind(path: Path) -> str | None:
    """Return "pipe", "socket", "block device" or "device", or None: a file, a folder, or nothing; links are followed.

    Raises OSError where that cannot be found out.
    """
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads to itself
            return None
        raise


def is_stream(path: Path) -> bool:
    """Return whether `path` is to be written through: it is no ordinary file, or an open descriptor of any kind."""
    return kind(path) is not None or _descriptor(path) is not None


def check(path: Path) -> None:
    """Raise OutputError unless the stream `path` can be written; a named pipe is opened and kept open for `write`.

    Refused are a block device or a socket, a descriptor that is not open for writing, a pipe that nobody reads, and a
    device that cannot be opened.
    """
    named_pipe = kind(path) == "pipe" and _descriptor(path) is None
    if named_pipe and _identity(path) in _opened:
        return
    stream = _open(path)
    if named_pipe:
        _opened[_identity(path)] = stream
    else:
        os.close(stream)


def write(path: Path, content: Path) -> None:
    """Write the bytes of the file `content` into the stream `path`. Raises OutputError, as `check`."""
    stream = _opened.pop(_identity(path), None) if kind(path) == "pipe" else None
    if stream is None:
        stream = _open(path)
    try:
        with content.open("rb") as file:
            while block := file.read(_BLOCK):
                while block:
                    try:
                        block = block[os.write(stream, block) :]
                    except BlockingIOError:  # whoever opened the descriptor has made it so
                        select.select([], [stream], [])
    except BrokenPipeError as error:
        raise OutputError(f"{path}: its reader stopped before the end; run the same command again") from error
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(stream)


def _open(path: Path) -> int:
    """Return a new descriptor that writes into the stream `path`."""
    descriptor, what = _descriptor(path), kind(path)
    if descriptor is None and what in ("socket", "block device"):
        raise OutputError(f"{path} is a {what}, which cannot take a file; choose another --out")
    try:
        if descriptor is not None:
            os.write(descriptor, b"")
            return os.dup(descriptor)  # writes where that one stands: nothing before it is lost
        return _open_pipe(path) if what == "pipe" else os.open(path, os.O_WRONLY | os.O_NOCTTY)
    except OSError as error:
        found = f"a {what} that cannot be written" if descriptor is None else "not a descriptor open for writing"
        raise OutputError(f"{path} is {found} ({error.strerror}); choose another --out") from error


def _open_pipe(path: Path) -> int:
    """Return a descriptor that writes into a named pipe, once it has a reader."""
    deadline = time.monotonic() + _READER_SECONDS
    while True:
        try:
            stream = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > deadline:
                raise OutputError(
                    f"{path} is a pipe that nobody reads; start its reader first, or choose another --out"
                ) from error
            time.sleep(0.05)
        else:
            os.set_blocking(stream, True)
            return stream


def _descriptor(path: Path) -> int | None:
    """Return the number of the descriptor that `path` stands for, such as 1 of ``/dev/stdout``, links followed."""
    place = path.absolute()
    for _ in range(40):  # as many links as Linux follows
        folder = os.path.realpath(place.parent)
        parts = Path(folder).parts
        of_process = parts[:3] == ("/", "proc", str(os.getpid())) and parts[-1] == "fd"
        lists = folder == "/dev/fd" or (of_process and (len(parts) == 4 or parts[3] == "task"))
        if place.name.isdecimal() and lists:  # /dev/fd is a link to the folder that lists descriptors, or itself such
            return int(place.name)
        if not place.is_symlink():
            return None
        place = Path(folder) / place.readlink()
    return None


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
