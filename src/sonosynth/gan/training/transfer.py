"""The weights a run starts from: those of another run as far as they fit, of a prior, or of pretraining on phantoms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sonosynth.core.errors import PriorError, RunError
from sonosynth.core.text import agreeing, counted
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepared_folder import save_once
from sonosynth.gan.checkpoint import STATE, RunConfig, fingerprint, generator_files, load_generator, load_state
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.training.trainer import Trainer
from sonosynth.phantoms.phantom import CLASSES, phantom
from sonosynth.priors.prior import find_prior, fitting_prior, is_prior, read_prior, shipped_priors

AUTO = "auto"  # the prior of this package for the family and the size


def with_prior(recipe: Recipe, size: int) -> Recipe:
    """Return `recipe` with its prior named, and with networks like those of the prior; as it is without one.

    Raises PriorError: there is no such prior, or it is of another family, size or width than was asked for.
    """
    if recipe.prior is None:
        return recipe
    prior = fitting_prior(recipe.family, size) if recipe.prior == AUTO else find_prior(recipe.prior)
    card = prior.card
    if (card.family, card.size) != (recipe.family, size):
        raise PriorError(
            f"prior '{prior.name}' is a generator of the family '{card.family}' for {card.size} px, not "
            f"'{recipe.family}' for {size} px; take another prior, recipe or --size"
        )
    networks = {name: card.recipe[name] for name in recipe.network_settings() & card.recipe.keys()}
    for name, value in networks.items():
        if name in recipe.given and getattr(recipe, name) != value:
            raise PriorError(
                f"prior '{prior.name}' has networks with {name} = {value}, not {getattr(recipe, name)}; leave that "
                "setting out, or take another prior"
            )
    return recipe.model_copy(update=networks | {"prior": prior.name if prior.shipped else str(prior.folder)})


def settle_start(recipe: Recipe, start: Path | None, size: int) -> tuple[Recipe, Path | None]:
    """Return `recipe` as `with_prior` does, and what a run of it starts from: the folder of its prior, or `start`.

    Raises RunError like `check_start`, and PriorError like `with_prior`.
    """
    check_start(recipe, start)
    recipe = with_prior(recipe, size)
    return recipe, start if recipe.prior is None else find_prior(recipe.prior).folder


def sizes_of_priors(recipe: Recipe) -> list[int]:
    """Return the image sides for which `recipe` has a prior, ascending; none for a recipe without one."""
    if recipe.prior is None:
        return []
    if recipe.prior != AUTO:
        return [find_prior(recipe.prior).card.size]
    return [prior.card.size for prior in shipped_priors() if prior.card.family == recipe.family]


def check_start(recipe: Recipe, start: Path | None) -> None:
    """Raise RunError if `recipe` and `start` name more than one thing to start from."""
    named = {
        "its own pretraining (--set pretrain_kimg=0)": bool(recipe.pretrain_kimg),
        f"prior '{recipe.prior}' (--set prior=null)": recipe.prior is not None,
        f"{start} (--from)": start is not None,
    }
    several = [what for what, there in named.items() if there]
    if len(several) > 1:
        raise RunError(f"GAN '{recipe.name}' would start from {' and '.join(several)}; leave out all but one")


def transfer(trainer: Trainer, start: Path) -> dict[str, Any]:
    """Copy the networks of a run or of a prior, `start`, into `trainer`.

    Of a run, these are its averaged generator, and its discriminator where its state is still there; of them, what fits
    by name and shape. Of a prior, all must fit. Where both know classes, those of the same name, whatever its case, are
    taken over, and a new class starts from the mean of the old ones.

    Return the fingerprint of `start` (source), the names of the tensors that were copied (taken) or left as initialised
    (left), and what every class started from (classes).

    Raises RunError: no generator, or another file in the place of the state; PriorError: the prior does not fit.
    """
    config = trainer.config
    old, sources = _weights_of(start, trainer.device)
    new = config.classes if config.conditional else ()
    origins = {name: [i for i, was in enumerate(old) if was.lower() == name.lower()] for name in new if old}
    rows = [origin or list(range(len(old))) for origin in origins.values()]
    relabelled = rows != [[i] for i in range(len(old))]
    along = class_dimensions(config) if rows and relabelled else {}
    taken: list[str] = []
    left: list[str] = []
    for network in ("generator", "discriminator"):
        source = sources[network]
        for name, tensor in getattr(trainer, network).state_dict().items():
            key, found = f"{network}.{name}", source.get(name)
            if found is not None and key in along and found.shape[along[key]] == len(old):
                means = [found.index_select(along[key], torch.tensor(r, device=found.device)) for r in rows]
                found = torch.stack([m.mean(along[key]) for m in means], along[key])
            fits = found is not None and found.shape == tensor.shape
            if fits:
                tensor.copy_(found)
            (taken if fits else left).append(key)
    if left and is_prior(start):
        raise PriorError(
            f"the prior in {start} does not fit: its networks have no {left[0]} of the shape that is needed; take a "
            "prior that this version of sonosynth made"
        )
    trainer.ema.load_state_dict(trainer.generator.state_dict())
    named = {name: ", ".join(old[i] for i in origin) or "the mean of all" for name, origin in origins.items()}
    return {"source": fingerprint(start), "taken": taken, "left": left, "classes": named}


def _weights_of(start: Path, device: torch.device) -> tuple[tuple[str, ...], dict[str, dict[str, Tensor]]]:
    """Return the classes that the networks of a run or a prior know, and the tensors of both by name."""
    if is_prior(start):
        prior = read_prior(start)
        networks = prior.weights()
        moved = {network: {name: t.to(device) for name, t in tensors.items()} for network, tensors in networks.items()}
        return prior.card.classes, moved
    (file,) = generator_files(start)
    generator, config = load_generator(file, device)
    discriminator: dict[str, Tensor] = {}
    if (start / STATE).is_file():
        state = load_state(start / STATE, device)
        if "discriminator" not in state:
            raise RunError(f"{start / STATE} is no state of a run; remove it to start from the generator alone")
        discriminator = state["discriminator"]
    classes = config.classes if config.conditional else ()
    return classes, {"generator": generator.state_dict(), "discriminator": discriminator}


def class_dimensions(config: RunConfig) -> dict[str, int]:
    """Return for each tensor of both networks that holds something per class the dimension along which it does."""
    found: dict[str, int] = {}
    for network in ("generator", "discriminator"):
        build = getattr(config.recipe, f"build_{network}")
        with torch.device("meta"):
            some, more = (build(config.size, n).state_dict() for n in (config.n_classes, config.n_classes + 1))
        for name, tensor in some.items():
            differs = [d for d, (a, b) in enumerate(zip(tensor.shape, more[name].shape, strict=True)) if a != b]
            found |= {f"{network}.{name}": dimension for dimension in differs}
    return found


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


def describe_prior(recipe: Recipe, classes: tuple[str, ...]) -> list[str]:
    """Return lines for the user on the prior that `recipe` names; none without one."""
    if recipe.prior is None:
        return []
    card = find_prior(recipe.prior).card
    n = counted(sum(card.data.images["train"].values()), "image")
    new = [name for name in classes if name.lower() not in map(str.lower, card.classes)]
    lines = [
        f"from prior '{card.name}': {card.kimg:g} kimg on {n} of {card.data.name} ({', '.join(card.classes)})"
        + (f"; {', '.join(new)} {agreeing(len(new), 'starts', 'start')} from the mean of these" if new else "")
    ]
    return lines + ([f"cite what it was trained on: {card.data.citation}"] if card.data.citation else [])
