"""All that a report shows, read from a study directory: finished cells, the data, the split and the provenance."""

import itertools
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sonosynth.analysis.results import (
    UNRECORDED,
    ClassifierRun,
    FilterRun,
    ScoreNote,
    StudyScore,
    TrainRun,
    machine_in_words,
    read_results,
)
from sonosynth.core.errors import StudyError
from sonosynth.core.strict_yaml import parse_yaml
from sonosynth.core.text import counted, joined, span
from sonosynth.data.imageset import ImageSet
from sonosynth.statistics import MIN_DRAWS, RepeatedSplits
from sonosynth.study.config import StudyDesign, load_design
from sonosynth.study.fields import Fields, read_object

_Column = TypeVar("_Column", bound=Hashable)


@dataclass(frozen=True)
class Subset:
    """One training subset: `indices` int ``[n]`` into the study's data, asked to hold `size` images."""

    size: int
    draw: int
    indices: np.ndarray


@dataclass(frozen=True)
class StudyRecord:
    """A finished or half-finished study.

    Attributes:
        directory: the study directory.
        design: the study file with its defaults.
        bases: the recipe that each trained GAN of the study starts from, by the GAN's name.
        study_text: the study file as it stands.
        provenance: machine, versions, command, source of the data; empty if none was written.
        data: all prepared images, classes in the order of the study.
        tests: the test images, in the order of the classifiers' predictions: one set, or one for each repeated split.
        splits: the repeated splits; None where there is one.
        own_test: whether the test images came from a set of their own.
        subsets: the training subsets by size, then draw.
        training: the trained generators, and images made elsewhere.
        scores: the scores of synthetic images.
        score_notes: what was told while they were scored; earlier versions kept nothing of it.
        classifiers: the classifier runs on the test set.
        on_synthetic: classifier runs on synthetic images instead, whose scores compare with no others.
        naive: classifier runs on the split that ignores groups.
        filters: what filters of synthetic images kept.
        filter_notes: what was done where they left too few of a class.
        naive_test: the test images of that split, or None.
        naive_split: positions in `data` of those images, and of its training subsets by size, then draw.
        made_on: how many cells each machine made, by its description.
        n_finished: number of finished cells.
        n_planned: number of cells of the study; None if the directory does not say.
    """

    directory: Path
    design: StudyDesign
    bases: Mapping[str, str]
    study_text: str
    provenance: Mapping[str, Any]
    data: ImageSet
    tests: tuple[ImageSet, ...]
    splits: RepeatedSplits | None
    own_test: bool
    subsets: tuple[Subset, ...]
    training: tuple[TrainRun, ...]
    scores: tuple[StudyScore, ...]
    score_notes: tuple[ScoreNote, ...]
    classifiers: tuple[ClassifierRun, ...]
    on_synthetic: tuple[ClassifierRun, ...]
    naive: tuple[ClassifierRun, ...]
    filters: tuple[FilterRun, ...]
    filter_notes: tuple[ScoreNote, ...]
    made_on: Mapping[str, int]
    naive_test: ImageSet | None
    naive_split: tuple[np.ndarray, tuple[Subset, ...]] | None
    n_finished: int
    n_planned: int | None

    @property
    def trained(self) -> tuple[TrainRun, ...]:
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
        plain = [name for name, base in self.bases.items() if base == "stylegan2"]
        return "stylegan2" if "stylegan2" in plain or not plain else plain[0]

    @property
    def beside_draws(self) -> str:
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
    def n_draws(self) -> int:
        """How many draws of the training subset there are, or of repeated splits, each with one draw."""
        return len({subset.draw for subset in self.subsets})

    @cached_property
    def _draws(self) -> dict[int, dict[Hashable, set[int]]]:
        """The finished draws, or splits, of each size and series (see `tables.Series`); all while no classifier has."""
        runs: dict[tuple[int, Hashable], dict[int, set[Hashable]]] = {}
        for subset in () if self.classifiers else self.subsets:
            runs.setdefault((subset.size, None), {}).setdefault(subset.draw, set()).add(None)
        for run in self.classifiers:
            series = run.network, run.arm, run.generator, run.ratio, tuple(sorted(run.factors.items()))
            runs.setdefault((run.size, series), {}).setdefault(run.draw, set()).add((run.gan_seed, run.seed))
        found: dict[int, dict[Hashable, set[int]]] = {size: {} for size in sorted({size for size, _ in runs})}
        for (size, one), by_draw in runs.items():
            found[size][one] = set(complete_block(by_draw)[0])
        return found

    @property
    def finished_draws(self) -> tuple[int, ...]:
        """How many draws, or splits, every series of classifiers has finished, size by size; all while none has."""
        return tuple(len(draws) for of_size in self._draws.values() for draws in of_size.values())

    @property
    def shared_draws(self) -> int:
        """The most draws that two series have both finished at one size, or that one has where there is no other."""
        if len({series for of_size in self._draws.values() for series in of_size}) < 2:
            return max(self.finished_draws, default=0)
        pairs = (pair for of_size in self._draws.values() for pair in itertools.combinations(of_size.values(), 2))
        return max((len(a & b) for a, b in pairs), default=0)

    @property
    def is_tested(self) -> bool:
        """Whether two series have, at any size, draws enough in common for a test."""
        return self.shared_draws >= MIN_DRAWS

    @property
    def untested_sizes(self) -> str:
        """The sizes where series have too few finished draws for a test, in words; empty without any, or any test."""
        few = {size: [len(draws) < MIN_DRAWS for draws in of_size.values()] for size, of_size in self._draws.items()}
        lacking = {size: series for size, series in few.items() if any(series)}
        if not (lacking and self.is_tested):
            return ""
        every = [all(series) for series in lacking.values()]
        arms = "" if all(every) else ", of every or some arms" if any(every) else ", of some arms"
        return joined([str(size) for size in lacking]) + arms

    def test_of(self, draw: int) -> ImageSet:
        """Return the test images of one draw: those of its split where splits are repeated."""
        return _test_of(self.tests, draw)

    @staticmethod
    def load(study_dir: Path) -> "StudyRecord":
        """Read a study directory; unfinished cells are simply absent.

        Raises:
            StudyError: the directory is no study, or a file in it is damaged or does not fit the others.
        """
        for name in ("study.yaml", "split.json", "data/manifest.csv"):
            if not (study_dir / name).is_file():
                raise StudyError(
                    f"{study_dir} is not a study directory: it has no {name}; make one with 'sonosynth study run'"
                )
        path = study_dir / "split.json"
        split = Fields(path, read_object(path))
        design = load_design(study_dir / "study.yaml")
        data = _ordered(ImageSet.load(study_dir / "data"), design.data.classes)
        tests, splits, subsets = _make_split(study_dir, data, split)
        files, n_planned = _cell_files(study_dir)
        careless = split.optional("naive")
        naive_test = None if careless is None else data.subset(careless["test"])
        results = read_results(study_dir, files, partial(_test_of, tests), naive_test)
        text = (study_dir / "study.yaml").read_text(encoding="utf-8")
        provenance = study_dir / "provenance.json"
        return StudyRecord(
            directory=study_dir,
            design=design,
            bases=_bases(design, parse_yaml(text)["gans"] if design.gans else []),
            study_text=text,
            provenance=read_object(provenance) if provenance.is_file() else {},
            data=data,
            tests=tests,
            splits=splits,
            own_test=splits is None and split.optional("test") is None,
            subsets=tuple(sorted(subsets, key=lambda s: (s.size, s.draw))),
            **vars(results),
            naive_test=naive_test,
            naive_split=None if careless is None else (np.asarray(careless["test"]), _subsets(careless["subsets"])),
            n_finished=len(files),
            n_planned=n_planned,
        )


def _test_of(tests: tuple[ImageSet, ...], draw: int) -> ImageSet:
    return tests[draw if len(tests) > 1 else 0]


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


def _bases(design: StudyDesign, entries: list[Any]) -> dict[str, str]:
    named = zip(design.gans, entries, strict=True)
    return {
        gan.name: str(entry["base"] if isinstance(entry, dict) else entry) for gan, entry in named if not gan.folder
    }


def _make_split(
    study_dir: Path, data: ImageSet, split: "Fields"
) -> tuple[tuple[ImageSet, ...], RepeatedSplits | None, list[Subset]]:
    """Return the test images, the splits if they are repeated, and the training subsets."""
    parts = split.optional("repeats")
    try:
        if parts is None:
            indices = split.optional("test")
            own = ImageSet.load(study_dir / "test") if indices is None else None
            tests: tuple[ImageSet, ...] = (data.subset(indices) if own is None else _with_classes_of(data, own),)
            splits, subsets = None, list(_subsets(split.required("subsets")))
        else:
            tests = tuple(data.subset(part["test"]) for part in parts)
            apart = [len(part["test"]) + len(part.get("validation") or ()) for part in parts]
            splits = RepeatedSplits(tuple(tuple(part["test"]) for part in parts), len(data) - max(apart))
            subsets = [subset for part in parts for subset in _subsets(part["subsets"])]
        if any(len(s.indices) and not 0 <= s.indices.min() <= s.indices.max() < len(data) for s in subsets):
            raise IndexError("an index lies outside data/")
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise StudyError(f"{split.file} does not fit data/ ({error}); run the study again in a new --out") from error
    return tests, splits, subsets


def _subsets(rows: list[dict[str, Any]]) -> tuple[Subset, ...]:
    return tuple(Subset(int(s["size"]), int(s["draw"]), np.asarray(s["indices"], dtype=np.int64)) for s in rows)


def _cell_files(study_dir: Path) -> tuple[list[Path], int | None]:
    """Return the files of the finished cells of the present study, by ``plan.json`` where there is one.

    A study directory keeps the results of settings that its study file has left since.
    """
    found = sorted((study_dir / "cells").glob("*.json"))
    plan = study_dir / "plan.json"
    if not plan.is_file():
        return found, None
    names = Fields(plan, read_object(plan)).required("cells")
    return [path for path in found if path.stem in set(names)], len(names)


def _ordered(data: ImageSet, names: tuple[str, ...] | None) -> ImageSet:
    """Return `data` with its classes in the study's order: predictions are numbered that way."""
    return data.with_classes(names) if names and set(names) == set(data.classes) else data


def _with_classes_of(data: ImageSet, test: ImageSet) -> ImageSet:
    unknown = [name for name in test.classes if name not in data.classes]
    if unknown:
        raise StudyError(f"test/ has the class '{unknown[0]}', which data/ lacks; run the study again in a new --out")
    numbers = np.array([data.classes.index(name) for name in test.classes], dtype=np.int64)
    return ImageSet(
        test.images, numbers[test.labels], data.classes, test.groups, test.ids, test.synthetic, dict(test.extra)
    )
