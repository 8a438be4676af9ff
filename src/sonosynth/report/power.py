"""The smallest difference of macro F1 that a finished design could have seen."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from sonosynth.report.contrasts import Contrast
from sonosynth.report.record import StudyRecord
from sonosynth.statistics import (
    BUSI_COMPONENTS,
    FEWEST_DRAWS,
    VarianceComponents,
    minimum_detectable_difference,
    variance_components,
)

WANTED = 0.8  # chance that the test finds a difference of that size


@dataclass(frozen=True)
class Detectable:
    """What the comparisons of one network at one size can see.

    Attributes:
        network: of the classifiers.
        size: training images asked for.
        draws: of the training subset.
        seeds: of the classifiers, in each draw.
        groups: of test images.
        pairs: comparisons whose variance components were averaged; 0 where BUSI's stand in.
        tested_draws: draws that the differences are for: `draws`, or the fewest that allow a test.
        alone: the smallest difference that a single test finds.
        family: comparisons that are adjusted together.
        in_family: the same as the first of so many tests.
    """

    network: str
    size: int
    draws: int
    seeds: int
    groups: int
    pairs: int
    tested_draws: int
    alone: float
    family: int
    in_family: float


def detectable(record: StudyRecord, contrasts: Sequence[Contrast]) -> list[Detectable]:
    """Return the smallest detectable difference for every network and size with comparisons.

    Components are the means over the comparisons that differ by synthetic images alone, or over all where there is no
    such. Where draws or seeds are fewer than two, those of BUSI stand in. Nothing is returned where the test images, or
    those of a class, are of one group.
    """
    groups = len(np.unique(record.test.groups))
    known = [c for c in contrasts if np.isfinite(c.difference.absolute.low)]
    return [
        _detectable(record, [c for c in known if (c.row.series.network, c.row.size) == place], groups)
        for place in dict.fromkeys((c.row.series.network, c.row.size) for c in known)
    ]


def _detectable(record: StudyRecord, contrasts: Sequence[Contrast], groups: int) -> Detectable:
    chosen = [c for c in contrasts if c.asked] or contrasts
    own = [components for c in chosen if (components := _components(record, c)) is not None]
    components = VarianceComponents(*np.mean([astuple(one) for one in own], axis=0)) if own else BUSI_COMPONENTS
    draws, family = max(len(c.draws) for c in chosen), max(c.family for c in chosen)
    seeds = max(len({seed for _, seed in c.row.runs}) for c in chosen)
    tested = max(draws, FEWEST_DRAWS)
    alone, in_family = (minimum_detectable_difference(components, tested, seeds, groups, n) for n in (1, family))
    assert alone is not None and in_family is not None  # there are three draws
    first = chosen[0].row
    return Detectable(
        first.series.network, first.size, draws, seeds, groups, len(own), tested, alone, family, in_family
    )


def _components(record: StudyRecord, contrast: Contrast) -> VarianceComponents | None:
    """Return the components of one comparison, runs paired by classifier seed; None with one draw or seed."""
    row, baseline = contrast.row, contrast.baseline
    gan_seed = row.runs[0][0]
    seeds = [seed for gan, seed in row.runs if gan == gan_seed and (None, seed) in baseline.runs]
    if min(len(seeds), len(contrast.draws)) < 2:
        return None
    a = baseline.predictions[[baseline.draws.index(d) for d in contrast.draws]]
    b = row.predictions[[row.draws.index(d) for d in contrast.draws]]
    a = a[:, [baseline.runs.index((None, seed)) for seed in seeds]]
    b = b[:, [row.runs.index((gan_seed, seed)) for seed in seeds]]
    return variance_components(record.test.labels, record.test.groups, a, b, len(record.test.classes))
