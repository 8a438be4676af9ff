"""Macro F1 against the number of training images, and how many real images the synthetic ones are worth."""

from collections.abc import Sequence
from dataclasses import dataclass

from sonosynth.analysis.contrasts import ADDED, comparable, of_replicates
from sonosynth.analysis.tables import F1Row, Series, complete_block
from sonosynth.statistics.learning_curves import (
    EquivalentRealImages,
    LearningCurve,
    equivalent_real_images,
    learning_curve,
)


@dataclass(frozen=True)
class Curve:
    """The learning curve of one series in `replicates`, which are those that all of its sizes have.

    `left_out` are sizes without these draws, in an unfinished study.
    """

    series: Series
    replicates: tuple[int, ...]
    curve: LearningCurve
    left_out: tuple[int, ...]


@dataclass(frozen=True)
class ImageEquivalence:
    """How many real images the arm without synthetic ones needs for the score of `row`; `baseline` is that arm."""

    row: F1Row
    baseline: Series
    worth: EquivalentRealImages


def curves(rows: Sequence[F1Row]) -> list[Curve]:
    """Return the learning curve of every series, at the sizes as planned."""
    found = []
    for series in dict.fromkeys(row.series for row in rows):
        mine = {row.size: row for row in rows if row.series == series}
        sizes, shared = complete_block({size: row.replicates for size, row in mine.items()})
        replicates = tuple(sorted(shared))
        curve = learning_curve(sizes, [of_replicates(mine[size], replicates) for size in sizes])
        found.append(Curve(series, replicates, curve, tuple(sorted(set(mine) - set(sizes)))))
    return found


def image_equivalences(rows: Sequence[F1Row]) -> list[ImageEquivalence]:
    """Return the worth of every arm with synthetic images at every size, in images of the same arm without them."""
    found = [
        image_equivalence(row, rows, row.series.arm.removesuffix(ADDED))
        for row in rows
        if row.series.generator is not None and row.series.arm.endswith(ADDED)
    ]
    return [one for one in found if one is not None]


def image_equivalence(row: F1Row, rows: Sequence[F1Row], arm: str) -> ImageEquivalence | None:
    """Return the worth of `row` in images of `arm`, which has no synthetic ones.

    The curve of `arm` is read at the sizes that have all draws of `row`; there must be two, or there is None.
    """
    bases = [base for base in rows if comparable(row, base, arm) and set(row.replicates) <= set(base.replicates)]
    bases.sort(key=lambda base: base.size)
    if len(bases) < 2:
        return None
    without = [of_replicates(base, row.replicates) for base in bases]
    worth = equivalent_real_images([b.size for b in bases], without, row.size, row.macro)
    return ImageEquivalence(row, bases[0].series, worth)
