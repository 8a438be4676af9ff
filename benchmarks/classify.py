"""How many classifiers an hour does this machine train?

    python benchmarks/classify.py --out results/2026-11-speed/classify.json

A training is 150 steps of 32 images of 64 pixels with ResNet-18, and the predictions of 195 test images: one of the 216
of the classifier study on BUSI. Times are CPU seconds of one process, so that other work on the machine counts little
(it still takes cache and memory bandwidth, and slows what is measured); an hour has one process a core, each with one
thread. Beside them stands the rate of a matrix product of all cores, in the precision of training. Ways to train:

- `one by one`: `train_classifier`, as a study calls it; `classical` augments too;
- `as in MONAI`: without the matrix products of the last stage;
- `stacked`: four seeds in one step, by `torch.func.vmap`, which makes grouped convolutions of the convolutions; always
  in float32, since PyTorch 2.13 takes no such gradient under autocast;
- `compiled`: the network through `torch.compile`; its compilation is divided over the trainings of a core;
- `two threads`: one process that uses both cores: wall-clock seconds, twice; only where asked for, on an idle machine.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from joblib import cpu_count
from monai.networks.nets import resnet18
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from bench import line, save
from sonosynth.classify.networks import build_network
from sonosynth.classify.training import TrainingSettings, train_classifier
from sonosynth.core.device import autocast, compile_function, keep_freed_memory
from sonosynth.data.imageset import ImageSet
from train_step import matmul_rate

STEPS, BATCH, PX, TEST_IMAGES, TRAININGS, STACK = 150, 32, 64, 195, 216, 4
BAR_MINUTES = 75
COLUMNS = (
    ("way", "{:<14}"),
    ("step_ms", "{:>8.0f}"),
    ("once_s", "{:>7.1f}"),
    ("training_s", "{:>11.1f}"),
    ("an_hour", "{:>8.0f}"),
    ("all_minutes", "{:>12.0f}"),
    ("gflops_matmul", "{:>14.0f}"),
)
Step = Callable[[], object]


def some_images(n: int) -> ImageSet:
    """Return `n` images of noise in three classes: no step of training looks at what is in an image."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, PX, PX), dtype=np.uint8)
    return ImageSet(pixels, np.arange(n) % 3, ("a", "b", "c"), np.arange(n), tuple(map(str, range(n))))


def batch() -> tuple[Tensor, Tensor]:
    """Return images, channels last, and labels."""
    x = torch.randn(BATCH, 1, PX, PX).contiguous(memory_format=torch.channels_last)
    return x, torch.arange(BATCH) % 3


def stepper(model: nn.Module, forward: Callable[[Tensor], Tensor]) -> Step:
    """Return one step of training another network than `classify.training` does."""
    x, labels = batch()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        with autocast(x.device):
            logits = forward(x)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def stacked() -> Step:
    """Return one step of `STACK` networks at once, with the plain statistics of each batch, and without optimiser."""
    models = [resnet18(spatial_dims=2, n_input_channels=1, num_classes=3, conv1_t_stride=2) for _ in range(STACK)]
    parameters, _ = stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")
    for module in base.modules():
        if isinstance(module, nn.BatchNorm2d):  # running statistics cannot be written inside vmap
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
            module.num_batches_tracked = None

    def loss(own: dict[str, Tensor], x: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(base, own, (x,)), labels)

    gradients = vmap(grad(loss))
    x, labels = (torch.stack([part] * STACK) for part in batch())
    return lambda: gradients(parameters, x, labels)


def median_seconds(step: Step, repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """Return the median time of `step` after one call to warm up."""
    step()
    times = []
    for _ in range(repeats):
        began = clock()
        step()
        times.append(clock() - began)
    return statistics.median(times)


def measure(way: str, repeats: int) -> tuple[float, float]:
    """Return seconds a step of one classifier, and seconds that are spent once a process."""
    plain = resnet18(spatial_dims=2, n_input_channels=1, num_classes=3, conv1_t_stride=2)
    ours = build_network("resnet18", 3)
    if way == "stacked":
        return median_seconds(stacked(), repeats) / STACK, 0.0
    if way == "as in MONAI":
        return median_seconds(stepper(plain, plain), repeats), 0.0
    if way == "compiled":
        step = stepper(ours, compile_function(ours.__call__, torch.device("cpu")))
        before = _cpu_with_children()
        step()
        once = _cpu_with_children() - before
        return median_seconds(step, repeats), once
    if way == "two threads":
        torch.set_num_threads(2)
        both = 2 * median_seconds(stepper(ours, ours), repeats, time.perf_counter)
        torch.set_num_threads(1)
        return both, 0.0
    return as_in_a_study(way == "classical", repeats), 0.0


def as_in_a_study(classical: bool, repeats: int) -> float:
    """Return the median CPU time of a step of `train_classifier` after one to warm up."""
    times: list[float] = []
    training = TrainingSettings(steps=repeats + 2, batch=BATCH)
    train_classifier(
        some_images(100), classical=classical, training=training, progress=lambda *_: times.append(time.process_time())
    )
    return statistics.median(after - before for before, after in pairwise(times[1:]))


def _cpu_with_children() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def beside_steps() -> float:
    """Return the CPU seconds of a training that are not steps: building the network, and predicting the test set."""
    images, test = some_images(100), some_images(TEST_IMAGES)

    def whole(steps: int) -> float:
        began = time.process_time()
        train_classifier(images, classical=False, training=TrainingSettings(steps=steps, batch=BATCH)).predict(
            test.images
        )
        return time.process_time() - began

    whole(1)
    two, eight = whole(2), whole(8)
    return max(0.0, two - 2 * (eight - two) / 6)


def main() -> None:
    """Run the benchmark."""
    ways = ("one by one", "classical", "as in MONAI", "stacked", "compiled", "two threads")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=ways, default=list(ways[:-1]))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, help="a JSON file; lines of other ways stay in it")
    arguments = parser.parse_args()
    rate = matmul_rate(torch.device("cpu"))
    torch.set_num_threads(1)
    keep_freed_memory()
    rest = beside_steps()
    rows: list[dict[str, Any]] = []
    print(line(COLUMNS))
    for way in arguments.ways:
        step, once = measure(way, arguments.repeats)
        training = STEPS * step + rest
        all_seconds = TRAININGS * training / cpu_count() + once
        rows.append(
            {
                "way": way,
                "step_ms": 1000 * step,
                "once_s": once,
                "training_s": training,
                "an_hour": TRAININGS * 3600 / all_seconds,
                "all_minutes": all_seconds / 60,
                "gflops_matmul": rate / 1e9,
            }
        )
        print(line(COLUMNS, rows[-1]), flush=True)
    print(f"beside steps: {rest:.1f} s a training; the bar for all {TRAININGS} on two cores: {BAR_MINUTES} minutes")
    if arguments.out:
        save(arguments.out, rows, ("way",))


if __name__ == "__main__":
    main()
