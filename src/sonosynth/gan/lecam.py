"""LeCam regularisation of a discriminator (Tseng et al., Regularizing Generative Adversarial Networks under Limited
Data, CVPR 2021).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.core import distributed


class LeCam:
    """Penalty ``E[relu(D(x) - α_F)²] + E[relu(α_R - D(G(z)))²]``, which keeps logits of both kinds of images close.

    α_R and α_F are exponential moving averages of the discriminator's mean output on real and on generated images. The
    paper prints the squares without relu; its authors' code has them as here.

    The averages begin at zero and are divided by ``1 - decay^t``, the weight they have gathered in t steps, as the
    authors do for StyleGAN2. The step at hand counts, without gradient: in the first step the averages are its own
    means, and the penalty acts from there on.

    A `weight` of 0 leaves losses as they are and keeps no state. `decay` is what the averages keep in a step.
    """

    def __init__(self, weight: float, decay: float = 0.99, device: torch.device | None = None):
        self.weight, self.decay = weight, decay
        self._averages = torch.zeros(3, device=device)  # of real logits, of generated ones, and of 1

    def __call__(self, loss: Tensor, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return `loss` with the weighted penalty added, and the penalty itself to log; once a step.

        `real` and `fake` are logits ``[N, ...]`` of real and of generated images.
        """
        if not self.weight:
            return loss, {}
        with torch.no_grad():
            latest = distributed.mean(torch.stack([real.mean(), fake.mean(), torch.ones_like(self._averages[2])]))
            self._averages.lerp_(latest, 1 - self.decay)
            average_real, average_fake = self._averages[:2] / self._averages[2]
        penalty = F.relu(real - average_fake).square().mean() + F.relu(average_real - fake).square().mean()
        return loss + self.weight * penalty, {"lecam": penalty.detach()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the averages, or nothing where the weight is 0."""
        return {"lecam": self._averages.clone()} if self.weight else {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        if self.weight:
            self._averages.copy_(state["lecam"])
