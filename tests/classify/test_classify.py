import numpy as np
import pytest

from image_sets import blobs
from sonosynth.classify.arms import ARMS, ArmError, find_arm
from sonosynth.classify.classify import classify
from sonosynth.classify.filters import confidence_filter
from sonosynth.classify.training import TrainingSettings
from sonosynth.core.errors import ClassError, DivergenceError, LeakageError, MixedSizesError
from sonosynth.data.imageset import ImageSet
from tiny_classifier import tiny_network as tiny_network

SHORT = TrainingSettings(steps=30, batch=16)


def made(images: ImageSet) -> ImageSet:
    return ImageSet(**{**vars(images), "synthetic": True})


@pytest.mark.long
@pytest.mark.parametrize("arm", list(ARMS.values()), ids=list(ARMS))
def test_every_arm_learns_an_easy_task_and_repeats_itself(arm):
    train, test, synthetic = blobs(12), blobs(15, seed=1), made(blobs(8, seed=2)) if arm.synthetic else None
    first = classify(train, test, arm=arm.name, synthetic=synthetic, network="tiny", training=SHORT, seed=3)
    assert first.metrics["macro_f1"] > 0.9
    trained_on_synthetic = arm.synthetic and arm.name != "test-on-synthetic"
    assert first.n_train == (0 if arm.name == "synthetic-only" else 24)
    assert first.n_synthetic == (16 if trained_on_synthetic else 0)
    assert first.n_test == first.confusion.sum() == len(first.labels) == (16 if "test-on" in arm.name else 30)
    again = classify(train, test, arm=arm.name, synthetic=synthetic, network="tiny", training=SHORT, seed=3)
    assert np.array_equal(first.probabilities, again.probabilities)


@pytest.mark.long
def test_resnet18_learns_an_easy_task_on_the_way_that_is_default():
    scored = classify(blobs(12), blobs(15, seed=1), arm="real+classical", training=TrainingSettings(steps=12, batch=16))
    assert scored.metrics["macro_f1"] > 0.9


@pytest.mark.long
def test_test_on_synthetic_trains_as_real_and_scores_by_synthetic_labels():
    train, test, synthetic = blobs(12), blobs(15, seed=1), made(blobs(8, seed=2))
    wrong = ImageSet(**{**vars(synthetic), "labels": 1 - synthetic.labels})
    scored = classify(train, test, arm="test-on-synthetic", synthetic=wrong, network="tiny", training=SHORT)
    assert scored.tested_on == "synthetic" and scored.metrics["macro_f1"] < 0.1
    swapped = classify(
        train, ImageSet(**{**vars(synthetic), "synthetic": False}), arm="real", network="tiny", training=SHORT
    )
    assert np.array_equal(scored.probabilities, swapped.probabilities)


def test_copies_count_for_no_more_than_oversampling():
    train, test = blobs(12), blobs(15, seed=1)
    copies = classify(train, test, arm="real+synthetic", synthetic=made(train), network="tiny", training=SHORT)
    oversampled = classify(train, test, arm="oversampled", ratio=1.0, network="tiny", training=SHORT)
    assert np.array_equal(copies.probabilities, oversampled.probabilities)


def test_a_validation_set_chooses_the_weights_and_nothing_else():
    train, test, validation = blobs(12), blobs(15, seed=1), blobs(8, seed=2)
    plain = classify(train, test, arm="real", network="tiny", training=SHORT)
    assert plain.step is None
    chosen = classify(train, test, arm="real", validation=validation, network="tiny", training=SHORT)
    assert chosen.step is not None and chosen.step % 3 == 0
    if chosen.step == SHORT.steps:
        assert np.array_equal(plain.probabilities, chosen.probabilities)
    wrong = ImageSet(**{**vars(validation), "labels": 1 - validation.labels})
    slow = TrainingSettings(steps=30, batch=16, learning_rate=3e-3)
    misled = classify(train, test, arm="real", validation=wrong, network="tiny", training=slow)
    assert misled.step < slow.steps and misled.metrics["macro_f1"] < plain.metrics["macro_f1"]
    with pytest.raises(LeakageError, match="validation images are also training images"):
        classify(train, test, arm="real", validation=train, network="tiny", training=SHORT)
    with pytest.raises(LeakageError, match="test images are also validation images"):
        classify(train, test, arm="real", validation=test, network="tiny", training=SHORT)
    with pytest.raises(LeakageError, match="validation images are marked as synthetic"):
        classify(train, test, arm="real", validation=made(validation), network="tiny", training=SHORT)


@pytest.mark.long
def test_a_training_that_diverged_says_what_to_lower():
    train, test, wild = blobs(12), blobs(15, seed=1), TrainingSettings(steps=30, batch=16, learning_rate=1e30)
    for validation in (None, blobs(8, seed=2)):
        with pytest.raises(DivergenceError, match="became non-finite; lower its learning_rate: --learning-rate"):
            classify(train, test, arm="real", validation=validation, network="tiny", training=wild)
    with pytest.raises(DivergenceError):
        confidence_filter(train, made(blobs(4, seed=3)), network="tiny", training=wild)


@pytest.mark.long
def test_bad_input_is_named():
    train, test = blobs(6), blobs(6, seed=1)
    with pytest.raises(ArmError, match="needs synthetic images"):
        classify(train, test, arm="real+synthetic", network="tiny", training=SHORT)
    with pytest.raises(ArmError, match="uses no synthetic images"):
        classify(train, test, arm="real", synthetic=blobs(6, seed=2), network="tiny", training=SHORT)
    with pytest.raises(ArmError, match=r"did you mean 'real.classical'"):
        find_arm("real+clasical")
    with pytest.raises(MixedSizesError, match="32×32 pixels and others 64×64"):
        classify(train, blobs(6, size=64), arm="real", network="tiny", training=SHORT)
    with pytest.raises(ClassError, match="test images have 6 of class 'grey'"):
        classify(train, blobs(6, classes=("dark", "grey")), arm="real", network="tiny", training=SHORT)
    with pytest.raises(ClassError, match="training images have dark"):
        classify(train.of_class("dark"), test, arm="real", network="tiny", training=SHORT)


def test_images_that_leak_or_stand_for_others_are_refused():
    train, test, other = blobs(6), blobs(6, seed=1), blobs(6, seed=2)
    leaking = ImageSet.concatenate([other, test.subset([3])])
    with pytest.raises(LeakageError, match=r"1 test images are also synthetic images: '1-image-3' = 'image-3'"):
        classify(train, test, arm="real+synthetic", synthetic=leaking, network="tiny", training=SHORT)
    with pytest.raises(LeakageError, match=r"12 test images are also training images: 'image-0', .* and 7 more"):
        classify(train, train, arm="real", network="tiny", training=SHORT)
    with pytest.raises(LeakageError, match="the training images are marked as synthetic"):
        classify(made(other), test, arm="real", network="tiny", training=SHORT)
    with pytest.raises(LeakageError, match="the test images are marked as synthetic"):
        classify(train, made(other), arm="real", network="tiny", training=SHORT)


@pytest.mark.long
def test_paths_and_image_sets_give_one_result_that_prints_itself(tmp_path):
    sets = {"train": blobs(8), "test": blobs(6, seed=1), "synthetic": made(blobs(10, seed=2))}
    for name, images in sets.items():
        images.save(tmp_path / name)
    options = {"arm": "real+synthetic", "ratio": 0.5, "filter_by": "confidence", "network": "tiny", "training": SHORT}
    here = classify(sets["train"], sets["test"], synthetic=sets["synthetic"], **options)
    there = classify(tmp_path / "train", str(tmp_path / "test"), synthetic=tmp_path / "synthetic", **options)
    assert np.array_equal(here.probabilities, there.probabilities) and here.n_synthetic == 8
    assert here.record() == there.record() and here.record()["filter"]["by"] == "confidence"
    assert "of 20 synthetic images pass the filter" in here.notes[0]
    assert str(here).startswith("real+synthetic: 16 real + 8 synthetic training images, 12 test images\n  macro_f1")
