"""The functions that a Python user calls: `load`, `prepare` and `scan` of any source."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sonosynth as ss
from sonosynth.core.errors import MixedSizesError, OutputError, SourceError, UnreadableImageError
from sonosynth.data.prepare import prepare_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, sizes in {"benign": [(40, 30), (40, 30)], "malignant": [(40, 30), (36, 36)]}.items():
        (tmp_path / "in" / label).mkdir(parents=True)
        for k, (width, height) in enumerate(sizes):
            grey = rng.integers(0, 255, (height, width), dtype=np.uint8)
            Image.fromarray(grey).save(tmp_path / "in" / label / f"{label[0]}{k}.png")
    return tmp_path / "in"


def test_load_prepares_in_memory_as_prepare_writes(images, tmp_path):
    data = ss.load(str(images), size=16, fit="pad")
    expected, _ = prepare_images(ss.read_source(images), 16, "pad")
    made = ss.prepare(images, tmp_path / "out", 16, fit="pad")
    for other in (expected, made.images, ss.load(tmp_path / "out"), ss.load(tmp_path / "out", size=16)):
        assert other.fingerprint() == data.fingerprint() and dict(other.extra) == dict(data.extra)


def test_load_without_a_size_needs_images_of_one(images):
    with pytest.raises(MixedSizesError, match="2 sizes in all"):
        ss.load(images)
    (images / "malignant" / "m1.png").unlink()
    assert ss.load(images).size == (30, 40)
    with pytest.raises(ValueError, match="need a size"):
        ss.load(images, classes=["benign"])


def test_load_takes_classes_in_the_order_given_and_skips_what_is_unreadable(images):
    assert ss.load(images, size=16, classes=["malignant", "benign"]).classes == ("malignant", "benign")
    (images / "benign" / "b1.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"b1\.png"):
        ss.load(images, size=16)
    assert len(ss.load(images, size=16, skip_unreadable=True)) == 3


def test_prepare_writes_once_and_refuses_other_arguments(images, tmp_path):
    out = tmp_path / "out"
    first, again = (ss.prepare(images, out, 16) for _ in range(2))
    assert first.written and not again.written and first.notes == again.notes
    assert first.images.fingerprint() == again.images.fingerprint()
    with pytest.raises(OutputError, match="size 16, not 24"):
        ss.prepare(images, out, 24)
    arguments = json.loads((out / "prepare.json").read_text())["arguments"]
    assert (arguments["command"], arguments["size"], arguments["fit"]) == ("prepare", 16, "stretch")


def test_prepare_takes_groups_and_drops_conflicts_only_with_them(images, tmp_path):
    table = tmp_path / "groups.csv"
    rows = [f"{label}/{label[0]}{k}.png,{group}" for label, group in (("benign", 1), ("malignant", 2)) for k in (0, 1)]
    table.write_text("\n".join(["path,group", *rows]) + "\n")
    made = ss.prepare(images, tmp_path / "out", 16, groups=table)
    assert made.images.groups.tolist() == [0, 0, 1, 1] and made.notes[0].startswith("2 groups of 4 images")
    with pytest.raises(SourceError, match="--drop-conflicts needs --groups"):
        ss.prepare(images, tmp_path / "other", 16, drop_conflicts=True)


def test_scan_of_a_path_is_that_of_its_source(images):
    report = ss.scan(str(images))
    assert report.class_counts == {"benign": 2, "malignant": 2}
    assert report.summary() == ss.scan(ss.read_source(images)).summary()
