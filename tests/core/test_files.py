import subprocess
import sys
from pathlib import Path

import pytest

from sonosynth.core.errors import OutputError
from sonosynth.core.files import atomic_directory, atomic_file, check_output, is_vacant, locked, unreadable_reason


def test_check_output_says_what_is_in_the_way_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "x.json", "cannot be written"),
        (tmp_path / ("x" * 300), "cannot be written"),
    ):
        with pytest.raises(OutputError, match=message):
            check_output(path)
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(OutputError, match="not empty"):
            check_output(path, directory=True)
    check_output(tmp_path / "file")
    check_output(tmp_path / "deep" / "er" / "x.json")
    check_output(tmp_path / "deep", directory=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folders_that_cannot_be_replaced_are_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "loop").symlink_to("loop")
    for path, message in (
        (Path(), "is the current folder"),
        (tmp_path / "here", "is the current folder"),
        (tmp_path / "loop", "leads to itself"),
        (tmp_path / ("x" * 250), "File name too long"),
    ):
        with pytest.raises(OutputError, match=message):
            check_output(path, directory=True)
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "disk")
    (tmp_path / "disk").mkdir()
    with pytest.raises(OutputError, match="is a mount point"):
        check_output(tmp_path / "disk", directory=True)


@pytest.mark.parametrize("there", [True, False])
def test_a_directory_is_made_where_a_link_leads(tmp_path, there):
    if there:
        (tmp_path / "scratch").mkdir()
    (tmp_path / "out").symlink_to("scratch")
    check_output(tmp_path / "out", directory=True)
    with atomic_directory(tmp_path / "out") as beside:
        (beside / "x.txt").write_text("mine")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "scratch" / "x.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scratch"]


def test_a_folder_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OutputError, match="is a folder"), atomic_file(tmp_path / "x.json"):
        pass
    assert (tmp_path / "x.json").is_dir()


def test_another_process_is_kept_out_and_let_in_again(tmp_path):
    code = "import sys, pathlib; from sonosynth.core.files import locked\nwith locked(pathlib.Path(sys.argv[1])): pass"
    enter = [sys.executable, "-c", code, str(tmp_path / "run")]
    with locked(tmp_path / "run"):
        refused = subprocess.run(enter, capture_output=True, text=True)
        assert refused.returncode != 0 and "another process is working in" in refused.stderr
    assert subprocess.run(enter).returncode == 0


def test_vacant_is_what_nobody_claimed(tmp_path):
    assert is_vacant(tmp_path / "nothing") and is_vacant(tmp_path)
    with locked(tmp_path):
        assert is_vacant(tmp_path)
    (tmp_path / "letter.txt").write_text("mine")
    assert not is_vacant(tmp_path) and not is_vacant(tmp_path / "letter.txt")


def test_what_may_never_end_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(bytes(2 << 20))
    assert unreadable_reason(tmp_path / "file", 2 << 20) is None
    assert unreadable_reason(tmp_path / "file", 1 << 20) == "larger than 1 MiB"
    assert unreadable_reason(tmp_path, 1) == "not a file but a folder"
    with pytest.raises(FileNotFoundError):
        unreadable_reason(tmp_path / "nothing", 1)
