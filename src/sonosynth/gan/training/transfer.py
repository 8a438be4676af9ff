"""Start a run from the weights of another: what fits is taken, what does not is listed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sonosynth.core.errors import RunError
from sonosynth.gan.checkpoint import STATE, load_generator, load_state, read_config
from sonosynth.gan.sample import generator_files
from sonosynth.gan.training.trainer import Trainer


@dataclass(frozen=True)
class Transfer:
    """What a run took over, and what it left as initialised, as names of tensors; a tensor fits by name and shape.

    `source` is the fingerprint of the run that the tensors are from.
    """

    source: str
    taken: tuple[str, ...]
    left: tuple[str, ...]


def source_of(run: Path, class_name: str | None) -> Path:
    """Return the run to start from: that of `class_name` if `run` holds one run a class. Raises RunError."""
    files = generator_files(run)
    mine = [file.parent for file in files if read_config(file).classes == (class_name,)]
    return mine[0] if mine else files[0].parent


def fingerprint(run: Path) -> str:
    """Return a SHA-256 of the generator of `run`, which names it in the configuration of runs that start from it."""
    (file,) = generator_files(run)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def transfer(trainer: Trainer, run: Path) -> Transfer:
    """Copy the averaged generator of `run`, and its discriminator where its state is still there, into `trainer`.

    Raises:
        RunError: `run` holds no generator, or a file in the place of its state.
    """
    (file,) = generator_files(run)
    generator, _ = load_generator(file, trainer.device)
    weights = generator.state_dict()
    taken, left = _copy(weights, trainer.generator, "generator")
    _copy(weights, trainer.ema, "generator")
    judge = {}
    if (run / STATE).is_file():
        state = load_state(run / STATE, trainer.device)
        if "discriminator" not in state:
            raise RunError(f"{run / STATE} is no state of a run; remove it to start from the generator alone")
        judge = state["discriminator"]
    more_taken, more_left = _copy(judge, trainer.discriminator, "discriminator")
    return Transfer(fingerprint(run), (*taken, *more_taken), (*left, *more_left))


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: nn.Module, network: str) -> tuple[list[str], list[str]]:
    taken: list[str] = []
    left: list[str] = []
    for name, tensor in target.state_dict().items():
        fits = name in source and source[name].shape == tensor.shape
        if fits:
            tensor.copy_(source[name])
        (taken if fits else left).append(f"{network}.{name}")
    return taken, left
