"""How fast are images made from a trained generator? Images a second of every recipe.

    python benchmarks/sampling.py --out results/2026-11-speed/sampling.json

`synthesise` as `sonosynth generate` uses it: latents of every image by its own seed, the network in bf16, pixels on the
host. `network` is the part of the time that the network alone takes. Weights are untrained: speed does not depend on
them.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import line, save
from sonosynth.core.device import autocast, default_device, median_seconds, sampling_batch_size
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.sample import synthesise
from train_step import add_case_options, cases_of

KEY = ("recipe", "size")
COLUMNS = (
    ("recipe", "{:<30}"),
    ("size", "{:>5}"),
    ("parameters", "{:>11}"),
    ("img_per_s", "{:>10.0f}"),
    ("network", "{:>8.0%}"),
)


@torch.no_grad()
def measure(name: str, settings: dict[str, Any], size: int, n: int, repeats: int) -> dict[str, Any]:
    """Return one line of the table."""
    device = default_device()
    network = make_recipe(name, **settings).build_generator(size, 3).to(device).eval()
    a_pass = sampling_batch_size(device, size)
    n = -(-n // a_pass) * a_pass
    labels = np.arange(n) % 3
    took = median_seconds(lambda: synthesise(network, labels, conditional=True, seed=0), device, repeats, warm_up=1)
    z, noise = (torch.randn(a_pass, length, device=device) for length in (network.z_dim, network.noise_length))
    classes = torch.arange(a_pass, device=device) % 3

    def alone() -> None:
        with autocast(device):
            network(z, classes, noise)

    passed = median_seconds(alone, device, 4 * repeats, warm_up=1)
    changed = ",".join(f"{k}={v}" for k, v in settings.items() if k in ("channel_base", "ngf"))
    return {
        "recipe": f"{name} {changed}".strip(),
        "size": size,
        "parameters": f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M",
        "img_per_s": n / took,
        "network": passed * n / a_pass / took,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_case_options(parser)
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("-n", type=int, default=256, help="images a measurement, rounded up to whole passes")
    parser.add_argument("--repeats", type=int, default=5, help="the median counts")
    parser.add_argument("--out", type=Path, help="a JSON file; lines of an earlier call with other cases stay in it")
    arguments = parser.parse_args()
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    print(line(COLUMNS))
    for size in arguments.sizes:
        for name, settings in cases_of(arguments):
            row = measure(name, settings, size, arguments.n, arguments.repeats)
            if (row["recipe"], size) in rows:  # differs from an earlier case in the discriminator alone
                continue
            rows[row["recipe"], size] = row
            print(line(COLUMNS, row), flush=True)
            if arguments.out:
                save(arguments.out, list(rows.values()), KEY)


if __name__ == "__main__":
    main()
