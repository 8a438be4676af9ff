"""The weights a run starts from: those of another run as far as they fit, or of a pretraining on phantoms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sonosynth.core.errors import RunError
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepared_folder import save_once
from sonosynth.gan.checkpoint import STATE, fingerprint, generator_files, load_generator, load_state
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.training.trainer import Trainer
from sonosynth.phantoms.phantom import CLASSES, phantom


def transfer(trainer: Trainer, run: Path) -> dict[str, Any]:
    """Copy the averaged generator of `run`, and its discriminator where its state is still there, into `trainer`.

    Return the fingerprint of `run` (source) and the names of the tensors that were copied (taken) or left as
    initialised (left); one fits by name and shape. Raises RunError: no generator, or another file in the place of the
    state.
    """
    (file,) = generator_files(run)
    generator, _ = load_generator(file, trainer.device)
    discriminator: dict[str, Tensor] = {}
    if (run / STATE).is_file():
        state = load_state(run / STATE, trainer.device)
        if "discriminator" not in state:
            raise RunError(f"{run / STATE} is no state of a run; remove it to start from the generator alone")
        discriminator = state["discriminator"]
    taken: list[str] = []
    left: list[str] = []
    networks = {"generator": trainer.generator, "discriminator": trainer.discriminator}
    for (network, target), source in zip(networks.items(), (generator.state_dict(), discriminator), strict=True):
        for name, tensor in target.state_dict().items():
            fits = name in source and source[name].shape == tensor.shape
            if fits:
                tensor.copy_(source[name])
            (taken if fits else left).append(f"{network}.{name}")
    trainer.ema.load_state_dict(trainer.generator.state_dict())
    return {"source": fingerprint(run), "taken": taken, "left": left}


@dataclass(frozen=True)
class Pretraining:
    """What a generator is trained on first: phantoms of `classes`, which the networks see if `conditional`."""

    classes: tuple[str, ...]
    conditional: bool

    @property
    def name(self) -> str:
        """The folder of its images and its run."""
        return "-".join(self.classes) + ("" if self.conditional or len(self.classes) == 1 else "-unlabelled")

    def phantoms(self, recipe: Recipe, size: int, folder: Path) -> ImageSet:
        """Return `recipe.pretrain_images` phantoms of each class at ``size × size``, kept in `folder`."""
        arguments = {
            "command": "phantom",
            "per_class": recipe.pretrain_images,
            "size": size,
            "seed": recipe.pretrain_seed,
            "classes": list(self.classes),
        }
        made, _, _ = save_once(
            folder, arguments, lambda: (phantom(recipe.pretrain_images, size, recipe.pretrain_seed, self.classes), [])
        )
        return made.with_classes(self.classes)


def pretraining_for(classes: tuple[str, ...], conditional: bool) -> Pretraining:
    """Return the pretraining of a run on `classes`.

    Classes are matched to those of the phantom by name, whatever its case. Where one has no counterpart, phantoms of
    all classes are shown without labels, so that nothing is learnt about a class that means something else.
    """
    names = tuple(name.lower() for name in classes)
    if set(names) <= set(CLASSES) and len(set(names)) == len(names):
        return Pretraining(names, conditional)
    return Pretraining(CLASSES, conditional=False)


def pretrainings(classes: tuple[str, ...], conditional: bool) -> list[Pretraining]:
    """Return those of one conditional run on `classes`, or of a run per class; runs with the same one share it."""
    runs = [classes] if conditional else [(name,) for name in classes]
    return list(dict.fromkeys(pretraining_for(run, conditional) for run in runs))


def describe_pretraining(recipe: Recipe, classes: tuple[str, ...], conditional: bool) -> list[str]:
    """Return a line for the user on each of `pretrainings`; none if `recipe` does not pretrain."""
    if not recipe.pretrain_kimg:
        return []
    return [
        f"first {recipe.pretrain_kimg:g} kimg on phantoms, {recipe.pretrain_images} of each of "
        f"{', '.join(plan.classes)}{', without labels' if len(plan.classes) > 1 and not plan.conditional else ''}"
        for plan in pretrainings(classes, conditional)
    ]
