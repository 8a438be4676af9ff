"""The work of one cell of a study, train, score, filter or classify, and what trackers are told of it."""

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from sonosynth.classify.classify import classify
from sonosynth.core.device import keep_threads
from sonosynth.core.file_names import safe_name
from sonosynth.core.files import remove_file
from sonosynth.core.seeds import seed_of
from sonosynth.core.text import counted
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import GENERATOR, LOG, STATE, read_config
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.registry import recipe_from_dict
from sonosynth.gan.sample import Sampler
from sonosynth.gan.train import train_runs
from sonosynth.gan.training.run_writer import mirrors_of
from sonosynth.metrics.distances.kernel import snapshot_distance
from sonosynth.metrics.scorecard import score
from sonosynth.study.cells import AnyCell, ClassifyCell, FilterCell, NaiveCell, ScoreCell, SyntheticSource, TrainCell
from sonosynth.study.engines.engine import CellProgress, Note
from sonosynth.study.prepared import StudyData
from sonosynth.study.results import CellResult, ClassifyResult, NaiveResult, ScoreResult, TrainResult
from sonosynth.study.store import Store
from sonosynth.study.synthetic import SyntheticPool, WorkProgress, filter_candidates, first_of_each_class, seed_for
from sonosynth.tracking.tracker import Params
from sonosynth.tracking.trackers import CellPlace, Trackers

GALLERY_PER_CLASS = 8
_WHOLE = 2**62  # real images shown: of a finished run every log line is there to stay


def do_cell(
    data: StudyData, store: Store, track: Trackers | None, cell: AnyCell, progress: CellProgress, note: Note
) -> float:
    """Do the work of `cell`, store its result and return the seconds it took; a run that is trained is tracked."""
    keep_threads()  # a busy machine changes no bit of a study
    started = time.perf_counter()
    result = _Work(data, store, track and track.telling(note), partial(progress, cell)).do(cell)
    seconds = time.perf_counter() - started
    store.save(cell, result.model_copy(update={"seconds": round(seconds, 3)}))
    if isinstance(cell, TrainCell):  # only an unfinished run needs its state, ten times the size of the generator
        run = store.run(cell)
        for state in (run / STATE, *run.glob(f"*/{STATE}")):
            remove_file(state)
    return seconds


class _Work:
    """Does one cell."""

    def __init__(self, data: StudyData, store: Store, track: Trackers | None, progress: WorkProgress):
        self.data, self.store, self.track, self.progress = data, store, track, progress
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
            track=self.track and self.track.of_cell(place_of(cell, self.store)),
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


def place_of(cell: AnyCell, store: Store) -> CellPlace:
    """Return what a cell is called in trackers; its folder there has its hash, as another cell may share its name."""
    named = {name: value for name, value in cell.identity().items() if value is not None}
    gan = named.pop("gan", None)
    subset = f"n={named.pop('size')}, draw {named.pop('draw')}"
    named.pop("mode", None)
    if isinstance(cell, TrainCell):
        name = f"{gan}, {subset}, seed {named['seed']}"
    else:
        arm, network = named.pop("arm", None), named.pop("network", None)
        what = ", ".join(filter(None, (arm, network, gan)))
        rest = "".join(f", {name.replace('_', ' ')} {value}" for name, value in named.items())
        name = f"{cell.kind} {what}, {subset}{rest}"
    short = safe_name(name.replace(", ", " ").replace("=", "")).encode()[:150].decode(errors="ignore")
    return CellPlace(name, f"{short} {cell.hash[:8]}", store.run(cell))


def show_finished(cells: Iterable[AnyCell], store: Store, track: Trackers) -> None:
    """Show those of `cells`, all of which have results, that a tracker lacks."""
    for cell in cells:
        if not isinstance(cell, TrainCell):
            show_result(cell, store, track, again=False)
            continue
        run = store.run(cell)
        for log in (run / LOG, *sorted(run.glob(f"*/{LOG}"))):
            if (log.parent / GENERATOR).is_file():  # it may have been left behind
                config = read_config(log.parent / GENERATOR)
                mirrors = mirrors_of(log.parent, config, track.of_cell(place_of(cell, store)))
                mirrors.catch_up(_WHOLE)
                mirrors.close(True)


def show_result(cell: AnyCell, store: Store, track: Trackers, *, again: bool = True) -> None:
    """Show the metrics of a finished scorecard or classifier, of no other `cell`; `again` also where they are shown."""
    if not isinstance(cell, ScoreCell | ClassifyCell):
        return
    result = store.result(cell)
    if isinstance(result, ScoreResult):
        of_score = {
            "/".join((score.metric, score.features, score.reference, score.class_)): score.value
            for score in result.scores
        }
        metrics = {name: value for name, value in of_score.items() if value is not None}
        params: Params = cell.identity()
    else:
        assert isinstance(result, ClassifyResult)
        metrics = {name: value for name, value in result.metrics.items() if value is not None}
        counts = {name: getattr(result, name) for name in ("n_train", "n_synthetic", "n_validation", "n_test")}
        params = cell.identity() | counts
    track.summarise(place_of(cell, store), cell.kind, cell.hash, params, metrics, again=again)
