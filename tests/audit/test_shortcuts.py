"""How files are stored as a shortcut: found where it goes with the class, and not where it does not."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sonosynth.audit import shortcuts
from sonosynth.audit.shortcuts import associations, shortcut_classifier
from sonosynth.cli.data import app
from sonosynth.phantoms.phantom import phantom

LABELS = np.repeat([0, 1], 12)
GROUPS = np.arange(24)


@pytest.fixture(autouse=True)
def few_forests(monkeypatch):
    monkeypatch.setattr(shortcuts, "_CHANCE_RUNS", 8)


@pytest.fixture(scope="module")
def pictures():
    """Twice 12 phantoms of one kind, so that nothing but what a test does to them goes with the class."""
    images = phantom(24, 64, seed=5).of_class("benign").images
    return {"a": images[:12], "b": images[12:]}


def written(root, pictures, save):
    """Write a folder per class; `save` takes the class, the number of the image, the picture and a path."""
    for name, images in pictures.items():
        (root / name).mkdir(parents=True)
        for k, grey in enumerate(images):
            save(name, k, Image.fromarray(grey), root / name / f"{name}{k}")
    return root


def as_png(name, k, picture, path):
    picture.save(f"{path}.png")


def as_jpeg_or_png(name, k, picture, path):
    picture.save(f"{path}.jpg", quality=75) if name == "a" else picture.save(f"{path}.png")


def told(source, out):
    """Return what the audit prints, the lines about shortcuts, and its JSON."""
    done = CliRunner().invoke(app, ["audit", str(source), "--out", str(out)])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if line.startswith("shortcuts ")]
    return lines, json.loads((out / "audit.json").read_text())["found"]


@pytest.mark.long
def test_format_that_stands_for_the_class_is_told_everywhere(tmp_path, pictures):
    lines, found = told(written(tmp_path / "set", pictures, as_jpeg_or_png), tmp_path / "audit")
    assert "macro-F1 1.00" in lines[0] and "without looking at tissue" in lines[0]
    assert lines[1].split(maxsplit=1)[1].startswith("file format tells the classes apart: JPEG 100 % of a, 0 % of b (")
    row = next(row for row in found["associations"] if row["name"] == "file format")
    assert row["values"] == {"a": {"JPEG": 1.0}, "b": {"PNG": 1.0}}
    assert row["effect"] == pytest.approx(1) and row["p"] < 0.01 and row["n"] == 24
    page = (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    assert "File format tells the classes apart: JPEG 100 % of a, 0 % of b" in page
    assert '<td class="n">JPEG 100.0 %</td><td class="n">PNG 100.0 %</td>' in page


@pytest.mark.long
def test_an_audit_of_an_older_version_is_still_shown(tmp_path, pictures):
    source = written(tmp_path / "set", pictures, as_jpeg_or_png)
    told(source, tmp_path / "audit")
    kept = json.loads((tmp_path / "audit" / "audit.json").read_text())
    del kept["found"]["storage"]
    (tmp_path / "audit" / "audit.json").write_text(json.dumps(kept))
    again = CliRunner().invoke(app, ["audit", str(source), "--out", str(tmp_path / "audit")])
    assert again.exit_code == 0 and "already done" in again.output and "file format" not in again.output


@pytest.mark.long
def test_an_audit_of_a_prepared_set_knows_the_files_it_came_from(tmp_path, pictures):
    source = written(tmp_path / "set", pictures, as_jpeg_or_png)
    made = CliRunner().invoke(app, ["prepare", str(source), "--out", str(tmp_path / "out"), "--size", "32"])
    assert made.exit_code == 0, made.output
    lines, found = told(tmp_path / "out", tmp_path / "audit")
    assert "file format tells the classes apart: JPEG 100 % of a, 0 % of b" in lines[1]
    assert found["shortcut_f1"]["value"] == 1


@pytest.mark.long
def test_a_source_of_one_format_shows_nothing_new(tmp_path, pictures):
    lines, found = told(written(tmp_path / "set", pictures, as_png), tmp_path / "audit")
    assert len(lines) == 1 and found["storage"] == []
    names = {row["name"] for row in found["associations"]}
    assert not names & {"file format", "compression", "bit depth", "JPEG quality"}
    assert "stored differently" not in (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")


@pytest.mark.long
def test_formats_that_both_classes_have_are_not_accused(tmp_path, pictures):
    def mixed(name, k, picture, path):
        picture.save(f"{path}.jpg", quality=60 + 10 * (k % 4)) if k % 2 else picture.save(f"{path}.png")

    lines, found = told(written(tmp_path / "set", pictures, mixed), tmp_path / "audit")
    assert len(lines) == 1 and found["storage"] == []
    assert "file format" in {row["name"] for row in found["associations"]}  # shown in the table, as not sure


@pytest.mark.long
def test_quality_of_jpegs_is_told(tmp_path, pictures):
    def two_qualities(name, k, picture, path):
        picture.save(f"{path}.jpg", quality=(35 if name == "a" else 90) + k % 3)

    lines, found = told(written(tmp_path / "set", pictures, two_qualities), tmp_path / "audit")
    assert "JPEG quality tells the classes apart: median 36 in a, 91 in b" in lines[1] and len(lines) == 2
    assert found["shortcut_f1"]["value"] == 1


@pytest.mark.long
def test_bit_depth_is_told(tmp_path, pictures):
    def deep(name, k, picture, path):
        stored = np.asarray(picture).astype(np.uint16) * 257
        Image.fromarray(stored).save(f"{path}.png") if name == "a" else picture.save(f"{path}.png")

    lines, _ = told(written(tmp_path / "set", pictures, deep), tmp_path / "audit")
    assert "bit depth tells the classes apart: 16 bits per channel 100 % of a, 0 % of b" in lines[1]


@pytest.mark.long
def test_png_files_that_were_jpegs_are_found_by_their_size(tmp_path, pictures):
    def once_jpeg(name, k, picture, path):
        if name == "a":
            picture.save(tmp_path / "once.jpg", quality=10)
            picture = Image.open(tmp_path / "once.jpg")
        picture.save(f"{path}.png")

    lines, found = told(written(tmp_path / "set", pictures, once_jpeg), tmp_path / "audit")
    assert "file size, bytes per pixel tells the classes apart: median" in lines[1]
    assert "file format" not in {row["name"] for row in found["associations"]}


# ---------------------------------------------------------------------------------------------------- the test


def test_several_kinds_are_tested_and_shown_as_shares():
    kinds = np.array([*["JPEG"] * 9, *["TIFF"] * 3, *["PNG"] * 9, *["TIFF"] * 3])
    row = associations({"file format": kinds}, LABELS, GROUPS, "ab")[0]
    assert row.values == {"a": {"JPEG": 0.75, "TIFF": 0.25}, "b": {"PNG": 0.75, "TIFF": 0.25}}
    assert row.effect == pytest.approx(np.sqrt(18 / 24)) and row.p < 0.01  # chi squared is 9 + 9
    assert "JPEG 75 % of a, 0 % of b; PNG 0 % of a, 75 % of b; TIFF 25 % of a, 25 % of b" in row.sentence()


def test_of_two_kinds_the_one_of_the_first_class_is_told():
    for first, second in (("lossy", "lossless"), ("lossless", "lossy")):
        row = associations({"compression": np.where(LABELS == 0, first, second)}, LABELS, GROUPS, "ab")[0]
        assert row.sentence().startswith(
            f"compression tells the classes apart: {first} 100 % of a, 0 % of b (Cramér's V"
        )


def test_the_effect_is_that_of_scipy():
    from scipy.stats.contingency import association

    rng = np.random.default_rng(3)
    labels, kinds = rng.integers(0, 3, 200), rng.choice(["x", "y", "z", "w"], 200)
    row = associations({"kind": kinds}, labels, np.arange(200), "abc")[0]
    table = [[((kinds == kind) & (labels == label)).sum() for label in range(3)] for kind in np.unique(kinds)]
    assert row.effect == pytest.approx(association(np.array(table), method="cramer"))


@pytest.mark.long
def test_p_values_of_kinds_are_nominal_where_there_is_no_association():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 30)
    p = []
    for _ in range(120):
        kinds = rng.choice(["JPEG", "PNG", "TIFF", "BMP"], 90, p=[0.6, 0.3, 0.07, 0.03])
        p += [row.p for row in associations({"file format": kinds}, labels, np.arange(90), "abc")]
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.1 and 0.4 < np.mean(np.array(p) < 0.5) < 0.6


def test_what_is_not_known_does_not_count():
    quality = np.where(LABELS == 0, 75.0, np.nan)  # of the class that has JPEGs alone
    assert associations({"JPEG quality": quality}, LABELS, GROUPS, "ab") == []
    quality[:6], quality[12:18] = 30, np.tile([75, 80], 3)
    row = associations({"JPEG quality": quality}, LABELS, GROUPS, "ab")[0]
    assert row.n == 18 and row.values == {"a": 52.5, "b": 77.5}
    alone = associations({"JPEG quality": quality}, LABELS * 0, GROUPS, "a")[0]
    together = associations({"file format": np.where(LABELS, "JPEG", "PNG")}, LABELS, GROUPS * 0, "ab")[0]
    assert (alone.p, together.p, together.effect) == (1, 1, 0)
    kinds = np.where(GROUPS % 2, "JPEG", "")
    assert associations({"file format": kinds}, LABELS, GROUPS, "ab") == []


@pytest.mark.long
def test_the_forest_sees_kinds_and_what_is_not_known():
    kinds = np.where(LABELS == 0, "JPEG", "PNG")
    quality = np.where(LABELS == 0, 75.0, np.nan)
    noise = np.random.default_rng(0).normal(size=24)
    seeing = shortcut_classifier({"noise": noise, "file format": kinds}, LABELS, GROUPS)
    by_gaps = shortcut_classifier({"noise": noise, "JPEG quality": quality}, LABELS, GROUPS)
    assert seeing is not None and seeing.f1 == 1 and seeing.above_chance
    assert by_gaps is not None and by_gaps.f1 == 1
    blind = shortcut_classifier({"noise": noise}, LABELS, GROUPS)
    assert shortcut_classifier({"noise": noise, "file format": np.full(24, "PNG")}, LABELS, GROUPS) == blind
