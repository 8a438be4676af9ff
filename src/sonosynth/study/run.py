"""Run a study: prepare once, split, then every cell that has no result yet, here or in worker processes."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sonosynth.classify.arms import ARMS
from sonosynth.classify.train import Training, classify
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import prepare, source_fingerprint
from sonosynth.data.readers import read_source
from sonosynth.data.split import check_apart, check_real, held_out, nested_subsets
from sonosynth.engine import numpy_generator, provenance, seed_of
from sonosynth.errors import ClassError, SonosynthError, StudyError
from sonosynth.files import locked, read_json, remove_leftovers, write_json
from sonosynth.gan.checkpoint import GENERATOR, LOG, STATE, read_config
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.recipes import recipe_from_dict
from sonosynth.gan.sample import generate
from sonosynth.gan.train import train_mode
from sonosynth.metrics.scorecard import as_json, check_class_names, scorecard
from sonosynth.metrics.snapshots import distance_to
from sonosynth.study.cells import (
    AnyCell,
    ClassifyCell,
    Generation,
    ScoreCell,
    Subset,
    TrainCell,
    plan_cells,
    trained_for,
)
from sonosynth.study.design import GanEntry, StudyDesign, expand
from sonosynth.study.store import Store
from sonosynth.study.workers import Tell, in_workers

GALLERY_PER_CLASS = 8


class Monitor(Protocol):
    """Is told how a study goes on."""

    def note(self, text: str) -> None:
        """Something about the images that the user should know."""

    def start(self, cell: AnyCell, number: int, total: int) -> None:
        """The cell begins, number `number` (from 1) of `total`; others may be under way."""

    def progress(self, cell: AnyCell, done: float, total: float, text: str) -> None:
        """The cell has done `done` of `total`."""

    def finish(self, cell: AnyCell, seconds: float | None) -> None:
        """The cell has its result; `seconds` is None if it had one already."""


@dataclass(frozen=True)
class StudyData:
    """The images of a study, divided.

    Attributes:
        images: all prepared images, without the user's own test set.
        held_out: the test images.
        test_indices: where they stand in `images`; None if the test set is the user's own.
        subsets: training subsets, by draw and size.
        folders: synthetic images made elsewhere, by GAN name.
        notes: what was told while reading and preparing.
        kind: how the source was read.
    """

    images: ImageSet
    held_out: ImageSet
    test_indices: np.ndarray | None
    subsets: list[Subset]
    folders: dict[str, ImageSet]
    notes: list[str]
    kind: str

    def cells(self, design: StudyDesign) -> list[AnyCell]:
        """Return the cells of `design` on these images."""
        return plan_cells(design, self.subsets, self.held_out, self.folders)


def prepare_study(
    design: StudyDesign, store: Store | None = None, progress: Callable[[int, int], None] | None = None
) -> StudyData:
    """Read and prepare the images of `design`, or take them from `store`, and divide them.

    Raises:
        SonosynthError: the images, or the split asked for, cannot be used; see the readers and `split`.
    """
    images, kind, notes = _prepared(design, store, progress)
    if len(images.classes) < 2:
        raise ClassError(f"a study needs at least two classes, {design.data.source} has '{images.classes[0]}' alone")
    check_class_names(images.classes)
    check_real(images, "images of data.source")
    if design.split.test is None:
        assert design.split.test_fraction is not None
        pool, test = held_out(images, design.split.test_fraction, design.split.seed)
        test_images = images.subset(test)
    else:
        pool, test = np.arange(len(images)), None
        test_images = _own_test_set(design, images, store)
    subsets = [
        Subset(size, draw, indices, images.subset(indices))
        for draw in range(design.split.draws)
        for size, indices in nested_subsets(images, pool, design.split.sizes, draw, design.split.seed).items()
    ]
    folders = {gan.name: _folder(gan, design, images, test_images) for gan in design.gans if gan.folder}
    return StudyData(images, test_images, test, subsets, folders, notes, kind)


def _prepared(
    design: StudyDesign, store: Store | None, progress: Callable[[int, int], None] | None
) -> tuple[ImageSet, str, list[str]]:
    data = design.data
    if store is not None and store.data.is_dir():
        images = ImageSet.load(store.data)
        kept = read_json(store.directory / "provenance.json")["data"]
        notes = [*kept["notes"], *_unchanged(data.source, kept.get("files"), store.data)]
        return images.with_classes(data.classes or images.classes), kept["kind"], notes
    source = read_source(expand(data.source))
    images, notes = prepare(source, data.size, data.fit, classes=data.classes, progress=progress)
    return images, source.kind, notes


def _unchanged(source: str, before: str | None, kept: Path) -> list[str]:
    """Check that the files of `source` are still those that were prepared as `kept`; return lines to tell the user.

    Raises:
        StudyError: they are not, so that old and new results would rest on different images.
    """
    try:
        now = source_fingerprint(read_source(expand(source)))
    except SonosynthError as error:
        return [f"the images prepared before, in {kept}, are used, for the source cannot be read again: {error}"]
    if before is not None and now != before:
        raise StudyError(
            f"the images of {source} have changed since this study began, and its results are of those kept in {kept}; "
            "restore them, or choose another --out"
        )
    return []


def _own_test_set(design: StudyDesign, images: ImageSet, store: Store | None) -> ImageSet:
    assert design.split.test is not None
    if store is not None and store.test.is_dir():
        kept = read_json(store.directory / "provenance.json")["data"]
        _unchanged(design.split.test, kept.get("test_files"), store.test)
        return ImageSet.load(store.test).with_classes(images.classes)
    source = read_source(expand(design.split.test))
    test, _ = prepare(source, design.data.size, design.data.fit, classes=images.classes)
    check_real(test, "images of split.test")
    check_apart(images, test, ("images of data.source", "images of split.test"), "remove them from one of the two")
    return test


def _folder(gan: GanEntry, design: StudyDesign, images: ImageSet, test: ImageSet) -> ImageSet:
    assert gan.folder is not None
    made, _ = prepare(read_source(expand(gan.folder)), design.data.size, design.data.fit, classes=images.classes)
    for real in (test, images):
        check_apart(real, made, ("real images of this study", f"images of GAN '{gan.name}'"), "give generated images")
    return made


def run_study(
    design: StudyDesign, text: str, store: Store, monitor: Monitor, command: str, workers: int = 1
) -> StudyData:
    """Run every cell of `design` that has no result in `store`, and write the tables after each.

    A killed study goes on where it was, to the identical tables.

    Args:
        design: the study.
        text: its study file, kept in the store as it is.
        store: the study directory.
        monitor: is told how it goes on.
        command: what the user typed, for the record.
        workers: processes that do cells side by side, sharing the GPU or the cores of this machine.

    Raises:
        SonosynthError: see `prepare_study` and the cells' own work; nothing is written before the images are read.
        OutputError: another process runs this study.
        KeyboardInterrupt: after the state of a run in training has been saved.
    """
    store.check(design)
    data = prepare_study(design, store)
    with locked(store.directory):
        remove_leftovers(store.directory)
        store.claim(design, text)
        for line in data.notes:
            monitor.note(line)
        _keep_data(design, data, store, command)
        _run_cells(data.cells(design), data, store, monitor, workers)
    return data


def _run_cells(cells: list[AnyCell], data: StudyData, store: Store, monitor: Monitor, workers: int) -> None:
    store.write_plan(cells)
    waiting = [cell for cell in cells if store.result(cell) is None]
    for number, cell in enumerate((cell for cell in cells if cell not in waiting), start=1):
        monitor.start(cell, number, len(cells))
        monitor.finish(cell, None)
    done = len(cells) - len(waiting)

    def start(cell: AnyCell) -> None:
        nonlocal done
        done += 1
        monitor.start(cell, done, len(cells))

    if workers > 1 and len(waiting) > 1:
        finished = in_workers(waiting, partial(do_cell, data, store), start, monitor.progress, workers)
    else:
        finished = _one_by_one(waiting, partial(do_cell, data, store), start, monitor.progress)
    for cell, seconds in finished:
        store.write_tables(cells)
        monitor.finish(cell, seconds)
    store.write_tables(cells)


def _one_by_one(
    cells: list[AnyCell], do: Callable[[AnyCell, Tell], float], start: Callable[[AnyCell], None], tell: Tell
) -> Iterator[tuple[AnyCell, float]]:
    for cell in cells:
        start(cell)
        yield cell, do(cell, tell)


def do_cell(data: StudyData, store: Store, cell: AnyCell, tell: Tell) -> float:
    """Do the work of `cell`, store its result and return the seconds it took; `tell` is told the progress."""
    started = time.perf_counter()
    result = _Work(data, store, partial(tell, cell)).do(cell)
    seconds = time.perf_counter() - started
    store.save(cell, result | {"seconds": round(seconds, 3)})
    if isinstance(cell, TrainCell):
        _drop_states(store.run(cell))
    return seconds


def _keep_data(design: StudyDesign, data: StudyData, store: Store, command: str) -> None:
    path = store.directory / "provenance.json"
    if not path.is_file():
        told = {
            "source": design.data.source,
            "kind": data.kind,
            "fingerprint": data.images.fingerprint(),
            "notes": data.notes,
            "files": source_fingerprint(read_source(expand(design.data.source))),
        }
        if design.split.test is not None:
            told["test_files"] = source_fingerprint(read_source(expand(design.split.test)))
        write_json(path, provenance() | {"command": command, "data": told})
    subsets = [
        {"size": s.size, "draw": s.draw, "n": len(s.indices), "indices": s.indices.tolist()} for s in data.subsets
    ]
    test = None if data.test_indices is None else data.test_indices.tolist()
    write_json(store.directory / "split.json", {"test": test, "subsets": subsets})
    if test is None and not store.test.is_dir():
        data.held_out.save(store.test)
    if not store.data.is_dir():
        data.images.save(store.data)


def _drop_states(run: Path) -> None:
    """Remove what only an unfinished run needs; it is ten times the size of the generator."""
    for state in (run / STATE, *run.glob(f"*/{STATE}")):
        state.unlink(missing_ok=True)


class _Work:
    """Does one cell."""

    def __init__(self, data: StudyData, store: Store, tell: Callable[[float, float, str], None]):
        self.data, self.store, self.tell = data, store, tell

    def do(self, cell: AnyCell) -> dict[str, Any]:
        if isinstance(cell, TrainCell):
            return self.train(cell)
        return self.score(cell) if isinstance(cell, ScoreCell) else self.classify(cell)

    def _subset(self, cell: AnyCell) -> ImageSet:
        return next(s.images for s in self.data.subsets if (s.size, s.draw) == (cell.size, cell.draw))

    def train(self, cell: TrainCell) -> dict[str, Any]:
        generation = cell.generation
        assert generation.kimg is not None and generation.mode is not None and generation.seed is not None
        run = self.store.run(cell)
        judged = generation.snapshot == "best" or generation.patience_kimg is not None
        out = train_mode(
            self._subset(cell),
            recipe_of(generation),
            run,
            kimg=generation.kimg,
            mode=generation.mode,
            seed=seed_of(generation.seed, "study", cell.size, cell.draw),
            distance_to=distance_to if judged else None,
            patience_kimg=generation.patience_kimg,
            pretraining=self.store.pretraining(generation),
            progress=lambda done, total, latest: self.tell(
                done, total, f"{done:.2f} of {total:.2f} kimg, {latest.get('img_per_s', 0):.1f} img/s"
            ),
        )
        gallery = self.store.gallery(cell)
        if not gallery.is_dir():
            names = [name for name, count in self._subset(cell).class_counts.items() if count]
            how: dict[str, Any] = {"seed": _seed(cell, "gallery"), "snapshot": generation.snapshot}
            sets = [generate(run, GALLERY_PER_CLASS, class_name=name, **how) for name in names]
            ImageSet.concatenate(sets).save(gallery)
        record = _training_record(out)
        if generation.patience_kimg is None:
            record["kimg"] = generation.kimg  # as asked for; runs end with a whole batch
        return {"gallery": str(gallery.relative_to(self.store.directory)), **record}

    def score(self, cell: ScoreCell) -> dict[str, Any]:
        n = cell.n_synthetic
        synthetic = self._synthetic(cell, n, "score")
        scores = scorecard(
            self._subset(cell),
            synthetic,
            self.data.held_out,
            features=cell.features,
            cache=self.store.features,
            progress=lambda done, total: self.tell(done, total, "embedding"),
        )
        result: dict[str, Any] = {"scores": [as_json(score) for score in scores]}
        if cell.generation.seed is None:  # no train cell keeps images to look at
            gallery = self.store.gallery(cell)
            if not gallery.is_dir():
                _first_of_each_class(synthetic, GALLERY_PER_CLASS).save(gallery)
            result["gallery"] = str(gallery.relative_to(self.store.directory))
        return result

    def classify(self, cell: ClassifyCell) -> dict[str, Any]:
        subset = self._subset(cell)
        synthetic = None
        if cell.generation is not None:
            assert cell.ratio is not None
            synthetic = self._synthetic(cell, max(1, round(cell.ratio * len(subset))), "classify")
        result = classify(
            subset,
            self.data.held_out,
            ARMS[cell.arm],
            synthetic=synthetic,
            network=cell.network,
            training=Training(steps=cell.steps),
            seed=cell.seed,
            progress=lambda done, total: self.tell(done, total, f"step {done} of {total}"),
        )
        return result.to_dict()

    def _synthetic(self, cell: ScoreCell | ClassifyCell, n: int, purpose: str) -> ImageSet:
        """Return `n` synthetic images; those for `purpose` "score" and "classify" are never the same images."""
        assert cell.generation is not None
        if cell.generation.seed is None:
            return _share_of_folder(self.data.folders[cell.generation.gan], cell.generation.gan, n, purpose)
        trained = trained_for(cell)
        assert trained is not None
        made = generate(
            self.store.run(trained),
            n,
            seed=_seed(trained, purpose),
            snapshot=cell.generation.snapshot,
            progress=lambda done, total: self.tell(done, total, "generating"),
        )
        return made.with_classes(self.data.images.classes)


def recipe_of(generation: Generation) -> Recipe:
    """Return the recipe that a generation was described with."""
    assert isinstance(generation.source, dict)
    return recipe_from_dict(generation.source)


def _seed(cell: TrainCell, purpose: str) -> int:
    assert cell.generation.seed is not None
    return seed_of(cell.generation.seed, cell.size, cell.draw, purpose)


def _training_record(runs: list[Path]) -> dict[str, Any]:
    """Return the cost of training over all runs of a train cell, and the sizes of the networks of one."""
    ends = [json.loads((run / LOG).read_text(encoding="utf-8").splitlines()[-1]) for run in runs]
    config = read_config(runs[0] / GENERATOR)
    generator, discriminator = config.recipe.parameter_counts(config.size, config.n_classes)
    seconds = sum(end["seconds"] for end in ends)
    return {
        "runs": len(runs),
        "kimg": max(end["kimg"] for end in ends),
        "training_seconds": round(seconds, 3),
        "img_per_s": round(1000 * sum(end["kimg"] for end in ends) / seconds, 3),
        "parameters_generator": generator,
        "parameters_discriminator": discriminator,
    }


def _first_of_each_class(images: ImageSet, count: int) -> ImageSet:
    chosen = [np.flatnonzero(images.labels == label)[:count] for label in range(len(images.classes))]
    return images.subset(np.concatenate(chosen))


def _share_of_folder(images: ImageSet, name: str, n: int, purpose: str) -> ImageSet:
    """Return `n` images of a folder made elsewhere: classifiers get the first of a fixed order, scores the last."""
    order = numpy_generator("folder", images.fingerprint()).permutation(len(images))
    half = len(images) // 2
    if purpose == "classify":
        if n > half:
            raise StudyError(
                f"GAN '{name}': a classifier needs {n} of its synthetic images, apart from those that are scored, and "
                f"half of the folder is {half}; add images or lower classifiers.ratios or split.sizes"
            )
        return images.subset(np.sort(order[:n]))
    return images.subset(np.sort(order[half:][-n:]))
