"""Train a classifier for a fixed number of steps, with no selection, and score it on the untouched test set."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, roc_auc_score
from torch import Tensor, nn

from sonosynth.classify.arms import Arm, ArmError, classical_augmentation
from sonosynth.classify.networks import build_network
from sonosynth.data.imageset import ImageSet
from sonosynth.data.split import check_apart, check_real
from sonosynth.draws import Draws, shuffled_indices
from sonosynth.engine import autocast, default_device, numpy_generator, seed_of
from sonosynth.errors import ClassError, MixedSizesError

PREDICT_CHUNK = 128


@dataclass(frozen=True)
class Training:
    """How a classifier is trained; the same for every arm.

    Attributes:
        steps: gradient steps.
        batch: images a step.
        learning_rate: peak of a cosine schedule with a linear warm-up over the first twentieth of the steps.
        weight_decay: of AdamW.
    """

    steps: int = 200
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2

    def learning_rate_factor(self, step: int) -> float:
        """Return what `learning_rate` is multiplied with in `step`."""
        warm_up = max(1, self.steps // 20)
        rest = (step - warm_up) / max(1, self.steps - warm_up)
        return min((step + 1) / warm_up, (1 + math.cos(math.pi * max(0.0, rest))) / 2)


@dataclass(frozen=True)
class Classification:
    """What one trained classifier did on the test set.

    Attributes:
        probabilities: float64 ``[n_test, n_classes]``.
        confusion: int64 ``[n_classes, n_classes]``; rows are the true classes.
        metrics: macro_f1, f1_<class>, balanced_accuracy and auc (one against the rest, macro average), each 0 to 1.
        n_train: real training images.
        n_synthetic: synthetic training images.
        n_test: test images.
    """

    probabilities: np.ndarray
    confusion: np.ndarray
    metrics: dict[str, float]
    n_train: int
    n_synthetic: int
    n_test: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; probabilities are rounded to six decimals."""
        return {
            "probabilities": self.probabilities.round(6).tolist(),
            "confusion": self.confusion.tolist(),
            "metrics": self.metrics,
            "n_train": self.n_train,
            "n_synthetic": self.n_synthetic,
            "n_test": self.n_test,
        }


def classify(
    train: ImageSet,
    test: ImageSet,
    arm: Arm,
    *,
    synthetic: ImageSet | None = None,
    network: str = "resnet18",
    training: Training = Training(),
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Classification:
    """Train `network` on `train`, and on `synthetic` where `arm` asks for it, and score it on `test`.

    Args:
        train: real training images.
        test: real test images, of the size and classes of `train`.
        arm: what is added to the real images.
        synthetic: synthetic images, for an arm that uses them.
        network: a name in `networks.NETWORKS`.
        training: steps, batch and optimiser.
        seed: of initial weights, order and augmentation.
        device: where to train; the first GPU if there is one.
        progress: called as ``progress(step, steps)``.

    Raises:
        ClassError: fewer than two classes in training or test, or sets with different classes.
        LeakageError: a test image is also a training or synthetic image, or `train` or `test` is marked as synthetic.
        MixedSizesError: the sets are not of one size.
        ArmError: the arm needs synthetic images and there are none, or it uses none and there are some.
    """
    if arm.synthetic and synthetic is None:
        raise ArmError(f"arm '{arm.name}' needs synthetic images; give --synthetic")
    if not arm.synthetic and synthetic is not None:
        raise ArmError(
            f"arm '{arm.name}' uses no synthetic images; choose '{arm.name}+synthetic', or leave --synthetic out"
        )
    parts = [train] if synthetic is None else [train, synthetic]
    _check([*parts, test])
    pool = ImageSet.concatenate(parts)
    device = device or default_device()
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "classifier"))
        model = build_network(network, len(train.classes)).to(device)
    normalise = _Normaliser(train.images)
    _fit(model, pool, normalise, arm, training, seed, device, progress)
    probabilities = _predict(model, test.images, normalise, device)
    return score_predictions(probabilities, test, n_train=len(train), n_synthetic=len(pool) - len(train))


def share_of(synthetic: ImageSet, n: int, seed: int) -> ImageSet:
    """Return `n` of the `synthetic` images, drawn without replacement. Raises ArmError if there are fewer."""
    if n > len(synthetic):
        raise ArmError(f"{n} synthetic images are needed and there are {len(synthetic)}; make more or lower --ratio")
    return synthetic.subset(np.sort(numpy_generator(seed, "synthetic").permutation(len(synthetic))[:n]))


def _check(sets: list[ImageSet]) -> None:
    first, test = sets[0], sets[-1]
    for part in sets[1:]:
        if part.size != first.size:
            raise MixedSizesError(
                f"training images are {first.size[1]}×{first.size[0]} pixels and others {part.size[1]}×{part.size[0]}; "
                "run 'sonosynth data prepare' on both with one --size"
            )
        if part.classes != first.classes:
            raise ClassError(
                f"the sets have different classes: {', '.join(first.classes)} and {', '.join(part.classes)}"
            )
    check_real(first, "training images")
    check_real(test, "test images")
    for role, part in zip(("training images", "synthetic images"), sets[:-1], strict=False):
        check_apart(part, test, (role, "test images"), "test on images of other patients")
    for name, part in (("training", first), ("test", test)):
        present = [label for label, count in part.class_counts.items() if count]
        if len(present) < 2:
            raise ClassError(f"a classifier needs two classes, the {name} images have {', '.join(present) or 'none'}")


class _Normaliser:
    """Scale uint8 images to [0, 1], and then to zero mean and unit variance of the real training images."""

    def __init__(self, images: np.ndarray):
        self.mean = float(images.mean()) / 255
        self.deviation = max(float(images.std()) / 255, 1e-3)

    def __call__(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)


def _fit(
    model: nn.Module,
    pool: ImageSet,
    normalise: _Normaliser,
    arm: Arm,
    training: Training,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None,
) -> None:
    images = torch.from_numpy(pool.images.copy()).to(device)
    labels = torch.from_numpy(pool.labels.copy()).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, training.learning_rate_factor)
    model.train()
    for step in range(training.steps):
        index = shuffled_indices(len(images), step * training.batch, training.batch, seed).to(device)
        x = images[index][:, None].float() / 255
        if arm.classical:
            x = classical_augmentation(x, Draws(seed, "classical", step, device))
        with autocast(device):
            logits = model(normalise(x))
        loss = F.cross_entropy(logits.float(), labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if progress:
            progress(step + 1, training.steps)


@torch.no_grad()
def _predict(model: nn.Module, images: np.ndarray, normalise: _Normaliser, device: torch.device) -> np.ndarray:
    model.eval()
    chunks = torch.split(torch.from_numpy(images.copy()).to(device), PREDICT_CHUNK)
    logits = torch.cat([model(normalise(chunk[:, None].float() / 255)) for chunk in chunks])
    probabilities: np.ndarray = logits.double().softmax(dim=1).cpu().numpy()
    return probabilities


def score_predictions(probabilities: np.ndarray, test: ImageSet, *, n_train: int, n_synthetic: int) -> Classification:
    """Score predicted `probabilities` ``[n_test, n_classes]`` against the labels of `test`.

    Classes without test images are left out of the averages.
    """
    classes = np.arange(len(test.classes))
    present = np.unique(test.labels)
    predicted = probabilities.argmax(axis=1)
    per_class = f1_score(test.labels, predicted, labels=classes, average=None, zero_division=0)
    auc = [roc_auc_score(test.labels == c, probabilities[:, c]) for c in present]
    metrics = {
        "macro_f1": float(per_class[present].mean()),
        **{f"f1_{test.classes[c]}": float(per_class[c]) for c in present},
        "balanced_accuracy": float(balanced_accuracy_score(test.labels, predicted)),
        "auc": float(np.mean(auc)),
    }
    return Classification(
        probabilities=probabilities,
        confusion=confusion_matrix(test.labels, predicted, labels=classes),
        metrics=metrics,
        n_train=n_train,
        n_synthetic=n_synthetic,
        n_test=len(test),
    )
