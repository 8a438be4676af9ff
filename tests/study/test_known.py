"""Studies whose images a prior was trained on."""

import numpy as np
import pytest
import yaml

from image_sets import blobs
from made_up_priors import made_up_prior
from monitor import Told
from sonosynth.core.errors import LeakageError, StudyError
from sonosynth.data.imageset import ImageSet
from sonosynth.phantoms.phantom import phantom
from sonosynth.report.study.study import run_study
from sonosynth.study.cells import TrainCell
from sonosynth.study.plan import study_status
from sonosynth.study.prepared import StudyData, prepare_study
from sonosynth.study.study_file import parse_design

CLASSES = ("benign", "malignant")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Forty phantoms, whose pictures differ enough to be known again."""
    return phantom(20, 64, 3, CLASSES)


def design(folder, prior, **data) -> dict:
    return {
        "name": "known",
        "data": {"source": str(folder / "real"), "size": 32, **data},
        "split": {"test_fraction": 0.25, "sizes": [8]},
        "gans": [{"base": "fastgan+prior", "prior": str(prior), "batch": 4, "perceptual": "l1"}],
        "training": {"kimg": 0.004},
        "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
        "classifiers": {"networks": []},
    }


def prepared(raw: dict) -> StudyData:
    return prepare_study(parse_design(raw, "study.yaml"))


def prior_of(folder, images: ImageSet, names) -> str:
    seen = images.subset([i for i, name in enumerate(images.ids) if name in names])
    return str(made_up_prior(folder, seen.resized(32)))


@pytest.fixture
def division(images, tmp_path) -> tuple[set[str], set[str]]:
    """The names of test images of the study, and of all others."""
    images.save(tmp_path / "real")
    stranger = made_up_prior(tmp_path / "stranger", blobs(4, classes=CLASSES))
    found = prepared(design(tmp_path, stranger))
    assert not [note for note in found.notes if "trained on" in note]
    test = set(found.splits[0].held_out.ids)
    return test, set(images.ids) - test


def test_known_test_images_are_refused_or_left_out(images, division, tmp_path):
    test, others = division
    known = {min(test), *sorted(others)[:5]}
    prior = prior_of(tmp_path / "prior", images, known)
    with pytest.raises(LeakageError, match=r"prior 'prior' was trained on 1 of 10 test images: .*; run with --exclude"):
        prepared(design(tmp_path, prior))
    found = prepared(design(tmp_path, prior, exclude_known=True))
    assert len(found.images) == 34 and not known & set(found.images.ids)
    assert "6 of 40 images dropped: prior 'prior' was trained on them" in found.notes


def test_known_training_images_are_told(images, division, tmp_path):
    prior = prior_of(tmp_path / "prior", images, set(sorted(division[1])[:6]))
    notes = prepared(design(tmp_path, prior)).notes
    assert "prior 'prior' was trained on 6 of 40 images too, all for training" in notes


def test_the_own_test_set_is_looked_at_too(images, division, tmp_path):
    half = np.arange(len(images)) % 4 == 0
    images.subset(np.flatnonzero(~half)).save(tmp_path / "ours")
    images.subset(np.flatnonzero(half)).save(tmp_path / "theirs")
    prior = made_up_prior(tmp_path / "prior", images.subset(np.flatnonzero(half)[:2]).resized(32))
    raw = design(tmp_path, prior, source=str(tmp_path / "ours"))
    raw["split"] = {"test": str(tmp_path / "theirs"), "sizes": [8]}
    with pytest.raises(LeakageError, match="was trained on 2 of 10 test images"):
        prepared(raw)
    raw["data"]["exclude_known"] = True
    assert len(prepared(raw).splits[0].held_out) == 8
    everything = made_up_prior(tmp_path / "all", images.resized(32))
    raw["gans"][0]["prior"] = str(everything)
    with pytest.raises(LeakageError, match="was trained on all images of the study; take another prior"):
        prepared(raw)


@pytest.mark.long
def test_the_option_is_kept_with_the_study(images, division, tmp_path):
    prior = prior_of(tmp_path / "prior", images, set(sorted(division[0])[:2]))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(design(tmp_path, prior)))
    with pytest.raises(LeakageError, match="--exclude-known"):
        run_study(tmp_path / "study.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    told = Told()
    run_study(tmp_path / "study.yaml", tmp_path / "out", exclude_known=True, monitor=told)
    assert len(ImageSet.load(tmp_path / "out" / "data")) == 38
    assert yaml.safe_load((tmp_path / "out" / "study.yaml").read_text())["data"]["exclude_known"] is True
    assert study_status(tmp_path / "study.yaml", tmp_path / "out", exclude_known=True).next_cell is None
    with pytest.raises(StudyError, match="belongs to a study with another 'data' section"):
        run_study(tmp_path / "study.yaml", tmp_path / "out")


def test_cells_name_the_prior(images, division, tmp_path):
    priors = [made_up_prior(tmp_path / name, blobs(4, classes=CLASSES)) for name in ("first", "second")]
    cells = []
    for prior in priors:
        raw = design(tmp_path, prior)
        (cell,) = [c for c in prepared(raw).cells(parse_design(raw, "")) if isinstance(c, TrainCell)]
        assert isinstance(cell.generation.source, dict) and cell.generation.source["prior"] == str(prior)
        assert cell.generation.mode == "conditional" and cell.generation.source["ngf"] == 4
        cells.append(cell.hash)
    assert len(set(cells)) == 2
