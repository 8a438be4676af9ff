"""The work of one cell of a study: train, score, filter or classify."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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
from sonosynth.study.cells import AnyCell, ClassifyCell, FilterCell, NaiveCell, ScoreCell, SyntheticSource, TrainCell
from sonosynth.study.engines.local import CellProgress
from sonosynth.study.prepared import StudyData
from sonosynth.study.results import CellResult, ClassifyResult, NaiveResult, ScoreResult, TrainResult
from sonosynth.study.store import Store
from sonosynth.study.synthetic import SyntheticPool, WorkProgress, filter_candidates, first_of_each_class, seed_for

GALLERY_PER_CLASS = 8


def do_cell(data: StudyData, store: Store, cell: AnyCell, progress: CellProgress) -> float:
    """Do the work of `cell`, store its result and return the seconds it took."""
    started = time.perf_counter()
    result = _Work(data, store, partial(progress, cell)).do(cell)
    seconds = time.perf_counter() - started
    store.save(cell, result.model_copy(update={"seconds": round(seconds, 3)}))
    if isinstance(cell, TrainCell):  # only an unfinished run needs its state, ten times the size of the generator
        run = store.run(cell)
        for state in (run / STATE, *run.glob(f"*/{STATE}")):
            remove_file(state)
    return seconds


class _Work:
    """Does one cell."""

    def __init__(self, data: StudyData, store: Store, progress: WorkProgress):
        self.data, self.store, self.progress = data, store, progress
        self.pool = SyntheticPool(store, data.folders, progress)

    def do(self, cell: AnyCell) -> CellResult:
        subset = self.data.subset_of(cell)
        if isinstance(cell, TrainCell):
            return self.train(cell, subset)
        if isinstance(cell, ScoreCell):
            return self.score(cell, subset)
        if isinstance(cell, FilterCell):
            made = self.pool.to_filter(cell, subset)
            return filter_candidates(cell, subset, made, self.store.features, self.progress)
        return self.classify(cell, subset)

    def train(self, cell: TrainCell, subset: ImageSet) -> TrainResult:
        generation = cell.generation
        assert generation.kimg is not None and generation.mode is not None and generation.seed is not None
        run = self.store.run(cell)
        measured = generation.snapshot == "best" or generation.patience_kimg is not None
        runs = train_runs(
            subset,
            recipe_of(generation),
            run,
            kimg=generation.kimg,
            mode=generation.mode,
            seed=seed_of(generation.seed, "study", cell.size, cell.replicate),
            distance_to=snapshot_distance if measured else None,
            patience_kimg=generation.patience_kimg,
            pretraining=self.store.pretraining(generation),
            progress=lambda done, total, latest: self.progress(
                done, total, f"{done:.2f} of {total:.2f} kimg, {latest.get('img_per_s', 0):.1f} img/s"
            ),
        )

        def samples() -> ImageSet:
            names = [name for name, count in subset.class_counts.items() if count]
            sampler, seed = Sampler(run, generation.snapshot), seed_for(cell, "gallery")
            return ImageSet.concatenate([sampler.generate(GALLERY_PER_CLASS, name, seed=seed) for name in names])

        gallery = self.gallery(cell, samples)
        record = _training_record(runs)
        if generation.patience_kimg is None:
            record["kimg"] = generation.kimg  # as planned; runs end with a whole batch
        return TrainResult(**cell.identity(), **record, gallery=gallery)

    def gallery(self, cell: AnyCell, samples: Callable[[], ImageSet]) -> str:
        """Keep some synthetic images for the report, and return the folder relative to the study directory."""
        gallery = self.store.gallery(cell)
        if not gallery.is_dir():
            samples().save(gallery)
        return str(gallery.relative_to(self.store.directory))

    def score(self, cell: ScoreCell, subset: ImageSet) -> ScoreResult:
        synthetic = self.pool.to_score(cell, subset).with_classes(self.data.images.classes)
        card = score(
            subset,
            synthetic,
            self.data.split_of(cell).held_out,
            features=cell.features,
            cache=self.store.features,
            progress=lambda done, total, text: self.progress(done, total or done, text),
            parts=cell.parts,
        )
        notes = list(card.notes)
        if len(synthetic) < cell.n_synthetic:
            notes.append(
                f"{counted(len(synthetic), 'image is', 'images are')} scored where {cell.n_synthetic} are planned: "
                "the half of the folder that is for scores allows no more"
            )
        gallery = None
        if cell.generation.seed is None:  # no train cell keeps images to look at
            counts = [GALLERY_PER_CLASS] * len(synthetic.classes)
            gallery = self.gallery(cell, lambda: first_of_each_class(synthetic, counts))
        return ScoreResult(**cell.identity(), scores=tuple(card.scores), notes=tuple(notes), gallery=gallery)

    def classify(self, cell: ClassifyCell, subset: ImageSet) -> ClassifyResult:
        split = self.data.split_of(cell)
        added: dict[str, Any] = {}
        notes: dict[str, Any] = {}
        if cell.generation is not None:
            added["synthetic"], notes = self.pool.to_classify(cell, subset)
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
            progress=lambda done, total: self.progress(done, total, f"step {done} of {total}"),
        )
        n_validation = 0 if split.validation is None else len(split.validation)
        of_kind = NaiveResult if isinstance(cell, NaiveCell) else ClassifyResult
        return of_kind(**cell.identity(), **result.to_dict(), n_validation=n_validation, **notes)


def recipe_of(generation: SyntheticSource) -> Recipe:
    """Return the recipe of a trained source of synthetic images."""
    assert isinstance(generation.source, dict)
    return recipe_from_dict(generation.source)


def kind_of_work(cell: AnyCell) -> str:
    """Return in words what `cell` does: cells of one GAN and mode, or one network, are alike."""
    if isinstance(cell, TrainCell):
        return f"train {cell.generation.gan} ({cell.generation.mode}, {cell.generation.kimg:g} kimg)"
    if isinstance(cell, ScoreCell):
        return f"score {counted(cell.n_synthetic, 'image')} ({', '.join(cell.features)})"
    if isinstance(cell, FilterCell):
        return f"filter by {cell.by} ({cell.features})"
    return f"classify with {cell.network} ({counted(cell.training.steps, 'step')})"


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
