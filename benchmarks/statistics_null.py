"""Do the tests hold their level, the intervals their coverage, and the power what was predicted? Simulated outcomes.

    python benchmarks/statistics_null.py --repeats 2000 --out results/2026-11-statistics/null.json

195 test images in groups like BUSI's, training sizes 25 to 200, five draws and five seeds unless stated; see
`simulated_outcomes.py`. Beside each method stands what one would do without it.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bench import line, save
from repeated_splits import split_scores
from simulated_outcomes import (
    ARMS_ALIKE,
    BUSI_LIKE,
    DRAWS_ALIKE,
    N_CLASSES,
    N_TEST,
    SINGLE_PAIR,
    SKILLS,
    Chance,
    draw_images,
    macro_f1,
    predict,
)
from sonosynth.statistics.comparisons import clustered_mcnemar, holm, score_difference
from sonosynth.statistics.f1 import f1_intervals, fixed_test_f1
from sonosynth.statistics.learning_curves import equivalent_real_images
from sonosynth.statistics.power import (
    VarianceComponents,
    fixed_test_error,
    minimum_detectable_difference,
    t_test_power,
    variance_components,
)
from sonosynth.statistics.scores import FixedTestScores, RepeatedSplits, RepeatedSplitScores

COLUMNS = (
    ("question", "{:<9}"),
    ("what", "{:<24}"),
    ("size", "{:>5}"),
    ("method", "{:<45}"),
    ("repeats", "{:>7}"),
    ("rate", "{:>7.1%}"),
    ("aim", "{:>6.1%}"),
)
KEY = ("question", "what", "size", "method")
Array = np.ndarray[Any, Any]
Outcomes = Iterator[dict[str, bool]]
LEVEL = 0.95
N_GROUPS = 148  # of 195 images, on average
RESAMPLES = 1000  # of the bootstrap that stands beside


def fixed_test_scores(images: Any, predictions: Array) -> list[FixedTestScores]:
    """Return macro F1 of each arm with every group left out."""
    return [fixed_test_f1(images.labels, images.groups, arm, N_CLASSES)[-2] for arm in predictions]


def by_run(images: Any, predictions: Array) -> Array:
    """Return the differences of macro F1 of single runs, ``[draws * seeds]``."""
    a, b = macro_f1(images.labels, predictions, N_CLASSES)
    return np.asarray(b - a).ravel()


def bootstrap(random: np.random.Generator, images: Any, predictions: Array) -> Array:
    """Return macro F1 of each arm, ``[arms, resamples]``, in a hierarchical bootstrap over draws and test groups."""
    arms, n_draws = predictions.shape[:2]
    n_groups = int(images.groups[-1]) + 1
    weights = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), RESAMPLES)
    draws = random.multinomial(n_draws - 1, np.full(n_draws, 1 / n_draws), RESAMPLES) / (n_draws - 1)
    weight = weights[:, images.groups].astype(np.float64)
    f1 = np.zeros((arms, n_draws, predictions.shape[2], RESAMPLES))
    for c in range(N_CLASSES):
        true, chosen = images.labels == c, predictions == c
        total = weight @ true + chosen @ weight.T
        f1 += 2 * ((chosen & true) @ weight.T) / np.maximum(total, 1) / N_CLASSES
    return np.asarray(np.einsum("adr,rd->ar", f1.mean(axis=2), draws))


def population_f1(skills: list[float], size: int, repeats: int, chance: Chance = BUSI_LIKE) -> Array:
    """Return the mean macro F1 of an arm of each skill over many draws, each on 1,000 images of its own."""
    total = np.zeros(len(skills))
    for i in range(repeats):
        images = draw_images(np.random.default_rng([17, size, i]), 1, 1000, chance)
        for j, skill in enumerate(skills):  # the same chances for every skill
            predictions = predict(np.random.default_rng([18, size, i]), images, [skill], size, 1, 1, chance)
            total[j] += macro_f1(images.labels, predictions, N_CLASSES).item()
    return total / repeats


def null_differences(random: np.random.Generator, size: int, chance: Chance, repeats: int, n_draws: int) -> Outcomes:
    """Two arms of equal skill: who claims a difference?"""
    for i in range(repeats):
        images = draw_images(random, chance=chance)
        predictions = predict(random, images, [SKILLS[size]] * 2, size, n_draws, chance=chance)
        runs = by_run(images, predictions)
        a, b = fixed_test_scores(images, predictions)
        found = {
            "crossed draws and groups": bool((b - a).estimate().p_value() < 1 - LEVEL),
            "plain t-test over draws × seeds": stats.ttest_1samp(runs, 0).pvalue < 1 - LEVEL,
            "plain t-test over draws": stats.ttest_1samp(runs.reshape(n_draws, -1).mean(axis=1), 0).pvalue < 1 - LEVEL,
        }
        if i < repeats // 4 and n_draws > 3:
            low, high = np.quantile(np.diff(bootstrap(random, images, predictions), axis=0), [0.025, 0.975])
            found["percentile bootstrap, draws and groups"] = bool(low > 0 or high < 0)
        yield found


def null_pairs(random: np.random.Generator, size: int, chance: Chance, repeats: int) -> Outcomes:
    """Two single networks: who claims a difference?"""
    for _ in range(repeats):
        images = draw_images(random, chance=chance)
        a, b = predict(random, images, [SKILLS[size]] * 2, size, 1, 1, chance)[:, 0, 0]
        alone = np.arange(len(a))
        yield {
            "McNemar clustered by group": clustered_mcnemar(images.labels, images.groups, a, b).p_value < 1 - LEVEL,
            "McNemar over images": clustered_mcnemar(images.labels, alone, a, b).p_value < 1 - LEVEL,
        }


def null_splits(random: np.random.Generator, size: int, repeats: int, n_splits: int = 10) -> Outcomes:
    """Two learners of equal skill on grouped splits: who claims a difference?"""
    for _ in range(repeats):
        a, b, splits = split_scores(random, n_splits, size)
        found = {
            "Nadeau-Bengio, n of the training part": nadeau_bengio(a, b, splits) < 1 - LEVEL,
            "plain t-test over splits": stats.ttest_rel(a, b).pvalue < 1 - LEVEL,
        }
        if size:
            found["Nadeau-Bengio, n of the subset"] = nadeau_bengio(a, b, replace(splits, n_train=size)) < 1 - LEVEL
        yield found


def nadeau_bengio(a: np.ndarray, b: np.ndarray, splits: RepeatedSplits) -> float:
    """Return the p-value of no difference between two learners over `splits`."""
    return float((RepeatedSplitScores(b, splits) - RepeatedSplitScores(a, splits)).estimate().p_value())


def null_family(random: np.random.Generator, repeats: int) -> Outcomes:
    """Three generators at four sizes against one baseline a size, on one test set: is there any false claim?"""
    for _ in range(repeats):
        images = draw_images(random, n_arms=4)
        p_values = []
        for size, skill in SKILLS.items():
            base, *others = fixed_test_scores(images, predict(random, images, [skill] * 4, size))
            p_values += [float((other - base).estimate().p_value()) for other in others]
        yield {"Holm": min(holm(p_values)) < 1 - LEVEL, "not corrected": min(p_values) < 1 - LEVEL}


def covered_scores(random: np.random.Generator, size: int, repeats: int, n: int = N_TEST, n_draws: int = 5) -> Outcomes:
    """Does the interval of macro F1 hold the mean over draws of the training subset and test images?"""
    truth = population_f1([SKILLS[size]], size, 400).item()
    for i in range(repeats):
        images = draw_images(random, 1, n)
        predictions = predict(random, images, [SKILLS[size]], size, n_draws)
        interval = f1_intervals(fixed_test_f1(images.labels, images.groups, predictions[0], N_CLASSES)).macro_f1
        found = {"t of the logit": interval.low <= truth <= interval.high}
        if i < repeats // 4:
            low, high = np.quantile(bootstrap(random, images, predictions), [0.025, 0.975])
            found["percentile bootstrap, draws and groups"] = bool(low <= truth <= high)
        yield found


def few_draws(random: np.random.Generator, size: int, repeats: int, n_draws: int, n_seeds: int) -> Outcomes:
    """One or two draws, where draws make no difference: does the interval hold the difference of two equal arms?"""
    for _ in range(repeats):
        images = draw_images(random, chance=DRAWS_ALIKE)
        skills = [SKILLS[size]] * 2
        a, b = fixed_test_scores(images, predict(random, images, skills, size, n_draws, n_seeds, DRAWS_ALIKE))
        difference = b - a
        yield {
            "crossed seeds and groups": holds(difference.estimate().interval(), 0),
            "over groups alone": holds(replace(difference, training=None).estimate().interval(), 0),
        }


def effects(random: np.random.Generator, size: int, skill: float, truth: Array, repeats: int) -> Outcomes:
    """Two arms that differ: is it found, and do the intervals hold the difference?"""
    for _ in range(repeats):
        images = draw_images(random)
        a, b = fixed_test_scores(images, predict(random, images, [SKILLS[size], skill], size))
        difference = score_difference(a, b)
        yield {
            "power": difference.p_value is not None
            and difference.p_value < 1 - LEVEL
            and difference.absolute.value > 0,
            "absolute": holds(difference.absolute, truth[1] - truth[0]),
            "relative": difference.relative is not None and holds(difference.relative, truth[1] / truth[0] - 1),
        }


def holds(interval: Any, truth: float) -> bool:
    """Return whether `truth` lies in `interval`."""
    return bool(interval.low <= truth <= interval.high)


def worths(random: np.random.Generator, n_real: int, equals: int, repeats: int) -> Outcomes:
    """An arm that at `n_real` images scores as `equals` real images do: does the interval hold `equals`?"""
    sizes = list(SKILLS)
    skill = equal_skill(n_real, equals)
    for _ in range(repeats):
        images = draw_images(random)
        curve = [fixed_test_scores(images, predict(random, images, [SKILLS[n]] * 2, n))[0] for n in sizes]
        other = fixed_test_scores(images, predict(random, images, [skill] * 2, n_real))[1]
        yield {
            "paired t test turned round": holds(equivalent_real_images(sizes, curve, n_real, other).equivalent, equals)
        }


def equal_skill(n_real: int, equals: int) -> float:
    """Return the skill at `n_real` with the macro F1 of `equals` real images."""
    target = population_f1([SKILLS[equals]], equals, 400).item()
    skills = np.linspace(SKILLS[equals] - 0.1, SKILLS[equals] + 0.2, 4)
    return float(np.interp(target, population_f1(list(skills), n_real, 400), skills))


def mean_components(random: np.random.Generator, size: int, repeats: int) -> VarianceComponents:
    """Return the components of a difference at `size`: means over simulated studies."""
    found = []
    for _ in range(repeats):
        images = draw_images(random)
        a, b = predict(random, images, [SKILLS[size]] * 2, size)
        c = variance_components(images.labels, images.groups, a, b, N_CLASSES)
        found.append([c.draw, c.seed, c.group, c.draw_group, c.seed_group])
    return VarianceComponents(*(float(v) for v in np.mean(found, axis=0)))


def powers(random: np.random.Generator, size: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield rows for a true difference that should be found in 80 %, and for half of it."""
    components = mean_components(random, size, repeats // 4)
    error = fixed_test_error(components, 5, 5, N_GROUPS)
    assert error is not None
    smallest = minimum_detectable_difference(*error)
    skills = SKILLS[size] + np.linspace(0, 0.6, 7)
    curve = population_f1(list(skills), size, 300)
    for share in (1.0, 0.5):
        skill = float(np.interp(curve[0] + share * smallest, curve, skills))
        counts = Counter[str]()
        for outcome in effects(random, size, skill, np.array([curve[0], curve[0] + share * smallest]), repeats):
            counts.update(name for name, yes in outcome.items() if yes)
        what = f"true difference {share * smallest:.3f}"
        predicted = t_test_power(share * smallest, *error)
        yield row("power", what, size, "crossed draws and groups", repeats, counts["power"], predicted)
        for kind in ("absolute", "relative"):
            yield row("coverage", f"{kind}, {what[5:]}", size, "crossed draws and groups", repeats, counts[kind], LEVEL)


def row(question: str, what: str, size: int, method: str, n: int, yes: int, aim: float | None) -> dict[str, Any]:
    """Return a line of the table."""
    return {
        "question": question, "what": what, "size": size, "method": method, "repeats": n, "rate": yes / n, "aim": aim,
    }  # fmt: skip


def tally(question: str, what: str, size: int, outcomes: Outcomes, aim: float) -> Iterator[dict[str, Any]]:
    """Yield one row a method."""
    seen, yes = Counter[str](), Counter[str]()
    for outcome in outcomes:
        seen.update(outcome.keys())
        yes.update(name for name, value in outcome.items() if value)
    for name in seen:
        yield row(question, what, size, name, seen[name], yes[name], aim)


def null_rows(random: np.random.Generator, n: int) -> Iterator[dict[str, Any]]:
    alpha = 1 - LEVEL
    for size in SKILLS:
        for what, chance in (("arms", BUSI_LIKE), ("arms, alike by image", ARMS_ALIKE)):
            yield from tally("type I", what, size, null_differences(random, size, chance, n, 5), alpha)
    yield from tally("type I", "arms, 3 draws", 100, null_differences(random, 100, BUSI_LIKE, n, 3), alpha)
    for size in (25, 200):
        yield from tally("type I", "two networks", size, null_pairs(random, size, SINGLE_PAIR, n), alpha)
        yield from tally("type I", "arms, by one network each", size, null_pairs(random, size, BUSI_LIKE, n), alpha)
    for size in (0, 100):
        yield from tally("type I", "learners, 10 splits", size, null_splits(random, size, n), alpha)
    yield from tally("type I", "any of 4 sizes × 3 arms", 0, null_family(random, n // 2), alpha)


def coverage_rows(random: np.random.Generator, n: int) -> Iterator[dict[str, Any]]:
    for size in SKILLS:
        yield from tally("coverage", "macro F1", size, covered_scores(random, size, n), LEVEL)
    yield from tally("coverage", "macro F1, 3 draws", 100, covered_scores(random, 100, n, N_TEST, 3), LEVEL)
    yield from tally("coverage", "macro F1, 80 images", 100, covered_scores(random, 100, n, 80), LEVEL)
    for n_real, equals in ((25, 50), (50, 100), (100, 100)):
        yield from tally(
            "coverage", f"worth {equals} real images", n_real, worths(random, n_real, equals, n // 2), LEVEL
        )


def power_rows(random: np.random.Generator, n: int) -> Iterator[dict[str, Any]]:
    for size in SKILLS:
        yield from powers(random, size, n)


def split_rows(random: np.random.Generator, n: int) -> Iterator[dict[str, Any]]:
    for n_splits, size in itertools.product((3, 5), (50, 200)):
        outcomes = null_splits(random, size, n, n_splits)
        yield from tally("type I", f"learners, {n_splits} splits", size, outcomes, 1 - LEVEL)


def few_rows(random: np.random.Generator, n: int) -> Iterator[dict[str, Any]]:
    for n_draws, n_seeds, size in itertools.product((1, 2), (2, 3, 5), (25, 200)):
        outcomes = few_draws(random, size, n, n_draws, n_seeds)
        yield from tally("coverage", f"{n_draws} draws × {n_seeds} seeds", size, outcomes, LEVEL)


PARTS: dict[str, Callable[[np.random.Generator, int], Iterator[dict[str, Any]]]] = {
    "null": null_rows,
    "coverage": coverage_rows,
    "power": power_rows,
    "splits": split_rows,
    "few": few_rows,
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print(line(COLUMNS))
    for part in arguments.parts:
        random = np.random.default_rng([arguments.seed, list(PARTS).index(part)])
        for found in PARTS[part](random, arguments.repeats):
            print(line(COLUMNS, found), flush=True)
            if arguments.out:
                save(arguments.out, [found | {"seed": arguments.seed}], KEY)


if __name__ == "__main__":
    main()
