"""What a study can see: the smallest difference of macro F1 between two arms that its design would find."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sonosynth.classify.arms import ARMS
from sonosynth.core.text import counted
from sonosynth.statistics import (
    BUSI_COMPONENTS,
    MIN_DRAWS,
    fixed_test_error,
    minimum_detectable_difference,
    repeated_splits_error,
)
from sonosynth.study.config import StudyDesign
from sonosynth.study.prepared import StudyData

POWER, LEVEL = 0.8, 0.95
ASSUMED = "of ResNet-18 on BUSI at 64 px, from the records busi-first and busi-protocols; other data, other variances"


@dataclass(frozen=True)
class DesignPower:
    """The smallest difference that the design can see.

    Attributes:
        draws: draws of the training subset.
        seeds: classifier seeds, averaged in each draw.
        groups: groups of test images.
        comparisons: sizes times generators, the family that Holm's correction is for; a generator counts once for each
            truncation.
        single: of macro F1, absolute, found with a chance of `POWER` by one two-sided test at 5 %; None: no test.
        corrected: the same where it is the first of `comparisons` tests under Holm's correction; None: no test.
        repeated: whether every draw is of a split with test images of its own.
        lone_class: one whose test images are all of one group, so that no interval or test comes out; None without one.
    """

    draws: int
    seeds: int
    groups: int
    comparisons: int
    single: float | None
    corrected: float | None
    repeated: bool = False
    lone_class: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with what was assumed."""
        return asdict(self) | {"power": POWER, "level": LEVEL, "components": asdict(BUSI_COMPONENTS)}

    def lines(self) -> list[str]:
        """Return what is told before the study runs."""
        if self.groups < 2 and not self.repeated:
            return ["power: all test images are of one group: a description only, no test; others are needed"]
        if self.lone_class is not None:
            return [
                f"power: all test images of class '{self.lone_class}' are of one group: a description only, neither "
                "intervals nor a test; others of that class are needed"
            ]
        unit = "split of the images" if self.repeated else "draw of the training subsets"
        if self.draws > 1:
            unit = unit.replace(" ", "s ", 1)
        if self.single is None or self.corrected is None:
            return [f"power: {self.draws} {unit}: a description only, no test; {MIN_DRAWS} are needed"]
        assumed = ", ".join(f"{name} {value:g}" for name, value in asdict(BUSI_COMPONENTS).items() if value)
        return [
            f"power: with {self.draws} {unit}, {counted(self.seeds, 'seed')} and "
            f"{counted(self.groups, 'test group')}, a true difference of macro F1 of {self.single:.3f} is found with a "
            f"chance of {POWER:.0%} (two-sided test at {1 - LEVEL:.0%}), of {self.corrected:.3f} after Holm over "
            f"{counted(self.comparisons, 'comparison')} (sizes × generators)",
            f"assumed variances of a paired difference: {assumed}; {ASSUMED}",
        ]


def design_power(design: StudyDesign, data: StudyData) -> DesignPower | None:
    """Return what `design` can see on the test images of `data`, under the variances `BUSI_COMPONENTS`.

    None, where it compares no classifiers. Seeds are those of the classifiers: arms without synthetic images have no
    others.
    """
    plan, n_splits = design.classifiers, design.split.repeats
    comparisons = _comparisons(design)
    if not plan.trains or not comparisons:
        return None
    tests = [split.held_out for split in data.splits]
    n_groups = min(len(np.unique(test.groups)) for test in tests)
    numbers = (n_splits or design.split.draws, len(plan.seeds), n_groups)
    spread = None
    lone_class = None
    if n_splits is None:  # without its only group, a class has no F1
        lone_class = next((name for name, n in tests[0].group_counts.items() if n == 1), None)
    if n_splits is not None:
        n_test = float(np.mean([len(test) for test in tests]))
        spread = repeated_splits_error(BUSI_COMPONENTS, *numbers, n_test / data.smallest_training_part)
    elif n_groups >= 2 and lone_class is None:
        spread = fixed_test_error(BUSI_COMPONENTS, *numbers)
    single, corrected = (
        None if spread is None else minimum_detectable_difference(*spread, n, LEVEL, POWER) for n in (1, comparisons)
    )
    return DesignPower(*numbers, comparisons, single, corrected, n_splits is not None, lone_class)


def _comparisons(design: StudyDesign) -> int:
    """Return over how many comparisons of the same two arms Holm's method goes; see `StudyDesign.family`.

    0 where no arm has another to be compared with: ``real``, or itself without synthetic images.
    """
    tested = {
        name
        for name in design.classifiers.arms
        if ARMS[name].tests_on == "real" and (design.gans or not ARMS[name].synthetic)
    }
    compared = [name for name in tested if tested & {"real", name.removesuffix("+synthetic")} - {name}]
    return design.family(any(ARMS[name].synthetic for name in compared)) if compared else 0
