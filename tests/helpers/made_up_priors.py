"""Priors that nobody trained: freshly initialised networks with a card."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save

from sonosynth.core.files import write_json
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import run_config
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.registry import make_recipe
from sonosynth.priors.fingerprints import fingerprints
from sonosynth.priors.prior import CARD, WEIGHTS, PriorCard, PriorData

TINY = {"ngf": 4, "ndf": 4, "z_dim": 8, "batch": 4, "perceptual": "l1"}


def made_up_prior(folder: Path, data: ImageSet, recipe: Recipe | None = None, seed: int = 0) -> Path:
    """Write a prior that claims to have been trained on `data`, and return its folder."""
    recipe = recipe or make_recipe("fastgan", **TINY)
    config = run_config(data, recipe, conditional=True, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = {
            "generator": recipe.build_generator(config.size, config.n_classes),
            "discriminator": recipe.build_discriminator(config.size, config.n_classes),
        }
    tensors = {"fingerprints": torch.from_numpy(fingerprints(data))}
    for name, network in networks.items():
        for key, tensor in network.state_dict().items():
            tensors[f"{name}.{key}"] = tensor.half() if tensor.is_floating_point() else tensor
    content = save(tensors, {"sonosynth": json.dumps(config.to_dict())})
    card = PriorCard(
        name=folder.name,
        family=recipe.family,
        recipe=recipe.record(),
        size=config.size,
        classes=config.classes,
        kimg=1.0,
        seed=seed,
        data=PriorData(
            name="noise",
            citation="Nobody, Noise, 2026",
            images={"train": data.class_counts},
            groups={"train": len(data)},
            fingerprint=data.fingerprint(),
        ),
        scores=(),
        audit=(),
        sonosynth="0",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(content)
    write_json(folder / CARD, card.model_dump())
    return folder
