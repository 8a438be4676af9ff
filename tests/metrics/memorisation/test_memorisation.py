import itertools
from math import comb

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.comparison import Comparison, Space, comparisons
from sonosynth.metrics.intervals.subsampling import SamplingUnits
from sonosynth.metrics.memorisation.data_copying import (
    MIN_IMAGES,
    PER_CELL,
    Cell,
    cell_count,
    data_copying,
    data_copying_interval,
    usable_cells,
)
from sonosynth.metrics.memorisation.distance_ratio import distance_ratio, distance_ratio_interval, nearest_groups
from sonosynth.metrics.memorisation.membership import membership_auc, membership_interval
from sonosynth.metrics.memorisation.three_sets import assign_cells
from sonosynth.metrics.metric import list_metrics
from sonosynth.metrics.neighbours import euclidean_distances as distances
from sonosynth.metrics.scorecard import measure
from sonosynth.metrics.scores import AT_BASELINE, Score

WEIGHTS = np.random.default_rng(99).standard_normal((6, 40))


def features(n_groups: int, seed: int, size: int = 1, shift: float = 0.0) -> np.ndarray:
    """Return ``[n_groups * size, 40]`` on six factors; images of one group are alike."""
    rng = np.random.default_rng(seed)
    factors = np.repeat(rng.standard_normal((n_groups, 6)), size, axis=0)
    return (factors + 0.2 * rng.standard_normal(factors.shape) + shift) @ WEIGHTS


def with_copies(synthetic: np.ndarray, train: np.ndarray, share: float) -> np.ndarray:
    n = round(share * len(synthetic))
    return np.concatenate([train[:n], synthetic[n:]])


def memorisation(
    train: np.ndarray,
    synthetic: np.ndarray,
    held_out: np.ndarray | None = None,
    groups_train: np.ndarray | None = None,
    groups_held_out: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Score]:
    """Return the rows of metrics of memorisation by features."""
    unseen = train[:0] if held_out is None else held_out
    t, u, s = np.split(np.arange(len(train) + len(unseen) + len(synthetic)), [len(train), len(train) + len(unseen)])
    groups = np.arange(len(t) + len(u) + len(s)) + 1000
    groups[t] = t if groups_train is None else groups_train
    groups[u] = u if groups_held_out is None else groups_held_out + 500
    space = Space("features", np.concatenate([train, unseen, synthetic]).astype(float), groups)
    comparison = Comparison(space, "train", "all", t, s, u, np.concatenate([t, u]), seed)
    metrics = [metric for metric in list_metrics("memorisation") if metric.space == "features"]
    return {row.metric: row for row in measure(metrics, [comparison])}


def in_one_cell(train: np.ndarray, held_out: np.ndarray, synthetic: np.ndarray) -> list[Cell]:
    cells = (np.zeros(len(part), dtype=np.int64) for part in (train, held_out, synthetic))
    return usable_cells(distances(held_out, train), distances(synthetic, train), *cells)


def test_distances_are_euclidean_and_nothing_for_equal_rows():
    x = features(9, 0).astype(np.float32) + 1000
    y = np.concatenate([features(4, 1).astype(np.float32) + 1000, x[2:5]])
    slow = [[np.linalg.norm(a.astype(float) - b) for b in y] for a in x]
    assert distances(x.astype(float), y.astype(float)) == pytest.approx(np.array(slow), rel=1e-9)
    assert (np.argwhere(distances(x.astype(float), y.astype(float)) == 0) == [[2, 4], [3, 5], [4, 6]]).all()


def in_units(to_train: np.ndarray, to_held_out: np.ndarray, *groups: np.ndarray):
    return nearest_groups(to_train, to_held_out, *map(SamplingUnits.of, groups))


class TestDistanceRatio:
    def test_of_equally_many_images_is_the_ratio_of_means(self):
        train, held_out, synthetic = (features(20, seed) for seed in range(3))
        nearest = [np.mean([min(np.linalg.norm(s - r) for r in real) for s in synthetic]) for real in (train, held_out)]
        index = np.arange(20)
        value = distance_ratio(*in_units(distances(synthetic, train), distances(synthetic, held_out), index, index))
        assert value == pytest.approx(nearest[0] / nearest[1])

    def test_is_the_mean_over_all_parts_of_the_larger_set(self):
        train, held_out, synthetic = features(8, 0), features(3, 1), features(5, 2)
        to_train, to_held_out = distances(synthetic, train), distances(synthetic, held_out)
        parts = [to_train[:, part].min(axis=1).mean() for part in itertools.combinations(range(8), 3)]
        assert len(parts) == comb(8, 3)
        value = distance_ratio(*in_units(to_train, to_held_out, np.arange(8), np.arange(3)))
        assert value == pytest.approx(np.mean(parts) / to_held_out.min(axis=1).mean())

    def test_draws_whole_groups(self):
        train, held_out, synthetic = features(6, 0, size=2), features(3, 1, size=2), features(5, 2)
        to_train, to_held_out = distances(synthetic, train), distances(synthetic, held_out)
        groups = np.array([5, 9, 5, 3, 3, 9, 1, 1, 0, 0, 7, 7])
        names = np.unique(groups)
        parts = [to_train[:, np.isin(groups, part)].min(axis=1).mean() for part in itertools.combinations(names, 3)]
        value = distance_ratio(*in_units(to_train, to_held_out, groups, np.repeat(np.arange(3), 2)))
        assert value == pytest.approx(np.mean(parts) / to_held_out.min(axis=1).mean())

    def test_is_the_mean_over_all_parts_with_as_many_of_each_class(self):
        train, held_out, synthetic = features(9, 0), features(4, 1), features(5, 2)
        labels, few = np.array([2] * 4 + [5] * 5), np.array([2, 2, 2, 5])
        to_train, to_held_out = distances(synthetic, train), distances(synthetic, held_out)
        parts = [
            to_train[:, [*first, last]].min(axis=1).mean()
            for first in itertools.combinations(range(4), 3)
            for last in range(4, 9)
        ]
        units = SamplingUnits.of(np.arange(9), labels), SamplingUnits.of(np.arange(4), few)
        value = distance_ratio(*nearest_groups(to_train, to_held_out, *units))
        assert value == pytest.approx(np.mean(parts) / to_held_out.min(axis=1).mean())

    def test_few_groups_of_several_classes_are_no_sign_of_memorisation(self):
        """Seven training groups hold all three classes; of 48 held-out ones, random seven may lack one."""
        values = []
        for seed in range(30):
            rng = np.random.default_rng(seed)
            sets = []
            for per_class, size in ((8, 4), (64, 4), (60, 1)):
                labels = np.repeat(np.arange(3), per_class)
                groups = np.arange(len(labels)) // size
                x = rng.standard_normal((len(labels), 8))[groups] + rng.standard_normal((len(labels), 8))
                sets.append((x + 40 * labels[:, None], SamplingUnits.of(groups, labels)))
            (train, of_train), (held_out, of_held_out), (synthetic, _) = sets
            to_train, to_held_out = distances(synthetic, train), distances(synthetic, held_out)
            values.append(distance_ratio(*nearest_groups(to_train, to_held_out, of_train, of_held_out)))
        assert abs(np.mean(values) - 1) < 3 * np.std(values) / np.sqrt(30) < 0.05

    @pytest.mark.parametrize("n_train", [60, 240])
    def test_unequal_sizes_do_not_move_it(self, n_train):
        values = []
        for seed in range(40):
            train, held_out, synthetic = (
                features(n_train, 3 * seed),
                features(60, 3 * seed + 1),
                features(60, 3 * seed + 2),
            )
            to_train, to_held_out = distances(synthetic, train), distances(synthetic, held_out)
            values.append(distance_ratio(*in_units(to_train, to_held_out, np.arange(n_train), np.arange(60))))
        assert abs(np.mean(values) - 1) < 3 * np.std(values) / np.sqrt(40) < 0.03

    def test_copies_make_it_smaller_by_their_share(self):
        train, held_out, synthetic = (features(100, seed) for seed in range(3))

        def value(share: float) -> float:
            copied = with_copies(synthetic, train, share)
            return distance_ratio(*in_units(distances(copied, train), distances(copied, held_out), index, index))

        index = np.arange(100)
        assert value(0.2) / value(0) == pytest.approx(0.8, abs=0.04)
        assert value(1) == 0

    @pytest.mark.slow
    def test_interval_holds_the_mean_over_repeats(self):
        values, intervals = [], []
        index = np.arange(40)
        for seed in range(40):
            train, held_out, synthetic = (features(40, 3 * seed + k) for k in range(3))
            near = in_units(distances(synthetic, train), distances(synthetic, held_out), index, index)
            values.append(distance_ratio(*near))
            intervals.append(distance_ratio_interval(*near, [SamplingUnits.of(index)] * 3, seed))
        low, high = np.transpose(intervals)
        assert ((low < np.mean(values)) & (np.mean(values) < high)).mean() >= 0.93
        assert (high - low).mean() / 2 < 2 * 1.96 * np.std(values)

    def test_no_interval_from_few_groups(self):
        to_train, to_held_out = np.random.default_rng(0).random((2, 20, 20))
        few, many = np.arange(20) % 4, np.arange(20)
        for of_train, of_held_out, of_synthetic in itertools.permutations([few, many, many]):
            near = in_units(to_train, to_held_out, of_train, of_held_out)
            units = [SamplingUnits.of(groups) for groups in (of_train, of_held_out, of_synthetic)]
            assert distance_ratio_interval(*near, units) is None


class TestMembership:
    def test_is_the_area_under_the_curve(self):
        rng = np.random.default_rng(0)
        members, others = rng.integers(0, 9, 30), rng.integers(1, 12, 20)  # with ties
        expected = roc_auc_score([1] * 30 + [0] * 20, -np.concatenate([members, others]))
        assert membership_auc(members, others) == pytest.approx(expected)

    def test_interval_of_single_images_is_delongs(self):
        rng = np.random.default_rng(0)
        members, others = rng.standard_normal(30), rng.standard_normal(20) + 0.7
        wins = (members[:, None] < others[None]).astype(float)
        variance = wins.mean(axis=1).var(ddof=1) / 30 + wins.mean(axis=0).var(ddof=1) / 20
        low, high = membership_interval(members, others, np.arange(30), np.arange(20))
        assert (low + high) / 2 == pytest.approx(wins.mean())
        assert high - low == pytest.approx(2 * 2.093 * np.sqrt(variance), rel=1e-3)

    @pytest.mark.parametrize("size", [1, 3])
    def test_interval_holds_chance_for_a_generator_that_saw_nothing(self, size):
        held, values = [], []
        for seed in range(200):
            train, held_out = features(40, 3 * seed, size), features(30, 3 * seed + 1, size)
            synthetic = features(60, 3 * seed + 2)
            nearest = (
                distances(synthetic, train).min(axis=0),
                distances(synthetic, held_out).min(axis=0),
            )
            groups = np.repeat(np.arange(40), size), np.repeat(np.arange(30), size)
            low, high = membership_interval(*nearest, *groups)
            held.append(low <= 0.5 <= high)
            values.append(membership_auc(*nearest))
        assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / np.sqrt(200)
        assert 0.9 <= np.mean(held) <= 0.99

    def test_rises_with_copies(self):
        train, held_out, synthetic = (features(100, seed) for seed in range(3))
        values = []
        for share in (0, 0.2, 0.6, 1):
            copied = with_copies(synthetic, train, share)
            values.append(membership_auc(distances(copied, train).min(axis=0), distances(copied, held_out).min(axis=0)))
        assert abs(values[0] - 0.5) < 0.08
        assert (np.diff(values) > 0.05).all()
        assert values[-1] == 1

    def test_no_interval_from_few_groups(self):
        values, many = np.arange(20.0), np.arange(20)
        assert membership_interval(values, values, many % 4, many) is None
        assert membership_interval(values, values, many, many % 4) is None
        assert membership_interval(values, values, many % 5, many) is not None


def slow_c_t(train: np.ndarray, held_out: np.ndarray, synthetic: np.ndarray, cells: list[np.ndarray]) -> float:
    """Return C_T as the paper writes it: pairs counted one by one."""
    total, weight = 0.0, 0
    for cell in range(int(cells[0].max()) + 1):
        here = [part[own == cell] for part, own in zip((train, held_out, synthetic), cells, strict=True)]
        if min(len(here[1]), len(here[2])) < MIN_IMAGES or not len(here[0]):
            continue
        p, q = ([min(np.linalg.norm(x - t) for t in here[0]) for x in part] for part in here[1:])
        u = sum(1.0 if b > a else 0.5 if b == a else 0.0 for a in p for b in q)
        n, m = len(p), len(q)
        total += n * (u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
        weight += n
    return total / weight


class TestDataCopying:
    @pytest.mark.parametrize("share", [0, 0.3])
    def test_agrees_with_the_slow_way(self, share):
        train, held_out, synthetic = (
            features(90, 0),
            features(80, 1),
            with_copies(features(110, 2), features(90, 0), share),
        )
        cells = [assign_cells(train, part, 5) for part in (train, held_out, synthetic)]
        assert min(np.bincount(cells[2])) < MIN_IMAGES < max(np.bincount(cells[2]))  # a cell is left out
        value = data_copying(usable_cells(distances(held_out, train), distances(synthetic, train), *cells))
        assert value == pytest.approx(slow_c_t(train, held_out, synthetic, cells), rel=1e-9)

    @pytest.mark.parametrize("size", [1, 2])
    def test_is_zero_on_average_with_a_fair_interval(self, size):
        values, held = [], []
        for seed in range(150):
            train, held_out, synthetic = (
                features(60, 3 * seed),
                features(30, 3 * seed + 1, size),
                features(60, 3 * seed + 2),
            )
            cells = in_one_cell(train, held_out, synthetic)
            values.append(data_copying(cells))
            low, high = data_copying_interval(cells, np.repeat(np.arange(30), size), np.arange(60))
            held.append(low <= 0 <= high)
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(150)
        assert 0.9 <= np.mean(held) <= 0.99

    def test_is_negative_for_copies_and_positive_for_strangers(self):
        train, held_out, synthetic = (features(60, seed) for seed in range(3))

        def value(made: np.ndarray) -> float:
            return data_copying(in_one_cell(train, held_out, made))

        assert value(with_copies(synthetic, train, 0.5)) < -3
        assert value(synthetic + 5) > 3

    def test_needs_images_in_a_cell(self):
        train, few, many = features(60, 0), features(MIN_IMAGES - 1, 1), features(MIN_IMAGES, 2)
        for held_out, synthetic in ((few, many), (many, few)):
            cells = in_one_cell(train, held_out, synthetic)
            assert data_copying(cells) is None
            assert data_copying_interval(cells, np.arange(len(held_out)), np.arange(len(synthetic))) is None

    def test_cells_grow_with_the_smallest_set(self):
        assert [cell_count(1000, n * PER_CELL, 900) for n in (0, 1, 5)] == [1, 1, 5]
        assert set(assign_cells(features(60, 0), features(60, 0), 4)) == {0, 1, 2, 3}


class TestMemorisation:
    def test_reports_every_value_with_interval_baseline_and_sizes(self):
        train, held_out, synthetic = features(90, 10), features(80, 11), features(100, 12)
        rows = memorisation(train, synthetic, held_out)
        for name, neutral, reach in (
            ("nearest_distance_ratio", 1, 0.1),
            ("membership_auc", 0.5, 0.1),
            ("data_copying", 0, 2),
        ):
            row, small = rows[name], rows[name + AT_BASELINE]
            assert abs(row.value - neutral) < reach
            assert row.low < row.value < row.high
            assert row.low < neutral < row.high
            assert abs(row.real_baseline - neutral) < reach
            assert abs(small.value - neutral) < reach
            assert (row.n_real, row.n_synthetic, row.real_baseline_n) == (170, 100, 40)
            assert (small.n_real, small.n_synthetic) == (90 + 40, 40)

    def test_copies_move_every_value_away_from_its_baseline(self):
        train, held_out, synthetic = features(90, 0), features(80, 1), features(90, 2)
        rows = memorisation(train, with_copies(synthetic, train, 0.6), held_out)
        assert rows["nearest_distance_ratio"].high < rows["nearest_distance_ratio"].real_baseline
        assert rows["membership_auc"].low > rows["membership_auc"].real_baseline
        assert rows["data_copying"].high < min(-1, rows["data_copying"].real_baseline)
        assert rows["data_copying_at_baseline_n"].value < rows["data_copying"].real_baseline - 1

    def test_without_held_out_images_says_what_is_missing(self):
        for row in memorisation(features(30, 0), features(30, 1)).values():
            assert (row.value, row.low, row.high, row.real_baseline) == (None,) * 4
            assert "needs held-out images" in row.note and row.n_real == 30

    def test_small_sets_have_no_baseline_and_no_c_t(self):
        rows = memorisation(features(30, 0), features(30, 1), features(MIN_IMAGES - 1, 2))
        assert all(row.real_baseline is None and row.real_baseline_n is None for row in rows.values())
        assert rows["data_copying"].value is None
        assert f"needs {MIN_IMAGES}" in rows["data_copying"].note
        assert rows["membership_auc"].value is not None

    def test_groups_widen_the_intervals(self):
        train, held_out, synthetic = features(20, 0, 4), features(15, 1, 4), features(60, 2)
        groups = {"groups_train": np.repeat(np.arange(20), 4), "groups_held_out": np.repeat(np.arange(15), 4)}
        single, grouped = (memorisation(train, synthetic, held_out, **g) for g in ({}, groups))
        for name in ("membership_auc", "data_copying"):
            assert single[name].value == pytest.approx(grouped[name].value)
            assert grouped[name].high - grouped[name].low > 1.3 * (single[name].high - single[name].low)

    def test_is_the_same_again(self):
        sets = features(50, 0), features(50, 1), features(50, 2)
        assert memorisation(*sets, seed=3) == memorisation(*sets, seed=3)


def pixel_rows(*sets: np.ndarray) -> dict[str, Score]:
    """Return the rows of metrics of memorisation by pixels."""
    roles = ("train", "held-out", "synthetic") if len(sets) == 3 else ("train", "synthetic")
    given = {
        role: ImageSet(
            part, np.zeros(len(part), int), ("all",), np.arange(len(part)), tuple(map(str, range(len(part))))
        )
        for role, part in zip(roles, sets, strict=True)
    }
    groups = ImageSet.concatenate(given.values()).groups
    found = comparisons(Space("pixels", np.empty((len(groups), 0)), groups, given), ())
    metrics = [metric for metric in list_metrics("memorisation") if metric.space == "pixels"]
    return {row.metric: row for row in measure(metrics, found)}


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """30 training, 25 held-out and 40 synthetic images, ten of which are mirrored training images."""
    sizes = enumerate((30, 25, 30))
    train, held_out, fresh = (np.random.default_rng(seed).integers(0, 256, (n, 32, 32), np.uint8) for seed, n in sizes)
    return train, held_out, np.concatenate([train[:10, :, ::-1], fresh])


class TestPixels:
    def test_copies_are_counted_and_betray_training_images(self, pictures):
        rows = pixel_rows(*pictures)
        share, auc = rows["near_copies"], rows["membership_auc"]
        assert (share.value, share.real_baseline, share.real_baseline_n) == (0.25, 0, 25)
        assert share.low < 0.25 < share.high
        assert (share.n_real, share.n_synthetic) == (30 + 25, 40)
        assert auc.low > 0.5 and (auc.n_real, auc.n_synthetic) == (30 + 25, 40)

    def test_without_held_out_images(self, pictures):
        train, _, synthetic = pictures
        rows = pixel_rows(train, synthetic)
        share = rows["near_copies"]
        assert (share.value, share.n_real, share.real_baseline_n) == (0.25, 30, 30)
        assert "other groups" in share.note
        assert rows["membership_auc"].value is None and "needs held-out images" in rows["membership_auc"].note

    def test_without_a_threshold(self, pictures):
        train, _, synthetic = pictures
        row = pixel_rows(train[:8], synthetic)["near_copies"]
        assert row.value is None and "a threshold needs 20" in row.note
