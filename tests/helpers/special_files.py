"""Devices, pipes and sockets of a test's own: no test touches those of the machine."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

NULL, FULL, NO_DRIVER = (1, 3), (1, 7), (60, 0)  # character devices; numbers from 60 on are for experiments


def device(path: Path, number: tuple[int, int] = NULL, kind: int = stat.S_IFCHR) -> Path:
    """Make a device node; the test is skipped where that is not permitted, or devices cannot be opened."""
    try:
        os.mknod(path, 0o666 | kind, os.makedev(*number))
        if number == NULL and kind == stat.S_IFCHR:
            os.close(os.open(path, os.O_WRONLY))
    except OSError as error:
        pytest.skip(f"no device nodes here: {error}")
    return path


def is_device(path: Path, number: tuple[int, int] = NULL, kind: int = stat.S_IFCHR) -> bool:
    """Return whether `path` itself is still that device node."""
    found = path.lstat()
    return stat.S_IFMT(found.st_mode) == kind and found.st_rdev == os.makedev(*number)


def pipe(path: Path) -> Path:
    """Make a named pipe."""
    os.mkfifo(path)
    return path


@contextmanager
def bound(path: Path) -> Iterator[Path]:
    """Make a socket with a name, which is short enough only relative to its folder."""
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(path.parent)
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)
        yield path


@contextmanager
def read(path: Path) -> Iterator[list[bytes]]:
    """Read a pipe to its end in the background; after the block the list holds what came."""
    came: list[bytes] = []
    reader = Thread(target=lambda: came.append(path.read_bytes()), daemon=True)
    reader.start()
    yield came
    reader.join(20)
    assert not reader.is_alive(), "the pipe was not closed"
