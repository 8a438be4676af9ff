"""What could tell the classes apart without looking at tissue: words, calipers, colour, borders, brightness, storage.

Every test takes one image of each group, so that copies do not count twice: the first, or where a group holds several
classes (copies under two labels, a patient with two lesions) one at random, so that no class is favoured. P-values are
corrected by Holm's method over all properties.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sonosynth.core.seeds import numpy_generator
from sonosynth.core.types import Array
from sonosynth.data.groups import group_members
from sonosynth.statistics.comparisons import holm

_PERMUTATIONS = 2000
_FOLDS = 5
_GROUPS = 10  # of every class, below which the forest is not grown
_CHANCE_RUNS = 20
_KINDS_SHOWN = 4
STRONG = 0.5  # the effect from which on a property is said to tell the classes apart


@dataclass(frozen=True)
class Association:
    """How a property of images goes with their class."""

    name: str  # of the property
    # for each class with images for which the property is known: the share of images that have it; or its median; or,
    # of a property of several kinds, the share of each kind
    values: Mapping[str, float | Mapping[str, float]]
    # Cramér's V for a property that is there or not, or of several kinds, else epsilon squared (Kruskal and Wallis): 0
    # to 1
    effect: float
    p: float  # probability of so strong an association if there were none, after Holm
    n: int  # images tested, one per group

    def sentence(self) -> str:
        """Return in one sentence how a property of several kinds, or a number, differs between the classes."""
        verb = "tells the classes apart" if self.effect >= STRONG else "differs between the classes"
        p = "< 0.001" if self.p < 0.001 else f"= {self.p:.3f}"
        shares = {name: value for name, value in self.values.items() if isinstance(value, Mapping)}
        if not shares:
            medians = ", ".join(f"{value:.3g} in {name}" for name, value in self.values.items())
            return f"{self.name} {verb}: median {medians} (ε² {self.effect:.2f}, p {p})"
        kinds = sorted({kind for of_class in shares.values() for kind in of_class})
        shown = kinds[:_KINDS_SHOWN]
        if len(kinds) == 2:  # the one that the first class has more of; the other is what is left
            first = next(iter(shares.values()))
            shown = [max(kinds, key=lambda kind: first.get(kind, 0))]
        parts = []
        for kind in shown:
            of_classes = (f"{100 * of_class.get(kind, 0):.0f} % of {name}" for name, of_class in shares.items())
            parts.append(f"{kind} {', '.join(of_classes)}")
        if len(kinds) > _KINDS_SHOWN:
            parts.append(f"and {len(kinds) - _KINDS_SHOWN} more")
        return f"{self.name} {verb}: {'; '.join(parts)} (Cramér's V {self.effect:.2f}, p {p})"


@dataclass(frozen=True)
class ShortcutClassifier:
    """What a classifier makes of overlays, frames and storage alone."""

    f1: float  # macro-F1 over grouped folds
    chance: float  # mean macro-F1 of the same with shuffled labels
    chance_high: float  # 95th percentile of those
    n: int  # images
    groups: int  # groups they fall into

    @property
    def above_chance(self) -> bool:
        """Whether it does better than chance."""
        return self.f1 > self.chance_high


def associations(
    properties: Mapping[str, Array], labels: Array, groups: Array, classes: Sequence[str]
) -> list[Association]:
    """Test every property that differs between images against the label; the smallest p first.

    Properties are bool ``[N]`` (there or not), kinds as text (empty where not known) or numbers (NaN where not known).
    Images for which one is not known do not count for it. It is left out where one of several classes is left.
    """
    rng = numpy_generator("audit", "one of each group")
    one = np.array([of[0] if len(set(labels[of])) == 1 else rng.choice(of) for of in group_members(groups)])
    found = []
    for name, values in properties.items():
        known = values != "" if values.dtype.kind == "U" else ~np.isnan(values.astype(float))
        tested, several = one[known[one]], min(2, len(np.unique(labels)))
        if len(np.unique(values[known])) < 2 or len(np.unique(labels[known])) < several:
            continue
        shown = {}
        for i, class_ in enumerate(classes):
            if (of_class := known & (labels == i)).any():
                shown[class_] = _summary(values[of_class])
        effect, p = (_ranked if values.dtype.kind in "if" else _of_kinds)(values[tested], labels[tested])
        found.append(Association(name, shown, effect, p, len(tested)))
    corrected = holm([row.p for row in found])
    rows = [replace(row, p=p) for row, p in zip(found, corrected, strict=True)]
    return sorted(rows, key=lambda row: (row.p, -row.effect, row.name))


def _summary(values: Array) -> float | dict[str, float]:
    """Return the share of true values, the share of each kind, or the median."""
    if values.dtype.kind != "U":
        return float((np.mean if values.dtype == bool else np.median)(values))
    kinds, counts = np.unique(values, return_counts=True)
    return {str(kind): int(count) / len(values) for kind, count in zip(kinds, counts, strict=True)}


def _of_kinds(kinds: Array, labels: Array) -> tuple[float, float]:
    """Return Cramér's V and the p-value of a permutation test of chi squared."""
    (first, kinds), (second, labels) = (np.unique(values, return_inverse=True) for values in (kinds, labels))
    shape = len(first), len(second)
    if min(shape) < 2:
        return 0.0, 1.0
    expected = np.outer(np.bincount(kinds), np.bincount(labels)) / len(labels)

    def chi2(of_kinds: Array, of_labels: Array) -> float:
        counts = np.bincount(of_kinds * shape[1] + of_labels, minlength=expected.size).reshape(shape)
        return float(((counts - expected) ** 2 / expected).sum())

    rng = numpy_generator("audit", "permutations")
    observed, ordered = chi2(kinds, labels), np.sort(kinds)[::-1]
    shuffled = np.array([chi2(ordered, labels[rng.permutation(len(labels))]) for _ in range(_PERMUTATIONS)])
    p = (1 + int((shuffled >= observed - 1e-9).sum())) / (1 + _PERMUTATIONS)
    return float(np.sqrt(observed / (len(labels) * (min(shape) - 1)))), p


def _ranked(values: Array, labels: Array) -> tuple[float, float]:
    """Return epsilon squared and the p-value of the test of Kruskal and Wallis."""
    parts = [values[labels == label] for label in np.unique(labels)]
    if len(parts) < 2 or np.ptp(values) == 0 or len(values) <= len(parts):
        return 0.0, 1.0
    import scipy.stats  # slow to import, for a study that has its audit

    h, p = scipy.stats.kruskal(*parts)
    return float(np.clip((h - len(parts) + 1) / (len(values) - len(parts)), 0, 1)), float(p)


def shortcut_classifier(properties: Mapping[str, Array], labels: Array, groups: Array) -> ShortcutClassifier | None:
    """Return how well a random forest tells the classes apart by `properties` alone, in grouped folds.

    None if a class has fewer than ten groups, or there is one class. The properties are those of `associations`; a
    property of several kinds is a column per kind but the first, so one of a single kind changes nothing.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedGroupKFold

    n_groups = [len(np.unique(groups[labels == label])) for label in np.unique(labels)]
    if len(n_groups) < 2 or min(n_groups) < _GROUPS:
        return None
    columns = []
    for values in properties.values():
        columns += [values == kind for kind in np.unique(values)[1:]] if values.dtype.kind == "U" else [values]
    table = np.stack([column.astype(float) for column in columns], axis=1)  # a forest divides by NaN too
    folds = list(StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0).split(table, labels, groups))

    def score(truth: Array) -> float:
        predicted = np.empty_like(truth)
        for train, test in folds:
            forest = RandomForestClassifier(50, min_samples_leaf=5, class_weight="balanced", random_state=0)
            predicted[test] = forest.fit(table[train], truth[train]).predict(table[test])
        return float(f1_score(truth, predicted, average="macro"))

    rng = numpy_generator("audit", "chance")
    chance = [score(_shuffled(labels, groups, rng)) for _ in range(_CHANCE_RUNS)]
    high, n_all = float(np.percentile(chance, 95)), len(np.unique(groups))
    return ShortcutClassifier(score(labels), float(np.mean(chance)), high, len(labels), n_all)


def _shuffled(labels: Array, groups: Array, rng: np.random.Generator) -> Array:
    """Return `labels` dealt anew to whole groups: each takes those of another, shuffled, and again if it is larger."""
    groups_of, dealt = group_members(groups), np.empty_like(labels)
    for of, other in zip(groups_of, rng.permutation(len(groups_of)), strict=True):
        theirs = labels[groups_of[other]]
        if len(set(theirs)) > 1:
            theirs = rng.permutation(theirs)
        dealt[of] = np.resize(theirs, len(of))
    return dealt
