"""The smallest difference of macro F1 that a finished design could have seen."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from sonosynth.analysis.contrasts import Contrast, of_replicates
from sonosynth.analysis.record import StudyRecord
from sonosynth.statistics.power import (
    BUSI_COMPONENTS,
    VarianceComponents,
    fixed_test_error,
    minimum_detectable_difference,
    repeated_splits_error,
    variance_components,
)
from sonosynth.statistics.scores import MIN_DRAWS

FEWEST_SPLITS = 5  # for a variance of one's own; of fewer it is hardly known
WANTED = 0.8  # chance that the test finds a difference of that size


@dataclass(frozen=True)
class DetectableDifference:
    """What the comparisons of one network at one size can see.

    Attributes:
        network: of the classifiers.
        size: training images asked for.
        replicates: of the training subset.
        seeds: of the classifiers, in each draw.
        groups: of test images.
        pairs: comparisons whose variance components were averaged; 0 where BUSI's stand in.
        tested_replicates: draws that the differences are for: `replicates`, or the fewest that allow a test.
        alone: the smallest difference that a single test finds.
        family: comparisons that are adjusted together.
        in_family: the same as the first of so many tests.
    """

    network: str
    size: int
    replicates: int
    seeds: int
    groups: int
    pairs: int
    tested_replicates: int
    alone: float
    family: int
    in_family: float


def detectable_differences(record: StudyRecord, contrasts: Sequence[Contrast]) -> list[DetectableDifference]:
    """Return the smallest detectable difference for every network and size with comparisons.

    Variances are the means over the comparisons that differ by synthetic images alone, or over all where there is no
    such. Where a study has too few draws, seeds or splits to know its own, those of BUSI stand in. Nothing is returned
    where the images of one fixed test set, or those of a class, are of one group.
    """
    known = [c for c in contrasts if record.splits is not None or np.isfinite(c.difference.absolute.low)]
    return [
        _detectable(record, [c for c in known if (c.row.series.network, c.row.size) == place])
        for place in dict.fromkeys((c.row.series.network, c.row.size) for c in known)
    ]


def _detectable(record: StudyRecord, contrasts: Sequence[Contrast]) -> DetectableDifference:
    chosen, first = [c for c in contrasts if c.primary] or contrasts, contrasts[0].row
    replicates, family = max(len(c.replicates) for c in chosen), max(c.family for c in chosen)
    seeds = max(len({seed for _, seed in c.row.runs}) for c in chosen)
    design = _Design(max(replicates, MIN_DRAWS), seeds, min(record.test_groups))
    errors = _errors_of_splits if record.splits is not None else _errors_on_one_test_set
    (error, freedom), n_own = errors(record, chosen, design)
    alone, in_family = (minimum_detectable_difference(error, freedom, n, power=WANTED) for n in (1, family))
    return DetectableDifference(
        first.series.network,
        first.size,
        replicates,
        design.seeds,
        design.groups,
        n_own,
        design.replicates,
        alone,
        family,
        in_family,
    )


@dataclass(frozen=True)
class _Design:
    replicates: int
    seeds: int
    groups: int


def _errors_on_one_test_set(
    record: StudyRecord, contrasts: Sequence[Contrast], design: _Design
) -> tuple[tuple[float, float], int]:
    """Return the standard error of a difference with its degrees of freedom, and how many comparisons they are from."""
    own = [components for c in contrasts if (components := _components(record, c)) is not None]
    components = VarianceComponents(*np.mean([astuple(one) for one in own], axis=0)) if own else BUSI_COMPONENTS
    spread = fixed_test_error(components, design.replicates, design.seeds, design.groups)
    assert spread is not None  # there are three draws
    return spread, len(own)


def _errors_of_splits(
    record: StudyRecord, contrasts: Sequence[Contrast], design: _Design
) -> tuple[tuple[float, float], int]:
    """Return the same of repeated splits."""
    assert record.splits is not None
    full = [c for c in contrasts if len(c.replicates) == design.replicates >= FEWEST_SPLITS]
    estimates = [
        (of_replicates(c.row, c.replicates) - of_replicates(c.baseline, c.replicates)).estimate() for c in full
    ]
    # Where splits do not differ at all, as of two arms that call everything one class, the error is not known.
    known = [e.standard_error for e in estimates if np.isfinite(e.standard_error)]
    if known:
        return (float(np.sqrt(np.mean(np.square(known)))), design.replicates - 1.0), len(known)
    spread = repeated_splits_error(
        BUSI_COMPONENTS, design.replicates, design.seeds, design.groups, record.splits.test_ratio
    )
    assert spread is not None
    return spread, 0


def _components(record: StudyRecord, contrast: Contrast) -> VarianceComponents | None:
    """Return the components of one comparison, runs paired by classifier seed.

    None with one draw or seed, and where nothing varies, as between two arms that call everything one class.
    """
    row, baseline, test = contrast.row, contrast.baseline, record.tests[0]
    gan_seed = row.runs[0][0]
    seeds = [seed for gan, seed in row.runs if gan == gan_seed and (None, seed) in baseline.runs]
    if min(len(seeds), len(contrast.replicates)) < 2:
        return None
    a, b = (
        np.stack(
            [
                of.predictions[of.replicates.index(d)][[of.runs.index((gan, s)) for s in seeds]]
                for d in contrast.replicates
            ]
        )
        for of, gan in ((baseline, None), (row, gan_seed))
    )
    components = variance_components(test.labels, test.groups, a, b, len(test.classes))
    return components if any(astuple(components)) else None
