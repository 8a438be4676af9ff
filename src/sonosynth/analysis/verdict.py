"""What the first sentence of a report rests on: do synthetic images help the classifiers of a study, and how much?

The comparison that the sentence names is chosen after the fact, as the best or the worst of all. So its p-value is
adjusted over all of them, and without one that stays below 5 % the sentence claims nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sonosynth.analysis.contrasts import BASELINE, CLASSICAL, Contrast
from sonosynth.analysis.equivalent_real_images import image_equivalence
from sonosynth.analysis.findings import adjusted_over_all
from sonosynth.analysis.tables import F1Row
from sonosynth.statistics.learning_curves import EquivalentRealImages
from sonosynth.statistics.scores import LEVEL

# `open`: tests were made and show nothing; `untested`: none could be made
Outcome = Literal["helps", "harms", "mixed", "open", "untested"]
# why a difference is not told in real images: there is one training size; other sizes have not finished; the score lies
# beyond the smallest or largest size, at that size itself; or the learning curve falls where it should rise
NoWorthReason = Literal["", "one size", "unfinished", "beyond", "not rising"]


@dataclass(frozen=True)
class Compared:
    """A difference of macro F1, in real images where the learning curve of its baseline allows that."""

    contrast: Contrast
    p_value: float | None  # by Holm's method among all comparisons of the verdict; None without a test
    worth: EquivalentRealImages | None
    no_worth_reason: NoWorthReason


@dataclass(frozen=True)
class Verdict:
    """Whether synthetic images help, by all comparisons of an arm with them against the same arm without them."""

    outcome: Outcome
    # the best of the gains that hold; the worst of the losses if these alone hold; else the best of all
    named: Compared
    worst: Compared | None  # the worst of the losses that hold, where gains hold too
    classical: Compared | None  # classical augmentation alone, at the size of `named`; None if it was not tried
    n: int  # comparisons that have finished
    n_planned: int  # those that p-values are adjusted for: with those that are planned and not finished
    gains: int  # comparisons whose p-value is below 5 % after this adjustment, with a higher score
    losses: int  # the same with a lower score


def verdict(rows: Sequence[F1Row], contrasts: Sequence[Contrast]) -> Verdict | None:
    """Return the verdict that `contrasts` between `rows` allow; None if none of them is of synthetic images alone."""
    primary = [c for c in contrasts if c.primary]
    if not primary:
        return None
    p_values, n_planned = adjusted_over_all(primary)
    ranked = sorted(zip(primary, p_values, strict=True), key=lambda pair: -pair[0].difference.absolute.value)
    holding = [(c, p) for c, p in ranked if p is not None and p < 1 - LEVEL]
    gains = [pair for pair in holding if pair[0].difference.absolute.value > 0]
    losses = [pair for pair in holding if pair[0].difference.absolute.value < 0]
    outcome: Outcome = "open" if any(p is not None for p in p_values) else "untested"
    if holding:
        outcome = "mixed" if gains and losses else "helps" if gains else "harms"
    named = gains[0] if gains else losses[-1] if losses else ranked[0]
    series, size = named[0].row.series, named[0].row.size
    classical = (
        c
        for c in contrasts
        if (c.row.series.arm, c.baseline.series.arm, c.row.size) == (CLASSICAL, BASELINE, size)
        and series.contains(c.row.series)
    )
    return Verdict(
        outcome=outcome,
        named=_compared(*named, rows),
        worst=_compared(*losses[-1], rows) if outcome == "mixed" else None,
        classical=next((_compared(c, None, rows) for c in classical), None),
        n=len(primary),
        n_planned=n_planned,
        gains=len(gains),
        losses=len(losses),
    )


def _compared(contrast: Contrast, p_value: float | None, rows: Sequence[F1Row]) -> Compared:
    """Return `contrast` with its worth in images of its baseline's arm, or with the reason why it has none."""
    found = image_equivalence(contrast.row, rows, contrast.baseline.series.arm)
    reason: NoWorthReason = ""
    if found is None:
        reason = "one size" if len({row.size for row in rows}) == 1 else "unfinished"
    elif (found.worth.n_real, found.worth.gain.value) in zip(found.worth.measured, (-np.inf, np.inf), strict=True):
        reason = "beyond"
    elif found.worth.gain.value * contrast.difference.absolute.value < 0:
        reason = "not rising"
    return Compared(contrast, p_value, None if reason or found is None else found.worth, reason)
