import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from conftest import blobs
from sonosynth.classify.arms import ARMS, ArmError, classical_augmentation, find_arm
from sonosynth.classify.networks import NetworkError, build_network
from sonosynth.classify.train import Training, classify, score_predictions, share_of
from sonosynth.data.imageset import ImageSet
from sonosynth.draws import Draws
from sonosynth.errors import ClassError, LeakageError, MixedSizesError

SHORT = Training(steps=30, batch=16)


def draws(step: int = 0) -> Draws:
    return Draws(0, "test", step, torch.device("cpu"))


@pytest.mark.parametrize("arm", list(ARMS.values()), ids=list(ARMS))
def test_every_arm_learns_an_easy_task_and_repeats_itself(arm):
    train, test, synthetic = blobs(12), blobs(15, seed=1), blobs(8, seed=2)
    synthetic = ImageSet(**{**vars(synthetic), "synthetic": True}) if arm.synthetic else None
    first = classify(train, test, arm, synthetic=synthetic, training=SHORT, seed=3)
    assert first.metrics["macro_f1"] > 0.9
    assert (first.n_train, first.n_test) == (24, 30)
    assert first.n_synthetic == (16 if arm.synthetic else 0)
    assert first.confusion.sum() == 30
    again = classify(train, test, arm, synthetic=synthetic, training=SHORT, seed=3)
    assert np.array_equal(first.probabilities, again.probabilities)


def test_resnet18_has_the_standard_stem():
    network = build_network("resnet18", 3)
    assert sum(p.numel() for p in network.parameters()) == 11_172_675  # one channel, three classes, MONAI's biases
    assert network.conv1.stride == (2, 2)
    with pytest.raises(NetworkError, match="did you mean 'resnet18'"):
        build_network("resnet81", 3)


def test_scores_agree_with_scikit_learn():
    test = blobs(10, classes=("a", "b", "c"))
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 30)
    scored = score_predictions(probabilities, test, n_train=1, n_synthetic=0)
    predicted = probabilities.argmax(axis=1)
    assert scored.metrics["macro_f1"] == pytest.approx(f1_score(test.labels, predicted, average="macro"))
    assert scored.metrics["f1_b"] == pytest.approx(f1_score(test.labels == 1, predicted == 1))


def test_classical_augmentation_is_drawn_per_image_and_stays_in_range():
    x = torch.rand(1, 1, 32, 32).expand(8, -1, -1, -1).contiguous()
    made = classical_augmentation(x, draws())
    assert made.shape == x.shape
    assert made.min() >= 0 and made.max() <= 1
    assert len({image.numpy().tobytes() for image in made}) == 8
    assert torch.equal(made, classical_augmentation(x, draws()))


def test_classical_augmentation_never_turns_depth_upside_down():
    depth = torch.linspace(1, 0, 32)[:, None].expand(32, 32)
    made = classical_augmentation(depth.expand(64, 1, 32, 32).contiguous(), draws())
    assert (made[:, 0, :10].mean(dim=(1, 2)) > made[:, 0, -10:].mean(dim=(1, 2))).all()


def test_bad_input_is_named():
    train, test = blobs(6), blobs(6, seed=1)
    with pytest.raises(ArmError, match="needs synthetic images"):
        classify(train, test, ARMS["real+synthetic"], training=SHORT)
    with pytest.raises(ArmError, match="uses no synthetic images"):
        classify(train, test, ARMS["real"], synthetic=blobs(6, seed=2), training=SHORT)
    with pytest.raises(ArmError, match=r"did you mean 'real.classical'"):
        find_arm("real+clasical")
    with pytest.raises(MixedSizesError, match="32×32 pixels and others 64×64"):
        classify(train, blobs(6, size=64), ARMS["real"], training=SHORT)
    with pytest.raises(ClassError, match="different classes"):
        classify(train, blobs(6, classes=("dark", "grey")), ARMS["real"], training=SHORT)
    with pytest.raises(ClassError, match="training images have dark"):
        classify(train.of_class("dark"), test, ARMS["real"], training=SHORT)


def test_images_that_leak_or_stand_for_others_are_refused():
    train, test, other = blobs(6), blobs(6, seed=1), blobs(6, seed=2)
    made = ImageSet(**{**vars(other), "synthetic": True})
    leaking = ImageSet.concatenate([other, test.subset([3])])
    with pytest.raises(LeakageError, match=r"1 test images are also synthetic images: '1-image-3' = 'image-3'"):
        classify(train, test, ARMS["real+synthetic"], synthetic=leaking, training=SHORT)
    with pytest.raises(LeakageError, match=r"12 test images are also training images: 'image-0', .* and 7 more"):
        classify(train, train, ARMS["real"], training=SHORT)
    with pytest.raises(LeakageError, match="the training images are marked as synthetic"):
        classify(made, test, ARMS["real"], training=SHORT)
    with pytest.raises(LeakageError, match="the test images are marked as synthetic"):
        classify(train, made, ARMS["real"], training=SHORT)


def test_share_of_draws_without_replacement():
    synthetic = blobs(10)
    assert len(set(share_of(synthetic, 15, seed=0).ids)) == 15
    with pytest.raises(ArmError, match="21 synthetic images are needed and there are 20"):
        share_of(synthetic, 21, seed=0)
