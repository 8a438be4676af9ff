"""Pretrained generators that a run can start from: their files, their cards, and those that come with this package.

A prior is a folder: ``prior.safetensors`` holds the weights of both networks and fingerprints of the pictures that they
were trained on, ``card.json`` says what they are, ``samples.png`` shows some images. A prior is never changed under its
name: one that was trained again has another.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sonosynth.core.errors import PriorError
from sonosynth.core.files import read_json
from sonosynth.core.text import did_you_mean
from sonosynth.core.types import Array
from sonosynth.priors.fingerprints import HASH_BYTES

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, CARD, SAMPLES, NOTICE, README = "prior.safetensors", "card.json", "samples.png", "NOTICE.txt", "README.md"
FINGERPRINTS = "fingerprints"
SHIPPED = Path(__file__).parent
PREFIX = "prior:"
"""What stands before the name of a prior where a run could be named too."""
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"


class PriorData(BaseModel):
    """What a prior was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # of the data set
    citation: str = ""  # of what users have to cite
    licence: str = ""  # terms of the images, and of weights made from them
    images: dict[str, dict[str, int]]  # by part (train, choose, test): images per class
    groups: dict[str, int]  # by part: groups, such as patients
    fingerprint: str  # SHA-256 of all prepared images


class PriorCard(BaseModel):
    """All that is known of a prior."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    family: str  # of generators
    recipe: dict[str, Any]  # settings of the run, as it records them
    size: int  # image side in pixels
    classes: tuple[str, ...]
    kimg: float  # thousands of images shown
    seed: int  # of training, and of the division of the images
    data: PriorData
    scores: tuple[dict[str, Any], ...]  # rows of the scorecard against the test patients
    audit: tuple[str, ...]  # what the measures of memorisation say
    sonosynth: str  # version
    sha256: str  # of the weights file


@dataclass(frozen=True)
class Prior:
    """A pretrained generator in a folder."""

    folder: Path
    card: PriorCard

    @property
    def name(self) -> str:
        """What it is called."""
        return self.card.name

    @property
    def shipped(self) -> bool:
        """Whether it came with this package."""
        return self.folder.parent == SHIPPED

    def weights(self) -> "dict[str, dict[str, Tensor]]":
        """Return float32 tensors of the ``generator`` and the ``discriminator`` by name. Raises PriorError: damaged."""
        import torch

        networks: dict[str, dict[str, Tensor]] = {"generator": {}, "discriminator": {}}
        for name, tensor in self._tensors.items():
            network, _, rest = name.partition(".")
            if network in networks:
                networks[network][rest] = tensor.float() if tensor.dtype == torch.float16 else tensor
        return networks

    @property
    def known(self) -> Array:
        """Fingerprints of the pictures that it was trained on, or that chose its length, uint8 ``[M, 32]``."""
        return np.asarray(self._tensors[FINGERPRINTS])

    @cached_property
    def _tensors(self) -> "dict[str, Tensor]":
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.folder / WEIGHTS
        try:
            content = path.read_bytes()
            found = load(content)
        except (OSError, SafetensorError) as error:
            raise PriorError(f"{path} is damaged ({error}); copy the prior again") from error
        if hashlib.sha256(content).hexdigest() != self.card.sha256:
            raise PriorError(f"{path} is not the file that {CARD} beside it describes; copy the prior again")
        hashes = found.get(FINGERPRINTS)
        if hashes is None or hashes.dtype != torch.uint8 or hashes.ndim != 2 or hashes.shape[1] != HASH_BYTES:
            raise PriorError(f"{path} holds no fingerprints of its training images; make the prior again")
        return found


def is_prior(folder: Path) -> bool:
    """Return whether `folder` claims to hold a prior, by its card."""
    return (folder / CARD).is_file()


def list_priors() -> tuple[str, ...]:
    """Return the names of the priors that come with this package.

    Example:
        >>> import sonosynth as ss
        >>> isinstance(ss.list_priors(), tuple)
        True
    """
    return tuple(prior.name for prior in shipped_priors())


def shipped_priors() -> list[Prior]:
    """Return the priors that come with this package, by family and size."""
    found = [read_prior(path.parent) for path in SHIPPED.glob(f"*/{CARD}")]
    return sorted(found, key=lambda prior: (prior.card.family, prior.card.size, prior.name))


def find_prior(prior: str | Path) -> Prior:
    """Return the prior of that name, with or without ``prior:`` before it, or in that folder. Raises PriorError."""
    name = str(prior).removeprefix(PREFIX)
    if is_prior(SHIPPED / name):
        return read_prior(SHIPPED / name)
    if Path(name).is_dir():
        return read_prior(Path(name))
    names = list_priors()
    raise PriorError(
        f"no prior '{name}'{did_you_mean(name, names)}; known: {', '.join(names) or 'none'}, or the folder that "
        "'sonosynth prior make' wrote"
    )


def fitting_prior(family: str, size: int) -> Prior:
    """Return the prior of this package for a family of generators and an image side. Raises PriorError: none."""
    of_family = [prior for prior in shipped_priors() if prior.card.family == family]
    for prior in of_family:
        if prior.card.size == size:
            return prior
    there = ", ".join(f"{prior.card.size} px" for prior in of_family)
    raise PriorError(
        f"no prior of the family '{family}' has images of {size} px{f' (there are some of {there})' if there else ''}; "
        "prepare the images at another --size, or make one with 'sonosynth prior make'"
    )


def read_prior(folder: Path) -> Prior:
    """Return the prior in `folder`, whose weights are read when they are needed. Raises PriorError: there is none."""
    path = folder / CARD
    if not is_prior(folder):
        raise PriorError(
            f"{folder} holds no prior ({CARD} is missing); give the folder that 'sonosynth prior make' wrote"
        )
    try:
        card = PriorCard.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise PriorError(f"{path} is no card of a prior ({what}); copy the prior again") from error
    return Prior(folder, card)
