"""The work of one cell of a study: train, score or classify."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.classify.classify import classify
from sonosynth.core.files import remove_file
from sonosynth.core.seeds import seed_of
from sonosynth.core.text import counted
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import GENERATOR, LOG, STATE, read_config
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.registry import recipe_from_dict
from sonosynth.gan.sample import Sampler
from sonosynth.gan.train import train_runs
from sonosynth.metrics.distances.kernel import snapshot_distance
from sonosynth.metrics.scorecard import score
from sonosynth.study.cells import (
    AnyCell,
    ClassifyCell,
    FilterCell,
    NaiveCell,
    ScoreCell,
    SyntheticSource,
    TrainCell,
)
from sonosynth.study.engines.local import Tell
from sonosynth.study.prepared import StudyData
from sonosynth.study.results import CellResult, ClassifyResult, FilterResult, NaiveResult, ScoreResult, TrainResult
from sonosynth.study.store import Store
from sonosynth.study.synthetic import SyntheticPool, judge, seed_for

GALLERY_PER_CLASS = 8


def do_cell(data: StudyData, store: Store, cell: AnyCell, tell: Tell) -> float:
    """Do the work of `cell`, store its result and return the seconds it took; `tell` is told the progress."""
    started = time.perf_counter()
    result = _Work(data, store, partial(tell, cell)).do(cell)
    seconds = time.perf_counter() - started
    store.save(cell, result.model_copy(update={"seconds": round(seconds, 3)}))
    if isinstance(cell, TrainCell):
        _drop_states(store.run(cell))
    return seconds


def _drop_states(run: Path) -> None:
    """Remove what only an unfinished run needs; it is ten times the size of the generator."""
    for state in (run / STATE, *run.glob(f"*/{STATE}")):
        remove_file(state)


class _Work:
    """Does one cell."""

    def __init__(self, data: StudyData, store: Store, tell: Callable[[float, float, str], None]):
        self.data, self.store, self.tell = data, store, tell
        self.pool = SyntheticPool(store, data.folders, tell)

    def do(self, cell: AnyCell) -> CellResult:
        if isinstance(cell, TrainCell):
            return self.train(cell)
        if isinstance(cell, FilterCell):
            return self.filter(cell)
        return self.score(cell) if isinstance(cell, ScoreCell) else self.classify(cell)

    def train(self, cell: TrainCell) -> TrainResult:
        generation = cell.generation
        assert generation.kimg is not None and generation.mode is not None and generation.seed is not None
        run = self.store.run(cell)
        judged = generation.snapshot == "best" or generation.patience_kimg is not None
        out = train_runs(
            self.data.subset_of(cell),
            recipe_of(generation),
            run,
            kimg=generation.kimg,
            mode=generation.mode,
            seed=seed_of(generation.seed, "study", cell.size, cell.replicate),
            distance_to=snapshot_distance if judged else None,
            patience_kimg=generation.patience_kimg,
            pretraining=self.store.pretraining(generation),
            progress=lambda done, total, latest: self.tell(
                done, total, f"{done:.2f} of {total:.2f} kimg, {latest.get('img_per_s', 0):.1f} img/s"
            ),
        )
        gallery = self.store.gallery(cell)
        if not gallery.is_dir():
            names = [name for name, count in self.data.subset_of(cell).class_counts.items() if count]
            sampler, own = Sampler(run, generation.snapshot), seed_for(cell, "gallery")
            sets = [sampler.generate(GALLERY_PER_CLASS, name, seed=own) for name in names]
            ImageSet.concatenate(sets).save(gallery)
        record = _training_record(out)
        if generation.patience_kimg is None:
            record["kimg"] = generation.kimg  # as asked for; runs end with a whole batch
        return TrainResult(**cell.identity(), **record, gallery=str(gallery.relative_to(self.store.directory)))

    def score(self, cell: ScoreCell) -> ScoreResult:
        subset = self.data.subset_of(cell)
        synthetic = self.pool.to_score(cell, subset).with_classes(self.data.images.classes)
        card = score(
            subset,
            synthetic,
            self.data.split_of(cell).held_out,
            features=cell.features,
            cache=self.store.features,
            progress=lambda done, total, text: self.tell(done, total or done, text),
            parts=cell.parts,
        )
        notes = list(card.notes)
        if len(synthetic) < cell.n_synthetic:
            notes.append(
                f"{counted(len(synthetic), 'image is', 'images are')} scored where {cell.n_synthetic} were asked for: "
                "the half of the folder that is for scores allows no more"
            )
        shown = None
        if cell.generation.seed is None:  # no train cell keeps images to look at
            gallery = self.store.gallery(cell)
            if not gallery.is_dir():
                _first_of_each_class(synthetic, GALLERY_PER_CLASS).save(gallery)
            shown = str(gallery.relative_to(self.store.directory))
        return ScoreResult(**cell.identity(), scores=tuple(card.scores), notes=tuple(notes), gallery=shown)

    def filter(self, cell: FilterCell) -> FilterResult:
        subset = self.data.subset_of(cell)
        return judge(cell, subset, self.pool.to_filter(cell, subset), self.store.features, self.tell)

    def classify(self, cell: ClassifyCell) -> ClassifyResult:
        subset, split = self.data.subset_of(cell), self.data.split_of(cell)
        added: dict[str, Any] = {}
        told: dict[str, Any] = {}
        if cell.generation is not None:
            added["synthetic"] = self.pool.to_classify(cell, subset)
            told = self.pool.short_of(cell, subset)
        elif cell.ratio is not None:
            added = {"ratio": cell.ratio, "class_balance": cell.fill}
        result = classify(
            subset,
            split.held_out,
            arm=cell.arm,
            **added,
            validation=split.validation,
            network=cell.network,
            training=cell.training,
            seed=cell.seed,
            progress=lambda done, total: self.tell(done, total, f"step {done} of {total}"),
        )
        n_validation = 0 if split.validation is None else len(split.validation)
        of_kind = NaiveResult if isinstance(cell, NaiveCell) else ClassifyResult
        return of_kind(**cell.identity(), **result.to_dict(), n_validation=n_validation, **told)


def recipe_of(generation: SyntheticSource) -> Recipe:
    """Return the recipe that a generation was described with."""
    assert isinstance(generation.source, dict)
    return recipe_from_dict(generation.source)


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
