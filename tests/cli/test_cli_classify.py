import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from image_sets import blobs
from sonosynth.classify.arms import ArmError
from sonosynth.classify.filters import FilterError
from sonosynth.classify.networks import NetworkError
from sonosynth.classify.training import TrainingError
from sonosynth.cli.classify import classify
from sonosynth.core.errors import ClassError, SonosynthError
from sonosynth.data.imageset import ImageSet
from tiny_classifier import tiny_network as tiny_network

app = typer.Typer()
app.command()(classify)
SHORT = ("--network", "tiny", "--steps", "20", "--batch", "8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Training, test, validation and synthetic images; a quarter of the last carry a wrong label."""
    base = tmp_path_factory.mktemp("sets")
    made = blobs(20, seed=3)
    wrong = np.where(np.arange(40) < 10, 1 - made.labels, made.labels)
    sets = {"train": blobs(8), "test": blobs(6, seed=1), "validation": blobs(4, seed=2)}
    sets["synthetic"] = ImageSet(**{**vars(made), "labels": wrong, "synthetic": True})
    for name, images in sets.items():
        images.save(base / name)
    return {name: str(base / name) for name in sets}


def result_of(folders, *arguments: str, catch: bool = True):
    asked = [folders["train"], "--test", folders["test"], *SHORT, *arguments]
    return CliRunner().invoke(app, asked, catch_exceptions=catch)


def test_all_settings_reach_the_training(folders):
    settings = ["--learning-rate", "0.02", "--schedule", "constant", "--balance", "sampling"]
    settings += ["--label-smoothing", "0.1", "--dropout", "0.2", "--validation", folders["validation"]]
    result = result_of(folders, *settings, "--json")
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)
    assert plain["training"] == {
        "steps": 20,
        "batch": 8,
        "learning_rate": 0.02,
        "weight_decay": 0.01,
        "schedule": "constant",
        "balance": "sampling",
        "label_smoothing": 0.1,
        "dropout": 0.2,
    }
    assert plain["step"] % 2 == 0 and len(plain["probabilities"]) == len(plain["labels"]) == 12
    assert {"brier", "expected_calibration_error", "sensitivity_dark", "specificity_light"} <= set(plain["metrics"])


@pytest.mark.long
def test_synthetic_images_are_filtered_and_drawn_by_class(folders):
    for name in ("confidence", "distance"):
        chosen = ["--synthetic", folders["synthetic"], "--arm", "real+synthetic", "--filter", name, "--ratio", "0.5"]
        result = result_of(folders, *chosen, "--json")
        assert result.exit_code == 0, result.output
        plain = json.loads(result.stdout)
        assert plain["n_synthetic"] == 8 and plain["filter"]["by"] == name
        assert 0.4 < plain["filter"]["acceptance"] <= 0.75
        assert "synthetic images pass the filter (dark" in result.stderr


@pytest.mark.long
def test_a_filter_that_leaves_nothing_or_too_little_of_a_class_is_refused(folders, tmp_path):
    made = blobs(20, seed=3)
    dark_alone = np.where(made.labels == 1, 0, 255)[:, None, None].astype(np.uint8)  # "light" images are black
    odd = np.where((made.labels == 1)[:, None, None], np.broadcast_to(dark_alone, made.images.shape), made.images)
    ImageSet(**{**vars(made), "images": odd, "synthetic": True}).save(tmp_path / "odd")
    asked = ["--synthetic", str(tmp_path / "odd"), "--arm", "real+synthetic", "--filter", "confidence"]
    with pytest.raises(FilterError, match=r"'confidence' leaves none of 20 synthetic images of class 'light'.*is 0.1"):
        result_of(folders, *asked, catch=False)
    asked = ["--synthetic", folders["synthetic"], "--arm", "real+synthetic", "--filter", "distance", "--ratio", "2.4"]
    with pytest.raises(ArmError, match=r"after the filter, .* synthetic images of class .* are needed and there are "):
        result_of(folders, *asked, catch=False)


def test_oversampling_and_testing_on_synthetic_images_are_told(folders):
    result = result_of(folders, "--arm", "oversampled", "--ratio", "2", "--class-balance", "balanced")
    assert "oversampled: 16 real + 0 synthetic training images, 12 test images" in result.stdout
    result = result_of(folders, "--arm", "test-on-synthetic", "--synthetic", folders["synthetic"])
    assert "16 real + 0 synthetic training images, 40 synthetic test images" in result.stdout


def test_synthetic_images_that_stand_alone_are_balanced_among_themselves(folders, tmp_path):
    images = blobs(8)
    images.subset(np.flatnonzero((images.labels == 0) | (np.arange(16) < 8))).save(tmp_path / "train")
    chosen = [
        "--synthetic",
        folders["synthetic"],
        "--arm",
        "test-on-synthetic",
        "--ratio",
        "0.5",
        "--class-balance",
        "balanced",
    ]
    result = result_of(folders | {"train": str(tmp_path / "train")}, *chosen, "--json")
    assert result.exit_code == 0, result.output
    assert np.bincount(json.loads(result.stdout)["labels"]).tolist() == [3, 3]


def test_images_of_a_class_that_training_lacks_are_refused(folders, tmp_path):
    three = str(tmp_path / "three")
    blobs(4, seed=7, classes=("dark", "grey", "light")).save(tmp_path / "three")
    for option, arm in (("--test", "real"), ("--validation", "real"), ("--synthetic", "real+synthetic")):
        problem = result_of(folders, "--arm", arm, option, three).exception
        assert isinstance(problem, ClassError)
        assert f"{three} has 4 of class 'grey', and the training images are of dark, light alone" in str(problem)
        assert f"remove those {option[2:]} images, or train on their class too" in str(problem)


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--network", "resnet81"), NetworkError, "did you mean 'resnet18'"),
        (("--balance", "weight"), TrainingError, "did you mean 'weights'"),
        (("--filter", "distanc", "--synthetic", "x"), FilterError, "did you mean 'distance'"),
        (("--filter", "distance"), ArmError, "a filter drops synthetic images; give some (--synthetic)"),
        (("--class-balance", "even"), ArmError, "no class balance 'even'"),
        (("--class-balance", "balanced"), ArmError, "arm 'real+classical' adds none; leave --class-balance out"),
        (("--filter-quantile", "7"), FilterError, "give one (--filter), or leave --filter-quantile out"),
        (
            ("--synthetic", "x", "--arm", "real+synthetic", "--filter", "distance", "--filter-quantile", "7"),
            FilterError,
            "below 1, not 7",
        ),
        (("--synthetic", "x", "--filter", "confidence"), ArmError, "choose 'real+classical+synthetic', or leave"),
        (
            ("--synthetic", "x", "--arm", "oversampled"),
            ArmError,
            "uses no synthetic images; leave them out",
        ),
        (("--arm", "real+synthetic", "--ratio", "2"), ArmError, "needs synthetic images; give some (--synthetic)"),
        (("--ratio", "2", "--arm", "real"), ArmError, "give some (--synthetic), or leave --ratio out"),
        (("--ratio", "-1", "--arm", "oversampled"), ArmError, "a number above 0, not -1"),
        (("--synthetic", "SYNTHETIC", "--arm", "real+synthetic", "--ratio", "9"), ArmError, "are needed and there are"),
        (
            ("--synthetic", "SYNTHETIC", "--arm", "real+synthetic", "--class-balance", "balanced"),
            ArmError,
            "--ratio how many",
        ),
    ],
)
def test_bad_input_is_named(folders, arguments, error, message):
    given = [folders["synthetic"] if a == "SYNTHETIC" else a for a in arguments]
    problem = result_of(folders, *given).exception
    assert isinstance(problem, error) and isinstance(problem, SonosynthError)
    assert message in str(problem)
