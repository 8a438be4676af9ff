"""The hinge losses that FastGAN and Projected GAN share (Lim & Ye, Geometric GAN, 2017)."""

import torch.nn.functional as F
from torch import Tensor

from sonosynth.gan.game import discriminator_statistics


class HingeObjective:
    """Hinge losses of both players, averaged over all logits; nothing is kept between steps."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a resumed run needs: nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""

    def _generator_hinge(self, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``-D(G(z))`` of the logits of generated images, and statistics to log."""
        loss = -fake.mean()
        return loss, {"loss_g": loss.detach()}

    def _discriminator_hinge(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``relu(1 - D(x)) + relu(1 + D(G(z)))`` of logits of both kinds of images, and statistics to log."""
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        return loss, discriminator_statistics(loss, real, fake)
