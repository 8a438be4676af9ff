import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sonosynth.core import special_files
from sonosynth.core.errors import OutputError
from sonosynth.core.files import (
    atomic_directory,
    check_file_types,
    check_output,
    remove_file,
    remove_temporary_files,
    write_json,
    write_text,
)
from special_files import FULL, NO_DRIVER, bound, device, is_device, pipe, read

LONG = "speckle " * 100_000  # more than a pipe holds


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(special_files, "_READER_SECONDS", 0.3)


def test_a_device_is_written_through_and_stays(tmp_path):
    null = device(tmp_path / "null")
    (tmp_path / "link").symlink_to("null")
    (tmp_path / "further").symlink_to(tmp_path / "link")
    for path in (null, tmp_path / "link", tmp_path / "further"):
        check_output(path)
        write_json(path, {"a": 1})
    assert is_device(null) and (tmp_path / "link").is_symlink() and (tmp_path / "further").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["further", "link", "null"]


def test_a_full_device_is_an_error_that_names_it(tmp_path):
    full = device(tmp_path / "full", FULL)
    check_output(full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(full, "x")
    assert caught.value.filename == str(full) and is_device(full, FULL)


def test_devices_that_cannot_take_a_file_are_refused_and_stay(tmp_path):
    disk = device(tmp_path / "disk", (7, 200), stat.S_IFBLK)
    nothing = device(tmp_path / "nothing", NO_DRIVER)
    for path, message in ((disk, "is a block device"), (nothing, "is a device that cannot be written")):
        for ask in (check_output, lambda path: write_text(path, "x")):
            with pytest.raises(OutputError, match=message):
                ask(path)
    assert is_device(disk, (7, 200), stat.S_IFBLK) and is_device(nothing, NO_DRIVER)


def test_a_socket_is_refused_and_stays(tmp_path):
    with bound(tmp_path / "socket") as path:
        for ask in (check_output, lambda path: write_text(path, "x")):
            with pytest.raises(OutputError, match="is a socket"):
                ask(path)
        assert path.is_socket()


@pytest.mark.parametrize("checked", [True, False])
def test_all_that_is_written_comes_out_of_a_pipe(tmp_path, checked):
    path = pipe(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in (path, tmp_path / "link"):
        with read(path) as came:
            for _ in range(2 * checked):
                check_output(name)  # must not look like the end to the reader
            write_text(name, LONG)
        assert came == [LONG.encode()]
    assert path.is_fifo() and sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe"]


@pytest.mark.long
def test_a_pipe_that_nobody_reads_is_refused_and_never_waited_for(tmp_path):
    path = pipe(tmp_path / "pipe")
    for ask in (check_output, lambda path: write_text(path, "x")):
        with pytest.raises(OutputError, match="is a pipe that nobody reads; start its reader first"):
            ask(path)
    assert path.is_fifo()


def test_a_reader_that_stops_early_is_one_line(tmp_path):
    path = pipe(tmp_path / "pipe")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    check_output(path)
    os.close(reader)
    with pytest.raises(OutputError, match="its reader stopped before the end"):
        write_text(path, LONG)


def test_open_descriptors_are_written_where_they_stand(tmp_path):
    kept = os.open(tmp_path / "kept", os.O_WRONLY | os.O_CREAT)
    os.write(kept, b"before ")
    (tmp_path / "link").symlink_to(f"/proc/self/fd/{kept}")
    for path in (Path(f"/dev/fd/{kept}"), Path(f"/proc/self/fd/{kept}"), tmp_path / "link"):
        check_output(path)
        write_text(path, "text ")
    os.write(kept, b"after")
    os.close(kept)
    assert (tmp_path / "kept").read_text() == "before text text text after"
    reading = os.open(tmp_path / "kept", os.O_RDONLY)
    for number in (reading, 987):
        with pytest.raises(OutputError, match="not a descriptor open for writing"):
            check_output(Path(f"/dev/fd/{number}"))
    os.close(reading)


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_an_open_pipe_or_socket_takes_all(kind, waits):
    reading, writing = os.pipe() if kind == "pipe" else (end.detach() for end in socket.socketpair())
    os.set_blocking(writing, waits)
    code = "import sys; print(len(sys.stdin.buffer.read()))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=reading, stdout=subprocess.PIPE) as reader:
        os.close(reading)
        check_output(Path(f"/dev/fd/{writing}"))
        write_text(Path(f"/dev/fd/{writing}"), LONG)
        os.close(writing)
        assert int(reader.communicate()[0]) == len(LONG)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_file_stays_a_link(tmp_path, there):
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "target.json"
    if there:
        target.write_text("old")
    (tmp_path / "link").symlink_to("far/target.json")
    (tmp_path / "further").symlink_to("link")
    for name in ("link", "further"):
        check_output(tmp_path / name)
        write_text(tmp_path / name, name)
        assert target.read_text() == name and not target.is_symlink()
        assert (tmp_path / name).is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["far", "further", "link", "target.json"]


def test_a_link_into_a_folder_that_is_not_there_makes_it(tmp_path):
    (tmp_path / "link").symlink_to("new/deep/target.json")
    check_output(tmp_path / "link")
    write_text(tmp_path / "link", "mine")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "new" / "deep" / "target.json").read_text() == "mine"
    (tmp_path / "out").symlink_to("elsewhere")
    write_text(tmp_path / "out" / "x.txt", "mine")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "elsewhere" / "x.txt").read_text() == "mine"


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for ask in (check_output, lambda path: write_text(path, "x")):
        with pytest.raises(OutputError, match="leads to itself"):
            ask(tmp_path / "loop")
    assert (tmp_path / "loop").is_symlink()


def test_no_folder_is_made_in_the_place_of_a_special_file(tmp_path):
    path = pipe(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in (path, tmp_path / "link"):
        with pytest.raises(OutputError, match="is a pipe; give the name of a folder"):
            check_output(name, directory=True)
        with pytest.raises(OutputError, match="is a pipe; give the name of a folder"), atomic_directory(name):
            pass
        with pytest.raises(OutputError, match="is a pipe where a folder is needed"):
            check_file_types(name, ())
    with pytest.raises(OutputError, match="pipe is a pipe where a file is needed"):
        check_file_types(tmp_path, ("pipe",))
    with pytest.raises(OutputError, match="is a folder where a file is needed"):
        check_file_types(tmp_path.parent, (tmp_path.name,))
    check_file_types(tmp_path, ("new.json",), ("new",))
    assert path.is_fifo()


def test_what_is_no_ordinary_file_is_never_removed(tmp_path):
    path = pipe(tmp_path / ".x.0123.tmp")
    (tmp_path / ".link.0123.tmp").symlink_to(path.name)
    (tmp_path / ".file.0123.tmp").write_text("left over")
    remove_temporary_files(tmp_path)
    remove_file(path)
    remove_file(tmp_path / "nothing")
    assert path.is_fifo() and sorted(p.name for p in tmp_path.iterdir()) == [".link.0123.tmp", ".x.0123.tmp"]
