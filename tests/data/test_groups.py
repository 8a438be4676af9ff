"""``groups.csv``: what an audit writes is what `prepare` and studies read, and edits count."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonosynth.core.errors import ClassError, ManifestError
from sonosynth.data.groups import cluster_numbers, group_members, table_path, with_groups, write_groups
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source


@pytest.fixture
def source(tmp_path: Path):
    rng = np.random.default_rng(0)
    for label in ("benign", "malignant"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(3):
            pixels = rng.integers(0, 255, (20, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{label[0]}{k}.png")
    return read_source(tmp_path / "data")


def table(path: Path, rows: str) -> Path:
    path.write_text(rows, encoding="utf-8")
    return path


ROWS = "".join(f"benign/b{k}.png,{{}}\n" for k in range(3)) + "".join(f"malignant/m{k}.png,{{}}\n" for k in range(3))


def test_clusters_are_numbered_in_order_of_first_appearance():
    numbers = cluster_numbers(6, [(4, 5), (1, 2), (2, 4)])
    assert numbers.dtype == np.int64 and numbers.tolist() == [0, 1, 1, 2, 1, 1]
    assert [members.tolist() for members in group_members(numbers)] == [[0], [1, 2, 4, 5], [3]]
    assert cluster_numbers(3, []).tolist() == [0, 1, 2]


def test_groups_travel_to_prepared_images(source, tmp_path):
    write_groups(tmp_path / "groups.csv", source.root, source.items, [7, 7, 1, 2, 3, 7], [False] * 6)
    grouped, notes = with_groups(source, tmp_path / "groups.csv")
    assert prepare_images(grouped, 16)[0].groups.tolist() == [0, 0, 1, 2, 3, 0]
    assert notes == ["4 groups of 6 images, from groups.csv"]


def test_groups_of_an_image_set_may_have_names(source, tmp_path):
    prepare_images(source, 16)[0].save(tmp_path / "set")
    images = read_source(tmp_path / "set")
    names = ["p1", "p1", "p2", "p3", "p2", "p4"]
    rows = "".join(f"{table_path(item, images.root)},{name}\n" for item, name in zip(images.items, names, strict=True))
    grouped, _ = with_groups(images, table(tmp_path / "groups.csv", "path,group\n" + rows))
    groups = prepare_images(grouped, 16)[0].groups.tolist()
    assert [groups.index(group) for group in groups] == [0, 0, 2, 3, 2, 5]


def test_names_with_spaces_at_their_ends_come_back(tmp_path):
    for name in (" a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(np.full((9, 9), len(name), np.uint8)).save(tmp_path / "data" / name / "x.png")
    source = read_source(tmp_path / "data")
    write_groups(tmp_path / "groups.csv", source.root, source.items, [4, 4], [False] * 2)
    assert {item.group for item in with_groups(source, tmp_path / "groups.csv")[0].items} == {"4"}


def test_conflicts_are_dropped_where_they_still_hold(source, tmp_path):
    conflicts = [True, False, False, True, False, False]
    write_groups(tmp_path / "groups.csv", source.root, source.items, [0, 1, 2, 0, 1, 3], conflicts)
    left, notes = with_groups(source, tmp_path / "groups.csv", drop_conflicts=True)
    assert [item.id for item in left.items] == ["b1", "b2", "m1", "m2"]  # b1 and m1 share a patient, not a frame
    assert "2 images dropped: copies that carry different labels" in notes
    text = (tmp_path / "groups.csv").read_text()
    edited = table(tmp_path / "edited.csv", text.replace("malignant/m0.png,0,1", "malignant/m0.png,99,1"))
    assert len(with_groups(source, edited, drop_conflicts=True)[0].items) == 6


def test_a_table_without_marks_has_no_conflicts_to_drop(source, tmp_path):
    path = table(tmp_path / "groups.csv", "path,group\n" + ROWS.format(0, 1, 2, 0, 1, 3))
    assert len(with_groups(source, path, drop_conflicts=None)[0].items) == 6
    with pytest.raises(ManifestError, match="lacks the column 'conflict'; it must have path,group,conflict"):
        with_groups(source, path, drop_conflicts=True)


def test_a_class_is_never_dropped_whole(source, tmp_path):
    write_groups(tmp_path / "groups.csv", source.root, source.items, [0, 1, 2, 0, 1, 2], [True] * 6)
    path = tmp_path / "groups.csv"
    with pytest.raises(ClassError, match="no image of class 'benign' is left"):
        with_groups(source, path, drop_conflicts=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the column 'path'"),
        ("path,groups\n", "lacks the column 'group' .did you mean 'groups'"),
        ("path;group\nbenign/b0.png;1\n", "lacks the column 'path' .separated by ';'. use ','"),
        ("path,group\nbenign/b0.png,1\n", "has no row for 5 of 6 images"),
        ("path,group\nbenign/b0.png,1\nbenign/b0.png,2\n", "line 3: 'benign/b0.png' stands twice"),
        ("path,group\nbenign/b0.png,\n", "line 2: no path or no group"),
        ("path,group\nbenign/b0.png,1,2\n", "line 2: 3 fields where the first line has 2"),
        ("path,group,group\nbenign/b0.png,1,0\n", "has the column 'group' more than once"),
        ("path,group,conflict\nbenign/b0.png,1,x\n", "conflict must be 0 or 1, not 'x'"),
    ],
)
def test_wrong_tables(text, message, source, tmp_path):
    with pytest.raises(ManifestError, match=message):
        with_groups(source, table(tmp_path / "groups.csv", text))


def test_a_table_of_another_tool(source, tmp_path):
    path = tmp_path / "groups.csv"
    path.write_bytes(b"\xef\xbb\xbfpath, group\r\n" + ROWS.replace("\n", "\r\n").format(*"aabbcc").encode())
    assert prepare_images(with_groups(source, path)[0], 16)[0].groups.tolist() == [0, 0, 1, 1, 2, 2]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not a comma-separated table in UTF-8"):
        with_groups(source, path)
    with pytest.raises(ManifestError, match="cannot be read"):
        with_groups(source, tmp_path / "missing.csv")


def test_frames_have_names_of_their_own(source):
    from dataclasses import replace

    item = source.items[0]
    assert table_path(item, source.root) == "benign/b0.png"
    assert table_path(replace(item, frame=3), source.root) == "benign/b0.png#3"
