"""The regularised relativistic loss of R3GAN (Huang et al. 2024, section 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.core.device import autocast
from sonosynth.gan.augment.diffaugment import diffaugment
from sonosynth.gan.base import Batch, Objective, Phase, discriminator_statistics
from sonosynth.gan.lecam import LeCam
from sonosynth.gan.r3gan.networks import Discriminator, Generator


class R3GANObjective(Objective):
    """Every generated image is compared with one real image; gradient penalties on both kinds make that converge.

    Args:
        generator: makes images.
        discriminator: scores them.
        gamma: weight γ of both penalties.
        augmentation: operations of `diffaugment` on real and generated images.
        lecam: regularisation of the discriminator.
    """

    generator: Generator
    discriminator: Discriminator
    compilable = ("discriminate", "_synthesise")  # not `_scores`, which are differentiated twice

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        *,
        gamma: float,
        augmentation: tuple[str, ...],
        lecam: LeCam,
    ):
        super().__init__(generator, discriminator, lecam)
        self.gamma, self.augmentation = gamma, augmentation

    def phases(self) -> list[Phase]:
        """Return the phases of a step, in the order in which they run."""
        return [
            Phase("generator", "generator", 1, self.generator_loss),
            Phase("discriminator", "discriminator", 1, self.discriminator_loss),
        ]

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Relativistic pairing loss ``softplus(-(D(G(z)) - D(x)))`` (Jolicoeur-Martineau 2019)."""
        fake = self.discriminate(self._augmented(self._generate(batch), batch), batch.real_labels)
        with torch.no_grad():
            real = self.discriminate(self._augmented(batch.real, batch), batch.real_labels)
        loss = F.softplus(real - fake).mean()
        return loss, {"loss_g": loss.detach()}

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """``softplus(-(D(x) - D(G(z))))`` plus ``γ/2 (‖∇D(x)‖² + ‖∇D(G(z))‖²)``, R1 and R2."""
        with torch.no_grad():
            images = self._generate(batch)
        images, x = images.requires_grad_(), batch.real.requires_grad_()
        fake = self._scores(self._augmented(images, batch), batch.real_labels)
        real = self._scores(self._augmented(x, batch), batch.real_labels)
        r1, r2 = _gradient_penalty(real, x), _gradient_penalty(fake, images)
        loss = F.softplus(fake - real).mean()
        statistics = discriminator_statistics(loss, real, fake) | {"r1": r1.detach(), "r2": r2.detach()}
        loss, penalty = self.lecam(loss, real, fake)
        return loss + self.gamma / 2 * (r1 + r2), statistics | penalty

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return logits ``[N]`` of images ``[N, 1, H, W]`` as they are."""
        return self._scores(images, labels)

    def _scores(self, images: Tensor, labels: Tensor | None) -> Tensor:
        with autocast(images.device):
            logits: Tensor = self.discriminator(images, labels)
        return logits

    def _synthesise(self, z: Tensor, labels: Tensor | None, noise: Tensor) -> Tensor:
        with autocast(z.device):
            images: Tensor = self.generator(z, labels, noise)
        return images

    def _generate(self, batch: Batch) -> Tensor:
        """Return generated images ``[N, 1, H, W]``, of the classes of the real images that they are compared with."""
        n = len(batch.real)
        z, noise = batch.draws.normal(n, self.generator.z_dim), batch.draws.normal(n, self.generator.noise_length)
        return self._synthesise(z, batch.real_labels, noise)

    def _augmented(self, images: Tensor, batch: Batch) -> Tensor:
        return diffaugment(images, self.augmentation, batch.draws)


def _gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared norm of the gradient of ``logits [N]`` by ``images [N, 1, H, W]``."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
