"""Studies over repeated splits, on tiny images, in this process."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from image_sets import blobs
from monitor import Told
from sonosynth.core.errors import SplitError, StudyError
from sonosynth.core.files import read_json
from sonosynth.data.imageset import ImageSet
from sonosynth.report.study.page import write_report
from sonosynth.study.plan import design_power, estimate
from sonosynth.study.prepared import prepare_study
from sonosynth.study.run import run_design
from sonosynth.study.store import Store
from sonosynth.study.study_file import parse_design
from tiny_classifier import QUICK
from tiny_classifier import tiny_network as tiny_network

pytestmark = pytest.mark.long

TINY_GAN = {"base": "stylegan2", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "real"
    blobs(30).save(folder)
    return folder


def plain(source, **split) -> dict:
    return {
        "name": "repeats",
        "data": {"source": str(source), "size": 32},
        "split": {"sizes": [8, 16]} | split,
        "gans": [TINY_GAN],
        "training": {"kimg": 0.008, "mode": "conditional"},
        "scores": {"features": ["random-conv"], "n_synthetic": 20},
        "classifiers": QUICK | {"arms": ["real", "real+synthetic"]},
    }


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    directory, raw = tmp_path_factory.mktemp("study") / "repeats", plain(source, repeats=3, sizes=[8])
    run_design(parse_design(raw, "study.yaml"), yaml.safe_dump(raw), Store(directory), Told(), "sonosynth study run")
    return directory


@pytest.mark.long
def test_no_image_of_a_split_is_on_both_sides(finished):
    parts = read_json(finished / "split.json")["repeats"]
    assert len({tuple(part["test"]) for part in parts}) == 3
    for number, part in enumerate(parts):
        (subset,) = part["subsets"]
        assert not set(subset["indices"]) & set(part["test"])
        assert {subset["draw"] for subset in part["subsets"]} == {number}


def test_everything_is_judged_by_the_test_images_of_its_split(finished):
    cells = [read_json(path)["cell"] for path in (finished / "cells").glob("*.json")]
    data = ImageSet.load(finished / "data")
    of_split = [data.subset(part["test"]).fingerprint() for part in read_json(finished / "split.json")["repeats"]]
    judged = [cell for cell in cells if "held_out" in cell]
    assert len(judged) == 3 * 3 and all(cell["held_out"] == of_split[cell["draw"]] for cell in judged)
    trained = [cell for cell in cells if cell["kind"] == "train"]
    assert len(trained) == 3 and len({cell["subset"] for cell in trained}) == 3


@pytest.mark.long
def test_tables_and_report_come_out(finished):
    f1 = pd.read_csv(finished / "f1.csv")
    assert set(f1["draw"]) == {0, 1, 2}
    page = write_report(finished).read_text(encoding="utf-8")
    assert "were divided at random 3 times" in page


def test_another_number_of_splits_keeps_the_first_ones(source):
    few, many = (prepare_study(parse_design(plain(source, repeats=n), "study.yaml")) for n in (3, 4))
    assert [d.held_out.fingerprint() for d in many.splits[:3]] == [d.held_out.fingerprint() for d in few.splits]
    assert all(set(small.indices) < set(large.indices) for small, large in (d.subsets for d in many.splits))
    assert [s.indices for s in many.subsets[:6]] == [s.indices for s in few.subsets]


@pytest.mark.long
def test_the_plan_says_what_splits_can_see(source):
    design = parse_design(plain(source, repeats=5), "study.yaml")
    data = prepare_study(design)
    seen = design_power(design, data)
    assert seen.repeated and seen.replicates == 5 and 0 < seen.single < seen.corrected
    assert "with 5 splits of the images" in seen.lines()[0]
    assert sum(cost.cells for cost in estimate(data.cells(design), data)) == 5 * 2 * 4
    two = design_power(parse_design(plain(source, repeats=2), "study.yaml"), data)
    assert two.lines() == ["power: 2 splits of the images: a description only, no test; 3 are needed"]


def test_too_few_images_for_so_many_splits_are_refused(tmp_path):
    blobs(3).save(tmp_path / "few")
    raw = plain(tmp_path / "few", repeats=30, sizes=[4], test_fraction=0.3)
    with pytest.raises(SplitError, match=r"30 random splits .* lower split\.repeats"):
        prepare_study(parse_design(raw, "study.yaml"))


def test_splits_that_coincide_are_drawn_again(tmp_path):
    images = blobs(8)
    replace(images, groups=images.groups // 4).save(tmp_path / "four")  # four groups, one of which is for testing
    data = prepare_study(parse_design(plain(tmp_path / "four", repeats=4, sizes=[4]), "study.yaml"))
    assert len({tuple(split.indices.test) for split in data.splits}) == 4


def test_a_class_that_is_tested_by_the_same_images_always_is_refused(tmp_path):
    images = blobs(12)
    light = np.flatnonzero(images.labels == 1)
    groups = images.groups.copy()
    groups[light[:10]], groups[light[10:]] = 1000, 1001  # whichever is held out, it is the smaller one
    replace(images, groups=groups).save(tmp_path / "two")
    with pytest.raises(SplitError, match="class 'light' has the same test images in each of 4"):
        prepare_study(parse_design(plain(tmp_path / "two", repeats=4, sizes=[4]), "study.yaml"))


@pytest.mark.parametrize(
    ("split", "told"),
    [({"draws": 2}, "one draw"), ({"naive": True}, "one fixed test set"), ({"test": "mine"}, "one fixed test set")],
)
def test_what_needs_a_fixed_test_set_is_refused(source, split, told):
    with pytest.raises(StudyError, match=told):
        parse_design(plain(source, repeats=3, **split), "study.yaml")
