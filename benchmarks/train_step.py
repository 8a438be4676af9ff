"""How fast is training? Images a second of every recipe, beside the same networks in fp32 without compilation.

    python benchmarks/train_step.py --out results/2026-11-speed/train_step.json

Each line of the table is a process of its own: it builds the networks, compiles them where asked, and times every phase
of a step by itself; a step costs the sum of the medians, each divided by the interval of its phase, and the moving
average. On a GPU, where phases overlap, it is the median of rounds of steps in which every phase is due. `share` is the
rate of all counted multiplications and additions (convolutions and matrix products) over the rate of a 2048³ matrix
product measured in the same process: in bfloat16, or in float32 on a processor without it, where "compiled" and "eager"
are float32 too. Compilation is timed apart.
"""

import argparse
import json
import resource
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench import line, save
from sonosynth.core.device import bfloat16, default_device, has_bfloat16, median_seconds
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import run_config
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.training.trainer import Trainer

CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("stylegan2", {"channel_base": 2048}),
    ("stylegan2", {"channel_base": 16384}),
    ("stylegan2-ada", {"channel_base": 2048}),
    ("stylegan2-diffaug", {"channel_base": 2048}),
    ("fastgan", {"ngf": 16, "ndf": 16, "batch": 16}),
    ("fastgan", {}),
    ("projected", {"ngf": 32}),
    ("projected", {"ngf": 32, "feature_px": 128}),
    ("projected", {}),
)
KEY = ("recipe", "size", "batch", "mode")
MODES = ("compiled", "eager", "fp32")
COLUMNS = (
    ("recipe", "{:<34}"),
    ("size", "{:>5}"),
    ("batch", "{:>6}"),
    ("parameters", "{:>15}"),
    ("mode", "{:>9}"),
    ("img_per_s", "{:>10.2f}"),
    ("share", "{:>6.1%}"),
    ("gflops_matmul", "{:>14.0f}"),
    ("peak_mib", "{:>9.0f}"),
    ("compile_s", "{:>10.0f}"),
)


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Let the caller choose among `CASES`, or name others; see `cases_of`."""
    parser.add_argument("--gans", nargs="+", help="only cases of these recipes")
    parser.add_argument("--set", nargs="+", metavar="KEY=VALUE", help="one case of these settings a recipe instead")


def cases_of(arguments: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Return recipes and their settings, as the caller chose."""
    cases = [case for case in CASES if not arguments.gans or case[0] in arguments.gans]
    if not arguments.set:
        return cases
    settings = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in arguments.set)}
    return [(name, settings) for name in dict.fromkeys(name for name, _ in cases)]


def some_images(n: int, size: int) -> ImageSet:
    """Return `n` images of noise in three classes: no step of training looks at what is in an image."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size), dtype=np.uint8)
    return ImageSet(pixels, np.arange(n) % 3, ("a", "b", "c"), np.arange(n), tuple(str(i) for i in range(n)), False)


def matmul_rate(device: torch.device, side: int = 2048) -> float:
    """Return the operations a second of a matrix product of `side`³ in the precision of training: a median of 20."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if has_bfloat16(device.type) else torch.float32)
    return 2 * side**3 / median_seconds(lambda: a @ a, device, repeats=20, warm_up=5)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the multiplications and additions of convolutions and matrix products, on the way back too."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` and count it."""
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out


def operations(trainer: Trainer) -> float:
    """Return the counted operations of a step an image; of what is not done in every step, its share."""
    total = 0.0
    for phase in trainer.phases:
        with Operations() as counted:  # type: ignore[no-untyped-call]
            trainer.run_phase(phase)
        total += counted.total / phase.interval
    return total / trainer.batch_size


def measure(name: str, settings: dict[str, Any], size: int, mode: str, repeats: int) -> dict[str, Any]:
    """Return one line of the table."""
    device = default_device()
    recipe = make_recipe(name, **settings).resolved(100.0)
    data = some_images(64, size)
    config = run_config(data, recipe, conditional=True, seed=0)
    trainer = Trainer(data, config, device)
    compile_s = median_seconds(trainer.compile, device) if mode == "compiled" else 0.0
    with bfloat16(False) if mode == "fp32" else nullcontext():
        a_step = trainer.seconds_per_step(repeats, warm_up=2)
    rate = matmul_rate(device)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    count = operations(Trainer(data, config, device))  # last, as it takes the memory of a step without compilation
    a, b = (p / 1e6 for p in recipe.parameter_counts(size, 3))
    changed = ",".join(f"{k}={v}" for k, v in settings.items() if k != "batch")
    return {
        "recipe": f"{name} {changed}".strip(),
        "size": size,
        "batch": recipe.batch,
        "parameters": f"{a:.2f} + {b:.2f} M",
        "mode": mode,
        "img_per_s": recipe.batch / a_step,
        "share": count * recipe.batch / a_step / rate,
        "gflops_matmul": rate / 1e9,
        "gflop_per_image": count / 1e9,
        "peak_mib": peak,
        "compile_s": compile_s,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_case_options(parser)
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--repeats", type=int, default=7, help="of every phase; the median counts")
    parser.add_argument("--out", type=Path, help="a JSON file; lines of an earlier call with other cases stay in it")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*json.loads(arguments.one))))
        return
    rows = []
    print(line(COLUMNS))
    for size in arguments.sizes:
        for name, settings in cases_of(arguments):
            for mode in arguments.modes:
                job = json.dumps([name, settings, size, mode, arguments.repeats])
                told = subprocess.run([sys.executable, __file__, "--one", job], stdout=subprocess.PIPE, check=True)
                rows.append(json.loads(told.stdout.splitlines()[-1]))
                print(line(COLUMNS, rows[-1]), flush=True)
                if arguments.out:
                    save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()
