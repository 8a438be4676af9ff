"""The study files in examples/ can be read and planned, and have the work that their first lines say."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from image_sets import blobs
from sonosynth.study.prepared import prepare_study
from sonosynth.study.study_file import load_design, parse_design

EXAMPLES = Path(__file__).parents[2] / "examples"
WORK = {
    "busi-cpu": {"classify": 216, "train": 24, "score": 24, "naive": 18},
    "busi-long": {"train": 5, "score": 5},
    "busi-gpu": {"classify": 216, "train": 24, "score": 24, "naive": 18},
    "paper": {"classify": 17750, "train": 125, "score": 125, "naive": 300},
    "quick": {"classify": 52, "train": 4, "score": 4, "filter": 4},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "real"
    blobs(180, classes=("benign", "malignant", "normal")).save(folder)
    return folder


def test_every_example_is_known_here():
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == set(WORK)


@pytest.mark.long
@pytest.mark.parametrize("name", WORK)
def test_an_example_is_read_and_planned(name, images):
    path = EXAMPLES / f"{name}.yaml"
    assert load_design(path).name == name
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["data"] |= {"source": str(images), "size": 32, "groups": "source"}
    design = parse_design(raw, name)
    cells = prepare_study(design).cells(design)
    assert Counter(cell.kind for cell in cells) == WORK[name]
    told = re.findall(r"(\d+) (generators|classifiers)", path.read_text(encoding="utf-8"))
    assert {what: int(n) for n, what in told} == {
        "generators": WORK[name]["train"],
        "classifiers": WORK[name].get("classify", 0) + WORK[name].get("naive", 0),
    }
