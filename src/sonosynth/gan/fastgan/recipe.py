"""FastGAN: hinge loss (Lim & Ye, Geometric GAN, 2017), reconstruction by the discriminator, and its settings."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.core.device import autocast
from sonosynth.gan.fastgan.networks import (
    FastGANDiscriminator,
    FastGANGenerator,
    NetworkSettings,
    cut_quadrant,
    shrink,
    small_size,
)
from sonosynth.gan.fastgan.perceptual import FrozenFeatureDistance, l1_pyramid
from sonosynth.gan.recipe import CUTOUT_RATIO_MEANING, Batch, Decay, DiffAugmentPolicy, Objective, Phase, setting
from sonosynth.gan.registry import register_gan


class FastGANObjective(Objective):
    """Hinge loss of both networks, and reconstruction of real images by the discriminator (section 3.2).

    What spectral and batch normalisation keep between steps is in the buffers of the networks.
    """

    recipe: "FastGANRecipe"
    generator: FastGANGenerator
    discriminator: FastGANDiscriminator
    compilable = ("_both_sizes", "_discriminate", "_examine", "_reconstruction")

    def __init__(self, recipe: "FastGANRecipe", generator: FastGANGenerator, discriminator: FastGANDiscriminator):
        super().__init__(recipe, generator, discriminator)
        l1 = recipe.perceptual == "l1"
        self.perceptual = l1_pyramid if l1 else FrozenFeatureDistance(self.device, recipe.perceptual_px)

    def phases(self) -> list[Phase]:
        """Return the phases of a step, in the order in which they run."""
        return super().phases()[::-1]

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return logits ``[N, 50]`` of images ``[N, 1, H, W]`` as they are, by the batch's statistics."""
        return self._discriminate(images, shrink(images, small_size(self.generator.size)), labels)

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss ``relu(m - D(x)) + relu(m + D(G(z)))`` plus the reconstruction of augmented real images.

        The margin m is 1, or drawn for every logit.
        """
        side = small_size(self.generator.size)
        real = self.diffaugmented(batch.real, batch)
        real_small = shrink(real, side)
        quadrant = batch.draws.integers(0, 4, len(real))
        with torch.no_grad():
            fake, fake_small = self._generate_pair(batch)
        # One pass each: batch normalisation must not mix real and generated images.
        real_logits, decoded = self._examine(real, real_small, batch.real_labels, quadrant)
        fake_logits = self._discriminate(fake, fake_small, batch.fake_labels)
        target = torch.cat([real_small, real_small, shrink(cut_quadrant(real, quadrant), side)])
        reconstruction = self._reconstruction(decoded, target)
        loss = F.relu(self._margin(real_logits, batch) - real_logits).mean()
        loss = loss + F.relu(self._margin(fake_logits, batch) + fake_logits).mean()
        loss, statistics = self._regularised(loss, real_logits, fake_logits)
        statistics["reconstruction"] = reconstruction.detach()
        return loss + self.recipe.reconstruction_weight * reconstruction, statistics

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``-D(G(z))``."""
        fake, fake_small = self._generate_pair(batch)
        loss = -self._discriminate(fake, fake_small, batch.fake_labels).mean()
        return loss, {"loss_g": loss.detach()}

    def _both_sizes(self, z: Tensor, labels: Tensor | None, noise: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(z.device):
            return self.generator.both_sizes(z, labels, noise)

    def _discriminate(self, images: Tensor, small: Tensor, labels: Tensor | None) -> Tensor:
        with autocast(images.device):
            logits: Tensor = self.discriminator(images, small, labels)
        return logits

    def _examine(self, images: Tensor, small: Tensor, labels: Tensor | None, quadrant: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[N, 50]`` and the three reconstructions ``[3 N, 1, h, w]`` of real images."""
        with autocast(images.device):
            features = self.discriminator.features(images, small)
            logits = self.discriminator.logits(features, labels)
            return logits, torch.cat(self.discriminator.reconstruct(features, quadrant))

    def _reconstruction(self, decoded: Tensor, target: Tensor) -> Tensor:
        """Return the sum of the mean distances of the three reconstructions."""
        with autocast(target.device):
            return 3 * self.perceptual(decoded, target)

    def _margin(self, logits: Tensor, batch: Batch) -> Tensor | float:
        smallest = self.recipe.smallest_margin
        return 1.0 if smallest == 1 else smallest + (1 - smallest) * batch.draws.uniform(*logits.shape)

    def _generate_pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return augmented generated images of both sizes."""
        z, noise = self._latents(len(batch.real), batch)
        image, small = self._both_sizes(z, batch.fake_labels, noise)
        return self.diffaugmented(image, batch), self.diffaugmented(small, batch)


class FastGANRecipe(NetworkSettings):
    """FastGAN (Liu 2021) with DiffAugment."""

    papers: ClassVar[dict[str, str]] = {
        "Liu 2021": "Liu, Zhu, Song, Elgammal: Towards Faster and Stabilized GAN Training for High-fidelity Few-shot "
        "Image Synthesis. ICLR 2021",
    }

    generator_class = FastGANGenerator
    discriminator_class = FastGANDiscriminator
    objective_class = FastGANObjective

    family: Literal["fastgan"] = "fastgan"
    kimg: float = setting(400.0, "Liu 2021, authors' default: 50,000 steps of 8 images", gt=0)
    batch: int = setting(8, "Liu 2021", ge=2, multiple_of=2)
    mirror: bool = setting(True, "Liu 2021, authors' default")
    ema_halflife_kimg: float = setting(5.5, "Liu 2021, authors' default: a decay of 0.999 a step of 8 images", gt=0)
    ema_rampup: float = setting(0.05, "ours: as stylegan2", gt=0)
    learning_rate: float = setting(2e-4, "Liu 2021", gt=0)
    adam_betas: tuple[Decay, Decay] = setting((0.5, 0.999), "Liu 2021, authors' default")
    perceptual: Literal["efficientnet-lite0", "l1"] = setting(
        "efficientnet-lite0",
        "ours: in place of LPIPS with VGG of Liu 2021",
        "distance of the discriminator's reconstructions; `l1` needs no network",
    )
    perceptual_px: int = setting(
        64,
        "ours: as good as 128 and faster; reconstructions of Liu 2021 have 128 px, images 256 or more",
        "side to which smaller reconstructions are enlarged for that network",
        before=32,
        ge=32,
        multiple_of=32,
    )
    reconstruction_weight: float = setting(
        8.0, "Liu 2021, authors' default: sums over batches of 8", "weight of the reconstructions", ge=0
    )
    smallest_margin: float = setting(
        1.0,
        "Liu 2021, equation 3; authors' code: 0.8",
        "margins of the hinge loss are drawn between this and 1 for every logit",
        before=1.0,
        gt=0,
        le=1,
    )
    diffaugment: DiffAugmentPolicy = setting(
        ("brightness", "contrast", "translation"),
        "Liu 2021, authors' default: colour and translation",
        "operations of DiffAugment on all images that the discriminator sees",
    )
    cutout_ratio: float = setting(0.5, "Zhao 2020, authors' code", CUTOUT_RATIO_MEANING, before=0.5, gt=0, le=1)


register_gan(FastGANRecipe(name="fastgan"))
register_gan(FastGANRecipe(name="fastgan+phantom", pretrain_kimg=300.0))
register_gan(FastGANRecipe(name="fastgan+prior", prior="auto", mode="conditional", kimg=3.0, discriminator_rate=0.5))
