"""What differential privacy costs a small GAN: the same networks, with DP-SGD (Opacus) and without.

DP-GAN (Xie et al., Differentially Private Generative Adversarial Network, arXiv:1802.06739): only the discriminator
sees real images, so its gradients are clipped image by image and noised; the generator is then private by
post-processing. Batch normalisation mixes images, and R1 is a gradient of a gradient: neither allows a gradient per
image, so networks have group normalisation and no R1. Phantoms stand for patients. The kernel distance is to phantoms
that were not trained on. Needs ``pip install opacus``.
"""

import argparse
import csv
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.core.seeds import numpy_generator
from sonosynth.features.extract import FeatureExtractor
from sonosynth.metrics.distances.kernel import kernel_distance
from sonosynth.phantoms.phantom import phantom

Z_DIM, SIDE, DELTA = 32, 32, 1e-4


def generator(width: int = 32) -> nn.Sequential:
    """Return a network from ``[N, 32, 1, 1]`` to images ``[N, 1, 32, 32]`` in [-1, 1]."""
    stages: list[nn.Module] = [nn.ConvTranspose2d(Z_DIM, 4 * width, 4), nn.GroupNorm(8, 4 * width), nn.ReLU()]
    for scale in (4, 2):
        fan_in, fan_out = scale * width, scale * width // 2
        stages += [nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1), nn.GroupNorm(8, fan_out), nn.ReLU()]
    return nn.Sequential(*stages, nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh())


def discriminator(width: int = 32) -> nn.Sequential:
    """Return a network from images ``[N, 1, 32, 32]`` to logits ``[N, 1]``."""
    stages: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for scale in (1, 2):
        stages += [nn.Conv2d(scale * width, 2 * scale * width, 4, 2, 1), nn.GroupNorm(8, 2 * scale * width)]
        stages += [nn.LeakyReLU(0.2)]
    return nn.Sequential(*stages, nn.Conv2d(4 * width, 1, 4), nn.Flatten())


def train(real: Tensor, epsilon: float | None, epochs: int, batch: int) -> nn.Module:
    """Return a generator that was trained on `real` ``[N, 1, 32, 32]`` with (`epsilon`, δ) privacy, or None without."""
    from opacus import PrivacyEngine

    torch.manual_seed(0)
    maker, judge = generator(), discriminator()
    of_maker = torch.optim.Adam(maker.parameters(), 2e-4, betas=(0.5, 0.999))
    of_judge = torch.optim.Adam(judge.parameters(), 2e-4, betas=(0.5, 0.999))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(real), batch, shuffle=True, drop_last=True)
    network: nn.Module = judge
    if epsilon is not None:
        network, of_judge, loader = PrivacyEngine(accountant="rdp").make_private_with_epsilon(
            module=judge,
            optimizer=of_judge,
            data_loader=loader,
            target_epsilon=epsilon,
            target_delta=DELTA,
            epochs=epochs,
            max_grad_norm=1.0,
        )
    for _ in range(epochs):
        for (images,) in loader:
            # One pass for real and synthetic: an image's gradient is clipped once, and one step is accounted. Always as
            # many synthetic ones: how many real ones were drawn is private too.
            fake = maker(torch.randn(batch, Z_DIM, 1, 1))
            both = network(torch.cat([images, fake.detach()]))
            signs = torch.cat([torch.ones(len(images), 1), -torch.ones(batch, 1)])
            of_judge.zero_grad()
            F.softplus(-signs * both).mean().backward()
            of_judge.step()
            of_maker.zero_grad()
            for parameter in network.parameters():
                parameter.requires_grad_(False)
            F.softplus(-network(fake)).mean().backward()
            of_maker.step()
            for parameter in network.parameters():
                parameter.requires_grad_(True)
    return maker


def main() -> None:
    """Write one row per ε."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("results/2026-12-private-gan/distances.csv"))
    given = parser.parse_args()
    every = phantom(given.images // 2 + 125, SIDE, seed=1).images
    every = every[numpy_generator(0, "private GAN").permutation(len(every))]
    train_images, others = every[: given.images], every[given.images :]
    real = torch.from_numpy(train_images.copy())[:, None] / 127.5 - 1
    embed = FeatureExtractor("random-conv")
    reference = embed(others)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epsilon", "delta", "images", "epochs", "batch", "kernel_distance"])
        for epsilon in (None, 50.0, 10.0, 3.0):
            maker = train(real, epsilon, given.epochs, given.batch)
            with torch.no_grad():
                torch.manual_seed(1)
                made = maker(torch.randn(500, Z_DIM, 1, 1))[:, 0]
            images = made.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
            distance = kernel_distance(embed(images), reference)
            told = ["none" if epsilon is None else f"{epsilon:g}", DELTA, given.images, given.epochs, given.batch]
            writer.writerow([*told, f"{distance:.4f}"])
            print(*told, f"{distance:.4f}", flush=True)
            file.flush()
        distance = kernel_distance(embed(train_images), reference)
        writer.writerow(["real images", "", given.images, "", "", f"{distance:.4f}"])


if __name__ == "__main__":
    main()
