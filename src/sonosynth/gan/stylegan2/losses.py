"""The StyleGAN2 objective: logistic loss with lazy R1 and path-length regularisation (Karras et al. 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.core import distributed
from sonosynth.core.device import autocast
from sonosynth.core.draws import Draws
from sonosynth.gan.augment.diffaugment import Augmentation
from sonosynth.gan.base import Batch, Objective, Phase, discriminator_statistics
from sonosynth.gan.lecam import LeCam
from sonosynth.gan.stylegan2.networks import Discriminator, Generator


class StyleGAN2Objective(Objective):
    """The phases of StyleGAN2; their state is the running mean of path lengths and what augmentation and LeCam keep."""

    generator: Generator
    discriminator: Discriminator

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        *,
        r1_weight: float,
        r1_interval: int,
        path_length_weight: float,
        path_length_interval: int,
        style_mixing: float,
        augmentation: Augmentation,
        lecam: LeCam,
    ):
        super().__init__(generator, discriminator, lecam)
        self.r1_weight, self.r1_interval = r1_weight, r1_interval
        self.path_length_weight, self.path_length_interval = path_length_weight, path_length_interval
        self.style_mixing = style_mixing
        self.augmentation = augmentation
        self.path_length_mean = torch.zeros([], device=generator.constant.device)
        self.compilable = ("discriminate", "_synthesise")
        # Those with a gradient inside: on an H200 Triton 3.6 (PyTorch 2.11) fails to build a kernel of `_path_lengths`.
        self.compilable += () if generator.constant.is_cuda else ("_path_lengths", "_image_gradient")

    def phases(self) -> list[Phase]:
        """Return the phases of a step, in the order in which they run."""
        phases = [Phase("generator", "generator", 1, self.generator_loss)]
        if self.path_length_weight:
            phases.append(Phase("path_length", "generator", self.path_length_interval, self.path_length_loss))
        phases.append(Phase("discriminator", "discriminator", 1, self.discriminator_loss))
        if self.r1_weight:
            phases.append(Phase("r1", "discriminator", self.r1_interval, self.r1_loss))
        return phases

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Non-saturating logistic loss ``softplus(-D(G(z)))``."""
        images, styles = self._generate(batch)
        self.generator.mapping.update_mean(styles[:, 0])
        logits = self.discriminate(self.augmentation(images, batch.draws), batch.fake_labels)
        loss = F.softplus(-logits).mean()
        return loss, {"loss_g": loss.detach()}

    def path_length_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared deviation of ``‖Jᵀ y‖`` from its running mean (Karras et al. 2020, equation 4), on half a batch."""
        half = len(batch.real) // 2
        styles = self._styles(batch.draws, half, None if batch.fake_labels is None else _half(batch.fake_labels))
        noise = batch.draws.normal(half, self.generator.noise_length)
        size = self.generator.size
        direction = batch.draws.normal(half, 1, size, size) / size
        lengths = self._path_lengths(styles, noise, direction)
        self.path_length_mean.lerp_(distributed.mean(lengths.detach().mean()), 0.01)
        penalty = (lengths - self.path_length_mean).square().mean()
        weight = self.path_length_weight * self.path_length_interval
        return penalty * weight, {"path_length": lengths.detach().mean()}

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Logistic loss ``softplus(D(G(z))) + softplus(-D(x))``, regularised."""
        with torch.no_grad():
            images, _ = self._generate(batch)
        # In one pass; groups of the minibatch standard deviation never hold both kinds.
        both = torch.cat([self.augmentation(x, batch.draws) for x in (images, batch.real)])
        fake, real = self.discriminate(both, batch.both_labels).chunk(2)
        loss = F.softplus(fake).mean() + F.softplus(-real).mean()
        statistics = discriminator_statistics(loss, real, fake) | self.augmentation.observe(real.detach())
        loss, penalty = self.lecam(loss, real, fake)
        return loss, statistics | penalty

    def r1_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """R1 penalty ``γ/2 · E‖∇D(x)‖²`` on real images (Mescheder et al. 2018), in full precision."""
        real = batch.real.requires_grad_()
        augmented = self.augmentation(real, batch.draws)
        slope = self._image_gradient(augmented.detach(), batch.real_labels)
        (gradient,) = torch.autograd.grad(augmented, real, slope, create_graph=True)
        penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
        return penalty * (self.r1_weight / 2 * self.r1_interval), {"r1": penalty.detach()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a resumed run needs besides the networks."""
        return {"path_length_mean": self.path_length_mean} | self.augmentation.state_dict() | super().state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.path_length_mean.copy_(state["path_length_mean"])
        self.augmentation.load_state_dict(state)
        super().load_state_dict(state)

    def discriminate(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return logits ``[N]`` of images ``[N, 1, H, W]`` as they are."""
        with autocast(images.device):
            logits: Tensor = self.discriminator(images, labels)
        return logits

    def _synthesise(self, styles: Tensor, noise: Tensor) -> Tensor:
        with autocast(styles.device):
            return self.generator.synthesise(styles, noise)

    def _path_lengths(self, styles: Tensor, noise: Tensor, direction: Tensor) -> Tensor:
        """Return ``‖Jᵀ y‖`` ``[N]`` of styles ``[N, n_layers, w_dim]``, a mean over layers, in full precision."""

        def along(styles: Tensor) -> Tensor:
            return (self.generator.synthesise(styles, noise) * direction).sum()

        gradient: Tensor = torch.func.grad(along)(styles)
        return gradient.square().sum(dim=2).mean(dim=1).sqrt()

    def _image_gradient(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return the gradient ``[N, 1, H, W]`` of the logits by the images, in full precision."""

        def logits(images: Tensor) -> Tensor:
            judged: Tensor = self.discriminator(images, labels).sum()
            return judged

        gradient: Tensor = torch.func.grad(logits)(images)
        return gradient

    def _styles(self, draws: Draws, n: int, labels: Tensor | None) -> Tensor:
        """Return styles ``[N, n_layers, w_dim]``; a share of the images changes style at a random layer."""
        layers = self.generator.n_layers
        first = self.generator.styles(draws.normal(n, self.generator.z_dim), labels)
        second = self.generator.styles(draws.normal(n, self.generator.z_dim), labels)
        crossover = draws.integers(1, layers, n, 1)
        crossover = torch.where(draws.uniform(n, 1) < self.style_mixing, crossover, layers)
        early = torch.arange(layers, device=crossover.device) < crossover
        return torch.where(early[:, :, None], first[:, None], second[:, None])

    def _generate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        n = len(batch.real)
        styles = self._styles(batch.draws, n, batch.fake_labels)
        noise = batch.draws.normal(n, self.generator.noise_length)
        return self._synthesise(styles, noise), styles


def _half(labels: Tensor) -> Tensor:
    """Return labels 0, 3, 4, 7, 8, 11, ...: half of them, the same ones however many processes share the batch.

    Neither every second one, which of two balanced classes would be a single class.
    """
    index = torch.arange(len(labels) // 2, device=labels.device)
    return labels[2 * index + index % 2]
