"""The hinge losses that FastGAN and Projected GAN share (Lim & Ye, Geometric GAN, 2017)."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from sonosynth.gan.base import discriminator_statistics
from sonosynth.gan.losses.lecam import LeCam


class HingeObjective:
    """Hinge losses of both networks, averaged over all logits; only their regularisation keeps anything between steps.

    Args:
        lecam: regularisation of the discriminator.
    """

    compilable: ClassVar[tuple[str, ...]] = ("discriminate", "_synthesise")

    def __init__(self, lecam: LeCam):
        self.lecam = lecam

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a resumed run needs."""
        return self.lecam.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.lecam.load_state_dict(state)

    def _generator_hinge(self, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``-D(G(z))`` of the logits of generated images, and statistics to log."""
        loss = -fake.mean()
        return loss, {"loss_g": loss.detach()}

    def _discriminator_hinge(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``relu(1 - D(x)) + relu(1 + D(G(z)))`` of both kinds' logits, regularised, and statistics to log."""
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        statistics = discriminator_statistics(loss, real, fake)
        loss, penalty = self.lecam(loss, real, fake)
        return loss, statistics | penalty
