"""Which phantoms a run sees before its real images."""

from dataclasses import dataclass
from pathlib import Path

from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepared_folder import save_once
from sonosynth.gan.recipe import Recipe
from sonosynth.phantoms.phantom import CLASSES, phantom


@dataclass(frozen=True)
class Pretraining:
    """What a generator is trained on first.

    Attributes:
        classes: phantom classes, in the order of the classes of the run where they are the same.
        conditional: whether the networks see them.
    """

    classes: tuple[str, ...]
    conditional: bool

    @property
    def name(self) -> str:
        """The folder of its images and its run."""
        return "-".join(self.classes) + ("" if self.conditional or len(self.classes) == 1 else "-unlabelled")

    def phantoms(self, recipe: Recipe, size: int, folder: Path) -> ImageSet:
        """Return `recipe.pretrain_images` phantoms of each class at ``size × size``, kept in `folder`.

        Raises:
            OutputError: `folder` holds something else.
        """
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
    """Return those of one conditional run on `classes`, or of a run a class; runs with the same one share it."""
    runs = [classes] if conditional else [(name,) for name in classes]
    return list(dict.fromkeys(pretraining_for(run, conditional) for run in runs))


def announcement(recipe: Recipe, classes: tuple[str, ...], conditional: bool) -> list[str]:
    """Return a line a pretraining of `pretrainings`, to tell the user; none if `recipe` does not pretrain."""
    if not recipe.pretrain_kimg:
        return []
    return [
        f"first {recipe.pretrain_kimg:g} kimg on phantoms, {recipe.pretrain_images} of each of "
        f"{', '.join(plan.classes)}{', without labels' if len(plan.classes) > 1 and not plan.conditional else ''}"
        for plan in pretrainings(classes, conditional)
    ]
