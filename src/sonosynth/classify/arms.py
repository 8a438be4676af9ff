"""The arms of the classifier study: what a classifier is trained on, whether it is augmented, and what tests it."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sonosynth.core.errors import SonosynthError
from sonosynth.core.seeds import numpy_generator
from sonosynth.core.text import agreeing, counted, unknown_name
from sonosynth.data.imageset import ImageSet
from sonosynth.data.split import apportion

ClassBalance = Literal["proportional", "balanced"]
"""In which proportions of classes images are added to the real ones: theirs, or such that the union is balanced;
images that stand without real ones are then balanced among themselves."""
CLASS_BALANCES: tuple[ClassBalance, ...] = get_args(ClassBalance)


class ArmError(SonosynthError):
    """An arm is unknown, or lacks the images it needs."""


@dataclass(frozen=True)
class Arm:
    """A way to train a classifier, by its name in tables and study files."""

    name: str
    synthetic: bool = False  # it needs synthetic images
    classical: bool = False  # every training image is augmented by `augmentation.classical_augmentation`
    oversampled: bool = False  # real images are repeated, as many as synthetic ones would have been added
    trains_on: Literal["both", "real", "synthetic"] = "both"  # real images, and the synthetic ones where it needs them
    tests_on: Literal["real", "synthetic"] = "real"  # the images that its scores are of

    @property
    def synthetic_alone(self) -> bool:
        """Whether its synthetic images, if any, stand without real ones, and train or test the classifier alone."""
        return self.trains_on != "both"


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("real"),
        Arm("real+classical", classical=True),
        Arm("real+synthetic", synthetic=True),
        Arm("real+classical+synthetic", synthetic=True, classical=True),
        Arm("oversampled", oversampled=True),
        Arm("synthetic-only", synthetic=True, trains_on="synthetic"),
        Arm("test-on-synthetic", synthetic=True, trains_on="real", tests_on="synthetic"),
    )
}
DEFAULT_ARMS = ("real", "real+classical", "real+synthetic", "real+classical+synthetic")
"""The arms of a study that names none."""


def find_arm(name: str) -> Arm:
    """Return the arm `name`. Raises ArmError."""
    if name not in ARMS:
        raise ArmError(unknown_name("arm", name, ARMS))
    return ARMS[name]


def find_class_balance(name: str) -> ClassBalance:
    """Return `name` if it is a class balance of added images. Raises ArmError."""
    for known in CLASS_BALANCES:
        if known == name:
            return known
    raise ArmError(unknown_name("class balance", name, CLASS_BALANCES))


def check_synthetic(arm: Arm, given: bool) -> None:
    """Raise ArmError unless synthetic images are `given` to an arm that needs them, and to no other."""
    if arm.synthetic and not given:
        raise ArmError(f"arm '{arm.name}' needs synthetic images; give some (--synthetic)")
    if not arm.synthetic and given:
        other = f"{arm.name}+synthetic"
        choose = f"choose '{other}', or " if other in ARMS else ""
        raise ArmError(f"arm '{arm.name}' uses no synthetic images; {choose}leave them out (--synthetic)")


def added_counts(
    train: ImageSet, ratio: float, class_balance: ClassBalance = "proportional", alone: bool = False
) -> np.ndarray:
    """Return how many images of each class are added to `train`, int64 ``[n_classes]``.

    Their sum is ``ratio`` times the number of real images, rounded, at least 1.

    Args:
        train: real training images.
        ratio: images that are added for a real one.
        class_balance: "proportional": as in `train`, as near as whole images allow; "balanced": the classes with fewest
            images first, so that the union has as many of each as the sum allows; what is left goes to the rarest.
        alone: they are not added but stand without the real ones: "balanced" then makes the classes of `train` equal
            among themselves, and of what is left over the first have one more.

    Raises:
        ArmError: `ratio` is not above 0.
    """
    if not 0 < ratio < float("inf"):
        raise ArmError(f"a ratio of added to real images is a number above 0, not {ratio}")
    counts = np.bincount(train.labels, minlength=len(train.classes))
    total = max(1, round(ratio * len(train)))
    if class_balance == "proportional":
        pool = counts * (1 + math.ceil(ratio))  # the same proportions, and no class runs out
        return np.asarray(apportion(pool, [total], least=0)[0])
    present, before = counts > 0, counts * (not alone)
    filled = before.copy()
    for _ in range(total):
        filled[np.flatnonzero(present)[filled[present].argmin()]] += 1
    return filled - before


def draw_synthetic(synthetic: ImageSet, counts: np.ndarray, seed: int) -> ImageSet:
    """Return ``counts[c]`` images of each class c, drawn without replacement. Raises ArmError: a class has fewer."""
    rng = numpy_generator(seed, "synthetic")
    chosen = []
    for label, (name, count) in enumerate(zip(synthetic.classes, counts, strict=True)):
        there = np.flatnonzero(synthetic.labels == label)
        if count > len(there):
            raise ArmError(
                f"{counted(count, 'synthetic image')} of class '{name}' {agreeing(count, 'is', 'are')} needed and "
                f"there {agreeing(len(there), 'is', 'are')} {len(there)}; make more or lower the ratio"
            )
        chosen.append(rng.permutation(there)[:count])
    return synthetic.subset(np.sort(np.concatenate(chosen)))


def oversample(train: ImageSet, counts: np.ndarray, seed: int) -> ImageSet:
    """Return ``counts[c]`` images of each class c of `train`: each of them as often as any other, give or take one.

    Raises ArmError for images of a class without any.
    """
    rng = numpy_generator(seed, "oversampled")
    parts = []
    for label, (name, count) in enumerate(zip(train.classes, counts, strict=True)):
        there = np.flatnonzero(train.labels == label)
        if count and not len(there):
            raise ArmError(f"no real image of class '{name}' can be repeated; leave the class out")
        rounds, rest = divmod(int(count), max(1, len(there)))
        parts += [there] * rounds + [rng.permutation(there)[:rest]]
    order = np.sort(np.concatenate(parts))
    return ImageSet(
        images=train.images[order],
        labels=train.labels[order],
        classes=train.classes,
        groups=train.groups[order],
        ids=tuple(f"{train.ids[i]}~{place}" for place, i in enumerate(order)),
    )


def training_images(
    arm: Arm,
    train: ImageSet,
    synthetic: ImageSet | None,
    *,
    ratio: float = 1.0,
    class_balance: ClassBalance = "proportional",
    seed: int,
) -> ImageSet:
    """Return the images that `arm` trains on, with all of `synthetic`; the other options are of the arm `oversampled`.

    Raises:
        ArmError: the arm needs synthetic images and there are none, or it uses none and there are some.
    """
    check_synthetic(arm, synthetic is not None)
    if arm.trains_on == "synthetic" and synthetic is not None:
        return synthetic
    if arm.trains_on == "real":
        return train
    parts = [train] if synthetic is None else [train, synthetic]
    if arm.oversampled:
        parts.append(oversample(train, added_counts(train, ratio, class_balance), seed))
    return ImageSet.concatenate(parts)
