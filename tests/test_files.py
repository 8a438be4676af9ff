import subprocess
import sys
from pathlib import Path

import pytest

from sonosynth.errors import OutputError
from sonosynth.files import atomic_file, check_output, folder_names, is_vacant, locked


def test_folder_names_are_distinct_safe_and_kept_where_they_can_be():
    names = ("benign", "a/b", "a_b", "A_b", ".", "..", "", "con\nd", "säge (2)")
    folders = folder_names(names)
    assert list(folders) == list(names)
    assert folders["benign"] == "benign" and folders["säge (2)"] == "säge (2)"
    assert len({folder.casefold() for folder in folders.values()}) == len(names)
    assert folder_names(["Benign"], reserved=["benign"]) == {"Benign": "Benign~1"}
    assert all(Path(folder).name == folder and folder.strip(".") for folder in folders.values())


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


def test_a_folder_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OutputError, match="is a folder"), atomic_file(tmp_path / "x.json"):
        pass
    assert (tmp_path / "x.json").is_dir()


def test_another_process_is_kept_out_and_let_in_again(tmp_path):
    code = "import sys, pathlib; from sonosynth.files import locked\nwith locked(pathlib.Path(sys.argv[1])): pass"
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
