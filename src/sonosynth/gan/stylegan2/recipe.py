"""StyleGAN2: its loss, logistic with lazy R1 and path-length regularisation (Karras et al. 2020), and its settings."""

import math
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from sonosynth.core import distributed
from sonosynth.core.device import autocast
from sonosynth.gan.augment.ada import AdaController, AdaPolicy, ada_augment, scaled_ada_kimg
from sonosynth.gan.augment.diffaugment import ALL_OPERATIONS
from sonosynth.gan.recipe import (
    CUTOUT_RATIO_MEANING,
    Batch,
    Decay,
    DiffAugmentPolicy,
    GeneratorNetwork,
    Objective,
    Phase,
    adam,
    setting,
)
from sonosynth.gan.registry import register_gan
from sonosynth.gan.stylegan2.networks import Discriminator, Generator, NetworkSettings


class StyleGAN2Objective(Objective):
    """The phases of StyleGAN2; their state is the running mean of path lengths and what augmentation and LeCam keep."""

    recipe: "StyleGAN2Recipe"
    generator: Generator

    def __init__(self, recipe: "StyleGAN2Recipe", generator: Generator, discriminator: nn.Module):
        super().__init__(recipe, generator, discriminator)
        self.r1_weight = recipe.r1_gamma_at(generator.size)
        self.ada: AdaController | None = None
        if recipe.ada_policy is not None:
            assert recipe.ada_kimg is not None, "resolve the recipe first"
            self.ada = AdaController(
                recipe.batch,
                ada_kimg=recipe.ada_kimg,
                target=recipe.ada_target,
                interval_steps=recipe.ada_interval,
                device=self.device,
            )
        self.path_length_mean = torch.zeros([], device=self.device)
        self.compilable = ("discriminate", "_from_styles")
        # Those with a gradient inside: on an H200 Triton 3.6 (PyTorch 2.11) fails to build a kernel of `_path_lengths`.
        self.compilable += () if self.device.type == "cuda" else ("_path_lengths", "_image_gradient")

    def phases(self) -> list[Phase]:
        """Return the phases of a step, in the order in which they run."""
        generator, discriminator = super().phases()
        phases = [generator]
        if self.recipe.path_length_weight:
            phases.append(Phase("path_length", "generator", self.recipe.path_length_interval, self.path_length_loss))
        phases.append(discriminator)
        if self.r1_weight:
            phases.append(Phase("r1", "discriminator", self.recipe.r1_interval, self.r1_loss))
        return phases

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Non-saturating logistic loss ``softplus(-D(G(z)))``."""
        images, styles = self._generate_mixed(batch)
        self.generator.mapping.update_mean(styles[:, 0])
        logits = self.discriminate(self._augmented(images, batch), batch.fake_labels)
        loss = F.softplus(-logits).mean()
        return loss, {"loss_g": loss.detach()}

    def path_length_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared deviation of ``‖Jᵀ y‖`` from its running mean (Karras et al. 2020, equation 4), on half a batch."""
        half, labels = len(batch.real) // 2, batch.fake_labels
        if labels is not None:
            # Of images 0, 3, 4, 7, 8, 11, ...: the same ones however many processes share the batch, and not every
            # second one, which of two balanced classes would be a single class.
            index = torch.arange(half, device=labels.device)
            labels = labels[2 * index + index % 2]
        styles = self._styles(batch, half, labels)
        noise = batch.draws.normal(half, self.generator.noise_length)
        size = self.generator.size
        direction = batch.draws.normal(half, 1, size, size) / size
        lengths = self._path_lengths(styles, noise, direction)
        self.path_length_mean.lerp_(distributed.mean(lengths.detach().mean()), 0.01)
        penalty = (lengths - self.path_length_mean).square().mean()
        weight = self.recipe.path_length_weight * self.recipe.path_length_interval
        return penalty * weight, {"path_length": lengths.detach().mean()}

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Logistic loss ``softplus(D(G(z))) + softplus(-D(x))``, regularised."""
        with torch.no_grad():
            images, _ = self._generate_mixed(batch)
        # In one pass; groups of the minibatch standard deviation never hold both kinds.
        both = torch.cat([self._augmented(x, batch) for x in (images, batch.real)])
        fake, real = self.discriminate(both, batch.both_labels).chunk(2)
        loss = F.softplus(fake).mean() + F.softplus(-real).mean()
        return self._regularised(loss, real, fake, **(self.ada.update(real.detach()) if self.ada else {}))

    def r1_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """R1 penalty ``γ/2 · E‖∇D(x)‖²`` on real images (Mescheder et al. 2018), in full precision."""
        real = batch.real.requires_grad_()
        augmented = self._augmented(real, batch)
        slope = self._image_gradient(augmented.detach(), batch.real_labels)
        (gradient,) = torch.autograd.grad(augmented, real, slope, create_graph=True)
        penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
        return penalty * (self.r1_weight / 2 * self.recipe.r1_interval), {"r1": penalty.detach()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a resumed run needs besides the networks."""
        of_ada = self.ada.state_dict() if self.ada else {}
        return {"path_length_mean": self.path_length_mean} | of_ada | super().state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.path_length_mean.copy_(state["path_length_mean"])
        if self.ada:
            self.ada.load_state_dict(state)
        super().load_state_dict(state)

    def _augmented(self, images: Tensor, batch: Batch) -> Tensor:
        policy = self.recipe.ada_policy
        if policy is None or self.ada is None:
            return self.diffaugmented(images, batch)
        return ada_augment(images, self.ada.p, policy, batch.draws)

    def _from_styles(self, styles: Tensor, noise: Tensor) -> Tensor:
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
        gradient: Tensor = torch.func.grad(lambda images: self.discriminator(images, labels).sum())(images)
        return gradient

    def _styles(self, batch: Batch, n: int, labels: Tensor | None) -> Tensor:
        """Return styles ``[N, n_layers, w_dim]``; a share of the images changes style at a random layer."""
        draws, layers = batch.draws, self.generator.n_layers
        first, second = (self.generator.styles(draws.normal(n, self.generator.z_dim), labels) for _ in range(2))
        crossover = draws.integers(1, layers, n, 1)
        crossover = torch.where(draws.uniform(n, 1) < self.recipe.style_mixing, crossover, layers)
        early = torch.arange(layers, device=crossover.device) < crossover
        return torch.where(early[:, :, None], first[:, None], second[:, None])

    def _generate_mixed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return generated images and their styles."""
        n = len(batch.real)
        styles = self._styles(batch, n, batch.fake_labels)
        noise = batch.draws.normal(n, self.generator.noise_length)
        return self._from_styles(styles, noise), styles


class StyleGAN2Recipe(NetworkSettings):
    """StyleGAN2 (Karras 2020), with ADA (Karras 2020b) or DiffAugment (Zhao 2020) where a policy is given.

    Defaults are those that the ``auto`` configuration of the authors of Karras 2020b has for 256 px on one GPU, with
    half of their feature maps below 512 px; for smaller images it has other batches, averages and γ.
    """

    papers: ClassVar[dict[str, str]] = {
        "Karras 2019": "Karras, Laine, Aila: A Style-Based Generator Architecture for Generative Adversarial Networks. "
        "CVPR 2019",
        "Karras 2020": "Karras, Laine, Aittala, Hellsten, Lehtinen, Aila: Analyzing and Improving the Image Quality of "
        "StyleGAN. CVPR 2020",
    }

    generator_class = Generator
    discriminator_class = Discriminator
    objective_class = StyleGAN2Objective

    family: Literal["stylegan2"] = "stylegan2"
    ema_halflife_kimg: float = setting(5.0, "Karras 2020b, authors' `auto`: batch · 10 / 32", gt=0)
    ema_rampup: float = setting(0.05, "Karras 2020b, authors' `auto`", gt=0)
    learning_rate: float = setting(0.0025, "Karras 2020b, below 1024 px", gt=0)
    adam_betas: tuple[Decay, Decay] = setting((0.0, 0.99), "Karras 2019")
    r1_gamma: float | None = setting(
        None, "Karras 2020b, authors' `auto`: 0.0002 · size² / batch", "weight γ of the R1 penalty", ge=0
    )
    r1_gamma_256: float | None = setting(
        None,
        "Zhao 2020, few-shot runs: 10, and that at 256 px alone; the square of the size is from Karras 2020b",
        "γ at 256 px, from which that of another size follows by its square; `r1_gamma` goes before",
        before=None,
        ge=0,
    )
    r1_interval: int = setting(16, "Karras 2020, lazy regularisation", "steps from one R1 penalty to the next", ge=1)
    path_length_weight: float = setting(
        2.0, "Karras 2020, authors' default", "weight of path-length regularisation; 0: none", ge=0
    )
    path_length_interval: int = setting(
        4, "Karras 2020, authors' default; the paper has 8", "steps from one such penalty to the next", ge=1
    )
    style_mixing: float = setting(0.9, "Karras 2019", "share of images that are made of two styles", ge=0, le=1)
    diffaugment: DiffAugmentPolicy = setting(
        (),
        "Zhao 2020: colour, translation, cutout; of colour, one channel has brightness and contrast",
        "operations of DiffAugment on all images that the discriminator sees",
    )
    cutout_ratio: float = setting(0.5, "Zhao 2020, authors' code", CUTOUT_RATIO_MEANING, before=0.5, gt=0, le=1)

    ada_policy: AdaPolicy | None = setting(
        None,
        "Karras 2020b, appendix B, without what a B-mode image cannot undergo",
        "transforms of adaptive discriminator augmentation (ADA); it takes the place of `diffaugment`",
    )
    ada_target: float = setting(
        0.6, "Karras 2020b, section 3", "wanted r_t, mean sign of the discriminator on real images", gt=-1, lt=1
    )
    ada_interval: int = setting(4, "Karras 2020b, section 3", "steps from one adjustment of p to the next", ge=1)
    ada_kimg: float | None = setting(
        None,
        "Karras 2020b: 500; ours: a quarter of the run where that is less",
        "thousands of real images in which p can rise from 0 to 1",
        gt=0,
    )

    def resolved(self, kimg: float) -> Self:
        """Return the recipe with `ada_kimg` written out for a run of `kimg`."""
        if self.ada_policy is None or self.ada_kimg is not None:
            return self
        return self.model_copy(update={"ada_kimg": scaled_ada_kimg(kimg)})

    def r1_gamma_at(self, size: int) -> float:
        """Return γ for images of `size` pixels: `r1_gamma`, by `r1_gamma_256`, or by the heuristic of Karras 2020b."""
        if self.r1_gamma is not None:
            return self.r1_gamma
        return 0.0002 * size**2 / self.batch if self.r1_gamma_256 is None else self.r1_gamma_256 * (size / 256) ** 2

    @property
    def process_batch_multiple(self) -> int:
        """Whole groups of the minibatch standard deviation, and two pairs of labels for path-length regularisation."""
        return math.lcm(self.group_size, 4)

    def build_optimizers(self, generator: GeneratorNetwork, discriminator: nn.Module) -> tuple[Optimizer, Optimizer]:
        """Return one Adam per network, corrected for lazy regularisation (Karras 2020, appendix B)."""
        return (
            self._adam(generator, 1.0, self.path_length_interval if self.path_length_weight else None),
            self._adam(
                discriminator, self.discriminator_rate, self.r1_interval if self.r1_gamma_at(generator.size) else None
            ),
        )

    def _adam(self, network: nn.Module, factor: float, interval: int | None) -> Optimizer:
        share = interval / (interval + 1) if interval else 1.0
        rate = self.learning_rate * factor * share
        return adam(network, rate, (self.adam_betas[0] ** share, self.adam_betas[1] ** share))


# Of the few-shot runs of Zhao 2020.
FEW_SHOT: dict[str, Any] = {
    "path_length_weight": 0.0,
    "r1_gamma_256": 10.0,
    "learning_rate": 0.002,
    "ema_halflife_kimg": 10.0,
}

register_gan(StyleGAN2Recipe(name="stylegan2"))
register_gan(StyleGAN2Recipe(name="stylegan2-ada", ada_policy=AdaPolicy()))
register_gan(StyleGAN2Recipe(name="stylegan2-fewshot", **FEW_SHOT))
register_gan(StyleGAN2Recipe(name="stylegan2-diffaug", diffaugment=ALL_OPERATIONS, **FEW_SHOT))
register_gan(
    StyleGAN2Recipe(name="stylegan2-diffaug+phantom", diffaugment=ALL_OPERATIONS, pretrain_kimg=300.0, **FEW_SHOT)
)
