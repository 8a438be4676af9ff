"""Dividing images into a held-out test set and nested training subsets, never dividing a group."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack

from sonosynth.core.errors import ClassError, LeakageError, SplitError
from sonosynth.core.seeds import numpy_generator
from sonosynth.core.text import counted
from sonosynth.core.types import Array
from sonosynth.data.imageset import ImageSet
from sonosynth.data.source import some_of

MAX_ATTEMPTS = 50  # random orders of the groups
MIN_PER_CLASS = 2  # images of each class in a training subset
_INFEASIBLE = 2  # a status of scipy.optimize.milp
_MOST_NODES = 1000  # of the search tree of an integer programme, whose time would otherwise have no bound

# A group as pairs of class number and count; most groups have one pair.
_Group = tuple[tuple[int, int], ...]


def shared_images(first: ImageSet, second: ImageSet) -> list[tuple[str, str]]:
    """Return the ids of images that stand, pixel for pixel, in both sets: leakage if one of them tests the other."""
    known = {image.tobytes(): name for image, name in zip(first.images, first.ids, strict=True)}
    both = zip(second.images, second.ids, strict=True)
    return [(known[pixels], name) for image, name in both if (pixels := image.tobytes()) in known]


def check_real(data: ImageSet, role: str) -> None:
    """Raise LeakageError if `data`, which stands as the `role` (e.g. "test images"), is marked as synthetic."""
    if data.synthetic:
        raise LeakageError(f"the {role} are marked as synthetic, and real ones are needed; were two folders exchanged?")


def check_same_classes(first: ImageSet, second: ImageSet) -> None:
    """Raise ClassError, which names both, unless the sets have the same classes in the same order."""
    if first.classes != second.classes:
        raise ClassError(f"the sets have different classes: {', '.join(first.classes)} and {', '.join(second.classes)}")


def other_classes(counts: Mapping[str, int], classes: Sequence[str]) -> str:
    """Return which of the images that `counts` gives are of none of `classes`, such as "12 of class 'normal'"."""
    return ", ".join(f"{n} of class '{name}'" for name, n in sorted(counts.items()) if n and name not in classes)


def check_disjoint(first: ImageSet, second: ImageSet, roles: tuple[str, str], remedy: str) -> None:
    """Raise LeakageError, which lists some and says the `remedy`, if an image stands pixel for pixel in both sets."""
    if shared := shared_images(first, second):
        raise LeakageError(leakage_message(shared, roles, remedy))


def leakage_message(shared: Sequence[tuple[str, str]], roles: tuple[str, str], remedy: str) -> str:
    """Return the line that tells which images of the first of two `roles` stand in the second as well: some of them."""
    some = some_of(f"'{here}'" if here == there else f"'{here}' = '{there}'" for here, there in shared)
    return f"{len(shared)} {roles[1]} are also {roles[0]}: {some}; {remedy}"


def split(
    data: ImageSet, test_fraction: float = 0.25, seed: int = 0, *, groups: Sequence[object] | Array | None = None
) -> tuple[ImageSet, ImageSet]:
    """Divide `data` into training and test images, so that no group (patient, clip, duplicates) is on both sides.

    Example:
        >>> import sonosynth as ss
        >>> train, test = ss.split(ss.load("my-images", size=64), test_fraction=0.25, seed=0)
        >>> set(train.groups) & set(test.groups)
        set()

    Args:
        data: the images.
        test_fraction: share of the images in the test set, between 0 and 1.
        seed: of the random order of the groups; the same arguments give the same division.
        groups: which images belong together, one entry per image of any kind; None: ``data.groups``.

    Returns:
        The training and the test images, each in the order of `data`. Classes are as near to their proportions as
        groups allow, with an image of each class on both sides.

    Raises:
        SplitError: `test_fraction` is out of range, no such division exists, or none was found.
        ClassError: a class has no image.
    """
    if groups is not None:
        if len(groups) != len(data):
            raise SplitError(f"there are {len(groups)} groups for {counted(len(data), 'image')}; give one per image")
        seen: dict[object, int] = {}
        numbers = [seen.setdefault(group, len(seen)) for group in groups]
        data = replace(data, groups=np.array(numbers, dtype=np.int64))
    train, test = split_indices(data, test_fraction, seed)
    return data.subset(train), data.subset(test)


def split_indices(
    data: ImageSet, test_fraction: float, seed: int, *, min_train: int = 1, min_train_groups: int = 1
) -> tuple[Array, Array]:
    """Divide `data` into training and test images: whole groups, each class in proportion as near as groups allow.

    With singleton groups the test set holds exactly ``round(test_fraction * N)`` images (at least one of each class on
    either side), apportioned to the classes by `apportion`. Groups are taken in a random order. Where that leaves a
    class on one side alone, as happens where groups hold images of several classes, other orders are tried, and then
    the division is computed by integer programming.

    Args:
        data: the images.
        test_fraction: share of the images in the test set.
        seed: of the order; the same arguments give the same division.
        min_train: images of each class that stay for training at least.
        min_train_groups: groups of each class that stay for training at least.

    Returns:
        Indices of the training and of the test images, each int64 and ascending.

    Raises:
        SplitError: `test_fraction` is not between 0 and 1, no such division exists, or none was found.
        ClassError: a class has no image.
    """
    if not 0 < test_fraction < 1:
        raise SplitError(f"test fraction must be between 0 and 1, not {test_fraction}")
    pool = _Pool(data, np.arange(len(data)), numpy_generator(seed, "held-out"), min_train, min_train_groups)
    pool.check_each_class(data.classes)
    classes = len(data.classes)
    total = min(max(round(test_fraction * len(data)), classes), len(data) - classes)
    target = apportion(pool.counts, [total], least=1, spare=1)[0]
    for attempt in range(MAX_ATTEMPTS):
        if attempt:
            pool.begin_anew(numpy_generator(seed, "held-out", attempt))
        pool.fill(target, least=1, most=pool.counts - (min_train if attempt else 1))
        lacking = pool.lacking()
        if not len(lacking):
            return pool.indices(taken=False), pool.indices(taken=True)
    exists = pool.solve(target, numpy_generator(seed, "held-out", MAX_ATTEMPTS))
    if exists:
        return pool.indices(taken=False), pool.indices(taken=True)
    of_groups = f" images of {min_train_groups} groups" if min_train_groups > 1 else ""
    wanted = f"one image of every class for testing and {min_train}{of_groups} for training"
    if exists is None:
        raise SplitError(
            f"no division of whole groups that has {wanted} was found in {MAX_ATTEMPTS} tries (class "
            f"'{data.classes[lacking[0]]}' was missing on one side in the last), and whether one exists is not known; "
            "try another seed, or leave the class out"
        )
    # There are some, for a class that shares no group can be divided alone.
    sharing = sorted({label for group in pool.groups if len(group) > 1 for label, _ in group})
    name = data.classes[next((label for label in lacking if label in sharing), sharing[0])]
    raise SplitError(
        f"class '{name}' cannot be on both sides: its images share groups with the other classes, and no division of "
        f"whole groups has {wanted}; add images of other groups or leave a class out"
    )


def nested_subsets(
    data: ImageSet, indices: Sequence[int] | Array, sizes: Sequence[int], draw: int, seed: int
) -> dict[int, Array]:
    """Draw training subsets of `indices`, each containing all smaller ones, of whole groups.

    Classes stand in the proportions of the pool, at least 2 images each; a size is the total over classes. With
    singleton groups totals are exact, else as near as whole groups allow: report ``len`` of the result. Draws with
    another number or seed are independent; a subset does not depend on the larger sizes asked for beside it.

    Args:
        data: the images.
        indices: the pool, without repeats, e.g. the training images of `held_out`.
        sizes: numbers of images, in any order.
        draw: number of the draw.
        seed: seed of the study.

    Returns:
        For each size the indices into `data`, int64 and ascending.

    Raises:
        SplitError: a size is larger than the pool, or too small for 2 images of each class.
        ClassError: a class has fewer than 2 images in the pool.
    """
    index = np.asarray(indices, dtype=np.int64)
    if len(np.unique(index)) < len(index):
        raise ValueError("indices must be distinct")
    pool = _Pool(data, index, numpy_generator(seed, "subset", draw))
    ascending = sorted({int(size) for size in sizes})
    total, smallest = len(index), MIN_PER_CLASS * len(data.classes)
    there = ", ".join(f"{name} {count}" for name, count in zip(data.classes, pool.counts, strict=True))
    for name, count in zip(data.classes, pool.counts, strict=True):
        if count < MIN_PER_CLASS:
            raise ClassError(
                f"class '{name}' has {count} of the {counted(total, 'image')} to draw from; a subset needs "
                f"{MIN_PER_CLASS}: add images or leave the class out"
            )
    for size in ascending:
        if size > total:
            raise SplitError(f"a subset of {counted(size, 'image')} was asked for, but there are {total} ({there})")
        if size < smallest:
            raise SplitError(
                f"a subset of {counted(size, 'image')} cannot hold {MIN_PER_CLASS} of each of {len(data.classes)} "
                f"classes ({there}); the smallest size is {smallest}"
            )
    subsets = {}
    for size, target in zip(ascending, apportion(pool.counts, ascending, least=MIN_PER_CLASS), strict=True):
        pool.fill(target, least=MIN_PER_CLASS, most=pool.counts)
        subsets[size] = pool.indices(taken=True)
    return subsets


def apportion(counts: Sequence[int] | Array, sizes: Sequence[int], least: int, spare: int = 0) -> Array:
    """Divide each size over classes in the proportions of `counts` by the Sainte-Laguë (Webster) divisor method.

    A divisor method, since its shares never fall when the size grows, so that subsets can be nested (Balinski and
    Young, Fair Representation, 1982; the largest remainder does not have this property).

    Each class gets `least` images before any other claim and keeps `spare` back. Returns int64 ``[len(sizes),
    classes]``, whose rows sum to `sizes`.
    """
    owner = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([np.arange(count) for count in counts])
    claim = (place + 0.5) / np.asarray(counts)[owner]
    claim[place < least] = -1
    claim[place >= np.asarray(counts)[owner] - spare] = np.inf
    ranked = owner[np.argsort(claim, kind="stable")]
    return np.array([np.bincount(ranked[:size], minlength=len(counts)) for size in sizes], dtype=np.int64)


class _Pool:
    """Groups in random order, of which more and more are taken.

    `min_train` images of `min_train_groups` groups of each class are to be left of them.
    """

    def __init__(
        self, data: ImageSet, index: Array, rng: np.random.Generator, min_train: int = 0, min_train_groups: int = 0
    ) -> None:
        # Sorted, so that the draw depends on which images are in the pool and not on how they are listed.
        self._index = np.sort(index)
        self._min_train, self._min_train_groups = min_train, min_train_groups
        _, self._group = np.unique(data.groups[self._index], return_inverse=True)
        labels = data.labels[self._index]
        self.counts = np.bincount(labels, minlength=len(data.classes)).astype(np.int64)
        cells, counts = np.unique(np.stack([self._group, labels], axis=1), axis=0, return_counts=True)
        shape = len(self.counts), int(self._group.max(initial=-1)) + 1
        self._matrix = csr_array((counts, (cells[:, 1], cells[:, 0])), shape=shape)  # images, [classes, groups]
        self.groups: list[_Group] = [()] * shape[1]
        for (group, label), count in zip(cells.tolist(), counts.tolist(), strict=True):
            self.groups[group] += ((label, count),)
        self.begin_anew(rng)

    def begin_anew(self, rng: np.random.Generator) -> None:
        """Put all groups back, in a new random order."""
        self.have = np.zeros_like(self.counts)
        self._taken = np.zeros(len(self.groups), dtype=bool)
        self._waiting: list[int] = rng.permutation(len(self.groups)).tolist()

    def check_each_class(self, classes: Sequence[str]) -> None:
        """Raise SplitError, or ClassError, for a class that could not be on both sides even if it were the only one."""
        for label, name in enumerate(classes):
            counts = [count for group in self.groups for of, count in group if of == label]
            if not counts:
                raise ClassError(f"class '{name}' has no image; leave it out before dividing the data")
            if len(counts) < 2:
                raise SplitError(
                    f"class '{name}' has a single group ({counted(sum(counts), 'image')}), which cannot be on "
                    "both sides; add images of another group or leave the class out"
                )
            left = sum(counts) - min(counts)
            if len(counts) - 1 < self._min_train_groups or left < self._min_train:
                raise SplitError(
                    f"class '{name}' is too small to be on both sides: without its smallest group, {left} of "
                    f"{sum(counts)} images and {len(counts) - 1} of {len(counts)} groups are left for training, and "
                    f"{self._min_train} and {self._min_train_groups} are needed; add images of another group or leave "
                    "the class out"
                )

    def lacking(self) -> Array:
        """Return the classes of which nothing was taken, or too little is left."""
        left = (self._matrix[:, ~self._taken] > 0).sum(axis=1)
        few = self.counts - self.have < self._min_train
        return np.flatnonzero((self.have < 1) | few | (left < self._min_train_groups))

    def solve(self, target: Array, rng: np.random.Generator) -> bool | None:
        """Take the groups that come nearest to `target`, such that no class is lacking, by integer programming.

        Which of equally good groups are taken is random. HiGHS, by way of SciPy, solves the programme. Returns whether
        there are such groups; None where that was not found out.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        images = self._matrix
        classes, groups = images.shape
        misses, nothing = eye_array(classes), csr_array((classes, classes))
        members = (images > 0).astype(np.int64)
        solved = milp(
            np.concatenate([rng.uniform(0, 0.5 / groups, groups), np.ones(classes)]),
            integrality=np.repeat([1, 0], [groups, classes]),
            bounds=Bounds(0, np.repeat([1, np.inf], [groups, classes])),
            constraints=[
                LinearConstraint(hstack([images, nothing]), 1, self.counts - self._min_train),
                LinearConstraint(hstack([members, nothing]), 0, members.sum(axis=1) - self._min_train_groups),
                LinearConstraint(hstack([images, -misses]), -np.inf, target),
                LinearConstraint(hstack([images, misses]), target, np.inf),
            ],
            options={"node_limit": _MOST_NODES, "mip_rel_gap": 0.01},
        )
        if solved.x is None:
            return False if solved.status == _INFEASIBLE else None
        self._taken = solved.x[:groups] > 0.5
        self.have = images @ self._taken.astype(np.int64)
        return None if len(self.lacking()) else True  # the solver works with tolerances

    def indices(self, taken: bool) -> Array:
        """Return the images of the groups that were taken, or of the others, ascending."""
        chosen: Array = self._index[self._taken[self._group] == taken]
        return chosen

    def fill(self, target: Array, least: int, most: Array) -> None:
        """Take groups until each class has its `target`: first those that fit, then those that come nearer to it.

        Then small ones until each class has `least` images, as far as `most` allows.
        """
        self._take(lambda group, need: all(count <= need[label] for label, count in group), target, most)
        self._take(_nearer, target, most, small_first=True)
        if (self.have < least).any():
            enough = np.full_like(self.counts, least)
            self._take(lambda group, need: any(need[label] > 0 for label, _ in group), enough, most, small_first=True)

    def _take(
        self, wanted: Callable[[_Group, list[int]], bool], target: Array, most: Array, small_first: bool = False
    ) -> None:
        """Walk once through the waiting groups and take those that are `wanted`, given what each class still needs."""
        need, room = (target - self.have).tolist(), (most - self.have).tolist()
        order = self._waiting
        if small_first:  # the random order stays among groups of one size
            order = sorted(order, key=lambda number: sum(count for _, count in self.groups[number]))
        for number in order:
            group = self.groups[number]
            if wanted(group, need) and all(count <= room[label] for label, count in group):
                self._taken[number] = True
                for label, count in group:
                    need[label] -= count
                    room[label] -= count
        self.have = target - np.array(need, dtype=np.int64)
        self._waiting = [number for number in self._waiting if not self._taken[number]]


def _nearer(group: _Group, need: list[int]) -> bool:
    """Return whether taking `group` lowers the misses of the classes plus the miss of the total."""
    before = sum(abs(need[label]) for label, _ in group) + abs(sum(need))
    after = sum(abs(need[label] - count) for label, count in group) + abs(sum(need) - sum(count for _, count in group))
    return after < before
