"""Projected GAN: its hinge loss (Lim & Ye, Geometric GAN, 2017) and its settings."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.core.device import autocast
from sonosynth.gan.augment.diffaugment import ALL_OPERATIONS
from sonosynth.gan.projected.networks import NetworkSettings, ProjectedDiscriminator, ProjectedGenerator
from sonosynth.gan.recipe import CUTOUT_RATIO_MEANING, Batch, Decay, DiffAugmentPolicy, Objective, setting
from sonosynth.gan.registry import register_gan


class ProjectedObjective(Objective):
    """Hinge losses of the generator and the discriminator on augmented images."""

    recipe: "ProjectedRecipe"
    compilable = ("discriminate", "_synthesise")

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss of the generator, ``-D(G(z))``, averaged over the logits of all scales."""
        images = self.diffaugmented(self._generate(batch, batch.fake_labels), batch)
        loss = -self.discriminate(images, batch.fake_labels).mean()
        return loss, {"loss_g": loss.detach()}

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss ``relu(1 + D(G(z))) + relu(1 - D(x))``, averaged over the logits of all scales."""
        with torch.no_grad():
            images = self._generate(batch, batch.fake_labels)
        both = torch.cat([self.diffaugmented(x, batch) for x in (images, batch.real)])
        fake, real = self.discriminate(both, batch.both_labels, sets=2).chunk(2)
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        return self._regularised(loss, real, fake)

    def discriminate(self, images: Tensor, labels: Tensor | None, sets: int = 1) -> Tensor:
        """Return logits ``[N, 4 · positions]`` of images ``[N, 1, H, W]`` as they are, by the statistics of a set."""
        with autocast(images.device):
            logits: Tensor = self.discriminator(images, labels, sets)
        return logits


class ProjectedRecipe(NetworkSettings):
    """Projected GAN (Sauer 2021) with the FastGAN-lite generator, EfficientNet-Lite0 and DiffAugment."""

    papers: ClassVar[dict[str, str]] = {
        "Sauer 2021": "Sauer, Chitta, Müller, Geiger: Projected GANs Converge Faster. NeurIPS 2021",
    }

    generator_class = ProjectedGenerator
    discriminator_class = ProjectedDiscriminator
    objective_class = ProjectedObjective

    family: Literal["projected"] = "projected"
    batch: int = setting(16, "ours: as stylegan2; Sauer 2021 has 64", ge=2, multiple_of=2)
    ema_halflife_kimg: float = setting(5.0, "Sauer 2021, authors' default: batch · 10 / 32", gt=0)
    ema_rampup: float = setting(0.05, "Sauer 2021, authors' default", gt=0)
    learning_rate: float = setting(2e-4, "Sauer 2021", gt=0)
    adam_betas: tuple[Decay, Decay] = setting((0.0, 0.99), "Sauer 2021, authors' default")
    diffaugment: DiffAugmentPolicy = setting(
        ALL_OPERATIONS,
        "Sauer 2021: colour, translation, cutout (Zhao 2020)",
        "operations of DiffAugment on all images that the discriminator sees",
    )
    cutout_ratio: float = setting(0.2, "Sauer 2021, authors' code", CUTOUT_RATIO_MEANING, before=0.5, gt=0, le=1)


register_gan(ProjectedRecipe(name="projected"))
register_gan(ProjectedRecipe(name="projected+prior", prior="auto", mode="conditional", kimg=3.0))
