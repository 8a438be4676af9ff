"""Train a classifier on an arm of the study, and test it on images that it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sonosynth.classify import filters
from sonosynth.classify.arms import (
    Arm,
    ArmError,
    added_counts,
    check_synthetic,
    draw_synthetic,
    find_arm,
    find_class_balance,
    training_images,
)
from sonosynth.classify.networks import find_network
from sonosynth.classify.scores import score_predictions
from sonosynth.classify.training import DEFAULT_TRAINING, TrainingSettings, train_classifier
from sonosynth.core.errors import ClassError, MixedSizesError
from sonosynth.core.text import agreeing, counted
from sonosynth.core.types import Progress
from sonosynth.data.imageset import ImageSet
from sonosynth.data.load import load_together
from sonosynth.data.split import check_disjoint, check_real, other_classes, shared_images

DISTANCE_FEATURES = "efficientnet-lite0"  # of the distance filter


@dataclass(frozen=True)
class Classification:
    """A trained classifier's predictions of the test images, and their scores.

    Attributes:
        arm: what it was trained on.
        network: its network.
        training: its training settings.
        seed: of initial weights, order, augmentation and dropout.
        classes: names of the classes.
        probabilities: float64 ``[n_test, n_classes]``.
        labels: int64 ``[n_test]``, the true classes.
        confusion: int64 ``[n_classes, n_classes]``; rows are the true classes.
        metrics: see `scores.score_predictions`.
        n_train: real training images; copies of them are not counted.
        n_synthetic: synthetic training images.
        n_test: test images.
        weights_digest: SHA-256 of the weights, see `TrainedClassifier.weights_digest`.
        tested_on: "real" or "synthetic" test images.
        step: the step whose weights were used, where a validation set chose it.
        filter: the filter of synthetic images, its quantile, and what it accepted; None without a filter.
        notes: how many synthetic images the filter kept, and how many are copies of training images.
    """

    arm: str
    network: str
    training: TrainingSettings
    seed: int
    classes: tuple[str, ...]
    probabilities: np.ndarray
    labels: np.ndarray
    confusion: np.ndarray
    metrics: dict[str, float]
    n_train: int
    n_synthetic: int
    n_test: int
    weights_digest: str
    tested_on: str
    step: int | None
    filter: dict[str, Any] | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return predictions and scores as plain JSON values; probabilities are rounded to six decimals."""
        names = ("labels", "confusion", "metrics", "n_train", "n_synthetic", "n_test", "tested_on", "weights_digest")
        values = {"probabilities": self.probabilities.round(6), **{name: getattr(self, name) for name in names}}
        plain = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}
        return plain if self.step is None else plain | {"step": self.step}

    def record(self) -> dict[str, Any]:
        """Return `to_dict` with the settings, the classes and the filter: what `sonosynth classify --json` prints."""
        plain = {"arm": self.arm, "network": self.network, "steps": self.training.steps, "seed": self.seed}
        plain |= {"classes": self.classes, "training": self.training.to_dict(), **self.to_dict()}
        return plain if self.filter is None else plain | {"filter": self.filter}

    def __str__(self) -> str:
        """Return the scores and the confusion matrix as lines of text."""
        kind = "synthetic test image" if self.tested_on == "synthetic" else "test image"
        training = counted(self.n_synthetic, "synthetic training image")
        width = max(len(name) for name in (*self.metrics, *self.classes))
        lines = [f"{self.arm}: {self.n_train} real + {training}, {counted(self.n_test, kind)}"]
        lines += [f"  {name:<{width}} {value:.3f}" for name, value in self.metrics.items()]
        lines.append("confusion matrix (rows: true class)")
        for name, row in zip(self.classes, self.confusion, strict=True):
            lines.append(f"  {name:<{width}} {'  '.join(f'{count:4d}' for count in row)}")
        return "\n".join(lines)


def classify(
    train: ImageSet | Path | str,
    test: ImageSet | Path | str,
    *,
    synthetic: ImageSet | Path | str | None = None,
    arm: str = "real+classical",
    ratio: float | None = None,
    class_balance: str = "proportional",
    filter_by: str | None = None,
    filter_quantile: float | None = None,
    validation: ImageSet | Path | str | None = None,
    network: str = "resnet18",
    training: TrainingSettings = DEFAULT_TRAINING,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Classification:
    """Train a classifier on real images, with or without synthetic ones, and test it on other real images.

    Every source is an image set, or a path to images that `load` reads. All are of one size; test, validation
    and synthetic images are of classes that `train` has too.

    Args:
        train: real training images.
        test: real test images, of other patients.
        synthetic: synthetic images, for an arm that uses them.
        arm: a name of `arms.ARMS`, such as "real", "real+classical+synthetic" or "oversampled".
        ratio: added images per real one, drawn from `synthetic` without replacement; None: all synthetic ones, or 1 for
            the arm "oversampled".
        class_balance: "proportional": added images are in the class proportions of `train`; "balanced": they go to the
            rarest classes first.
        filter_by: "confidence" or "distance": drop synthetic images before they are drawn, see `filters`.
        filter_quantile: share of real images that the filter would drop, 0 to below 1; None: 0.1.
        validation: real images that choose among ten snapshots of the weights the one with the best macro-F1, and of
            equals the latest; None: the weights of the last step.
        network: "resnet18", "densenet121", "efficientnet-lite0" or a network of MONAI, as "monai:NAME".
        training: steps, batch, optimiser and loss.
        seed: of the draw of synthetic images, initial weights, order, augmentation and dropout.
        device: where to train; the first GPU if there is one.
        progress: called as ``progress(done, total)``, first for the filter, then for the training.

    Raises:
        ArmError: the arm or class balance is unknown, options contradict it, or there are too few synthetic images.
        ClassError: training or test images have fewer than two classes, or a set has one that `train` lacks.
        DivergenceError: the training became non-finite.
        FilterError: the filter is unknown, its quantile out of range, or it leaves no image of a class.
        LeakageError: a test or validation image is also a training or synthetic image, or of the other of the two, or
            a set that should be real is marked as synthetic.
        MixedSizesError: the sets are not of one size.
        NetworkError: the network is unknown or cannot be used for such images.
        SourceError: a path holds no images that can be read.

    Example:
        >>> result = classify("train", "test", synthetic="made", arm="real+classical+synthetic")  # doctest: +SKIP
        >>> result.metrics["macro_f1"]  # doctest: +SKIP
        0.71
    """
    from sklearn.metrics import confusion_matrix

    chosen, balance = find_arm(arm), find_class_balance(class_balance)
    find_network(network)
    _check_options(chosen, balance, ratio, filter_by, filter_quantile, given=synthetic is not None)
    sets = _loaded({"training": train, "test": test, "validation": validation, "synthetic": synthetic})
    real, tested, added = sets["training"], sets["test"], sets.get("synthetic")
    quantile = filters.DEFAULT_QUANTILE if filter_quantile is None else filter_quantile
    how: dict[str, Any] = {"network": network, "training": training, "seed": seed, "progress": progress}
    filtered, notes = None, []
    if added is not None:
        n_given = counted(len(added), "synthetic image")
        if filter_by is not None:
            filtered = _filter(real, added, filter_by, quantile, **how)
            added = added.subset(filtered.kept)
            by_class = ", ".join(f"{name} {share:.0%}" for name, share in filtered.acceptance_by_class.items())
            notes.append(f"{len(added)} of {n_given} {agreeing(len(added), 'passes', 'pass')} the filter ({by_class})")
        if ratio is not None:
            try:
                added = draw_synthetic(added, added_counts(real, ratio, balance, chosen.synthetic_alone), seed)
            except ArmError as error:
                if filtered is None:
                    raise
                raise ArmError(f"after the filter, {error}; or lower the quantile (--filter-quantile)") from error
        if copies := len(shared_images(real, added)):
            are = agreeing(copies, "is an exact copy", "are exact copies")
            notes.append(f"{copies} of {counted(len(added), 'synthetic image')} {are} of training images")
        sets["synthetic"] = added
    _check_sets(sets)
    pool = training_images(chosen, real, added, ratio=1.0 if ratio is None else ratio, class_balance=balance, seed=seed)
    if chosen.tests_on == "synthetic" and added is not None:
        tested = added
    for role, images in (("training", pool), ("test", tested)):
        present = [label for label, count in images.class_counts.items() if count]
        if len(present) < 2:
            raise ClassError(f"a classifier needs two classes, the {role} images have {', '.join(present) or 'none'}")
    classifier = train_classifier(
        pool,
        classical=chosen.classical,
        normalised_by=pool if chosen.trains_on == "synthetic" else real,
        validation=sets.get("validation"),
        device=device,
        **how,
    )
    probabilities = classifier.predict(tested.images)
    labels = np.arange(len(real.classes))
    return Classification(
        arm=arm,
        network=network,
        training=training,
        seed=seed,
        classes=real.classes,
        probabilities=probabilities,
        labels=tested.labels,
        confusion=confusion_matrix(tested.labels, probabilities.argmax(axis=1), labels=labels),
        metrics=score_predictions(probabilities, tested),
        n_train=0 if chosen.trains_on == "synthetic" else len(real),
        n_synthetic=0 if added is None or chosen.trains_on == "real" else len(added),
        n_test=len(tested),
        weights_digest=classifier.weights_digest,
        tested_on=chosen.tests_on,
        step=classifier.step,
        filter=None if filtered is None else {"by": filter_by, "quantile": quantile, **filtered.to_dict()},
        notes=tuple(notes),
    )


def _check_options(
    arm: Arm, class_balance: str, ratio: float | None, filter_by: str | None, quantile: float | None, given: bool
) -> None:
    """Raise where an option would do nothing, or the arm does not go with synthetic images, `given` or not."""
    if filter_by is not None:
        filters.find_filter(filter_by)
        if not given:
            raise ArmError(
                "a filter drops synthetic images; give some (--synthetic), or leave the filter out (--filter)"
            )
    elif quantile is not None:
        raise filters.FilterError("a quantile belongs to a filter; give one (--filter), or leave --filter-quantile out")
    if quantile is not None:
        filters.check_quantile(quantile)
    if not (given or arm.synthetic or arm.oversampled):
        if ratio is not None:
            raise ArmError("a ratio counts synthetic images; give some (--synthetic), or leave --ratio out")
        if class_balance != "proportional":
            raise ArmError(
                f"a class balance is of added images, and arm '{arm.name}' adds none; leave --class-balance out"
            )
    check_synthetic(arm, given)
    if given and ratio is None and class_balance != "proportional":
        raise ArmError(
            f"class balance '{class_balance}' chooses among synthetic images; say with --ratio how many are used"
        )


def _loaded(sources: Mapping[str, ImageSet | Path | str | None]) -> dict[str, ImageSet]:
    """Return the image set of each role that has a source, all with the classes of the training images."""
    paths = list(dict.fromkeys(Path(s) for s in sources.values() if s is not None and not isinstance(s, ImageSet)))
    read = dict(zip(paths, load_together(paths), strict=True))
    sets: dict[str, ImageSet] = {}
    for role, source in sources.items():
        if source is None:
            continue
        images = source if isinstance(source, ImageSet) else read[Path(source)]
        classes = sets["training"].classes if sets else images.classes
        if others := other_classes(images.class_counts, classes):
            where = f"the {role} images have" if isinstance(source, ImageSet) else f"{source} has"
            raise ClassError(
                f"{where} {others}, and the training images are of {', '.join(classes)} alone; remove those {role} "
                "images, or train on their class too"
            )
        sets[role] = images if images.classes == classes else images.with_classes(classes)
    return sets


def _check_sets(sets: Mapping[str, ImageSet]) -> None:
    """Raise unless the sets, by role, are of one size, and no image is in two that must be apart."""
    size = sets["training"].size
    for part in sets.values():
        if part.size != size:
            raise MixedSizesError(
                f"training images are {size[1]}×{size[0]} pixels and others {part.size[1]}×{part.size[0]}; "
                "run 'sonosynth data prepare' on both with one --size"
            )
    for role in ("training", "synthetic", "validation", "test"):
        if role not in sets:
            continue
        if role != "synthetic":
            check_real(sets[role], f"{role} images")
        if role != "test":
            check_disjoint(
                sets[role], sets["test"], (f"{role} images", "test images"), "test on images of other patients"
            )
    for role in ("training", "synthetic"):
        if "validation" in sets and role in sets:
            roles = (f"{role} images", "validation images")
            check_disjoint(sets[role], sets["validation"], roles, "choose by images of other patients")


def _filter(real: ImageSet, made: ImageSet, name: str, quantile: float, **how: Any) -> filters.FilterResult:
    """Return what the filter keeps of `made`. Raises FilterError if that is nothing of a class."""
    from sonosynth.features.extract import embed

    if name == "confidence":
        filtered = filters.confidence_filter(real, made, quantile=quantile, **how)
    else:
        features = [embed(images, DISTANCE_FEATURES, progress=how["progress"]) for images in (real, made)]
        filtered = filters.distance_filter(real, made, *features, quantile=quantile)
    for class_name in filtered.emptied:
        raise filters.FilterError(
            f"the filter '{name}' leaves none of {made.class_counts[class_name]} synthetic images of class "
            f"'{class_name}', so the classes would be trained on in other proportions than meant; lower its quantile "
            f"(--filter-quantile, it is {quantile:g}), give other synthetic images, or leave the filter out"
        )
    return filtered
