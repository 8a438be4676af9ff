"""What could tell the classes apart without looking at tissue: words, calipers, colour, borders, brightness, storage.

Every test takes one image of each group, so that copies do not count twice: the first, or where a group holds several
classes (copies under two labels, a patient with two lesions) one at random, so that no class is favoured. P-values are
corrected by Holm's method over all properties.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from sonosynth.core.seeds import numpy_generator
from sonosynth.core.types import Array
from sonosynth.data.groups import group_members

_PERMUTATIONS = 2000
_FOLDS = 5
_GROUPS = 10  # of every class, below which the forest is not grown
_CHANCE_RUNS = 20
_KINDS_SHOWN = 4
STRONG = 0.5
"""The effect from which on a property is said to tell the classes apart."""


@dataclass(frozen=True)
class Association:
    """How a property of images goes with their class.

    Attributes:
        name: of the property.
        values: for each class with images for which the property is known: the share of images that have it; or its
            median; or, of a property of several kinds, the share of each kind.
        effect: Cramér's V for a property that is there or not, or of several kinds, else epsilon squared (Kruskal and
            Wallis): 0 to 1.
        p: probability of so strong an association if there were none, after Holm.
        n: images tested, one per group.
    """

    name: str
    values: Mapping[str, float | Mapping[str, float]]
    effect: float
    p: float
    n: int

    @property
    def kinds(self) -> list[str]:
        """The kinds of a property that has several, sorted; none for other properties."""
        return sorted({kind for value in self.values.values() if isinstance(value, Mapping) for kind in value})

    def sentence(self) -> str:
        """Return in one sentence how a property of several kinds, or a number, differs between the classes."""
        verb = "tells the classes apart" if self.effect >= STRONG else "differs between the classes"
        if not (kinds := self.kinds):
            parts = ["median " + ", ".join(f"{value:.3g} in {name}" for name, value in self.values.items())]
        else:  # of two, the one that the first class has more of; the other is what is left
            first = next(value for value in self.values.values() if isinstance(value, Mapping))
            leading = max(kinds, key=lambda kind: first.get(kind, 0))
            shown = [leading] if len(kinds) == 2 else kinds[:_KINDS_SHOWN]
            parts = [f"{kind} {self._shares(kind)}" for kind in shown]
            parts += [f"and {len(kinds) - _KINDS_SHOWN} more"] if len(kinds) > _KINDS_SHOWN else []
        return f"{self.name} {verb}: {'; '.join(parts)} ({self.measure} {self.effect:.2f}, p {self._p_text()})"

    @property
    def measure(self) -> str:
        """The name of `effect`, of a property of several kinds or a number."""
        return "Cramér's V" if self.kinds else "ε²"

    def _shares(self, kind: str) -> str:
        rows = ((name, value) for name, value in self.values.items() if isinstance(value, Mapping))
        return ", ".join(f"{100 * value.get(kind, 0):.0f} % of {name}" for name, value in rows)

    def _p_text(self) -> str:
        return "< 0.001" if self.p < 0.001 else f"= {self.p:.3f}"


@dataclass(frozen=True)
class ShortcutClassifier:
    """What a classifier makes of overlays, frames and storage alone.

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
    def above_chance(self) -> bool:
        """Whether it does better than chance."""
        return self.f1 > self.chance_high


def associations(
    properties: Mapping[str, Array], labels: Array, groups: Array, classes: Sequence[str]
) -> list[Association]:
    """Test every property that differs between images against the label; the smallest p first.

    Images for which a property is not known do not count for it. It is left out where one of several classes is left.

    Args:
        properties: by name, bool ``[N]`` (there or not), kinds as text ``[N]`` (empty where not known) or numbers
            ``[N]`` (NaN where not known).
        labels: int ``[N]``.
        groups: int ``[N]``.
        classes: names of the labels.
    """
    one = _one_of_each(labels, groups)
    found = []
    for name, values in properties.items():
        known = values != "" if values.dtype.kind == "U" else ~np.isnan(values.astype(float))
        tested, several = one[known[one]], min(2, len(np.unique(labels)))
        if len(np.unique(values[known])) < 2 or len(np.unique(labels[known])) < several:
            continue
        shown = {c: _summary(values[known & (labels == i)])
                 for i, c in enumerate(classes) if (known & (labels == i)).any()}  # fmt: skip
        effect, p = (_ranked if values.dtype.kind in "if" else _of_kinds)(values[tested], labels[tested])
        found.append((name, shown, effect, p, len(tested)))
    corrected = _holm([p for *_, p, _ in found])
    rows = [Association(*row[:3], p=p, n=row[-1]) for row, p in zip(found, corrected, strict=True)]
    return sorted(rows, key=lambda row: (row.p, -row.effect, row.name))


def _summary(values: Array) -> float | dict[str, float]:
    """Return the share of true values, the share of each kind, or the median."""
    if values.dtype.kind != "U":
        return float((np.mean if values.dtype == bool else np.median)(values))
    kinds, counts = np.unique(values, return_counts=True)
    return {str(kind): int(count) / len(values) for kind, count in zip(kinds, counts, strict=True)}


def _one_of_each(labels: Array, groups: Array) -> Array:
    rng = numpy_generator("audit", "one of each group")
    return np.array([of[0] if len(set(labels[of])) == 1 else rng.choice(of) for of in group_members(groups)])


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

    None if a class has fewer than ten groups, or there is one class. The properties are those of `associations`; a
    property of several kinds is a column per kind but the first, so one of a single kind changes nothing.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedGroupKFold

    n_groups = [len(np.unique(groups[labels == label])) for label in np.unique(labels)]
    if len(n_groups) < 2 or min(n_groups) < _GROUPS:
        return None
    table = np.stack([column for values in properties.values() for column in _columns(values)], axis=1)
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


def _columns(values: Array) -> list[Array]:
    if values.dtype.kind == "U":
        return [(values == kind).astype(float) for kind in np.unique(values)[1:]]
    return [values.astype(float)]  # a forest divides by NaN too


def _shuffled(labels: Array, groups: Array, rng: np.random.Generator) -> Array:
    """Return `labels` dealt anew to whole groups: each takes those of another, shuffled, and again if it is larger."""
    groups_of, dealt = group_members(groups), np.empty_like(labels)
    for of, other in zip(groups_of, rng.permutation(len(groups_of)), strict=True):
        theirs = labels[groups_of[other]]
        if len(set(theirs)) > 1:
            theirs = rng.permutation(theirs)
        dealt[of] = np.resize(theirs, len(of))
    return dealt
