"""Train a classifier on an arm of the study and score it on the untouched test set."""

import numpy as np
import torch

from sonosynth.classify.arms import Arm, ClassBalance, training_images
from sonosynth.classify.scores import Classification, score_predictions
from sonosynth.classify.training import DEFAULT_TRAINING, train_classifier
from sonosynth.classify.training import TrainingSettings as TrainingSettings
from sonosynth.core.errors import ClassError, MixedSizesError
from sonosynth.core.types import Progress
from sonosynth.data.imageset import ImageSet
from sonosynth.data.split import check_apart, check_classes, check_real


def classify(
    train: ImageSet,
    test: ImageSet,
    arm: Arm,
    *,
    synthetic: ImageSet | None = None,
    ratio: float = 1.0,
    class_balance: ClassBalance = "proportional",
    validation: ImageSet | None = None,
    network: str = "resnet18",
    training: TrainingSettings = DEFAULT_TRAINING,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Classification:
    """Train `network` on the images of `arm`, and score it on `test`, or on `synthetic` where `arm` says so.

    Args:
        train: real training images.
        test: real test images, of the size and classes of `train`.
        arm: what is added to the real images.
        synthetic: synthetic images, all of which are used, for an arm that uses them.
        ratio: for the arm ``oversampled``: repeated images a real one.
        class_balance: for the arm ``oversampled``: in which proportions of classes.
        validation: real images that choose among ten snapshots of the weights the one with the best macro-F1, and of
            equals the latest; None: the weights of the last step.
        network: a name that `networks.find_network` knows.
        training: steps, batch, optimiser and loss.
        seed: of initial weights, order, augmentation and dropout.
        device: where to train; the first GPU if there is one.
        progress: called as ``progress(step, steps)``.

    Raises:
        ClassError: fewer than two classes in training or test, or sets with different classes.
        LeakageError: a test or validation image is also a training or synthetic image, or of the other of the two, or
            a set that should be real is marked as synthetic.
        MixedSizesError: the sets are not of one size.
        ArmError: the arm needs synthetic images and there are none, or it uses none and there are some.
        NetworkError: the network is unknown or cannot be used for such images.
        DivergenceError: the training became non-finite.
    """
    from sklearn.metrics import confusion_matrix

    _check({"training": train, "synthetic": synthetic, "validation": validation, "test": test})
    pool = training_images(arm, train, synthetic, ratio=ratio, class_balance=class_balance, seed=seed)
    tested = test if arm.tests_on == "real" or synthetic is None else synthetic
    _check_classes("training", pool)
    _check_classes("test", tested)
    fitted = train_classifier(
        pool,
        classical=arm.classical,
        network=network,
        training=training,
        normalised_by=pool if arm.trains_on == "synthetic" else train,
        validation=validation,
        seed=seed,
        device=device,
        progress=progress,
    )
    probabilities = fitted.predict(tested.images)
    classes = np.arange(len(test.classes))
    return Classification(
        probabilities=probabilities,
        labels=tested.labels,
        confusion=confusion_matrix(tested.labels, probabilities.argmax(axis=1), labels=classes),
        metrics=score_predictions(probabilities, tested),
        n_train=0 if arm.trains_on == "synthetic" else len(train),
        n_synthetic=0 if synthetic is None or arm.trains_on == "real" else len(synthetic),
        n_test=len(tested),
        weights_digest=fitted.weights_digest,
        tested_on=arm.tests_on,
        step=fitted.step,
    )


def _check(sets: dict[str, ImageSet | None]) -> None:
    """Raise unless the sets, named by their role, fit together and no image is in two that must be apart."""
    there = {f"{role} images": part for role, part in sets.items() if part is not None}
    first, test = there["training images"], there["test images"]
    for part in there.values():
        if part.size != first.size:
            raise MixedSizesError(
                f"training images are {first.size[1]}×{first.size[0]} pixels and others {part.size[1]}×{part.size[0]}; "
                "run 'sonosynth data prepare' on both with one --size"
            )
        check_classes(first, part)
    for role, part in there.items():
        if role != "synthetic images":
            check_real(part, role)
        if role != "test images":
            check_apart(part, test, (role, "test images"), "test on images of other patients")
    validation = there.get("validation images")
    for role in ("training images", "synthetic images"):
        if validation is not None and role in there:
            check_apart(there[role], validation, (role, "validation images"), "choose by images of other patients")


def _check_classes(role: str, images: ImageSet) -> None:
    present = [label for label, count in images.class_counts.items() if count]
    if len(present) < 2:
        raise ClassError(f"a classifier needs two classes, the {role} images have {', '.join(present) or 'none'}")
