"""Simulated classifiers on a fixed, grouped test set: what the tests and intervals of a study are checked on.

Every classifier gives each image a number per class and predicts the largest. The number of the true class carries the
skill; all else is chance where a study has it: in the image and its group (alike for every classifier), in how an arm
sees a group (alike for all its draws and seeds), in the draw of the training subset (alike for both arms) and in what
an arm makes of it, in the seed, and in the seed's view of an image. Draws and seeds matter less the larger the subset.
The amounts are such that macro F1, its spread between seeds, and the standard error of a difference on a test set are
near those of ResNet-18 on BUSI (results/2026-11-busi-first, results/2026-11-busi-protocols).
"""

from dataclasses import dataclass, replace

import numpy as np

PROPORTIONS = np.array([437, 210, 133]) / 780  # BUSI: benign, malignant, normal
N_CLASSES = len(PROPORTIONS)
N_TEST = 195
GROUP_SIZES = {1: 441, 2: 123, 3: 22, 4: 5, 7: 1}  # of results/2026-11-busi-audit
SKILLS = {25: 0.42, 50: 0.55, 100: 0.70, 200: 0.85}


@dataclass(frozen=True)
class Chance:
    """Standard deviations; those of draws and seeds are for 50 training images and fall with the root of the size."""

    group: float = 0.6
    image: float = 0.25
    arm_group: float = 0.2
    draw_skill: float = 0.08
    draw_bias: float = 0.10
    draw_group: float = 0.15
    arm_draw_skill: float = 0.06
    arm_draw_bias: float = 0.06
    arm_draw_group: float = 0.12
    seed_skill: float = 0.04
    seed_bias: float = 0.07
    seed_image: float = 0.25


BUSI_LIKE = Chance()
ARMS_ALIKE = replace(BUSI_LIKE, arm_group=0.0)  # arms have no view of their own of any image
DRAWS_ALIKE = replace(  # what the training subset holds makes no difference
    BUSI_LIKE,
    draw_skill=0.0, draw_bias=0.0, draw_group=0.0, arm_draw_skill=0.0, arm_draw_bias=0.0, arm_draw_group=0.0,
)  # fmt: skip
SINGLE_PAIR = replace(  # any two networks have equal accuracy
    BUSI_LIKE, draw_skill=0.0, draw_bias=0.0, arm_draw_skill=0.0, arm_draw_bias=0.0, seed_skill=0.0, seed_bias=0.0
)


@dataclass(frozen=True)
class TestImages:
    """Images as every classifier meets them.

    Attributes:
        labels: int ``[N]``.
        groups: int ``[N]``, 0 upwards.
        look: float ``[N, C]``, how much each image looks like each class.
        to_arm: float ``[arms, groups, C]``, what an arm adds.
    """

    __test__ = False  # no test, whatever pytest makes of its name

    labels: np.ndarray
    groups: np.ndarray
    look: np.ndarray
    to_arm: np.ndarray


def draw_images(
    random: np.random.Generator, n_arms: int = 2, n: int = N_TEST, chance: Chance = BUSI_LIKE
) -> TestImages:
    """Draw `n` images in groups; of the last group only as many as fit."""
    sizes = random.choice(list(GROUP_SIZES), n, p=np.array(list(GROUP_SIZES.values())) / sum(GROUP_SIZES.values()))
    groups = np.repeat(np.arange(n), sizes)[:n]
    n_groups = int(groups[-1]) + 1
    labels = random.choice(N_CLASSES, n_groups, p=PROPORTIONS)[groups]
    look = chance.group * random.standard_normal((n_groups, N_CLASSES))[groups]
    look += chance.image * random.standard_normal((n, N_CLASSES))
    return TestImages(labels, groups, look, chance.arm_group * random.standard_normal((n_arms, n_groups, N_CLASSES)))


def predict(
    random: np.random.Generator,
    images: TestImages,
    skills: list[float],
    size: int,
    n_draws: int = 5,
    n_seeds: int = 5,
    chance: Chance = BUSI_LIKE,
) -> np.ndarray:
    """Return predictions ``[arms, draws, seeds, N]`` of classifiers with one skill an arm, trained on `size` images."""
    arms, D, S, C = len(skills), n_draws, n_seeds, N_CLASSES
    N, G = len(images.labels), int(images.groups[-1]) + 1
    fewer = np.sqrt(50 / size)

    def noise(deviation: float, *shape: int) -> np.ndarray:
        return deviation * random.standard_normal(shape)

    skill = np.reshape(skills, (arms, 1, 1)) + fewer * (
        noise(chance.draw_skill, 1, D, 1) + noise(chance.arm_draw_skill, arms, D, 1)
        + noise(chance.seed_skill, arms, D, S)
    )  # fmt: skip
    bias = np.array([0.5, 0.1, -0.1]) + fewer * (
        noise(chance.draw_bias, 1, D, 1, C) + noise(chance.arm_draw_bias, arms, D, 1, C)
        + noise(chance.seed_bias, arms, D, S, C)
    )  # fmt: skip
    view = fewer * (noise(chance.draw_group, 1, D, G, C) + noise(chance.arm_draw_group, arms, D, G, C))
    view += images.to_arm[:, None]
    values = noise(chance.seed_image, arms, D, S, N, C)
    values += (view[:, :, images.groups] + images.look)[:, :, None]
    values += bias[..., None, :] + skill[..., None, None] * np.eye(C)[images.labels]
    return np.asarray(values.argmax(axis=-1))


def macro_f1(labels: np.ndarray, predictions: np.ndarray, n_classes: int = N_CLASSES) -> np.ndarray:
    """Return the mean F1 of the classes with true images: ``predictions`` int ``[..., N]`` give float ``[...]``."""
    by_class = [
        2 * ((predictions == c) & (labels == c)).sum(axis=-1) / ((predictions == c).sum(axis=-1) + (labels == c).sum())
        for c in range(n_classes)
        if (labels == c).any()
    ]
    return np.asarray(np.mean(by_class, axis=0))
