from pathlib import Path

import pytest
import yaml

from image_sets import blobs
from sonosynth.classify.training import DEFAULT_TRAINING
from sonosynth.core.errors import StudyError
from sonosynth.report.study.demo import demo_study
from sonosynth.study.splits import make_splits
from sonosynth.study.study_file import expand, load_design, parse_design

ISSUE = """
name: busi-small
data: {source: $SOMEWHERE/busi, size: 64, fit: stretch, classes: [benign, malignant, normal]}
split: {test_fraction: 0.25, sizes: [200, 50], draws: 1, seed: 0}
gans: [{base: stylegan2, channel_base: 2048}, {base: stylegan2-diffaug, channel_base: 2048, name: augmented}]
training: {kimg: 5, mode: conditional, seeds: [0]}
scores: {features: [inception], n_synthetic: 500}
classifiers: {networks: [resnet18], arms: [real, real+classical], ratios: [1.0], seeds: [0, 1], steps: 200}
"""


def design(**changes):
    return parse_design(yaml.safe_load(ISSUE) | changes, "study.yaml")


def test_a_whole_file_is_read():
    read = design()
    assert read.split.sizes == (50, 200)
    assert [gan.name for gan in read.gans] == ["stylegan2", "augmented"]
    assert read.gans[1].recipe.channel_base == 2048
    assert read.gans[1].recipe.diffaugment
    assert tuple(read.setting_of(read.gans[0], name) for name in ("kimg", "mode")) == (5, "conditional")


def test_what_is_not_given_is_the_recipes_own_and_an_entry_wins():
    read = design(
        gans=["stylegan2", {"base": "stylegan2", "name": "short", "kimg": 1, "mode": "per_class"}], training={}
    )
    assert tuple(read.setting_of(read.gans[0], name) for name in ("kimg", "mode")) == (300, "per_class")
    read = design(gans=[{"base": "stylegan2", "kimg": 1, "mode": "per_class"}])
    assert tuple(read.setting_of(read.gans[0], name) for name in ("kimg", "mode")) == (1, "per_class")
    assert read.gans[0].recipe.channel_base == 16384


def test_arms_filters_and_networks_of_a_file_that_names_few():
    read = design(classifiers={})
    assert read.classifiers.arms == ("real", "real+classical", "real+synthetic", "real+classical+synthetic")
    assert [entry.by for entry in read.classifiers.filters] == ["none"]
    assert read.classifiers.training == DEFAULT_TRAINING and read.training.truncation == (1.0,)
    read = design(
        classifiers={
            "networks": ["monai:DenseNet169"],
            "filters": ["none", {"by": "confidence", "quantile": 0.2}],
            "fill": "balanced",
            "steps": 150,
            "balance": "sampling",
        }
    )
    assert read.classifiers.filters[1].quantile == 0.2 and read.classifiers.fill == ("balanced",)
    assert (read.classifiers.training.steps, read.classifiers.training.balance) == (150, "sampling")


def test_an_own_test_set_replaces_the_fraction():
    read = design(split={"test": "elsewhere", "sizes": [50]})
    assert read.split.test_fraction is None
    assert design(split={"test": "elsewhere", "sizes": [50], "naive": False}).split.naive_sizes(grouped=True) == ()
    assert design(split={"sizes": [50]}).split.test_fraction == 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claassifiers": {}}, "unknown key 'claassifiers' .did you mean 'classifiers'"),
        ({"training": {"kimgs": 5}}, "unknown key 'training.kimgs' .did you mean 'kimg'"),
        ({"split": {}}, "the key 'split.sizes' is missing"),
        ({"split": {"sizes": [2]}}, "at least 4"),
        ({"split": {"sizes": [50, 50]}}, "split.sizes: 50 stands more than once"),
        ({"split": {"sizes": [50], "test_fraction": float("nan")}}, "finite"),
        ({"data": {"source": ""}}, "data.source"),
        ({"training": {"kimg": float("inf")}}, "training.kimg: .*finite"),
        ({"training": {"seeds": [1, 1]}}, "training.seeds: 1 stands more than once"),
        ({"scores": {"features": []}}, "scores.features"),
        ({"classifiers": {"ratios": [float("nan")]}}, "classifiers.ratios.0: .*finite"),
        ({"classifiers": {"arms": ["real", "real"]}}, "arms: real stands more than once"),
        ({"gans": [{"base": None}]}, "gans.0: a GAN is a recipe's name"),
        ({"gans": [{"base": ["stylegan2"]}]}, "gans.0: a GAN is a recipe's name"),
        ({"gans": [{"base": "stylegan2", 1: 2}]}, "gans.0: a GAN is a recipe's name"),
        ({"gans": [{"base": "stylegan2", "kimg": float("inf")}]}, "'kimg' = inf: .*finite"),
        ({"gans": [{"base": "stylegan2", "family": "fastgan"}]}, "no setting 'family'"),
        ({"gans": [{"folder": None, "name": "x"}]}, "'folder' is empty"),
        ({"gans": [{"folder": "", "name": "x"}]}, "gans.0.folder"),
        ({"gans": [{"folder": "x", "name": "a\nb"}]}, "gans.0.name: use printable letters"),
        ({"split": {"sizes": 50}}, r"split.sizes: should be a list.*found 50"),
        ({"data": 7}, "data: should be a mapping"),
        ({"gans": "stylegan2"}, "gans: should be a list"),
        ({"gans": [5]}, "a GAN is a recipe's name"),
        ({"gans": [{"recipe": {}, "foo": 1}]}, "a GAN is a recipe's name"),
        ({"name": "../x"}, "name: use letters"),
        ({"split": {"sizes": [50], "test": "x", "test_fraction": 0.2}}, "either test_fraction or test"),
        ({"gans": ["stylegan3"]}, "no GAN 'stylegan3' .did you mean 'stylegan2'"),
        ({"gans": [{"base": "stylegan2", "chanel_base": 1}]}, "no setting 'chanel_base' .did you mean 'channel_base'"),
        ({"gans": ["stylegan2", "stylegan2"]}, "two GANs are called 'stylegan2'"),
        ({"gans": [{"channel_base": 2048}]}, "a GAN is a recipe's name"),
        ({"gans": [{"folder": "x"}]}, "a folder takes a name"),
        ({"scores": {"features": ["incepton"]}}, "no feature network 'incepton' .did you mean 'inception'"),
        ({"classifiers": {"networks": ["resnet81"]}}, "did you mean 'resnet18'"),
        ({"classifiers": {"arms": ["real+synthetc"]}}, "did you mean 'real.synthetic'"),
        ({"classifiers": {"ratios": [0]}}, "above 0"),
        ({"data": {"source": "x", "size": 100}}, "data.size"),
        ({"training": {"seeds": []}}, "training.seeds"),
        ({"training": {"truncation": 1.2}}, "training.truncation.0: .*less than or equal to 1"),
        ({"split": {"sizes": [50], "naive": [60]}}, "naive names the size 60"),
        ({"split": {"sizes": [50], "test": "x", "naive": [50]}}, "split: test and naive exclude each other"),
        ({"split": {"sizes": [50], "validation_fraction": 1}}, "split.validation_fraction: .*less than 1"),
        ({"classifiers": {"networks": ["monai:DenseNet120"]}}, "no classifier network 'monai:DenseNet120' .did you"),
        ({"classifiers": {"fill": "balancd"}}, "classifiers.fill: .*'balanced'"),
        ({"classifiers": {"filters": ["confidense"]}}, "no filter 'confidense' .did you mean 'confidence'"),
        ({"classifiers": {"filters": [{"quantile": 0.2}]}}, "a filter is a name, or a 'by' with settings"),
        ({"classifiers": {"filters": [{"by": "distance", "quantil": 0.2}]}}, "'quantil' .* .did you mean 'quantile'"),
        ({"classifiers": {"filters": [{"by": "none", "quantile": 0.2}]}}, "'none' takes no settings"),
        ({"classifiers": {"filters": ["distance", {"by": "distance", "candidates": 9}]}}, "stands more than once"),
        (
            {"classifiers": {"filters": ["distance"], "ratios": [1, 5]}},
            "'distance' has 5 candidates .* where 5 are to",
        ),
        ({"classifiers": {"batch": 1}}, "classifiers.batch"),
        ({"classifiers": {"balance": "weight"}}, "classifiers.balance: .*'weights'"),
    ],
)
def test_mistakes_are_one_line_that_names_them(changes, message):
    with pytest.raises(StudyError, match=message) as caught:
        design(**changes)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("study.yaml: ")


def test_files_that_are_no_study(tmp_path: Path):
    path = tmp_path / "study.yaml"
    with pytest.raises(StudyError, match="cannot be read"):
        load_design(path)
    path.write_text("name: [unclosed")
    with pytest.raises(StudyError, match="is not YAML"):
        load_design(path)
    path.write_text("- a list")
    with pytest.raises(StudyError, match="is a mapping with the keys name, data"):
        load_design(path)


def test_environment_variables_in_sources(monkeypatch):
    monkeypatch.setenv("SOMEWHERE", "/images")
    assert expand("$SOMEWHERE/busi") == Path("/images/busi")
    monkeypatch.delenv("SOMEWHERE")
    with pytest.raises(StudyError, match="not set"):
        expand("$SOMEWHERE/busi")


@pytest.mark.parametrize("name", ["a, b", "a #b", "{a}", "a: b", "$HOME", "a$$b", "it's", '"x"', "über 😀", "\\u"])
def test_the_study_of_the_demo_finds_its_phantoms_whatever_their_folder_is_called(name):
    read = parse_design(yaml.safe_load(demo_study(Path(name) / "phantoms")), "study.yaml")
    assert expand(read.data.source) == Path(name) / "phantoms" and read.data.size == 64


def test_a_key_that_stands_twice_is_an_error_and_merge_keys_work(tmp_path):
    path = tmp_path / "study.yaml"
    text = "name: x\ndata: {source: y}\nsplit: {sizes: [50]}\nclassifiers:\n  steps: 20\n"
    path.write_text(f"{text}  steps: 30\n")
    with pytest.raises(StudyError, match=r"study\.yaml, line 6: the key 'steps' stands twice.* first in line 5"):
        load_design(path)
    path.write_text(f"{text}split: {{sizes: [60]}}\n")
    with pytest.raises(StudyError, match="line 6: the key 'split' stands twice in one mapping, first in line 3"):
        load_design(path)
    shared = "gans: [&tiny {base: stylegan2, batch: 4}, {<<: *tiny, name: other, batch: 8}]\n"
    path.write_text(text + shared)
    assert [gan.recipe.batch for gan in load_design(path).gans] == [4, 8]


def test_a_size_that_takes_all_images_is_drawn_once():
    raw = {"name": "x", "data": {"source": "x", "size": 32}, "split": {"sizes": [8, 30], "draws": 3}}
    (split,) = make_splits(parse_design(raw, "study.yaml"), blobs(20), None)
    assert len(split.indices.test) == 10
    assert sorted((s.size, s.replicate) for s in split.subsets) == [(8, 0), (8, 1), (8, 2), (30, 0)]
