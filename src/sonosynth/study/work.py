"""The work of one cell of a study: train, score or classify."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.classify.arms import ARMS
from sonosynth.classify.train import Training, classify
from sonosynth.data.imageset import ImageSet
from sonosynth.engine import numpy_generator, seed_of
from sonosynth.errors import StudyError
from sonosynth.gan.checkpoint import GENERATOR, LOG, STATE, read_config
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.recipes import recipe_from_dict
from sonosynth.gan.sample import generate
from sonosynth.gan.train import train_mode
from sonosynth.metrics.scorecard import scorecard
from sonosynth.metrics.scores import as_json
from sonosynth.metrics.snapshots import distance_to
from sonosynth.study.cells import AnyCell, ClassifyCell, Generation, NaiveCell, ScoreCell, TrainCell, trained_for
from sonosynth.study.prepared import NaiveSplit, StudyData
from sonosynth.study.store import Store
from sonosynth.study.workers import Tell

GALLERY_PER_CLASS = 8


def do_cell(data: StudyData, store: Store, cell: AnyCell, tell: Tell) -> float:
    """Do the work of `cell`, store its result and return the seconds it took; `tell` is told the progress."""
    started = time.perf_counter()
    result = _Work(data, store, partial(tell, cell)).do(cell)
    seconds = time.perf_counter() - started
    store.save(cell, result | {"seconds": round(seconds, 3)})
    if isinstance(cell, TrainCell):
        _drop_states(store.run(cell))
    return seconds


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
        subsets = self._split(cell).subsets
        return next(s.images for s in subsets if (s.size, s.draw) == (cell.size, cell.draw))

    def _split(self, cell: AnyCell) -> StudyData | NaiveSplit:
        if not isinstance(cell, NaiveCell):
            return self.data
        assert self.data.naive is not None
        return self.data.naive

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
            parts=cell.parts,
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
            self._split(cell).held_out,
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
