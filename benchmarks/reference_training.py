"""Do generators train as their authors' code does? Parts of that code and of ours, swapped one at a time.

    python benchmarks/reference_training.py SOURCE --reference stylegan2-ada-pytorch --out results/...
    python benchmarks/reference_training.py SOURCE --gan fastgan --set ngf=16 ndf=16 --out results/...

For `stylegan2`, `--reference` is a clone of NVlabs/stylegan2-ada-pytorch, which is not part of this project and has its
own licence. Its networks and loss run in a loop like its own, in full precision, on the images that `generators.py`
trains on; with `--parts` either network is ours in that loop, or everything is (`trainer`). The authors of FastGAN have
no networks below 256 px, and those of Projected GAN none below 128: there it is our networks that run in a loop like
theirs. Prints one line per run: kernel distances of 500 images to held-out and to training images, of the averaged and
of the live generator.
"""

import argparse
import copy
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import line, save
from sonosynth.core.device import default_device
from sonosynth.core.draws import Draws
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source
from sonosynth.data.split import nested_subsets, split_indices
from sonosynth.features.extract import embed
from sonosynth.gan.augment.diffaugment import diffaugment
from sonosynth.gan.checkpoint import run_config
from sonosynth.gan.fastgan.networks import cut_quadrant, shrink, small_size
from sonosynth.gan.recipe import GeneratorNetwork
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.sample import class_sequence, synthesise
from sonosynth.gan.training.trainer import Trainer
from sonosynth.metrics.distances.kernel import kernel_distance
from sonosynth.study.study_file import expand

PARTS = ("reference", "our generator", "our discriminator", "our networks", "authors' loop", "trainer")
IMAGES = 500
COLUMNS = (
    ("gan", "{:<10}"),
    ("parts", "{:<18}"),
    ("seed", "{:>4}"),
    ("kimg", "{:>5.1f}"),
    ("held_out", "{:>9.3f}"),
    ("train", "{:>6.3f}"),
    ("live_held_out", "{:>13.3f}"),
    ("noise_strength", "{:>14.4f}"),
    ("minutes", "{:>7.1f}"),
)
Images = Callable[[np.ndarray], np.ndarray]
"""Takes labels ``[N]`` and returns uint8 images ``[N, H, W]``."""


class Mapping(nn.Module):
    """Our mapping network, called as the authors' is."""

    def __init__(self, generator: Any):
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, c: Tensor, skip_w_avg_update: bool = False) -> Tensor:
        styles: Tensor = self.generator.styles(z, c.argmax(dim=1))
        return styles[:, None].repeat(1, self.generator.n_layers, 1)


class Synthesis(nn.Module):
    """Our synthesis network, called as the authors' is."""

    def __init__(self, generator: Any):
        super().__init__()
        self.generator = generator

    def forward(self, ws: Tensor) -> Tensor:
        images: Tensor = self.generator.synthesise(ws, torch.randn(len(ws), self.generator.noise_length))
        return images


class Judge(nn.Module):
    """Our discriminator, called as the authors' is."""

    def __init__(self, discriminator: nn.Module):
        super().__init__()
        self.discriminator = discriminator

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(images, c.argmax(dim=1))
        return logits[:, None]


def reference_run(data: ImageSet, parts: str, seed: int, kimg: float, settings: dict[str, Any]) -> tuple[Images, ...]:
    """Train in a loop like the authors' and return samplers of the averaged and of the live generator."""
    networks, loss_class = import_module("training.networks"), import_module("training.loss").StyleGAN2Loss

    recipe: Any = make_recipe("stylegan2", **settings)
    torch.manual_seed(seed)
    n_classes, size = len(data.classes), data.size[0]
    widths = {"channel_base": recipe.channel_base, "channel_max": recipe.channel_max}
    mapping, synthesis, judge = None, None, None
    if parts in ("our generator", "our networks"):
        generator: Any = recipe.build_generator(size, n_classes)
        mapping, synthesis = Mapping(generator), Synthesis(generator)
    else:
        generator = networks.Generator(
            recipe.z_dim, n_classes, recipe.w_dim, size, 1,
            mapping_kwargs={"num_layers": recipe.mapping_layers}, synthesis_kwargs=widths,
        )  # fmt: skip
        mapping, synthesis = generator.mapping, generator.synthesis
    if parts in ("our discriminator", "our networks"):
        discriminator: Any = recipe.build_discriminator(size, n_classes)
        judge = Judge(discriminator)
    else:
        discriminator = networks.Discriminator(
            n_classes, size, 1, **widths,
            mapping_kwargs={"num_layers": recipe.class_layers},
            epilogue_kwargs={"mbstd_group_size": recipe.group_size},
        )  # fmt: skip
        judge = discriminator
    both = {"G": generator.train().requires_grad_(False), "D": discriminator.train().requires_grad_(False)}
    averaged = copy.deepcopy(generator).eval()
    loss = loss_class(
        "cpu", mapping, synthesis, judge, None, recipe.style_mixing, recipe.r1_gamma_at(size), 2, 0.01,
        recipe.path_length_weight,
    )  # fmt: skip
    phases = list(_phases(both, recipe))
    labels = torch.nn.functional.one_hot(torch.from_numpy(data.labels.copy()), n_classes).float()
    images = torch.from_numpy(data.images.copy())[:, None].float() / 127.5 - 1
    for step, index in zip(
        range(-(-round(1000 * kimg) // recipe.batch)), _batches(len(images), recipe.batch), strict=False
    ):
        for name, network, optimizer, interval in phases:
            z = torch.randn(recipe.batch, recipe.z_dim)
            c = labels[torch.randint(len(labels), (recipe.batch,))]
            if step % interval:
                continue
            optimizer.zero_grad(set_to_none=True)
            network.requires_grad_(True)
            loss.accumulate_gradients(
                phase=name, real_img=images[index], real_c=labels[index], gen_z=z, gen_c=c, sync=True, gain=interval
            )
            network.requires_grad_(False)
            optimizer.step()
        halflife = min(1000 * recipe.ema_halflife_kimg, step * recipe.batch * recipe.ema_rampup)
        _average(averaged, generator, 0.5 ** (recipe.batch / max(halflife, 1e-8)))
    ours = isinstance(generator, GeneratorNetwork)
    return tuple(_sampler(network, recipe.z_dim, n_classes, ours) for network in (averaged, generator.eval()))


def authors_loop(data: ImageSet, gan: str, seed: int, kimg: float, settings: dict[str, Any]) -> tuple[Images, ...]:
    """Train our networks in a loop like that of their authors, and return samplers as `reference_run` does.

    FastGAN: the same generated images for both networks, the discriminator first, one quadrant of reconstructions and
    margins between 0.8 and 1 per batch, an average without a ramp, batch statistics in samples. Projected GAN: real and
    generated images in passes of their own, new ones for each network.
    """
    recipe: Any = make_recipe(gan, **settings)
    torch.manual_seed(seed)
    n_classes, size, batch = len(data.classes), data.size[0], recipe.batch
    generator, discriminator = recipe.build_generator(size, n_classes), recipe.build_discriminator(size, n_classes)
    averaged = copy.deepcopy(generator).eval()
    objective = recipe.build_objective(generator, discriminator)
    of_generator, of_discriminator = (
        torch.optim.Adam([p for p in network.parameters() if p.requires_grad], recipe.learning_rate, recipe.adam_betas)
        for network in (generator, discriminator)
    )
    labels = torch.from_numpy(data.labels.copy())
    images = torch.from_numpy(data.images.copy())[:, None].float() / 127.5 - 1

    def made(draws: Draws, classes: Tensor) -> list[Tensor]:
        z, noise = draws.normal(batch, recipe.z_dim), draws.normal(batch, generator.noise_length)
        found = generator.both_sizes(z, classes, noise) if gan == "fastgan" else [generator(z, classes, noise)]
        return [augmented(x, draws) for x in found]

    def augmented(x: Tensor, draws: Draws) -> Tensor:
        return diffaugment(x, recipe.diffaugment, draws, recipe.cutout_ratio)

    def logits(shown: list[Tensor], classes: Tensor) -> Tensor:
        found: Tensor = discriminator(*shown, classes)
        return found

    def hinge(found: Tensor) -> Tensor:
        margins = 0.8 + 0.2 * torch.rand_like(found) if gan == "fastgan" else 1
        return F.relu(margins - found).mean()

    def on_real(real: Tensor, classes: Tensor, draws: Draws) -> Tensor:
        shown = augmented(real, draws)
        if gan != "fastgan":
            return hinge(logits([shown], classes))
        small = shrink(shown, small_size(size))
        quadrant = torch.randint(4, ()).expand(batch)
        features = discriminator.features(shown, small)
        targets = (small, small, shrink(cut_quadrant(shown, quadrant), small_size(size)))
        decoded = discriminator.reconstruct(features, quadrant)
        lost = sum(objective.perceptual(x, target) for x, target in zip(decoded, targets, strict=True))
        loss: Tensor = hinge(discriminator.logits(features, classes)) + recipe.reconstruction_weight * lost
        return loss

    for step, index in zip(range(-(-round(1000 * kimg) // batch)), _batches(len(images), batch), strict=False):
        flipped = torch.rand(batch, 1, 1, 1) < 0.5 if recipe.mirror else torch.zeros(batch, 1, 1, 1, dtype=torch.bool)
        real = torch.where(flipped, images[index].flip(3), images[index])
        draws = Draws(seed, "authors' loop", step, torch.device("cpu"))
        classes = labels[torch.randint(len(labels), (batch,))]
        fake = made(draws, classes)
        if gan != "fastgan":  # the generator comes first, and the discriminator sees other images
            _descend(of_generator, -logits(fake, classes).mean())
            classes = labels[torch.randint(len(labels), (batch,))]
            with torch.no_grad():
                fake = made(draws, classes)
        of_discriminator.zero_grad(set_to_none=True)
        on_real(real, labels[index], draws).backward()  # type: ignore[no-untyped-call]
        hinge(-logits([x.detach() for x in fake], classes)).backward()  # type: ignore[no-untyped-call]
        of_discriminator.step()
        if gan == "fastgan":
            _descend(of_generator, -logits(fake, classes).mean())
        shown = step * batch * (torch.inf if gan == "fastgan" else recipe.ema_rampup)
        halflife = min(1000 * recipe.ema_halflife_kimg, shown) if step else 1e-8
        _average(averaged, generator, 0.5 ** (batch / halflife))
    networks = (averaged, generator.eval())
    for network in networks:
        network.train(gan == "fastgan")
    return tuple(_sampler(network, recipe.z_dim, n_classes, ours=True) for network in networks)


def _batches(n: int, batch: int) -> Iterator[list[int]]:
    """Yield indices of `batch` images at a time, in shuffled epochs over `n`."""
    order: list[int] = []
    while True:
        while len(order) < batch:
            order += torch.randperm(n).tolist()
        index, order = order[:batch], order[batch:]
        yield index


@torch.no_grad()
def _average(averaged: nn.Module, generator: nn.Module, decay: float) -> None:
    for slow, fast in zip(averaged.parameters(), generator.parameters(), strict=True):
        slow.copy_(fast.lerp(slow, decay))
    for kept, current in zip(averaged.buffers(), generator.buffers(), strict=True):
        kept.copy_(current)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _phases(networks: dict[str, Any], recipe: Any) -> Iterator[tuple[str, Any, torch.optim.Optimizer, int]]:
    for name, interval in (("G", recipe.path_length_interval), ("D", recipe.r1_interval)):
        share = interval / (interval + 1)
        betas = (recipe.adam_betas[0] ** share, recipe.adam_betas[1] ** share)
        optimizer = torch.optim.Adam(networks[name].parameters(), recipe.learning_rate * share, betas)
        yield f"{name}main", networks[name], optimizer, 1
        yield f"{name}reg", networks[name], optimizer, interval


def _sampler(network: Any, z_dim: int, n_classes: int, ours: bool) -> Images:
    @torch.no_grad()
    def sample(labels: np.ndarray) -> np.ndarray:
        if ours:
            return synthesise(network, labels, conditional=True, seed=1)
        torch.manual_seed(1)
        c = torch.nn.functional.one_hot(torch.from_numpy(labels), n_classes).float()
        made = torch.cat([network(torch.randn(len(part), z_dim), part)[:, 0] for part in torch.split(c, 50)])
        return (made * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).numpy()

    sample.network = network  # type: ignore[attr-defined]
    return sample


def trainer_run(data: ImageSet, gan: str, seed: int, kimg: float, settings: dict[str, Any]) -> tuple[Images, ...]:
    """Train as the product does and return samplers of the averaged and of the live generator."""
    recipe = make_recipe(gan, **settings)
    trainer = Trainer(data, run_config(data, recipe, conditional=True, seed=seed), default_device())
    while trainer.kimg < kimg:
        trainer.step()
    trainer.recompute_statistics()
    return tuple(_sampler(network, 0, 0, ours=True) for network in (trainer.ema, trainer.generator.eval()))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="images; environment variables are expanded")
    parser.add_argument("--gan", choices=("stylegan2", "fastgan", "projected"), default="stylegan2")
    parser.add_argument("--reference", type=Path, help="a clone of NVlabs/stylegan2-ada-pytorch, for stylegan2")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="by default those of the authors, and `trainer`")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--kimg", type=float, default=5.0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=NUMBER")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--features", default="efficientnet-lite0")
    parser.add_argument("--out", type=Path, help="a JSON file; lines that are in it are not made again")
    arguments = parser.parse_args()
    if (arguments.gan == "stylegan2") != bool(arguments.reference):
        parser.error("--reference belongs to stylegan2, and stylegan2 needs it")
    sys.path.insert(0, str(arguments.reference))
    settings: dict[str, Any] = {key: float(value) for key, value in (pair.split("=") for pair in arguments.set)}
    if arguments.gan == "stylegan2":
        settings = {"channel_base": 2048, "mirror": False} | settings
    default_parts = ["reference" if arguments.gan == "stylegan2" else "authors' loop", "trainer"]
    data, _ = prepare_images(read_source(expand(arguments.source)), arguments.size)
    pool, test = split_indices(data, 0.25, seed=0)
    train_set = data.subset(nested_subsets(data, pool, [arguments.n], 0, seed=0)[arguments.n])
    real = {"held_out": embed(data.subset(test), arguments.features), "train": embed(train_set, arguments.features)}
    labels = class_sequence(tuple(train_set.class_counts.values()), IMAGES)
    known = json.loads(arguments.out.read_text("utf-8"))["rows"] if arguments.out and arguments.out.is_file() else []
    print(line(COLUMNS))
    for seed, parts in itertools.product(arguments.seeds, arguments.parts or default_parts):
        key = {"gan": arguments.gan, "parts": parts, "seed": seed, "kimg": arguments.kimg}
        key |= {"features": arguments.features, "settings": " ".join(arguments.set)}
        row = next((row for row in known if key.items() <= row.items()), None)
        if row is None:
            began = time.perf_counter()
            if parts == "trainer":
                averaged, live = trainer_run(train_set, arguments.gan, seed, arguments.kimg, settings)
            elif parts == "authors' loop":
                averaged, live = authors_loop(train_set, arguments.gan, seed, arguments.kimg, settings)
            else:
                averaged, live = reference_run(train_set, parts, seed, arguments.kimg, settings)
            minutes = (time.perf_counter() - began) / 60
            made, now = (embed(sample(labels), arguments.features) for sample in (averaged, live))
            weights = averaged.network.named_parameters()  # type: ignore[attr-defined]
            strengths = [float(weight.detach().abs()) for name, weight in weights if "noise_strength" in name]
            row = key | {
                **{name: kernel_distance(images, made) for name, images in real.items()},
                "live_held_out": kernel_distance(real["held_out"], now),
                "noise_strength": sum(strengths) / max(len(strengths), 1),
                "minutes": minutes,
            }
            if arguments.out:
                save(arguments.out, [row], tuple(key))
        print(line(COLUMNS, row), flush=True)


if __name__ == "__main__":
    main()
