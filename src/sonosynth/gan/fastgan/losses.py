"""The losses of FastGAN: hinge loss (Lim & Ye, Geometric GAN, 2017), and reconstruction by the discriminator."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.core.device import autocast
from sonosynth.gan.augment.diffaugment import diffaugment
from sonosynth.gan.base import Batch, Objective, Phase, discriminator_statistics
from sonosynth.gan.fastgan.networks import FastGANDiscriminator, FastGANGenerator, cut_quadrant, shrink, small_size
from sonosynth.gan.fastgan.perceptual import PerceptualDistance
from sonosynth.gan.lecam import LeCam


class FastGANObjective(Objective):
    """Hinge loss of both networks, and reconstruction of real images by the discriminator (section 3.2).

    What spectral and batch normalisation keep between steps is in the buffers of the networks.

    Args:
        generator: the generator.
        discriminator: the discriminator.
        augmentation: operations of DiffAugment on real and generated images, small ones with draws of their own.
        perceptual: distance of a reconstruction and its target; see `perceptual.perceptual_distance`.
        reconstruction_weight: factor of the three distances. The authors sum them over batches of 8: 8 here.
        lecam: regularisation of the discriminator.
    """

    generator: FastGANGenerator
    discriminator: FastGANDiscriminator
    compilable = ("_synthesise", "_discriminate", "_examine", "_reconstruction")

    def __init__(
        self,
        generator: FastGANGenerator,
        discriminator: FastGANDiscriminator,
        *,
        augmentation: tuple[str, ...],
        perceptual: PerceptualDistance,
        reconstruction_weight: float,
        lecam: LeCam,
    ):
        super().__init__(generator, discriminator, lecam)
        self.augmentation = augmentation
        self.perceptual, self.reconstruction_weight = perceptual, reconstruction_weight

    def phases(self) -> list[Phase]:
        """Return the phases of a step, in the order in which they run."""
        return [
            Phase("discriminator", "discriminator", 1, self.discriminator_loss),
            Phase("generator", "generator", 1, self.generator_loss),
        ]

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return logits ``[N, 50]`` of images ``[N, 1, H, W]`` as they are, by the batch's statistics."""
        return self._discriminate(images, shrink(images, small_size(self.generator.size)), labels)

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss ``relu(1 - D(x)) + relu(1 + D(G(z)))`` plus the reconstruction of augmented real images."""
        side = small_size(self.generator.size)
        real = diffaugment(batch.real, self.augmentation, batch.draws)
        real_small = shrink(real, side)
        quadrant = batch.draws.integers(0, 4, len(real))
        with torch.no_grad():
            fake, fake_small = self._generate(batch)
        # One pass each: batch normalisation must not mix real and generated images.
        real_logits, decoded = self._examine(real, real_small, batch.real_labels, quadrant)
        fake_logits = self._discriminate(fake, fake_small, batch.fake_labels)
        target = torch.cat([real_small, real_small, shrink(cut_quadrant(real, quadrant), side)])
        reconstruction = self._reconstruction(decoded, target)
        loss = F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
        statistics = discriminator_statistics(loss, real_logits, fake_logits)
        loss, penalty = self.lecam(loss, real_logits, fake_logits)
        statistics |= penalty | {"reconstruction": reconstruction.detach()}
        return loss + self.reconstruction_weight * reconstruction, statistics

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``-D(G(z))``."""
        fake, fake_small = self._generate(batch)
        loss = -self._discriminate(fake, fake_small, batch.fake_labels).mean()
        return loss, {"loss_g": loss.detach()}

    def _synthesise(self, z: Tensor, labels: Tensor | None, noise: Tensor) -> tuple[Tensor, Tensor]:
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

    def _generate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return augmented generated images of both sizes."""
        n, draws = len(batch.real), batch.draws
        z, noise = draws.normal(n, self.generator.z_dim), draws.normal(n, self.generator.noise_length)
        image, small = self._synthesise(z, batch.fake_labels, noise)
        return diffaugment(image, self.augmentation, draws), diffaugment(small, self.augmentation, draws)
