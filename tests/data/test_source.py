from pathlib import Path

import pytest

from sonosynth.data.source import formulas, links_out


def test_links_out_are_counted_and_links_inside_are_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in (root / "a", root / "b", tmp_path / "root2"):
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(b"")
    (root / "a" / "2.png").symlink_to("../b/1.png")
    (root / "a" / "3.png").symlink_to(tmp_path / "root2" / "1.png")  # a longer name, not a folder inside
    (root / "c").symlink_to(tmp_path / "root2")
    (tmp_path / "link").symlink_to(root)
    assert links_out(root, [root / "a" / "1.png", root / "a" / "2.png", root / "b" / "1.png"]) == []
    for where in (root, tmp_path / "link"):
        (line,) = links_out(where, [where / "a" / "3.png", where / "a" / "1.png", where / "c" / "1.png"])
        assert line.startswith("2 files") and "first: a/3.png" in line


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        ("=1+1", True),
        (" =1+1", True),
        ("\t=1+1", True),
        ("@SUM(A1)", True),
        ("+cmd|' /C calc'!A0", True),
        ("-HYPERLINK(1)", True),
        ("-3.5", False),
        ("+49 30 1234", False),
        ("-", False),
        ("--", False),
        ("-left", False),
        ("", False),
        ("a=b", False),
        ("benign (1)", False),
    ],
)
def test_values_that_a_spreadsheet_would_run(value: str, counts: bool) -> None:
    lines = formulas([("x", value), ("y", "z")])
    assert len(lines) == counts and all(line.startswith("1 image has values") for line in lines)
