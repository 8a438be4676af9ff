from pathlib import Path

import pytest

from sonosynth.core.file_names import folder_names, safe_name


def test_folder_names_are_distinct_safe_and_kept_where_they_can_be():
    names = ("benign", "a/b", "a_b", "A_b", ".", "..", "", "con\nd", "säge (2)")
    folders = folder_names(names)
    assert list(folders) == list(names)
    assert folders["benign"] == "benign" and folders["säge (2)"] == "säge (2)"
    assert len({folder.casefold() for folder in folders.values()}) == len(names)
    assert folder_names(["Benign"], reserved=["benign"]) == {"Benign": "Benign~1"}
    assert all(Path(folder).name == folder and folder.strip(".") for folder in folders.values())


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("CON", "_CON"),
        ("nul.tar", "_nul.tar"),
        ("Console", "Console"),
        ("x" * 300, "x" * 200),
        ("é" * 150, "é" * 100),
        ("x" * 199 + " é", "x" * 199),
        (" .. ", "_"),
        ("a\nb/c\x1b", "a_b_c_"),
        ("=1+1", "_1+1"),
    ],
)
def test_safe_names_fit_every_file_system(name, safe):
    assert safe_name(name) == safe


def test_names_that_a_file_system_may_take_for_one_are_told_apart():
    folders = folder_names(["\u00e9", "e\u0301", "E\u0301", "x" * 300, "x" * 301])
    assert len(set(folders.values())) == 5 and folders["\u00e9"] == "\u00e9"
