"""From a trained generator to images: a synthetic `ImageSet`, or a grid to look at."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sonosynth.core.device import (
    autocast,
    default_device,
    pinned_empty,
    sampling_batch_size,
    start_copy_to_cpu,
    to_device,
    torch_generator,
)
from sonosynth.core.errors import ClassError, RunError
from sonosynth.core.files import atomic_file
from sonosynth.core.text import did_you_mean
from sonosynth.core.types import Progress
from sonosynth.data.imageset import SYNTHETIC_NOTICE, ImageSet, synthetic_png_info
from sonosynth.data.resize import crop_to_original
from sonosynth.gan.checkpoint import Run, RunConfig, Snapshot, generator_files, load_generator
from sonosynth.gan.recipe import GeneratorNetwork

DRAWING_THREADS = 8


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


Latents = tuple[Tensor, Tensor]
"""``z [N, z_dim]`` and noise ``[N, noise_length]``."""

T = TypeVar("T")


def _one_ahead(begun: Iterable[T]) -> Iterator[T]:
    """Yield what was begun, each when the next has been begun too."""
    for now, _ in pairwise(chain(begun, [None])):
        assert now is not None
        yield now


def _latents(
    network: GeneratorNetwork, seed: int, labels: Sequence[np.ndarray], device: torch.device, first_class: int = 0
) -> Iterator[Latents]:
    """Yield the latents of every chunk of `labels`, on the CPU; threads draw the next chunk meanwhile.

    Every image has a random sequence of its own, named by its class too: generators of one class each, which begin from
    the same weights, would otherwise make pairs of like images. One thread alone would draw more slowly than a GPU
    makes images.
    """

    def draw(latents: Latents, chunk: np.ndarray, start: int, rows: range) -> None:
        for row in rows:
            own = torch_generator(seed, "sample", first_class + int(chunk[row]), start + row)
            for drawn in latents:
                torch.randn(drawn.shape[1], generator=own, out=drawn[row])

    def begin() -> Iterator[tuple[Latents, list[Future[None]]]]:
        start = 0
        for chunk in labels:
            n = len(chunk)
            latents = pinned_empty(device, n, network.z_dim), pinned_empty(device, n, network.noise_length)
            shares = [range(k, n, DRAWING_THREADS) for k in range(DRAWING_THREADS)]
            yield latents, [pool.submit(draw, latents, chunk, start, rows) for rows in shares]
            start += n

    with ThreadPoolExecutor(DRAWING_THREADS) as pool:
        for latents, shares in _one_ahead(begin()):
            for share in shares:
                share.result()
            yield latents


@torch.no_grad()
def synthesise(
    network: GeneratorNetwork,
    labels: np.ndarray,
    *,
    conditional: bool,
    seed: int,
    truncation: float = 1.0,
    first_class: int = 0,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return uint8 images ``[N, H, W]``; image i depends on (seed, its class, i) and the weights alone.

    `labels` are those of `network`, and `first_class` is the number of its first class among all of the images to make.
    """
    device = next(network.parameters()).device
    images = np.empty((len(labels), network.size, network.size), dtype=np.uint8)
    # Always as many a pass, so that rounding cannot depend on how many images were asked for.
    size = sampling_batch_size(device, network.size)
    chunks = [np.resize(labels[start : start + size], size) for start in range(0, len(labels), size)]

    def begin() -> Iterator[Callable[[], Tensor]]:
        for chunk, latents in zip(chunks, _latents(network, seed, chunks, device, first_class), strict=True):
            z, noise, of_class = (to_device(x, device) for x in (*latents, torch.from_numpy(chunk)))
            with autocast(device):
                made = network(z, of_class if conditional else None, noise, truncation)
            yield start_copy_to_cpu(_as_uint8(made[:, 0]))

    done = 0
    for made in _one_ahead(begin()):  # copied while the device makes the next ones
        start, done = done, min(done + size, len(labels))
        images[start:done] = made()[: done - start].numpy()
        if progress:
            progress(done, len(labels))
    return images


def generate(
    run: str | Path | Run,
    n: int,
    *,
    class_name: str | None = None,
    truncation: float = 1.0,
    seed: int = 0,
    snapshot: Snapshot = "last",
    original_shape: bool = False,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Return `n` synthetic images of a run; to make several sets, `Sampler` reads it only once.

    Args:
        run: what `train` returned, or its directory.
        n: how many.
        class_name: only this class; otherwise the classes come in the proportions of the training set.
        truncation: ψ in [0, 1]; 1 keeps the full diversity.
        seed: the same seed gives the same images, and a smaller `n` the first of them.
        snapshot: "last", or "best" where the run was trained with a distance to its training images.
        original_shape: undo what `prepare` did to the shape of the training images; see `data.resize.crop_to_original`.
        device: where to compute; the first GPU if there is one.
        progress: called as ``progress(done, n)``.

    Example:
        >>> synthetic = generate("run", 500, seed=1)
        >>> synthetic.save("synthetic")

    Raises:
        RunError: `run` holds no such generator, or its training images had no common `original_shape`.
        ClassError: `class_name` is not one that the generator knows.
    """
    sampler = Sampler(Path(run), snapshot, device)
    return sampler.generate(n, class_name, truncation, seed, original_shape=original_shape, progress=progress)


class Sampler:
    """The generators of a run, one or one per class, ready to make images; arguments and errors as in `generate`."""

    def __init__(self, run: Path, snapshot: Snapshot = "last", device: torch.device | None = None):
        self._run, device = run, device or default_device()
        self._generators = [load_generator(path, device) for path in generator_files(run, snapshot)]
        self.classes = tuple(name for _, config in self._generators for name in config.classes)

    def generate(
        self,
        n: int,
        class_name: str | None = None,
        truncation: float = 1.0,
        seed: int = 0,
        *,
        original_shape: bool = False,
        progress: Progress | None = None,
    ) -> ImageSet:
        """Return `n` images."""
        frames = {config.frame for _, config in self._generators}
        frame = frames.pop() if len(frames) == 1 else None
        if original_shape and frame is None:
            raise RunError(
                f"{self._run}: its training images had several shapes, or none on record, so none can be restored"
            )
        counts = [count for _, config in self._generators for count in config.class_counts]
        labels = class_sequence(counts, n) if class_name is None else np.full(n, self._number(class_name))
        size = self._generators[0][1].size
        images = np.empty((n, size, size), dtype=np.uint8)
        done, first = 0, 0
        for network, config in self._generators:
            mine = np.flatnonzero((labels >= first) & (labels < first + len(config.classes)))
            tell = functools.partial(lambda before, i, _: progress(before + i, n) if progress else None, done)
            images[mine] = synthesise(
                network,
                labels[mine] - first,
                conditional=config.conditional,
                seed=seed,
                truncation=truncation,
                first_class=first,
                progress=tell,
            )
            done, first = done + len(mine), first + len(config.classes)
        made = ImageSet(
            images=images,
            labels=labels,
            classes=self.classes,
            groups=np.arange(n),
            ids=tuple(f"synthetic-{i:06d}" for i in range(n)),
            synthetic=True,
            extra={"seed": (str(seed),) * n, "index": tuple(str(i) for i in range(n))},
        )
        return crop_to_original(made, frame) if original_shape and frame is not None else made

    def network_of(self, class_name: str | None) -> tuple[GeneratorNetwork, RunConfig, int]:
        """Return the generator of a class (by default the first), its configuration and the number of the class."""
        name = class_name if class_name is not None else self.classes[0]
        self._number(name)
        network, config = next(network for network in self._generators if name in network[1].classes)
        return network, config, config.classes.index(name)

    def _number(self, name: str) -> int:
        if name not in self.classes:
            known = ", ".join(self.classes)
            raise ClassError(f"{self._run} makes no class '{name}'{did_you_mean(name, self.classes)}; known: {known}")
        return self.classes.index(name)


@torch.no_grad()
def interpolate(
    run: str | Path | Run,
    frames: int,
    *,
    class_name: str | None = None,
    truncation: float = 1.0,
    seed: int = 0,
    snapshot: Snapshot = "last",
    device: torch.device | None = None,
) -> np.ndarray:
    """Return uint8 images ``[frames, H, W]`` on a closed path through the latents of four images of one class.

    Neighbouring images differ little in a generator that has learnt more than single pictures. The path is a spherical
    interpolation (White 2016), so that every point on it is as probable as the images it joins; noise is kept fixed.
    There are at least 4 frames. The class is the first one if not given; other arguments and errors are those of
    `generate`.
    """
    network, config, label = Sampler(Path(run), snapshot, device).network_of(class_name)
    device = next(network.parameters()).device
    z, noise = (x.to(device) for x in next(_latents(network, seed, [np.full(4, label)], device)))
    images = []
    for k in range(frames):
        leg, share = divmod(4 * k / frames, 1)
        a, b = z[int(leg)], z[(int(leg) + 1) % 4]
        angle = torch.arccos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
        here = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
        labels = torch.full((1,), label, device=device) if config.conditional else None
        with autocast(device):
            images.append(network(here[None], labels, noise[:1], truncation)[0, 0])
    path: np.ndarray = _as_uint8(torch.stack(images)).cpu().numpy()
    return path


def _as_uint8(images: Tensor) -> Tensor:
    return images.mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def image_grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Arrange uint8 images ``[N, H, W]`` row by row into one picture of `columns` columns."""
    n, height, width = images.shape
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, height, width), dtype=np.uint8)
    sheet[:n] = images
    return sheet.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def save_animation(images: np.ndarray, path: Path, seconds: float = 6.0) -> None:
    """Write synthetic uint8 images ``[N, H, W]`` as a GIF that repeats without end and says what they are."""
    pictures = [Image.fromarray(image) for image in images]
    with atomic_file(path) as beside:
        pictures[0].save(
            beside,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=max(20, round(1000 * seconds / len(images))),
            loop=0,
            comment=SYNTHETIC_NOTICE,
        )


def save_image_grid(images: np.ndarray, path: Path, columns: int) -> None:
    """Write synthetic uint8 images ``[N, H, W]`` row by row as one PNG of `columns` columns that says what they are."""
    with atomic_file(path) as beside:
        Image.fromarray(image_grid(images, columns)).save(beside, format="PNG", pnginfo=synthetic_png_info())


def save_sample_grid(network: GeneratorNetwork, config: RunConfig, path: Path, columns: int = 8) -> None:
    """Write a PNG grid of the same latents at every call: a row per class, or three rows of a single class."""
    rows = len(config.classes) if config.conditional else 3
    labels = np.repeat(np.arange(rows) if config.conditional else np.zeros(rows, dtype=np.int64), columns)
    save_image_grid(synthesise(network, labels, conditional=config.conditional, seed=0), path, columns)
