"""From a trained generator to images: a synthetic `ImageSet`, or a grid to look at."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sonosynth.data.imageset import ImageSet
from sonosynth.engine import autocast, default_device, generator
from sonosynth.errors import ClassError, RunError, nearest
from sonosynth.files import atomic_file
from sonosynth.gan.checkpoint import GENERATOR, RunConfig, load_generator
from sonosynth.gan.game import GeneratorNetwork

CHUNK = 32  # samples a pass; always this many, so that rounding cannot depend on how many images were asked for


def class_sequence(counts: Sequence[int], n: int) -> np.ndarray:
    """Return `n` labels in the proportions of `counts`, int64 ``[n]``.

    Each label is of the class furthest behind its share, so a shorter sequence is the beginning of a longer one.
    """
    share = np.asarray(counts, dtype=float) / sum(counts)
    made = np.zeros(len(share))
    labels = np.empty(n, dtype=np.int64)
    for i in range(n):
        labels[i] = np.argmax(share * (i + 1) - made)
        made[labels[i]] += 1
    return labels


def _latents(
    network: GeneratorNetwork, seed: int, labels: Tensor, start: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    draws = [generator(seed, "sample", int(label), start + i) for i, label in enumerate(labels)]
    z = torch.stack([torch.randn(network.z_dim, generator=g) for g in draws])
    noise = torch.stack([torch.randn(network.noise_length, generator=g) for g in draws])
    return z.to(device), noise.to(device)


@torch.no_grad()
def synthesise(
    network: GeneratorNetwork,
    labels: np.ndarray,
    *,
    conditional: bool,
    seed: int,
    truncation: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Return uint8 images ``[N, H, W]``; image i depends on (seed, its label, i) and the weights alone."""
    device = next(network.parameters()).device
    images = np.empty((len(labels), network.size, network.size), dtype=np.uint8)
    for start in range(0, len(labels), CHUNK):
        count = min(CHUNK, len(labels) - start)
        chunk = np.resize(labels[start : start + count], CHUNK)
        z, noise = _latents(network, seed, torch.from_numpy(chunk), start, device)
        with autocast(device):
            made = network(z, torch.from_numpy(chunk).to(device) if conditional else None, noise, truncation)
        made = made[:count, 0].mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
        images[start : start + count] = made.cpu().numpy()
        if progress:
            progress(start + count, len(labels))
    return images


def generate(
    run: Path,
    n: int,
    *,
    class_name: str | None = None,
    truncation: float = 1.0,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Return `n` synthetic images of a run.

    Args:
        run: directory of one run, or of one run a class.
        n: how many.
        class_name: only this class; otherwise the classes come in the proportions of the training set.
        truncation: ψ in [0, 1]; 1 keeps the full diversity.
        seed: the same seed gives the same images, and a smaller `n` the first of them.
        device: where to compute; the first GPU if there is one.
        progress: called as ``progress(done, n)``.

    Raises:
        RunError: `run` holds no finished generator.
        ClassError: `class_name` is not one that the generator knows.
    """
    device = device or default_device()
    players = [load_generator(path, device) for path in generator_files(run)]
    classes = tuple(name for _, config in players for name in config.classes)
    counts = [count for _, config in players for count in config.class_counts]
    if class_name is not None and class_name not in classes:
        raise ClassError(
            f"{run} makes no class '{class_name}'{nearest(class_name, classes)}; known: {', '.join(classes)}"
        )
    labels = class_sequence(counts, n) if class_name is None else np.full(n, classes.index(class_name))
    images = np.empty((n, players[0][1].size, players[0][1].size), dtype=np.uint8)
    done, first = 0, 0
    for network, config in players:
        mine = np.flatnonzero((labels >= first) & (labels < first + len(config.classes)))
        tell = functools.partial(lambda before, i, _: progress(before + i, n) if progress else None, done)
        images[mine] = synthesise(
            network,
            labels[mine] - first,
            conditional=config.conditional,
            seed=seed,
            truncation=truncation,
            progress=tell,
        )
        done, first = done + len(mine), first + len(config.classes)
    return ImageSet(
        images=images,
        labels=labels,
        classes=classes,
        groups=np.arange(n),
        ids=tuple(f"synthetic-{i:06d}" for i in range(n)),
        synthetic=True,
        extra={"seed": (str(seed),) * n, "index": tuple(str(i) for i in range(n))},
    )


def generator_files(run: Path) -> list[Path]:
    """Return the generator of a run, or those of its runs a class, by class name. Raises RunError if there is none."""
    if (run / GENERATOR).is_file():
        return [run / GENERATOR]
    files = sorted(run.glob(f"*/{GENERATOR}"))
    if not files:
        raise RunError(f"{run} holds no {GENERATOR}; train a generator there first with 'sonosynth train'")
    return files


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Arrange uint8 images ``[N, H, W]`` row by row into one picture of `columns` columns."""
    n, height, width = images.shape
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, height, width), dtype=np.uint8)
    sheet[:n] = images
    return sheet.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def save_sample_grid(network: GeneratorNetwork, config: RunConfig, path: Path, columns: int = 8) -> None:
    """Write a PNG grid of the same latents at every call: a row a class, or three rows of a single class."""
    rows = len(config.classes) if config.conditional else 3
    labels = np.repeat(np.arange(rows) if config.conditional else np.zeros(rows, dtype=np.int64), columns)
    images = synthesise(network, labels, conditional=config.conditional, seed=0)
    with atomic_file(path) as beside:
        Image.fromarray(tile(images, columns)).save(beside, format="PNG")
