"""How strongly to augment: the controller of adaptive discriminator augmentation (Karras et al., Training Generative
Adversarial Networks with Limited Data, NeurIPS 2020, here "the paper", section 3).
"""

import torch
from torch import Tensor

from sonosynth.core import distributed


def scaled_ada_kimg(total_kimg: float) -> float:
    """Return the `ada_kimg` for a run of `total_kimg`: the paper's 500, or a quarter of the run where that is less.

    p rises by at most 1 in `ada_kimg`, so at 500 a few-shot run of 300 kimg would end before p passes 0.6, and the
    discriminator would have memorised its images long before. A quarter lets p reach any value while three quarters of
    the run are left.
    """
    return min(500.0, total_kimg / 4)


class AdaController:
    """Adjusts p so that ``r_t = E[sign(D(x))]`` over real images stays at `target` (the paper, section 3).

    p moves by ``batch · interval_steps / (1000 · ada_kimg)`` every `interval_steps` updates: up while r_t exceeds the
    target, down while it is below. All state is in tensors that are updated in place, without waiting for the device.

    Args:
        batch: real images a step.
        ada_kimg: thousands of real images in which p moves by 1; see `scaled_ada_kimg`.
        target: wanted r_t, between -1 and 1.
        interval_steps: updates between two adjustments.
        p: value to start from.
        device: where logits come from and p is needed.
    """

    def __init__(
        self,
        batch: int,
        *,
        ada_kimg: float = 500.0,
        target: float = 0.6,
        interval_steps: int = 4,
        p: float = 0.0,
        device: torch.device | None = None,
    ):
        self.target, self.interval_steps = target, interval_steps
        self.increment = batch * interval_steps / (ada_kimg * 1000)
        self._state = {
            name: torch.tensor(value, dtype=torch.float64, device=device)
            for name, value in {"p": p, "sign_sum": 0.0, "sign_count": 0.0, "updates": 0.0}.items()
        }

    @property
    def p(self) -> Tensor:
        """The probability, a float64 scalar on the device; later updates change this very tensor."""
        return self._state["p"]

    @torch.no_grad()
    def update(self, logits_real: Tensor) -> None:
        """Take in the discriminator's logits ``[N]`` of augmented real images, once a step; adjust p when it is due."""
        state = self._state
        count = logits_real.numel() * distributed.rank_slice().count
        state["sign_sum"].add_(distributed.mean(logits_real.sign().mean(dtype=torch.float64)) * count)
        state["sign_count"].add_(count)
        state["updates"].add_(1)
        due = state["updates"] >= self.interval_steps
        direction = (state["sign_sum"] / state["sign_count"] - self.target).sign()
        state["p"].add_(due * direction * self.increment).clamp_(0, 1)
        for name in ("sign_sum", "sign_count", "updates"):
            state[name].mul_(~due)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of p and of the statistics since the last adjustment."""
        return {name: value.clone() for name, value in self._state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        for name, value in self._state.items():
            value.copy_(state[name])
