import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import sonosynth
from sonosynth.core.errors import ClassError, SplitError
from sonosynth.data import split
from sonosynth.data.imageset import ImageSet
from sonosynth.data.split import apportion, nested_subsets, split_indices


def labelled(labels: list[int] | np.ndarray, groups: list[int] | np.ndarray | None = None, k: int = 3) -> ImageSet:
    n = len(labels)
    numbers = np.arange(n) if groups is None else np.asarray(groups)
    ids = tuple(map(str, range(n)))
    classes = ("benign", "malignant", "normal", "unsure")[:k]
    return ImageSet(np.zeros((n, 1, 1), np.uint8), np.asarray(labels, np.int64), classes, numbers, ids)


def singletons(*counts: int) -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    return labelled(np.random.default_rng(0).permutation(labels), k=len(counts))


def per_class(data: ImageSet, index: np.ndarray) -> np.ndarray:
    return np.bincount(data.labels[index], minlength=len(data.classes))


grouped = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 25)), min_size=12, max_size=90).map(
    lambda rows: labelled([label for label, _ in rows], [group for _, group in rows])
)
class_counts = st.lists(st.integers(4, 60), min_size=1, max_size=3).map(tuple)


# ---------------------------------------------------------------------------------------------------- held out


@settings(max_examples=80, deadline=None)
@given(grouped, st.floats(0.05, 0.9), st.integers(0, 9))
def test_no_group_straddles_and_every_class_is_on_both_sides(data: ImageSet, fraction: float, seed: int) -> None:
    try:
        train, test = split_indices(data, fraction, seed)
    except (ClassError, SplitError):
        assume(False)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(data)))
    assert not set(data.groups[train]) & set(data.groups[test])
    assert per_class(data, train).min() > 0 and per_class(data, test).min() > 0
    assert train.dtype == test.dtype == np.int64
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()


@settings(max_examples=80, deadline=None)
@given(class_counts, st.floats(0.1, 0.9), st.integers(0, 9))
def test_held_out_is_exact_for_singleton_groups(counts: tuple[int, ...], fraction: float, seed: int) -> None:
    data = singletons(*counts)
    _, test = split_indices(data, fraction, seed)
    total = min(max(round(fraction * len(data)), len(counts)), len(data) - len(counts))
    assert len(test) == total
    assert abs(per_class(data, test) - total * np.array(counts) / len(data)).max() < 2


def test_held_out_comes_near_with_large_groups() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(200), rng.integers(2, 7, 200))
    data = labelled(rng.choice(3, 200, p=[0.5, 0.3, 0.2])[groups], groups)
    _, test = split_indices(data, 0.25, 0)
    assert abs(per_class(data, test) - 0.25 * per_class(data, np.arange(len(data)))).max() <= 2


def test_held_out_depends_on_the_seed_alone() -> None:
    data = singletons(30, 20)
    first = split_indices(data, 0.3, 0)[1]
    assert np.array_equal(first, split_indices(data, 0.3, 0)[1])
    assert not np.array_equal(first, split_indices(data, 0.3, 1)[1])


def test_held_out_draws_all_images_equally_often() -> None:
    data = singletons(20, 10)
    times = sum(np.bincount(split_indices(data, 0.3, seed)[1], minlength=30) for seed in range(300))
    assert times.min() > 55 and times.max() < 125  # 90 expected, standard deviation 8


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 1.5, float("nan")])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(SplitError, match="between 0 and 1"):
        split_indices(singletons(5, 5), fraction, 0)


def test_a_class_that_cannot_be_on_both_sides_is_named() -> None:
    with pytest.raises(SplitError, match=r"'malignant' has a single group \(1 image\)"):
        split_indices(labelled([0, 0, 0, 1], k=2), 0.25, 0)
    with pytest.raises(SplitError, match="'benign' has a single group"):
        split_indices(labelled([0, 0, 0, 1, 1], [7, 7, 7, 1, 2], k=2), 0.25, 0)
    with pytest.raises(ClassError, match="'normal' has no image"):
        split_indices(labelled([0, 0, 1, 1]), 0.25, 0)
    with pytest.raises(SplitError, match="cannot be on both sides: its images share groups"):
        # Each group holds one of two classes' last images: whichever goes, a class is empty on one side.
        split_indices(labelled([0, 1, 0, 2, 1, 2], [0, 0, 1, 1, 2, 2]), 0.3, 0)


def exists(data: ImageSet, min_train: int = 1, min_train_groups: int = 1) -> bool:
    """Return whether whole groups can be divided so that every class is on both sides, by trying all divisions."""
    groups = np.unique(data.groups)
    images = np.array([per_class(data, np.flatnonzero(data.groups == group)) for group in groups])
    taken = np.arange(2 ** len(groups))[:, None] >> np.arange(len(groups)) & 1
    test, left = taken @ images, (1 - taken) @ images
    return bool(
        ((test >= 1) & (left >= min_train) & ((1 - taken) @ (images > 0) >= min_train_groups)).all(axis=1).any()
    )


@pytest.mark.long
@pytest.mark.parametrize("tries", [1, split.MAX_ATTEMPTS])
@pytest.mark.parametrize(("min_train", "min_train_groups"), [(1, 1), (2, 1), (3, 2)])
def test_a_division_is_found_if_and_only_if_one_exists(
    tries: int, min_train: int, min_train_groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "MAX_ATTEMPTS", tries)
    rng = np.random.default_rng(min_train)
    found = refused = 0
    for seed in range(250):
        n = int(rng.integers(8, 20))
        data = labelled(rng.integers(0, 3, n), rng.integers(0, rng.integers(4, 9), n))
        if not exists(data, min_train, min_train_groups):
            with pytest.raises((SplitError, ClassError), match=r"leave (a|the) class out|leave it out"):
                split_indices(data, 0.3, seed, min_train=min_train, min_train_groups=min_train_groups)
            refused += 1
            continue
        train, test = split_indices(data, 0.3, seed, min_train=min_train, min_train_groups=min_train_groups)
        assert not set(data.groups[train]) & set(data.groups[test]) and len(train) + len(test) == n
        assert per_class(data, test).min() >= 1 and per_class(data, train).min() >= min_train
        assert min(data.subset(train).group_counts.values()) >= min_train_groups
        found += 1
    assert found > 60 and refused > 20


def test_a_division_that_one_order_misses_is_found_by_others() -> None:
    # Groups of two classes in a ring of four: only every other one has all classes on both sides.
    data = labelled([0, 1, 1, 2, 2, 3, 3, 0], [0, 0, 1, 1, 2, 2, 3, 3], k=4)
    tests = {tuple(np.unique(data.groups[split_indices(data, 0.5, seed)[1]])) for seed in range(30)}
    assert tests == {(0, 2), (1, 3)}


def test_the_first_order_decides_where_it_succeeds() -> None:
    # As this version and all earlier ones divide; studies that have begun rest on it.
    rng = np.random.default_rng(7)
    data = labelled(rng.integers(0, 3, 40), rng.integers(0, 20, 40))
    assert split_indices(data, 0.3, 0)[1].tolist() == [0, 1, 13, 20, 21, 22, 23, 26, 31, 32, 33, 34]
    assert split_indices(data, 0.3, 1, min_train=3, min_train_groups=2)[1].tolist() == [
        *(0, 2, 11, 13, 14, 16, 19, 21, 26, 32, 34, 37)
    ]


def test_what_was_not_found_is_no_claim_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    data = labelled([0, 1, 0, 2, 1, 2], [0, 0, 1, 1, 2, 2])
    with pytest.raises(SplitError, match="and no division of whole groups has one image of every class for testing"):
        split_indices(data, 0.3, 0)
    monkeypatch.setattr("sonosynth.data.split._Pool.solve", lambda *_: None)
    with pytest.raises(SplitError, match=r"was found in 50 tries .* whether one exists is not known; try another seed"):
        split_indices(data, 0.3, 0)
    with pytest.raises(SplitError, match=r"'benign' is too small .* 1 of 2 images and 1 of 2 groups are left"):
        split_indices(labelled([0, 0, 1, 1, 1, 1], k=2), 0.3, 0, min_train=2)


def test_a_group_larger_than_the_test_set_is_left_if_there_are_others() -> None:
    data = labelled([0] * 10 + [1] * 10, [0] * 6 + [1, 2, 3, 4] + [10 + i for i in range(10)], k=2)
    for seed in range(20):
        _, test = split_indices(data, 0.2, seed)
        assert len(test) == 4 and 0 not in test


def test_a_class_of_large_groups_is_on_both_sides_though_the_test_set_grows() -> None:
    data = labelled([0] * 14 + [1] * 6, [*range(14), 20, 20, 20, 21, 21, 21], k=2)
    train, test = split_indices(data, 0.1, 0)
    assert per_class(data, test).tolist() == [1, 3] and per_class(data, train).tolist() == [13, 3]


# ---------------------------------------------------------------------------------------------------- subsets


@settings(max_examples=80, deadline=None)
@given(grouped, st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(0, 4), st.data())
def test_subsets_are_nested_and_group_whole(
    data: ImageSet, shares: list[float], draw: int, more: st.DataObject
) -> None:
    pool = np.array(more.draw(st.permutations(range(len(data))))[: max(9, len(data) * 3 // 4)])
    sizes = [6 + round(share * (len(pool) - 6)) for share in shares]
    try:
        subsets = nested_subsets(data, pool, sizes, draw, 0)
    except ClassError:
        assume(False)
    assert list(subsets) == sorted(set(sizes))
    inner: set[int] = set()
    for index in subsets.values():
        chosen = set(index.tolist())
        assert inner <= chosen <= set(pool.tolist())
        assert not set(data.groups[index]) & set(data.groups[sorted(set(pool.tolist()) - chosen)])
        assert per_class(data, index).min() >= 2
        assert index.dtype == np.int64 and (np.diff(index) > 0).all()
        inner = chosen


@settings(max_examples=80, deadline=None)
@given(class_counts, st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 4))
def test_singleton_groups_give_exact_sizes_in_proportion(
    counts: tuple[int, ...], shares: list[float], draw: int
) -> None:
    data = singletons(*counts)
    least = 2 * len(counts)
    sizes = [least + round(share * (len(data) - least)) for share in shares]
    for size, index in nested_subsets(data, np.arange(len(data)), sizes, draw, 0).items():
        assert len(index) == size
        fair = np.array(counts) * size / len(data)
        have = per_class(data, index)
        # Where no class needs its minimum, shares are within one image of fair ones; the minimum costs the others.
        if fair.min() >= 2:
            assert abs(have - fair).max() < 1.5
        assert have.min() >= 2


def test_order_of_sizes_and_of_the_pool_does_not_matter() -> None:
    data = singletons(60, 40)
    pool = np.arange(0, 100, 2)
    a = nested_subsets(data, pool, [10, 20, 40], 0, 0)
    b = nested_subsets(data, pool[::-1], [40, 10, 20, 10], 0, 0)
    assert list(a) == list(b) == [10, 20, 40]
    assert all(np.array_equal(a[size], b[size]) for size in a)
    assert np.array_equal(nested_subsets(data, pool, [20], 0, 0)[20], a[20])


def test_draws_and_seeds_are_independent() -> None:
    data = singletons(300, 300)
    everything = np.arange(600)
    draws = [nested_subsets(data, everything, [60], draw, seed)[60] for draw in range(4) for seed in range(4)]
    shared = [len(np.intersect1d(a, b)) for i, a in enumerate(draws) for b in draws[:i]]
    assert max(shared) < 20 and np.mean(shared) == pytest.approx(6, abs=1)  # 60 * 60 / 600


def test_the_whole_pool_is_a_subset() -> None:
    data = labelled([0, 0, 1, 1, 0, 1], [0, 0, 1, 1, 2, 2], k=2)
    assert nested_subsets(data, range(6), [6], 0, 0)[6].tolist() == list(range(6))


def test_sizes_come_near_with_groups() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(300), rng.integers(3, 7, 300))
    data = labelled(rng.choice(3, 300, p=[0.5, 0.3, 0.2])[groups], groups)
    for draw in range(3):
        for size, index in nested_subsets(data, np.arange(len(data)), [25, 50, 100, 400], draw, 0).items():
            assert abs(len(index) - size) <= 3


def test_two_images_of_each_class_even_if_they_are_rare_or_grouped() -> None:
    data = labelled([0] * 94 + [1] * 6, [*range(94), 200, 200, 200, 201, 201, 201], k=2)
    index = nested_subsets(data, np.arange(100), [10], 0, 0)[10]
    assert per_class(data, index).tolist() == [8, 3]


def test_what_cannot_be_drawn_is_said() -> None:
    data = singletons(10, 6)
    with pytest.raises(SplitError, match=r"17 images was asked for, but there are 16 \(benign 10, malignant 6\)"):
        nested_subsets(data, np.arange(16), [8, 17], 0, 0)
    with pytest.raises(SplitError, match=r"subset of 3 images cannot hold 2 of each of 2 classes.*smallest size is 4"):
        nested_subsets(data, np.arange(16), [3, 8], 0, 0)
    with pytest.raises(SplitError, match="subset of 0 images"):
        nested_subsets(data, np.arange(16), [0], 0, 0)
    with pytest.raises(ClassError, match="class 'malignant' has 1 of the 11 images"):
        nested_subsets(singletons(10, 1), np.arange(11), [4], 0, 0)
    with pytest.raises(ValueError, match="distinct"):
        nested_subsets(data, [0, 1, 1], [4], 0, 0)


# ---------------------------------------------------------------------------------------------------- apportion


@settings(max_examples=60, deadline=None)
@given(class_counts)
def test_apportionment_never_takes_back(counts: tuple[int, ...]) -> None:
    sizes = range(2 * len(counts), sum(counts) + 1)
    shares = apportion(counts, sizes, least=2)
    assert (np.diff(shares, axis=0) >= 0).all() and shares.sum(axis=1).tolist() == list(sizes)
    assert shares[-1].tolist() == list(counts)


def test_apportionment_of_a_known_case() -> None:
    # Sainte-Laguë quotients of 53 : 24 : 23 at 7 seats (divisors 1, 3, 5, ...): 53, 24, 23, 17.7, 10.6, 8, 7.67.
    assert apportion([53, 24, 23], [7], least=0).tolist() == [[3, 2, 2]]


@pytest.mark.long
def test_large_sets_take_no_long() -> None:
    rng = np.random.default_rng(0)
    data = labelled(rng.integers(0, 3, 40_000), rng.integers(0, 30_000, 40_000))
    start = time.process_time()
    train, _ = split_indices(data, 0.2, 0)
    nested_subsets(data, train, [25, 100, 1000, 10_000], 0, 0)
    assert time.process_time() - start < 5  # 0.4 s; a quadratic method takes minutes


def test_split_gives_sets_without_a_shared_group_and_the_same_ones_each_time():
    data = labelled([0, 1] * 20, np.arange(40) // 2, k=2)
    train, test = sonosynth.split(data, test_fraction=0.25, seed=3)
    assert not set(train.groups) & set(test.groups) and len(train) + len(test) == 40 and len(test) == 10
    assert sonosynth.split(data, test_fraction=0.25, seed=3)[1].ids == test.ids
    indices = split_indices(data, 0.25, 3)
    assert train.ids == data.subset(indices[0]).ids and test.ids == data.subset(indices[1]).ids


def test_split_takes_groups_of_any_kind_in_place_of_its_own():
    data = labelled([0, 1] * 10, k=2)
    train, test = sonosynth.split(data, groups=[f"patient {i // 4}" for i in range(20)])
    assert not {int(i) // 4 for i in train.ids} & {int(i) // 4 for i in test.ids}
    with pytest.raises(SplitError, match="there are 3 groups for 20 images; give one per image"):
        sonosynth.split(data, groups=[1, 2, 3])
