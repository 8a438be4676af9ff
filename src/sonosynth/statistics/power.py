"""The smallest difference between two arms that a design can see, before it runs."""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, nctdtr, stdtrit

from sonosynth.statistics.f1 import f1_per_run
from sonosynth.statistics.scores import LEVEL, MIN_DRAWS, ROUNDING, crossed_variance


@dataclass(frozen=True)
class VarianceComponents:
    """What makes a paired difference of two arms vary, as variances of the score.

    The variance of the mean difference over D draws, S seeds per draw and G test groups is
    ``draw / D + seed / (D S) + group / G + draw_group / (D G) + seed_group / (D S G)``.
    """

    draw: float
    seed: float
    group: float
    draw_group: float = 0.0
    seed_group: float = 0.0

    def __post_init__(self) -> None:
        if min(self.draw, self.seed, self.group, self.draw_group, self.seed_group) < 0:
            raise ValueError(f"variances must not be below zero (found {self})")


# For a study without a forerunner: macro F1 of ResNet-18 on BUSI at 64 px, from the committed records, if anything
# too large.
# seed: variance between two seeds (results/2026-11-busi-first/f1.csv, 12 pairs: 0.0006), once for each arm; with the
#   share that falls on single test images.
# draw: variance between three draws (results/2026-11-busi-protocols/f1.csv, sizes 200 and 400, seeds included: 0.0003).
# group: squared standard error of eight paired differences on 195 test images (the intervals in
#   the report of results/2026-11-busi-first: 0.0010), times 195, as if none of it went away with more draws or seeds.
BUSI_COMPONENTS = VarianceComponents(draw=0.0003, seed=0.0012, group=0.19)


def variance_components(
    labels: np.ndarray, groups: np.ndarray, predictions_a: np.ndarray, predictions_b: np.ndarray, n_classes: int
) -> VarianceComponents:
    """Return the components of a macro-F1 difference in a finished study, from mean squares; negative ones become zero.

    Labels and groups are int ``[n_test]``, predictions ``[draws, seeds, n_test]``; those of b may be of several
    generator seeds, ``[generators, draws, seeds, n_test]``, over which scores are averaged.
    """
    of_b = np.asarray(predictions_b)
    of_b = of_b[None] if of_b.ndim == 3 else of_b
    if np.shape(predictions_a) != of_b.shape[1:]:
        raise ValueError(f"a {np.shape(predictions_a)} and b {np.shape(predictions_b)} must have equal shapes")
    a, *b = (f1_per_run(labels, groups, p, n_classes)[-2] for p in (predictions_a, *of_b))
    difference = sum(b[1:], start=b[0]) * (1 / len(b)) - a
    n_groups, n_draws, n_seeds = difference.left_out.shape
    if min(n_groups, n_draws, n_seeds) < 2:
        raise ValueError(f"{n_draws} draws, {n_seeds} seeds and {n_groups} test groups; two of each are needed")
    table = n_groups * difference.whole - (n_groups - 1) * difference.left_out  # [G, D, S]
    by_draw = table.mean(axis=2)
    draw = n_groups * n_seeds * by_draw.mean(axis=0).var(ddof=1)  # mean squares
    group = n_draws * n_seeds * by_draw.mean(axis=1).var(ddof=1)
    rest = by_draw - by_draw.mean(axis=0) - by_draw.mean(axis=1, keepdims=True) + by_draw.mean()
    draw_group = n_seeds * (rest**2).sum() / ((n_draws - 1) * (n_groups - 1))
    seed = n_groups * table.mean(axis=0).var(axis=1, ddof=1).mean()
    within = table - by_draw[..., None] - table.mean(axis=0) + by_draw.mean(axis=0)[:, None]
    seed_group = (within**2).sum() / (n_draws * (n_seeds - 1) * (n_groups - 1))
    found = {
        "draw": (draw - draw_group - seed + seed_group) / (n_groups * n_seeds),
        "seed": (seed - seed_group) / n_groups,
        "group": (group - draw_group) / (n_draws * n_seeds),
        "draw_group": (draw_group - seed_group) / n_seeds,
        "seed_group": seed_group,
    }
    return VarianceComponents(**{name: max(0.0, float(value)) for name, value in found.items()})


def t_test_power(difference: float, standard_error: float, degrees_of_freedom: float, comparisons: int = 1) -> float:
    """Return the chance that a two-sided t test finds a true `difference` of 0 or more, with its sign.

    Of so many `comparisons` in the family each is held to its share of 5 %, as the first of Holm's steps is.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons must be at least 1 (found {comparisons})")
    if standard_error <= ROUNDING:
        return float(difference > 0)
    critical = -stdtrit(degrees_of_freedom, (1 - LEVEL) / comparisons / 2)
    return float(1 - nctdtr(degrees_of_freedom, difference / standard_error, critical))


def minimum_detectable_difference(
    standard_error: float, degrees_of_freedom: float, comparisons: int = 1, power: float = 0.8
) -> float:
    """Return the true difference that a two-sided t test finds with a chance of `power`; see `t_test_power`."""
    if not np.isfinite(standard_error):
        raise ValueError(f"the standard error must be finite (found {standard_error})")

    def excess(difference: float) -> float:
        return t_test_power(difference, standard_error, degrees_of_freedom, comparisons) - power

    if standard_error <= ROUNDING:
        return 0.0
    most = standard_error
    while excess(most) < 0:
        most *= 2
    from scipy.optimize import brentq

    return float(brentq(excess, 0, most))


def error_range(standard_error: float, degrees_of_freedom: float) -> tuple[float, float]:
    """Return the 90 % interval of a standard error that was estimated with so many degrees of freedom (chi-square)."""
    low, high = (degrees_of_freedom / chdtri(degrees_of_freedom, tail) for tail in (0.05, 0.95))
    return standard_error * float(np.sqrt(low)), standard_error * float(np.sqrt(high))


def fixed_test_error(
    components: VarianceComponents, n_draws: int, n_seeds: int, n_groups: int
) -> tuple[float, float] | None:
    """Return the expected standard error of the mean difference on one test set, and its degrees of freedom.

    None with fewer than three draws: such a design has no test.
    """
    if min(n_draws, n_seeds) < 1 or n_groups < 2:
        raise ValueError(f"{n_draws} draws, {n_seeds} seeds and {n_groups} test groups make no design")
    if n_draws < MIN_DRAWS:
        return None
    # Expected mean squares, per seed average.
    residual_mean_square = components.draw_group + components.seed_group / n_seeds
    of_draws = residual_mean_square + n_groups * (components.draw + components.seed / n_seeds)
    of_groups = residual_mean_square + n_draws * components.group
    mean_squares = np.array([of_draws, of_groups, residual_mean_square])
    spread, degrees_of_freedom = crossed_variance(mean_squares, n_draws, n_groups)
    return float(np.sqrt(spread / (n_draws * n_groups))), float(degrees_of_freedom)


def repeated_splits_error(
    components: VarianceComponents, n_splits: int, n_seeds: int, n_groups: int, test_ratio: float
) -> tuple[float, float] | None:
    """Return the expected standard error of the mean difference over repeated splits, and its degrees of freedom.

    Every split has a draw and test groups of its own, so all `components` fall on single splits, but for what their
    test groups share: those of two splits of one data set are drawn without replacement. The mean is corrected as
    `RepeatedSplitScores.estimate` does. None with fewer than three splits: such a design has no test.
    """
    if min(n_splits, n_seeds, n_groups) < 1:
        raise ValueError(f"{n_splits} splits, {n_seeds} seeds and {n_groups} test groups make no design")
    if n_splits < MIN_DRAWS:
        return None
    of_groups = (components.group + components.draw_group + components.seed_group / n_seeds) / n_groups
    of_groups /= 1 + test_ratio  # the part of the images that does not test
    of_split = components.draw + components.seed / n_seeds + of_groups
    return float(np.sqrt((1 / n_splits + test_ratio) * of_split)), n_splits - 1.0
