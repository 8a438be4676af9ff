"""R3GAN: its regularised relativistic loss (Huang et al. 2024, section 2) and its settings."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.gan.augment.diffaugment import ALL_OPERATIONS
from sonosynth.gan.r3gan.networks import Discriminator, Generator, NetworkSettings
from sonosynth.gan.recipe import CUTOUT_RATIO_MEANING, Batch, Decay, DiffAugmentPolicy, Objective, setting
from sonosynth.gan.registry import register_gan


class R3GANObjective(Objective):
    """Every generated image is compared with one real image of its class; gradient penalties make that converge."""

    recipe: "R3GANRecipe"
    compilable = ("discriminate", "_synthesise")  # not `_scores`, which are differentiated twice

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Relativistic pairing loss ``softplus(-(D(G(z)) - D(x)))`` (Jolicoeur-Martineau 2019)."""
        fake = self.discriminate(self.diffaugmented(self._generate(batch, batch.real_labels), batch), batch.real_labels)
        with torch.no_grad():
            real = self.discriminate(self.diffaugmented(batch.real, batch), batch.real_labels)
        loss = F.softplus(real - fake).mean()
        return loss, {"loss_g": loss.detach()}

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """``softplus(-(D(x) - D(G(z))))`` plus ``γ/2 (‖∇D(x)‖² + ‖∇D(G(z))‖²)``, R1 and R2."""
        with torch.no_grad():
            images = self._generate(batch, batch.real_labels)
        images, x = images.requires_grad_(), batch.real.requires_grad_()
        fake = self._scores(self.diffaugmented(images, batch), batch.real_labels)
        real = self._scores(self.diffaugmented(x, batch), batch.real_labels)
        r1, r2 = _gradient_penalty(real, x), _gradient_penalty(fake, images)
        loss = F.softplus(fake - real).mean()
        loss, statistics = self._regularised(loss, real, fake, r1=r1.detach(), r2=r2.detach())
        return loss + self.recipe.gamma_at(self.generator.size) / 2 * (r1 + r2), statistics

    def _scores(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """`discriminate`, never compiled."""
        return super().discriminate(images, labels)


def _gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared norm of the gradient of ``logits [N]`` by ``images [N, 1, H, W]``."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


class R3GANRecipe(NetworkSettings):
    """R3GAN (Huang 2024) with DiffAugment. Optimiser and γ are those with which the authors' schedules begin.

    The authors change them over 20,000 kimg; within a few hundred they stay where they begin.
    """

    papers: ClassVar[dict[str, str]] = {
        "Huang 2024": "Huang, Gokaslan, Kuleshov, Tompkin: The GAN is dead; long live the GAN! A Modern GAN Baseline. "
        "NeurIPS 2024",
    }

    generator_class = Generator
    discriminator_class = Discriminator
    objective_class = R3GANObjective

    family: Literal["r3gan"] = "r3gan"
    batch: int = setting(16, "ours: as stylegan2; Huang 2024 has 256", ge=2, multiple_of=2)
    ema_halflife_kimg: float = setting(
        5.0, "ours: as stylegan2; Huang 2024, authors' code: from 0 to 500 over 20,000 kimg", gt=0
    )
    ema_rampup: float = setting(0.05, "ours: as stylegan2", gt=0)
    learning_rate: float = setting(2e-4, "Huang 2024, authors' default; falls to 5e-5", gt=0)
    adam_betas: tuple[Decay, Decay] = setting((0.0, 0.9), "Huang 2024, authors' default; the second rises to 0.99")
    gamma: float | None = setting(
        None,
        "Huang 2024, authors' FFHQ: 2 at 64 px, 150 at 256 px, each falling to a tenth; ours: the power law of these",
        "weight γ of the penalties R1 and R2",
        ge=0,
    )
    diffaugment: DiffAugmentPolicy = setting(
        ALL_OPERATIONS,
        "ours: for small data sets, as stylegan2-diffaug; Huang 2024, authors' code: transforms of ADA, at a "
        "probability that rises from 0 to 0.3 over 20,000 kimg",
        "operations of DiffAugment on all images that the discriminator sees",
    )
    cutout_ratio: float = setting(0.5, "Zhao 2020, authors' code", CUTOUT_RATIO_MEANING, before=0.5, gt=0, le=1)

    def gamma_at(self, size: int) -> float:
        """Return `gamma`, or the default for images of `size` pixels."""
        return self.gamma if self.gamma is not None else 2.0 * (size / 64) ** math.log(75, 4)


register_gan(R3GANRecipe(name="r3gan"))
