"""Runs that nobody trained: freshly initialised networks where a run would have trained ones."""

from pathlib import Path
from typing import Any

import torch

from image_sets import blobs
from made_up_priors import TINY
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import GENERATOR, STATE, claim_run, run_config, save_generator, save_state
from sonosynth.gan.registry import make_recipe

TRAIN, HELD_OUT = blobs(14, seed=1), blobs(11, seed=2)
"""What such a run was trained on, and what it has not seen."""
RELEASE: dict[str, Any] = {
    "train": TRAIN,
    "held_out": HELD_OUT,
    "features": ("random-conv",),
    "data_name": "BUS-BRA",
    "name": "sample",
}
"""How it is released."""


def made_up_run(out: Path, data: ImageSet, *, conditional: bool = True, seed: int = 0) -> Path:
    """Write a run that claims to have been trained on `data`, one for all classes or one per class; return `out`."""
    recipe = make_recipe("fastgan", **TINY)
    parts = {out: data} if conditional else {out / name: data.of_class(name) for name in data.classes}
    for folder, part in parts.items():
        config = run_config(part, recipe, conditional=conditional, seed=seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            generator = recipe.build_generator(config.size, config.n_classes)
            discriminator = recipe.build_discriminator(config.size, config.n_classes)
        claim_run(folder, config)
        save_generator(folder / GENERATOR, generator, config, kimg=1.0)
        save_state(folder / STATE, {"discriminator": discriminator.state_dict()})
    return out
