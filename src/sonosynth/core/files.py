"""Writing without ever leaving half a file: write beside, fsync, rename."""

import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sonosynth.core import special_files
from sonosynth.core.errors import OutputError

_LOCK = ".lock"


def user_cache() -> Path:
    """Return the folder of this user's that holds what can be computed or fetched again; it may not be there yet."""
    import pooch

    return Path(pooch.os_cache("sonosynth"))


def _make_directory(path: Path) -> None:
    check_file_types(path, ())
    try:
        _followed(path).mkdir(parents=True, exist_ok=True)  # a link to a folder that is not there yet is no obstacle
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise OutputError(f"{path} cannot be written ({error.strerror}); choose another --out") from error


def check_output(path: Path, *, directory: bool = False) -> None:
    """Raise OutputError unless a file (or a new `directory`) can be written at `path`; ask before long work.

    A file may replace a file, and is written into a device or a pipe (see `special_files`); a directory must not be
    there yet, or be empty. Nothing is left behind.
    """
    try:
        if directory:
            _check_vacant(path)
        elif special_files.is_stream(path):
            special_files.check(path)
            return
        elif path.is_dir():
            raise OutputError(f"{path} is a folder; give the name of a file to write")
        target = _followed(path)
        if target.is_symlink():
            raise OutputError(f"{path} is a link that leads to itself; choose another --out")
        if directory and (target == Path.cwd() or target.is_mount()):
            what = "the current folder" if target == Path.cwd() else "a mount point"
            raise OutputError(f"{path} is {what}, which cannot be replaced; give the name of a folder in it")
        if target.parent.is_dir():
            _beside(target).exists()  # which says whether the name is too long
        _try_to_write(target.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); choose another --out") from error


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise OutputError unless files can be written at all of `outputs`, each apart and none over a file of `inputs`.

    Ask before long work. `inputs` are folders or files that are read.
    """
    taken: dict[Path, Path] = {}
    sources = [_followed(path) for path in inputs]
    for path in outputs:
        check_output(path)
        target = _followed(path)
        if target in taken:
            raise OutputError(f"{taken[target]} and {path} are one file, so one output would be lost; choose another")
        taken[target] = path
        if target.is_file() and any(target.is_relative_to(source) for source in sources):
            raise OutputError(f"{path} is a file of the images that are read; choose another --out")


def check_folder(path: Path, option: str) -> None:
    """Raise OutputError, which names `option`, unless files can be written to the folder `path`, which may be new."""
    try:
        _try_to_write(path.absolute())
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); choose another {option}") from error


def _check_vacant(path: Path) -> None:
    """Raise OutputError if anything but an empty directory is at `path`."""
    if (kind := special_files.kind(path)) is not None:
        raise OutputError(f"{path} is a {kind}; give the name of a folder")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path} already exists and is not empty; choose another --out or remove it first")


def check_file_types(directory: Path, files: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Raise OutputError if `directory` or one of `folders` in it is no folder, or one of `files` no ordinary file.

    Links are followed, and what is not there is in order.
    """
    places = [(directory / name, Path.is_dir, "file", "folder") for name in ("", *folders)]
    places += [(directory / name, Path.is_file, "folder", "file") for name in files]
    for path, is_right, other, needed in places:
        if path.exists() and not is_right(path):
            what = special_files.kind(path) or other
            raise OutputError(f"{path} is a {what} where a {needed} is needed; choose another --out")


def _try_to_write(folder: Path) -> None:
    """Raise OSError unless files can be written to `folder`, or to what is there of the way to it."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    with tempfile.TemporaryFile(dir=there):
        pass


def is_vacant(path: Path) -> bool:
    """Return whether `path` can be claimed: not there, or a directory with nothing but what a killed claim left."""
    if not path.exists():
        return True
    return path.is_dir() and all(entry.match(".*.tmp") or entry.name == _LOCK for entry in path.iterdir())


@contextmanager
def locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Make `directory` if need be and keep other processes out of this block.

    Raises OutputError: another process is in it, unless to `wait` for it; or the directory cannot be made.
    """
    _make_directory(directory)
    try:
        with FileLock(directory / _LOCK, timeout=-1 if wait else 0):
            yield
    except Timeout as error:
        raise OutputError(f"another process is working in {directory}; wait for it, or choose another --out") from error


def unreadable_reason(path: Path, most: int) -> str | None:
    """Return why the file at `path` should not be opened: it may never end, or has more than `most` bytes; else None.

    Raises OSError where there is none.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return f"not a file but a {'folder' if stat.S_ISDIR(found.st_mode) else special_files.kind(path) or 'device'}"
    return f"larger than {most >> 20:,} MiB" if found.st_size > most else None


def _followed(path: Path) -> Path:
    """Return the absolute path that `path` stands for, its links followed, whether or not something is there."""
    return Path(os.path.realpath(path))  # Path.resolve raises where a link leads to itself


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success its content is at `path`, on error `path` is as it was.

    The temporary file is beside `path`, is synced and renamed to it. A link is followed: it stays, and the file that it
    leads to is replaced or made. Into a stream (a device, a pipe, an open descriptor such as ``/dev/stdout``) the
    content is written at the end; it is neither replaced nor removed. Raises OutputError: the folder of `path` cannot
    be made, or `path` is a folder, a link that leads to itself, or a stream that cannot be written.
    """
    if special_files.is_stream(path):
        with tempfile.TemporaryDirectory() as elsewhere:
            yield (written := Path(elsewhere) / "content")
            special_files.write(path, written)
        return
    target = _followed(path)
    _make_directory(target.parent)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file to write")
    if target.is_symlink():
        raise OutputError(f"{path} is a link that leads to itself; choose another --out")
    beside = _beside(target)
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed write does not name its file
        raise
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; on success it becomes `path`, on error it is removed.

    A link is followed: the directory is made where it leads. Raises OutputError: `path` exists and is not an empty
    directory, or cannot be made; nothing there is touched.
    """
    _check_vacant(path)
    path = _followed(path)
    _make_directory(path.parent)
    beside = _beside(path)
    _make_directory(beside)
    try:
        yield beside
        if path.exists():
            path.rmdir()
        beside.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def remove_temporary_files(directory: Path) -> None:
    """Remove what `atomic_file` and `atomic_directory` of killed processes left under `directory`.

    Call it only where no other process writes there.
    """
    for path in sorted(directory.rglob(".*.tmp")):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else remove_file(path)


def remove_file(path: Path) -> None:
    """Remove the ordinary file, or the link to one, at `path`; what is of another kind stays, as is what is not there.

    Raises OSError where it cannot be removed.
    """
    if path.is_file() and not special_files.is_stream(path):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with atomic_file(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write `value` as JSON with sorted keys to `path`, atomically; without `indent` on one line. NaN is refused."""
    write_text(path, json.dumps(value, indent=indent, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON value in `path`."""
    return json.loads(path.read_text(encoding="utf-8"))
