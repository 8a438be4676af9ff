"""How many workers the memory of this machine allows: what is free, and what the cells of a study need.

What a cell needs is measured on a few images in this process: the bytes of all tensors alive at once while it does a
step, brought to the size of its batch. A process takes more than its tensors, for the libraries, for what they prepare
and for memory that it keeps to use again; with the factors below none of those in `results/2026-12-quick/README.md`
took more than was foreseen. On a GPU tensors are not in main memory, and what they
take there is not looked at.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sonosynth.classify.training import PREDICTION_BATCH_SIZE, TrainedClassifier, TrainingSettings, train_classifier
from sonosynth.core.device import default_device, is_asynchronous, return_freed_memory
from sonosynth.core.text import counted
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import run_config
from sonosynth.gan.training.trainer import Trainer
from sonosynth.study.cells import AnyCell, FilterCell, ScoreCell, TrainCell
from sonosynth.study.prepared import StudyData
from sonosynth.study.run_cell import kind_of_work, recipe_of

T = TypeVar("T")

_PROCESS = 700 << 20  # bytes: Python, PyTorch and this package
_GPU_PROCESS = 3 << 30  # with the libraries of a GPU, and buffers in main memory that it copies from
_COMPILER = 400 << 20
_OVERHEAD = 2.0  # memory of a process beyond `_PROCESS`, over that of its tensors
_EMBEDDING = 400 << 20  # a frozen network at work on its batch
_MATRICES = 8 * 8  # bytes per pair of images: what a scorecard keeps of them at once
_KEPT_FREE = 0.1  # share of the free memory that is left to others
_FEW = 4  # images that are measured with
_WEIGHT = 4  # bytes, as of its gradient, of either moment of Adam and of the average


def workers_that_fit(wanted: int, cells: Sequence[AnyCell], data: StudyData) -> tuple[int, str | None]:
    """Return how many of `wanted` workers may do `cells` side by side, at least 1, and a line where these are fewer.

    As many as have room if the most demanding cells meet. Where nothing is known of the free memory, all of them.
    """
    free = available_memory()
    if free is None:
        return wanted, None
    kinds: dict[str, list[AnyCell]] = {}
    for cell in cells:
        kinds.setdefault(kind_of_work(cell), []).append(cell)
    needs = {kind: needed_memory(of_kind[0], data) for kind, of_kind in kinds.items()}
    largest = sorted((needs[kind_of_work(cell)] for cell in cells), reverse=True)[:wanted]
    fit, most = 0, free * (1 - _KEPT_FREE)
    while fit < len(largest) and sum(largest[: fit + 1]) <= most:
        fit += 1
    if fit == len(largest):
        return wanted, None
    kind = max(needs, key=lambda kind: needs[kind])
    return max(fit, 1), (
        f"{counted(max(fit, 1), 'worker')} of {wanted}, for want of memory: to {kind} takes up to about "
        f"{_gib(needs[kind])}, and {_gib(free)} are free"
    )


def _gib(size: float) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process and those that it starts may take; None where the system does not tell.

    That is the least of what the machine has (``MemAvailable``) and of what each control group leaves that this process
    is in, as in a container or a batch job, of version 1 or 2. Pages of files that a group can drop count as free.
    """
    try:
        meminfo = (root / "proc/meminfo").read_text(encoding="ascii")
    except OSError:  # no Linux
        return None
    lines = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    found = [int(lines[name].split()[0]) << 10 for name in ("MemAvailable", "MemFree") if name in lines][:1]
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        groups = []
    for line in groups:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            found += _left(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            found += _left(root / "sys/fs/cgroup/memory", path, *names)
    return min(found) if found else None


def _left(mount: Path, path: str, limit: str, usage: str, droppable: str) -> list[int]:
    """Return the bytes that are left of each limit on the way from `mount` to the group at `path` below it.

    In a container the mount may be the group itself, and `path` that of the machine outside.
    """
    inner = mount if ".." in path else mount / path.lstrip("/")  # that of a group outside of what can be seen here
    left = []
    for group in (inner, *inner.parents):
        try:
            most, taken = (group / limit).read_text(encoding="ascii"), (group / usage).read_text(encoding="ascii")
            if most.strip() != "max":
                stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
                left.append(max(0, int(most) - int(taken) + int(stat.get(droppable, 0))))
        except OSError:  # a group without limits of its own, such as the outermost
            pass
        if group == mount:
            break
    return left


def needed_memory(cell: AnyCell, data: StudyData) -> int:
    """Return how many bytes a worker process takes at most while it does `cell`, about."""
    if is_asynchronous(default_device()):
        return _GPU_PROCESS + _images_of(data)
    images = data.subset_of(cell)
    if isinstance(cell, TrainCell):
        work = _training(cell, images)
    elif isinstance(cell, ScoreCell):
        n = len(images) + cell.n_synthetic + len(data.split_of(cell).held_out)
        work = _EMBEDDING + _MATRICES * n**2
    elif isinstance(cell, FilterCell):
        n = len(images) + cell.candidates * max(images.class_counts.values()) * len(images.classes)
        work = _EMBEDDING + _MATRICES * n**2
        if cell.network is not None and cell.training is not None:
            work = max(work, _classifying(cell.network, cell.training, images))
    else:
        work = _classifying(cell.network, cell.training, images)
    return int(_PROCESS + _images_of(data) + work)


def _images_of(data: StudyData) -> int:
    """Return the bytes of all images that travel to a worker."""
    splits = [*data.splits, *([] if data.naive is None else [data.naive])]
    sets = [data.images, *data.folders.values()]
    for split in splits:
        sets += [split.held_out, *([] if split.validation is None else [split.validation])]
    return sum(part.images.nbytes for part in sets)


def _training(cell: TrainCell, images: ImageSet) -> float:
    generation = cell.generation
    assert generation.kimg is not None
    recipe = recipe_of(generation).resolved(generation.kimg)
    few = -(-_FEW // recipe.process_batch_multiple) * recipe.process_batch_multiple
    config = run_config(
        images,
        recipe.model_copy(update={"batch": few}),
        conditional=generation.mode == "conditional",
        seed=0,
    )

    def steps() -> tuple[int, int]:
        trainer = Trainer(images.with_classes(config.classes), config, default_device())
        trainer.step_count = 1  # the moving average begins with the first image
        for phase in trainer.phases:
            trainer.run_phase(phase)
        networks = trainer.generator, trainer.discriminator
        generator, discriminator = (sum(p.numel() for p in network.parameters()) for network in networks)
        return generator, discriminator

    (generator, discriminator), peak = with_peak(steps)
    weights = _WEIGHT * (3 * (generator + discriminator) + generator + max(generator, discriminator))
    compiler = _COMPILER if recipe.compiles(generation.kimg) else 0
    return compiler + _OVERHEAD * (weights + max(0, peak - weights) * recipe.batch / few)


def _classifying(network: str, training: TrainingSettings, images: ImageSet) -> float:
    def trained(batch: int) -> TrainedClassifier:
        two = replace(training, steps=2, batch=batch)  # what the first leaves is there in the second
        return train_classifier(images, classical=True, network=network, training=two)

    few = min(_FEW, training.batch)
    (classifier, *_), training_peaks = zip(*(with_peak(partial(trained, n)) for n in (few, 2 * few)), strict=True)
    predicting_peaks = [with_peak(partial(classifier.predict, images.images[:n]))[1] for n in (few, 2 * few)]
    of_batches = (training_peaks, training.batch), (predicting_peaks, PREDICTION_BATCH_SIZE)
    return _OVERHEAD * max(one + (two - one) / few * (batch - few) for (one, two), batch in of_batches)


def with_peak(work: Callable[[], T]) -> tuple[T, int]:
    """Return what `work` returns, and the most bytes that the tensors it makes on the CPU take at once."""
    with _Peak() as found:
        value = work()
    return_freed_memory()
    return value, found.peak


class _Peak(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor):
                storage = made.untyped_storage()
                if storage._cdata not in self._alive:
                    self._alive[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._free, storage._cdata)
        self.peak = max(self.peak, self.now)
        return out

    def _free(self, storage: int) -> None:
        self.now -= self._alive.pop(storage)
