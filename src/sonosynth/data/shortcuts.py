"""What could tell the classes apart without looking at tissue: words, calipers, colour, borders, brightness.

Every test takes one image of each group, so that copies do not count twice: the first, or where a group holds several
classes (copies under two labels, a patient with two lesions) one at random, so that no class is favoured. P-values are
corrected by Holm's method over all properties.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.stats

from sonosynth.data.groups import members
from sonosynth.seeds import numpy_generator

_PERMUTATIONS = 2000
_FOLDS = 5
_GROUPS = 10  # of every class, below which the forest is not grown
_CHANCE_RUNS = 20

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Association:
    """How a property of images goes with their class.

    Attributes:
        name: of the property.
        values: for each class, the share of images that have it, or its median.
        effect: Cramér's V for a property that is there or not, else epsilon squared (Kruskal and Wallis): 0 to 1.
        p: probability of so strong an association if there were none, after Holm.
        n: images tested, one a group.
    """

    name: str
    values: Mapping[str, float]
    effect: float
    p: float
    n: int


@dataclass(frozen=True)
class ShortcutClassifier:
    """What a classifier makes of overlays and frames alone.

    Attributes:
        f1: macro-F1 over grouped folds.
        chance: mean macro-F1 of the same with shuffled labels.
        chance_high: 95th percentile of those.
        n: images.
        groups: groups they fall into.
    """

    f1: float
    chance: float
    chance_high: float
    n: int
    groups: int

    @property
    def warns(self) -> bool:
        """Whether it does better than chance."""
        return self.f1 > self.chance_high


def associations(
    properties: Mapping[str, Array], labels: Array, groups: Array, classes: Sequence[str]
) -> list[Association]:
    """Test every property that differs between images against the label; the smallest p first.

    Args:
        properties: by name, bool ``[N]`` (there or not) or numbers ``[N]``.
        labels: int ``[N]``.
        groups: int ``[N]``.
        classes: names of the labels.
    """
    one = _one_of_each(labels, groups)
    found = []
    for name, values in properties.items():
        if np.ptp(values.astype(float)) == 0:
            continue
        shown = {c: float((np.mean if values.dtype == bool else np.median)(values[labels == i]))
                 for i, c in enumerate(classes) if (labels == i).any()}  # fmt: skip
        effect, p = (_there if values.dtype == bool else _ranked)(values[one], labels[one])
        found.append((name, shown, effect, p))
    corrected = _holm([p for *_, p in found])
    rows = [Association(*row[:3], p=p, n=len(one)) for row, p in zip(found, corrected, strict=True)]
    return sorted(rows, key=lambda row: (row.p, -row.effect, row.name))


def _one_of_each(labels: Array, groups: Array) -> Array:
    rng = numpy_generator("audit", "one of each group")
    return np.array([of[0] if len(set(labels[of])) == 1 else rng.choice(of) for of in members(groups)])


def _there(has: Array, labels: Array) -> tuple[float, float]:
    """Return Cramér's V and the p-value of a permutation test of chi squared."""
    if has.all() or not has.any() or len(np.unique(labels)) < 2:
        return 0.0, 1.0
    _, codes = np.unique(labels, return_inverse=True)
    sizes = np.bincount(codes)
    expected = sizes * has.mean()

    def chi2(counts: Array) -> Array:
        apart = (counts - expected) ** 2
        return cast(Array, (apart / expected + apart / (sizes - expected)).sum(axis=-1))

    rng = numpy_generator("audit", "permutations")
    observed = float(chi2(np.bincount(codes[has], minlength=len(sizes))))
    shuffled = np.stack([
        np.bincount(codes[rng.permutation(len(codes))[: int(has.sum())]], minlength=len(sizes))
        for _ in range(_PERMUTATIONS)
    ])  # fmt: skip
    p = (1 + int((chi2(shuffled) >= observed - 1e-9).sum())) / (1 + _PERMUTATIONS)
    return float(np.sqrt(observed / len(codes))), p


def _ranked(values: Array, labels: Array) -> tuple[float, float]:
    """Return epsilon squared and the p-value of the test of Kruskal and Wallis."""
    parts = [values[labels == label] for label in np.unique(labels)]
    if len(parts) < 2 or np.ptp(values) == 0 or len(values) <= len(parts):
        return 0.0, 1.0
    h, p = scipy.stats.kruskal(*parts)
    return float(np.clip((h - len(parts) + 1) / (len(values) - len(parts)), 0, 1)), float(p)


def _holm(p: Sequence[float]) -> list[float]:
    """Return `p` corrected for their number (Holm 1979)."""
    order = np.argsort(p)
    raised = np.maximum.accumulate(np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(raised, 1)
    return corrected.tolist()


def shortcut_classifier(properties: Mapping[str, Array], labels: Array, groups: Array) -> ShortcutClassifier | None:
    """Return how well a random forest tells the classes apart by `properties` alone, in grouped folds.

    None if a class has fewer than ten groups, or there is one class.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedGroupKFold

    n_groups = [len(np.unique(groups[labels == label])) for label in np.unique(labels)]
    if len(n_groups) < 2 or min(n_groups) < _GROUPS:
        return None
    table = np.stack([np.asarray(values, dtype=float) for values in properties.values()], axis=1)
    folds = list(StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0).split(table, labels, groups))

    def score(truth: Array) -> float:
        predicted = np.empty_like(truth)
        for train, test in folds:
            forest = RandomForestClassifier(50, min_samples_leaf=5, class_weight="balanced", random_state=0)
            predicted[test] = forest.fit(table[train], truth[train]).predict(table[test])
        return float(f1_score(truth, predicted, average="macro"))

    rng = numpy_generator("audit", "chance")
    chance = [score(_shuffled(labels, groups, rng)) for _ in range(_CHANCE_RUNS)]
    return ShortcutClassifier(
        score(labels),
        float(np.mean(chance)),
        float(np.percentile(chance, 95)),
        len(labels),
        len(np.unique(groups)),
    )


def _shuffled(labels: Array, groups: Array, rng: np.random.Generator) -> Array:
    """Return `labels` dealt anew to whole groups: each takes those of another, shuffled, and again if it is larger."""
    groups_of, dealt = members(groups), np.empty_like(labels)
    for of, other in zip(groups_of, rng.permutation(len(groups_of)), strict=True):
        theirs = labels[groups_of[other]]
        if len(set(theirs)) > 1:
            theirs = rng.permutation(theirs)
        dealt[of] = np.resize(theirs, len(of))
    return dealt
