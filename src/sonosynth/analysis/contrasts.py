"""Paired differences of macro F1 between arms, with p-values adjusted for their number."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sonosynth.analysis.tables import F1Row, Series
from sonosynth.statistics.comparisons import Difference, holm, score_difference
from sonosynth.statistics.scores import Scores
from sonosynth.study.config import StudyDesign

BASELINE = "real"
SAME_VOLUME = "oversampled"
ADDED = "+synthetic"


@dataclass(frozen=True)
class Contrast:
    """Macro F1 of `row` minus that of `baseline`, paired by draw and test group, or by split.

    Attributes:
        row: the arm in question.
        baseline: the arm it is compared with.
        replicates: draws that both have.
        difference: what `row` gains.
        family: how many comparisons the study asks for of these two arms, over sizes and generators.
        adjusted: the p-value by Holm's method among these; None where it has none.
    """

    row: F1Row
    baseline: F1Row
    replicates: tuple[int, ...]
    difference: Difference
    family: int = 1
    adjusted: float | None = None

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
        for arm in _baselines(members[0].series):
            pairs = [(row, r) for row in members for r in rows if r.series.arm == arm and r.size == row.size]
            comparable = [(row, r) for row, r in pairs if r.series.generator is None and row.series.contains(r.series)]
            found += [c for row, r in comparable if (c := _contrast(row, r)) is not None]
    return _adjusted(found, design)


def _baselines(series: Series) -> list[str]:
    arms = [BASELINE, series.arm.removesuffix(ADDED)]
    if series.generator is not None and series.arm.endswith(ADDED):
        arms.append(SAME_VOLUME)
    return [name for name in dict.fromkeys(arms) if name != series.arm]


def _contrast(row: F1Row, baseline: F1Row) -> Contrast | None:
    replicates = tuple(sorted(set(row.replicates) & set(baseline.replicates)))
    if not replicates:
        return None
    return Contrast(
        row,
        baseline,
        replicates,
        score_difference(of_replicates(baseline, replicates), of_replicates(row, replicates)),
    )


def of_replicates(row: F1Row, replicates: Sequence[int]) -> Scores:
    """Return macro F1 of `row` in `replicates`, all of which it has."""
    return row.macro.of_draws([row.replicates.index(replicate) for replicate in replicates])


def _adjusted(contrasts: list[Contrast], design: StudyDesign) -> list[Contrast]:
    families: dict[tuple[object, ...], list[int]] = {}
    for i, c in enumerate(contrasts):
        series = c.row.series
        key = (series.network, series.arm, c.baseline.series.arm, series.ratio, series.factors)
        families.setdefault(key, []).append(i)
    found = list(contrasts)
    for members in families.values():
        # What is not tested, or not finished, counts as if it showed nothing: the bracket on the page holds for all.
        known = [contrasts[i].difference.p_value for i in members]
        planned = design.family(contrasts[members[0]].row.series.generator is not None)
        unfinished = [1.0] * (planned - len(members))
        adjusted = holm([1.0 if p is None else p for p in known] + unfinished)
        for i in members:
            p_value = None if contrasts[i].difference.p_value is None else adjusted[members.index(i)]
            found[i] = replace(contrasts[i], family=max(planned, len(members)), adjusted=p_value)
    return found
