"""One run in memory: its images, its networks, and what a step does."""

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sonosynth.core import distributed
from sonosynth.core.device import (
    autocast,
    compile_function,
    is_asynchronous,
    keep_freed_memory,
    mark_step_begin,
    median_seconds,
    reset_compiler,
    return_freed_memory,
    to_device,
)
from sonosynth.core.draws import Draws, shuffled_indices
from sonosynth.core.seeds import seed_of
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import RunConfig
from sonosynth.gan.networks.layers import BatchNorm2d
from sonosynth.gan.recipe import Batch, Phase
from sonosynth.gan.sample import class_sequence
from sonosynth.gan.training.log_statistics import GRADIENT_NORM

STATISTICS_BATCHES, STATISTICS_BATCH = 8, 16  # images from which `recompute_statistics` has its statistics


class TrainingImages:
    """A small data set on the device as one uint8 tensor, served in shuffled epochs.

    Every process has all of it, and takes its share of every batch.
    """

    def __init__(self, data: ImageSet, config: RunConfig, device: torch.device):
        self.share = distributed.rank_slice()
        self.images = torch.from_numpy(data.images.copy()).to(device)
        self.labels = torch.from_numpy(data.labels.copy()).to(device) if config.conditional else None
        self.mirror, self.device = config.recipe.mirror, device
        groups = data.labels if config.recipe.balanced_classes else np.zeros(len(data))
        self.pools = [torch.from_numpy(np.flatnonzero(groups == group)) for group in np.unique(groups)]

    def batch(self, seed: int, phase: str, step: int, size: int) -> Batch:
        """Return this process's share of the batch of `phase` in `step`: real images, and labels as often as theirs.

        `size` counts the images of all processes.
        """
        draws = Draws(seed, phase, step, self.device, self.share)
        index = to_device(self._indices(seed, step * size, size), self.device)
        real = self.images[index][:, None].float().div_(127.5).sub_(1)
        if self.mirror:
            real = torch.where(draws.uniform(len(real), 1, 1, 1) < 0.5, real.flip(3), real)
        if self.labels is None:
            return Batch(real, None, None, draws)
        other = to_device(self._indices(seed_of(seed, "labels", phase), step * size, size), self.device)
        return Batch(real, self.labels[index], self.labels[other], draws)

    def _indices(self, seed: int, start: int, count: int) -> Tensor:
        """Return shuffled epochs over all images or, balanced, over each class in turn."""
        turns = torch.arange(start, start + count)
        index = torch.empty(count, dtype=torch.int64)
        for i, pool in enumerate(self.pools):
            mine = turns % len(self.pools) == i
            if mine.any():
                first = int(turns[mine][0]) // len(self.pools)
                index[mine] = pool[shuffled_indices(len(pool), first, int(mine.sum()), seed_of(seed, i))]
        return index[self.share.of(count)]


class Trainer:
    """The state of one run: networks, their moving average, optimisers and the step counter.

    `rollbacks` counts how often the run went back to an earlier state because it had become non-finite; each time the
    random draws of the steps that follow are new.
    """

    def __init__(self, data: ImageSet, config: RunConfig, device: torch.device):
        keep_freed_memory()
        recipe = config.recipe
        recipe.check_processes(distributed.rank_slice().count)
        self.config, self.device, self.batch_size = config, device, recipe.batch
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(config.seed, "init"))
            self.generator = recipe.build_generator(config.size, config.n_classes).to(device)
            self.discriminator = recipe.build_discriminator(config.size, config.n_classes).to(device)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        optimizers = recipe.build_optimizers(self.generator, self.discriminator)
        self.optimizers = dict(zip(networks, optimizers, strict=True))
        self.objective = recipe.build_objective(self.generator, self.discriminator)
        self.phases = self.objective.phases()
        self.images = TrainingImages(data, config, device)
        self.trained = {name: [p for p in net.parameters() if p.requires_grad] for name, net in networks.items()}
        self.step_count = 0
        self.rollbacks = 0

    def compile(self) -> None:
        """Compile what the objective allows, taking every gradient once; the state is left as it was found."""
        reset_compiler()
        for name in self.objective.compilable:
            setattr(self.objective, name, compile_function(getattr(self.objective, name), self.device))
        kept = copy.deepcopy(self.objective.state_dict())
        buffers = [*self.generator.buffers(), *self.discriminator.buffers()]
        copies = [buffer.clone() for buffer in buffers]
        for phase in self.phases:
            self._take_gradients(phase)
            self.optimizers[phase.network].zero_grad(set_to_none=True)
            return_freed_memory()  # the compiler leaves some 300 MiB
        self.objective.load_state_dict(kept)
        torch._foreach_copy_(buffers, copies)

    @property
    def kimg(self) -> float:
        """Thousands of real images shown so far."""
        return self.step_count * self.batch_size / 1000

    @property
    def seed(self) -> int:
        """The seed of the random draws of the coming steps."""
        return self.config.seed if not self.rollbacks else seed_of(self.config.seed, "rollback", self.rollbacks)

    def step(self, gradient_norms: bool = False) -> dict[str, Tensor]:
        """Run every phase that is due, then move the average; return statistics that are still on the device."""
        statistics: dict[str, Tensor] = {}
        for phase in self.phases:
            if self.step_count % phase.interval == 0:
                statistics |= self.run_phase(phase, gradient_norms)
        self.step_count += 1
        self.update_ema()
        return statistics

    def run_phase(self, phase: Phase, gradient_norm: bool = False) -> dict[str, Tensor]:
        """Take one optimiser step of `phase` on its batch of the current step."""
        statistics = self._take_gradients(phase)
        if gradient_norm:
            gradients = [p.grad for p in self.trained[phase.network] if p.grad is not None]
            statistics[f"{GRADIENT_NORM}{phase.name}"] = torch.nn.utils.get_total_norm(gradients)
        optimizer = self.optimizers[phase.network]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return statistics

    def _take_gradients(self, phase: Phase) -> dict[str, Tensor]:
        """Leave the gradients of `phase`, averaged over the processes, in its network's parameters."""
        for network, parameters in self.trained.items():
            for parameter in parameters:
                parameter.requires_grad_(network == phase.network)
        mark_step_begin()
        loss, statistics = phase.loss(self.images.batch(self.seed, phase.name, self.step_count, self.batch_size))
        loss.backward()  # type: ignore[no-untyped-call]
        distributed.average_([p.grad for p in self.trained[phase.network] if p.grad is not None])
        return {name: value.clone() for name, value in statistics.items()}  # the next phase may overwrite them

    def seconds_per_step(self, repeats: int = 3, warm_up: int = 1) -> float:
        """Return what a step takes here, a phase that is not due in every step by its share; the state moves on.

        Where the device is handed its work in advance, phases overlap, and whole rounds of steps are timed instead.
        """
        self.step_count = max(self.step_count, 1)  # the moving average begins with the first image
        measured = {"repeats": repeats, "warm_up": warm_up}
        if is_asynchronous(self.device):
            a_round = math.lcm(*(phase.interval for phase in self.phases))
            return median_seconds(lambda: [self.step() for _ in range(a_round)], self.device, **measured) / a_round
        phases = sum(
            median_seconds(partial(self.run_phase, phase), self.device, **measured) / phase.interval
            for phase in self.phases
        )
        return phases + median_seconds(self.update_ema, self.device, **measured)

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the average of the generator's weights one step towards them."""
        recipe = self.config.recipe
        halflife = min(recipe.ema_halflife_kimg, self.kimg * recipe.ema_rampup)
        decay = 0.5 ** (self.batch_size / 1000 / halflife)
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.generator.parameters()), 1 - decay)
        for averaged, current in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            averaged.copy_(current)

    @torch.no_grad()
    def recompute_statistics(self) -> None:
        """Give batch normalisation of the averaged generator the statistics of images that it makes itself.

        Otherwise they would be those of the live network, until its next step. The latents are the same every time.
        """
        norms = [
            module
            for module in self.ema.modules()
            if isinstance(module, BatchNorm2d) and module.running_mean is not None
        ]
        if not norms:
            return
        momenta, config = [norm.momentum for norm in norms], self.config
        labels = torch.from_numpy(class_sequence(config.class_counts, STATISTICS_BATCHES * STATISTICS_BATCH))
        for k, of_class in enumerate(torch.split(labels.to(self.device), STATISTICS_BATCH)):
            draws = Draws(seed_of("statistics"), "averaged generator", k, self.device)
            z, noise = (draws.normal(STATISTICS_BATCH, length) for length in (self.ema.z_dim, self.ema.noise_length))
            for norm in norms:
                norm.train()
                norm.momentum = 1 / (k + 1)  # so that all batches count alike
            with autocast(self.device):
                self.ema(z, of_class if config.conditional else None, noise)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum

    def is_finite(self) -> bool:
        """Return whether all parameters are finite; waits for the device."""
        parameters = [p for network in self.trained.values() for p in network]
        return bool(torch.nn.utils.get_total_norm(parameters).isfinite())

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs; random draws need nothing but the step."""
        return {
            "step": self.step_count,
            "rollbacks": self.rollbacks,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "objective": self.objective.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.step_count, self.rollbacks = state["step"], state["rollbacks"]
        for name in ("generator", "discriminator", "ema", "objective"):
            getattr(self, name).load_state_dict(state[name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(copy.deepcopy(state["optimizers"][name]))  # it would go on in these very tensors
