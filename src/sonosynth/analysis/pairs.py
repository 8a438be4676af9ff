"""Single networks of two arms against each other: of one draw and seed, on the same test images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sonosynth.analysis.contrasts import Contrast
from sonosynth.analysis.record import StudyRecord
from sonosynth.statistics.comparisons import McNemar, clustered_mcnemar, holm

ALPHA = 0.05


@dataclass(frozen=True)
class Pairs:
    """McNemar's test, clustered by group, of every network of `contrast.row` with its like of the baseline."""

    contrast: Contrast
    tests: tuple[McNemar, ...]

    @property
    def differing(self) -> int:
        """How many pairs have unequal shares of right images at a level of 5 %, by Holm's method among these pairs."""
        return sum(p <= ALPHA for p in holm([test.p_value for test in self.tests]))

    @property
    def differences(self) -> tuple[float, float, float]:
        """The smallest, mean and largest difference in the share of right images, arm minus baseline."""
        found = [test.difference for test in self.tests]
        return min(found), float(np.mean(found)), max(found)

    @property
    def alone(self) -> tuple[float, float]:
        """Test images that only the baseline's network has right, and only the arm's; mean over pairs."""
        return float(np.mean([t.only_a for t in self.tests])), float(np.mean([t.only_b for t in self.tests]))


def pairs(record: StudyRecord, contrasts: Sequence[Contrast]) -> list[Pairs]:
    """Return the pairs of every contrast that has any: networks of one draw and classifier seed."""
    found = []
    for contrast in contrasts:
        row, baseline, tests = contrast.row, contrast.baseline, []
        places = {seed: place for place, (_, seed) in enumerate(baseline.runs)}
        for replicate in contrast.replicates:
            images = record.test_of(replicate)
            ours = row.predictions[row.replicates.index(replicate)]
            theirs = baseline.predictions[baseline.replicates.index(replicate)]
            tests += [
                clustered_mcnemar(images.labels, images.groups, theirs[places[seed]], predicted)
                for (_, seed), predicted in zip(row.runs, ours, strict=True)
                if seed in places
            ]
        if tests:
            found.append(Pairs(contrast, tuple(tests)))
    return found
