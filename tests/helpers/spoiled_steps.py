"""Training steps that go wrong on purpose."""

import torch

from sonosynth.gan.training.trainer import Trainer


def spoil_once(monkeypatch) -> None:
    """Make weights of the discriminator NaN after the eighth step, until the run has been rolled back."""
    original = Trainer.step

    def spoiled(self, gradient_norms=False):
        statistics = original(self, gradient_norms)
        if self.step_count == 8 and not self.rollbacks:
            with torch.no_grad():
                next(self.discriminator.parameters()).fill_(torch.nan)
        return statistics

    monkeypatch.setattr(Trainer, "step", spoiled)
