"""The smallest difference of macro F1 that a finished design could have seen."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from sonosynth.analysis.contrasts import Contrast, of_replicates
from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.tables import F1Row
from sonosynth.statistics.power import (
    BUSI_COMPONENTS,
    VarianceComponents,
    error_range,
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
    """What the comparisons of one network at one size can see."""

    network: str  # of the classifiers
    size: int  # training images, as planned
    replicates: int  # of the training subset
    generators: int  # seeds of the generators
    seeds: int  # of the classifiers, in each draw
    groups: int  # of test images
    pairs: int  # comparisons whose variance components were averaged; 0 where BUSI's stand in
    tested_replicates: int  # draws that the differences are for: `replicates`, or the fewest that allow a test
    alone: float  # the smallest difference that a single test finds
    # its 5 and 95 % limits, as the variances are estimates; None where BUSI's stand in, whose own error is not known
    alone_range: tuple[float, float] | None
    family: int  # comparisons that are adjusted together
    in_family: float  # the same as the first of so many tests


def detectable_differences(record: StudyRecord, contrasts: Sequence[Contrast]) -> list[DetectableDifference]:
    """Return the smallest detectable difference for every network and size with comparisons.

    Variances are the means over the comparisons that differ by synthetic images alone, or over all where there is no
    such. Where a study has too few draws, seeds or splits to know its own, those of BUSI stand in. Nothing is returned
    where the images of one fixed test set, or those of a class, are of one group.
    """
    known = [c for c in contrasts if record.splits is not None or np.isfinite(c.difference.absolute.low)]
    by_place: dict[tuple[str, int], list[Contrast]] = {}
    for c in known:
        by_place.setdefault((c.row.series.network, c.row.size), []).append(c)
    return [_detectable(record, *place, of_place) for place, of_place in by_place.items()]


def _detectable(record: StudyRecord, network: str, size: int, contrasts: Sequence[Contrast]) -> DetectableDifference:
    chosen = [c for c in contrasts if c.primary] or contrasts
    replicates, family = max(len(c.replicates) for c in chosen), max(c.family for c in chosen)
    tested = max(replicates, MIN_DRAWS)
    seeds, groups = max(len({seed for _, seed in c.row.runs}) for c in chosen), min(record.test_groups)
    generators = max(len({generator for generator, _ in c.row.runs}) for c in chosen)
    if record.splits is None:
        own = [components for c in chosen if (components := _components(record, c)) is not None]
        components = VarianceComponents(*np.mean([astuple(one) for one in own], axis=0)) if own else BUSI_COMPONENTS
        n_own, spread = len(own), fixed_test_error(components, tested, seeds, groups)
    else:
        errors = _errors_of_splits(chosen, tested)
        n_own = len(errors)
        spread = repeated_splits_error(BUSI_COMPONENTS, tested, seeds, groups, record.splits.test_ratio)
        if errors:
            spread = float(np.sqrt(np.mean(np.square(errors)))), tested - 1.0
    assert spread is not None  # there are three draws
    alone, in_family = (minimum_detectable_difference(*spread, n, power=WANTED) for n in (1, family))
    limits = None
    if n_own:  # the difference is a multiple of the standard error
        low, high = error_range(*spread)
        limits = (alone * low / spread[0], alone * high / spread[0]) if spread[0] else (0.0, 0.0)
    return DetectableDifference(
        network, size, replicates, generators, seeds, groups, n_own, tested, alone, limits, family, in_family
    )


def _errors_of_splits(contrasts: Sequence[Contrast], n_splits: int) -> list[float]:
    """Return the standard errors of the comparisons that all splits have, if these are enough to know them.

    Where splits do not differ at all, as of two arms that call everything one class, the error is not known.
    """
    full = [c for c in contrasts if len(c.replicates) == n_splits >= FEWEST_SPLITS]
    differences = (of_replicates(c.row, c.replicates) - of_replicates(c.baseline, c.replicates) for c in full)
    errors = [float(difference.estimate().standard_error) for difference in differences]
    return [error for error in errors if np.isfinite(error)]


def _components(record: StudyRecord, contrast: Contrast) -> VarianceComponents | None:
    """Return the components of one comparison, runs paired by classifier seed and averaged over generator seeds.

    None with one draw or seed, and where nothing varies, as between two arms that call everything one class.
    """
    row, baseline, test = contrast.row, contrast.baseline, record.tests[0]
    generators = sorted({gan for gan, _ in row.runs}, key=lambda gan: gan or 0)
    seeds = [
        seed
        for gan, seed in row.runs
        if gan == generators[0] and all((one, seed) in row.runs for one in generators) and (None, seed) in baseline.runs
    ]
    if min(len(seeds), len(contrast.replicates)) < 2:
        return None

    def predictions(of: F1Row, gan: int | None) -> np.ndarray:
        runs = [of.runs.index((gan, seed)) for seed in seeds]
        return np.stack([of.predictions[of.replicates.index(replicate)][runs] for replicate in contrast.replicates])

    a, b = predictions(baseline, None), np.stack([predictions(row, gan) for gan in generators])
    components = variance_components(test.labels, test.groups, a, b, len(test.classes))
    return components if any(astuple(components)) else None
