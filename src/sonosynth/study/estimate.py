"""How long a study will take on this machine, measured on a few steps of each kind of work before anything runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sonosynth.classify.filters import DEFAULT_FOLDS
from sonosynth.classify.training import TrainedClassifier, TrainingSettings, train_classifier
from sonosynth.core.device import default_device, median_seconds
from sonosynth.core.text import counted
from sonosynth.data.imageset import ImageSet
from sonosynth.features.extract import load_features
from sonosynth.gan.training.loop import run_config
from sonosynth.gan.training.pretrain import pretrainings
from sonosynth.gan.training.trainer import Trainer
from sonosynth.phantoms.phantom import simulate
from sonosynth.study.cells import AnyCell, FilterCell, ScoreCell, TrainCell
from sonosynth.study.prepared import StudyData
from sonosynth.study.run_cell import recipe_of

PROBE_IMAGES = 16
PROBE_STEPS = (1, 5)
PROBES = 3


COMPILED = "runs that are compiled take less than is estimated, which is from steps that are not"


@dataclass(frozen=True)
class Estimate:
    """The expected cost of the cells of one kind of work: how many there are, and seconds for each."""

    work: str
    cells: int
    seconds_each: float

    @property
    def seconds(self) -> float:
        """Seconds for all of them."""
        return self.cells * self.seconds_each


def estimate(cells: list[AnyCell], data: StudyData) -> list[Estimate]:
    """Measure each kind of work in `cells` on a few steps; cells of one GAN and mode, or one network, are alike."""
    kinds: dict[str, list[AnyCell]] = {}
    for cell in cells:
        kinds.setdefault(_work(cell), []).append(cell)
    return [Estimate(work, len(alike), _measure(alike[0], len(alike), data)) for work, alike in kinds.items()]


def _work(cell: AnyCell) -> str:
    if isinstance(cell, TrainCell):
        return f"train {cell.generation.gan} ({cell.generation.mode}, {cell.generation.kimg:g} kimg)"
    if isinstance(cell, ScoreCell):
        return f"score {counted(cell.n_synthetic, 'image')} ({', '.join(cell.features)})"
    if isinstance(cell, FilterCell):
        return f"filter by {cell.by} ({cell.features})"
    return f"classify with {cell.network} ({counted(cell.training.steps, 'step')})"


def _measure(cell: AnyCell, alike: int, data: StudyData) -> float:
    images = data.subset_of(cell)
    if isinstance(cell, TrainCell):
        return _training(cell, images) + _pretraining(cell, images) / alike
    if isinstance(cell, ScoreCell):
        return sum(_seconds_an_image(name, images) for name in cell.features) * cell.n_synthetic
    if isinstance(cell, FilterCell):
        return _filtering(cell, images)
    return _classifying(cell.network, cell.training, images, len(data.split_of(cell).held_out))


def _seconds(work: Callable[[], object]) -> float:
    return median_seconds(work, default_device(), repeats=PROBES, warm_up=1)


def _training(cell: TrainCell, images: ImageSet) -> float:
    generation = cell.generation
    assert generation.kimg is not None
    runs = 1 if generation.mode == "conditional" else len(_present(images))
    return runs * generation.kimg * _seconds_a_kimg(cell, images)


def _pretraining(cell: TrainCell, images: ImageSet) -> float:
    """Return the time of the pretraining that all cells of a recipe share: simulating phantoms, and training."""
    recipe = recipe_of(cell.generation)
    if not recipe.pretrain_kimg:
        return 0.0
    size = images.size[0]
    phantom = _seconds(lambda: simulate("malignant", 0, size, 0))
    plans = pretrainings(_present(images), cell.generation.mode == "conditional")
    phantoms = sum(len(plan.classes) for plan in plans) * recipe.pretrain_images
    return phantoms * phantom + len(plans) * recipe.pretrain_kimg * _seconds_a_kimg(cell, images)


def _present(images: ImageSet) -> tuple[str, ...]:
    return tuple(name for name, count in images.class_counts.items() if count)


def _seconds_a_kimg(cell: TrainCell, images: ImageSet) -> float:
    generation = cell.generation
    assert generation.kimg is not None
    recipe = recipe_of(generation).resolved(generation.kimg)
    config = run_config(images, recipe, conditional=generation.mode == "conditional", seed=0)
    trainer = Trainer(images.with_classes(config.classes), config, default_device())
    return trainer.seconds_per_step(PROBES) * 1000 / recipe.batch


def _seconds_an_image(features: str, images: ImageSet) -> float:
    probe = images.images[:PROBE_IMAGES]
    return _seconds(lambda: load_features(features)(probe)) / len(probe)


def _filtering(cell: FilterCell, images: ImageSet) -> float:
    candidates = cell.candidates * max(images.class_counts.values()) * len(_present(images))
    judging = 0.0
    if cell.network is not None and cell.training is not None:
        judging = DEFAULT_FOLDS * _classifying(cell.network, cell.training, images, candidates)
    return candidates * _seconds_an_image(cell.features, images) + judging


def _classifying(network: str, training: TrainingSettings, images: ImageSet, n_predicted: int) -> float:
    """Return the time of all steps with classical augmentation, of building the network, and of predictions."""

    def fitted(steps: int) -> TrainedClassifier:
        return train_classifier(images, classical=True, network=network, training=replace(training, steps=steps))

    short, long = (_seconds(lambda steps=steps: fitted(steps)) for steps in PROBE_STEPS)  # type: ignore[misc]
    step = max(0.0, long - short) / (PROBE_STEPS[1] - PROBE_STEPS[0])
    building = max(0.0, short - PROBE_STEPS[0] * step)
    judge, probe = fitted(1), images.images[:PROBE_IMAGES]
    return building + training.steps * step + n_predicted * _seconds(lambda: judge.predict(probe)) / len(probe)
