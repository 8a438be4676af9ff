"""Paired differences of macro F1 between arms, with p-values adjusted for their number."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sonosynth.analysis.tables import F1Row
from sonosynth.statistics.comparisons import Difference, holm, score_difference
from sonosynth.statistics.scores import Scores
from sonosynth.study.config import StudyDesign

BASELINE = "real"
CLASSICAL = "real+classical"
SAME_VOLUME = "oversampled"
ADDED = "+synthetic"


@dataclass(frozen=True)
class Contrast:
    """Macro F1 of `row` minus that of `baseline`, paired by draw and test group, or by split."""

    row: F1Row  # the arm in question
    baseline: F1Row  # the arm it is compared with
    replicates: tuple[int, ...]  # draws that both have
    difference: Difference  # what `row` gains
    family: int = 1  # planned comparisons of these two arms, over sizes and generators
    adjusted: float | None = None  # the p-value by Holm's method among these; None where it has none

    @property
    def primary(self) -> bool:
        """Whether the two arms differ by the synthetic images alone."""
        return self.row.series.arm == self.baseline.series.arm + ADDED

    @property
    def same_volume(self) -> bool:
        """Whether synthetic images stand against as many copies of real ones, all else equal; filters leave fewer."""
        whole = "filter" not in dict(self.row.series.factors)
        return whole and (self.row.series.arm, self.baseline.series.arm) == (BASELINE + ADDED, SAME_VOLUME)


def contrasts(rows: Sequence[F1Row], design: StudyDesign) -> list[Contrast]:
    """Return every arm against `real`, and arms with synthetic images against the same arm without them and against
    copies of real images.

    The family of Holm's adjustment is all sizes and generators of two arms, of one network, ratio and level of further
    factors, finished or not: those of `design`.
    """
    found = []
    for _, of_arm in itertools.groupby(rows, lambda row: (row.series.network, row.size, row.series.arm)):
        members = list(of_arm)
        series = members[0].series
        arms = [BASELINE, series.arm.removesuffix(ADDED)]
        if series.generator is not None and series.arm.endswith(ADDED):
            arms.append(SAME_VOLUME)
        for arm, row, base in itertools.product(dict.fromkeys(arms), members, rows):
            shared = tuple(sorted(set(row.replicates) & set(base.replicates)))
            if arm != series.arm and base.size == row.size and comparable(row, base, arm) and shared:
                difference = score_difference(of_replicates(base, shared), of_replicates(row, shared))
                found.append(Contrast(row, base, shared, difference))
    return _adjusted(found, design)


def comparable(row: F1Row, base: F1Row, arm: str) -> bool:
    """Whether `base` is a row of `arm`, without synthetic images, that differs from `row` in nothing else."""
    return base.series.arm == arm and base.series.generator is None and row.series.contains(base.series)


def of_replicates(row: F1Row, replicates: Sequence[int]) -> Scores:
    """Return macro F1 of `row` in `replicates`, all of which it has."""
    return row.macro.of_draws([row.replicates.index(replicate) for replicate in replicates])


def family_of(contrast: Contrast) -> tuple[object, ...]:
    """Return what all comparisons that are adjusted together have in common."""
    series = contrast.row.series
    return series.network, series.arm, contrast.baseline.series.arm, series.ratio, series.factors


def _adjusted(contrasts: list[Contrast], design: StudyDesign) -> list[Contrast]:
    """Return `contrasts` with p-values that are adjusted within their families.

    What is not tested, or not finished, counts as if it showed nothing: the bracket on the page holds for all.
    """
    families: dict[tuple[object, ...], list[int]] = {}
    for i, c in enumerate(contrasts):
        families.setdefault(family_of(c), []).append(i)
    found = list(contrasts)
    for members in families.values():
        planned = design.family(contrasts[members[0]].row.series.generator is not None)
        p_values = [contrasts[i].difference.p_value for i in members]
        untested = [1.0] * (planned - len(members))
        adjusted = holm([1.0 if p is None else p for p in p_values] + untested)
        for i, p, p_adjusted in zip(members, p_values, adjusted, strict=False):
            family = max(planned, len(members))
            found[i] = replace(contrasts[i], family=family, adjusted=None if p is None else p_adjusted)
    return found
