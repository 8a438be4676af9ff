"""The hinge loss of Projected GAN (Lim & Ye, Geometric GAN, 2017)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.core.device import autocast
from sonosynth.gan.augment.diffaugment import diffaugment
from sonosynth.gan.base import Batch, Objective, Phase, discriminator_statistics
from sonosynth.gan.lecam import LeCam
from sonosynth.gan.projected.networks import ProjectedDiscriminator, ProjectedGenerator


class ProjectedObjective(Objective):
    """Hinge losses of the generator and the discriminator on augmented images.

    Args:
        generator: makes images.
        discriminator: judges them.
        augmentation: operations of `diffaugment` for real and generated images.
        lecam: regularisation of the discriminator.
    """

    generator: ProjectedGenerator
    discriminator: ProjectedDiscriminator
    compilable = ("discriminate", "_synthesise")

    def __init__(
        self,
        generator: ProjectedGenerator,
        discriminator: ProjectedDiscriminator,
        *,
        augmentation: tuple[str, ...],
        lecam: LeCam,
    ):
        super().__init__(generator, discriminator, lecam)
        self.augmentation = augmentation

    def phases(self) -> list[Phase]:
        """Return the phases of a step, in the order in which they run."""
        return [
            Phase("generator", "generator", 1, self.generator_loss),
            Phase("discriminator", "discriminator", 1, self.discriminator_loss),
        ]

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss of the generator, ``-D(G(z))``, averaged over the logits of all scales."""
        loss = -self.discriminate(self._augmented(self._generate(batch), batch), batch.fake_labels).mean()
        return loss, {"loss_g": loss.detach()}

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss ``relu(1 + D(G(z))) + relu(1 - D(x))``, averaged over the logits of all scales."""
        with torch.no_grad():
            images = self._generate(batch)
        both = torch.cat([self._augmented(x, batch) for x in (images, batch.real)])
        fake, real = self.discriminate(both, batch.both_labels, sets=2).chunk(2)
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        statistics = discriminator_statistics(loss, real, fake)
        loss, penalty = self.lecam(loss, real, fake)
        return loss, statistics | penalty

    def discriminate(self, images: Tensor, labels: Tensor | None, sets: int = 1) -> Tensor:
        """Return logits ``[N, 4 · positions]`` of images ``[N, 1, H, W]`` as they are, by the statistics of a set."""
        with autocast(images.device):
            logits: Tensor = self.discriminator(images, labels, sets)
        return logits

    def _synthesise(self, z: Tensor, labels: Tensor | None, noise: Tensor) -> Tensor:
        with autocast(z.device):
            images: Tensor = self.generator(z, labels, noise)
        return images

    def _generate(self, batch: Batch) -> Tensor:
        z = batch.draws.normal(len(batch.real), self.generator.z_dim)
        noise = batch.draws.normal(len(batch.real), self.generator.noise_length)
        return self._synthesise(z, batch.fake_labels, noise)

    def _augmented(self, images: Tensor, batch: Batch) -> Tensor:
        return diffaugment(images, self.augmentation, batch.draws)
