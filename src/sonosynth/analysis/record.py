"""All that a report shows, as one value; `read_record` makes it."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sonosynth.core.text import counted, joined, span
from sonosynth.statistics.scores import MIN_DRAWS, RepeatedSplits
from sonosynth.study.config import StudyDesign
from sonosynth.study.files import UNRECORDED, machine_in_words
from sonosynth.study.results import ClassifyResult, FilterResult, NoteRow, ScoreRow, TrainResult
from sonosynth.study.splits import SplitIndices, Subset

_Column = TypeVar("_Column", bound=Hashable)


@dataclass(frozen=True, eq=False)
class ImageTable:
    """What is known of a set of images without their pixels: a manifest."""

    labels: np.ndarray  # int64 ``[N]``, indices into `classes`
    groups: np.ndarray  # int64 ``[N]``; images of one patient, or of one duplicate cluster, share a number
    classes: tuple[str, ...]  # names of the classes
    size: tuple[int, int]  # height and width in pixels
    # further columns of the manifest, each with ``N`` strings
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of images of each class, in the order of `classes`."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    @property
    def simulated(self) -> bool:
        """Whether every image is a phantom, by the column ``origin``."""
        return set(self.extra.get("origin", ())) == {"phantom"}

    def subset(self, indices: Sequence[int]) -> "ImageTable":
        """Return the images at `indices`, in that order."""
        index = np.asarray(indices, dtype=np.int64)
        extra = {name: tuple(column[i] for i in index) for name, column in self.extra.items()}
        return replace(self, labels=self.labels[index], groups=self.groups[index], extra=extra)


@dataclass(frozen=True)
class StudyRecord:
    """A finished or half-finished study."""

    directory: Path  # the study directory
    design: StudyDesign  # the study file with its defaults
    study_text: str  # the study file as it stands
    provenance: Mapping[str, Any]  # machine, versions, command, source of the data; empty if none was written
    data: ImageTable  # all prepared images, classes in the order of the study
    # the test images, in the order of the classifiers' predictions: one set, or one for each repeated split
    tests: tuple[ImageTable, ...]
    splits: RepeatedSplits | None  # the repeated splits; None where there is one
    own_test: bool  # whether the test images came from a set of their own
    subsets: tuple[Subset, ...]  # the training subsets by size, then draw
    training: tuple[TrainResult, ...]  # the trained generators, and images made elsewhere
    scores: tuple[ScoreRow, ...]  # the scores of synthetic images
    score_notes: tuple[NoteRow, ...]  # what to know of them; earlier versions kept nothing of it
    classifiers: tuple[ClassifyResult, ...]  # the classifier runs on the test set
    # classifier runs on synthetic images instead, whose scores compare with no others
    on_synthetic: tuple[ClassifyResult, ...]
    naive: tuple[ClassifyResult, ...]  # classifier runs on the split that ignores groups
    filters: tuple[FilterResult, ...]  # what filters of synthetic images kept
    filter_notes: tuple[NoteRow, ...]  # what was done where they left too few of a class
    made_on: Mapping[str, int]  # how many cells each machine made, by its description
    naive_test: ImageTable | None  # the test images of that split, or None
    naive_split: SplitIndices | None  # the indices into `data` of those images, and of its training subsets
    n_finished: int  # number of finished cells
    n_planned: int | None  # number of cells of the study; None if the directory does not say

    @property
    def trained(self) -> tuple[TrainResult, ...]:
        """The generators that the study trained itself."""
        return tuple(run for run in self.training if run.mode is not None)

    @property
    def simulated(self) -> bool:
        """Whether every image is a simulated phantom."""
        return self.data.simulated and all(test.simulated for test in self.tests)

    @property
    def test_groups(self) -> tuple[int, ...]:
        """The number of groups of each of `tests`."""
        return tuple(len(np.unique(test.groups)) for test in self.tests)

    @property
    def unit(self) -> str:
        """What there are several of, with one training subset of each size: ``"draw"`` or ``"split"``."""
        return "draw" if self.splits is None else "split"

    @property
    def baseline_gan(self) -> str:
        """The GAN whose distances others are measured by: of those that begin from ``stylegan2``, the first.

        The one of that very name goes before all others; it is also the answer where there is none.
        """
        plain = [gan.name for gan in self.design.gans if gan.base == "stylegan2"]
        return "stylegan2" if "stylegan2" in plain or not plain else plain[0]

    @property
    def beside_replicates(self) -> str:
        """What intervals of scores cover where draws are too few: test groups, and seeds if there are several."""
        generators = {run.gan_seed for run in self.classifiers if run.gan_seed is not None}
        several = max(len(generators), len({run.seed for run in self.classifiers})) > 1
        return "test groups and seeds" if several else "test groups"

    @property
    def made_elsewhere(self) -> dict[str, int]:
        """Those of `made_on` that are not the machine, with its libraries, on which the study began."""
        here = {machine_in_words(self.provenance), UNRECORDED}
        return {machine: cells for machine, cells in self.made_on.items() if machine not in here}

    @property
    def sizes(self) -> list[int]:
        """The sizes of the training subsets, as planned."""
        return sorted({subset.size for subset in self.subsets})

    @property
    def n_replicates(self) -> int:
        """How many draws of the training subset there are, or of repeated splits, each with one draw."""
        return len({subset.replicate for subset in self.subsets})

    @property
    def whole_pool_sizes(self) -> list[int]:
        """The sizes at which every draw is the same images, so that there is one."""
        if self.splits is not None or self.n_replicates == 1:
            return []
        return [size for size in self.sizes if sum(subset.size == size for subset in self.subsets) == 1]

    @cached_property
    def _replicates(self) -> dict[int, dict[Hashable, set[int]]]:
        """The finished draws, or splits, of each size and series (see `tables.Series`); all while no classifier has."""
        runs: dict[tuple[int, Hashable], dict[int, set[Hashable]]] = defaultdict(lambda: defaultdict(set))
        for subset in () if self.classifiers else self.subsets:
            runs[subset.size, None][subset.replicate].add(None)
        for run in self.classifiers:
            series = run.network, run.arm, run.generator, run.ratio, tuple(sorted(run.factors.items()))
            runs[run.size, series][run.replicate].add((run.gan_seed, run.seed))
        found: dict[int, dict[Hashable, set[int]]] = {size: {} for size in sorted({size for size, _ in runs})}
        for (size, one), by_replicate in runs.items():
            found[size][one] = set(complete_block(by_replicate)[0])
        return found

    @property
    def finished_replicates(self) -> tuple[int, ...]:
        """How many draws, or splits, every series of classifiers has finished, size by size; all while none has."""
        return tuple(len(finished) for of_size in self._replicates.values() for finished in of_size.values())

    @property
    def shared_replicates(self) -> int:
        """The most draws that two series have both finished at one size, or that one has where there is no other."""
        if len({series for of_size in self._replicates.values() for series in of_size}) < 2:
            return max(self.finished_replicates, default=0)
        pairs = (pair for of_size in self._replicates.values() for pair in itertools.combinations(of_size.values(), 2))
        return max((len(a & b) for a, b in pairs), default=0)

    @property
    def is_tested(self) -> bool:
        """Whether two series have, at any size, draws enough in common for a test."""
        return self.shared_replicates >= MIN_DRAWS

    @property
    def untested_sizes(self) -> str:
        """The sizes where series have too few finished draws for a test, in words; empty without any, or any test."""
        few = {size: [len(one) < MIN_DRAWS for one in of_size.values()] for size, of_size in self._replicates.items()}
        lacking = {size: series for size, series in few.items() if any(series)}
        if not (lacking and self.is_tested):
            return ""
        every = [all(series) for series in lacking.values()]
        arms = "" if all(every) else ", of every or some arms" if any(every) else ", of some arms"
        return joined([str(size) for size in lacking]) + arms

    def test_of(self, replicate: int) -> ImageTable:
        """Return the test images of one draw: those of its split where splits are repeated."""
        return self.tests[replicate if len(self.tests) > 1 else 0]


def groups_in_words(record: StudyRecord) -> str:
    """Return how many groups of test images there are, in words; with repeated splits, the fewest to the most."""
    numbers = record.test_groups
    return counted(numbers[0], "group") if len(set(numbers)) == 1 else f"{span(numbers)} groups"


def complete_block(rows: Mapping[int, Collection[_Column]]) -> tuple[list[int], list[_Column]]:
    """Return rows, ascending, and the columns that all of them have: the most cells, on a tie the most rows."""
    best: tuple[list[int], list[_Column]] = ([], [])
    for columns in sorted({frozenset(c) for c in rows.values()}, key=lambda c: sorted(map(repr, c))):
        full = sorted(row for row, have in rows.items() if columns <= set(have))
        size, best_size = len(full) * len(columns), len(best[0]) * len(best[1])
        if (size, len(full)) > (best_size, len(best[0])):
            best = full, list(columns)
    return best
