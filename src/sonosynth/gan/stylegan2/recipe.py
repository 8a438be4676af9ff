"""The settings of StyleGAN2 and its registered recipes."""

import math
from typing import ClassVar, Literal, Self

import torch
from torch import nn
from torch.optim import Optimizer

from sonosynth.gan.augment.ada import AdaController, AdaPolicy, AdaptiveAugmentation, scaled_ada_kimg
from sonosynth.gan.augment.diffaugment import ALL_OPERATIONS, Augmentation, DiffAugment
from sonosynth.gan.recipe import Decay, DiffAugmentPolicy, Recipe, adam, setting
from sonosynth.gan.registry import register_gan
from sonosynth.gan.stylegan2.losses import StyleGAN2Objective
from sonosynth.gan.stylegan2.networks import Discriminator, Generator


class StyleGAN2Recipe(Recipe):
    """StyleGAN2 (Karras 2020), with ADA (Karras 2020b) or DiffAugment (Zhao 2020) where a policy is given.

    Defaults are those of the ``auto`` configuration of the authors of Karras 2020b for sizes below 512 px.
    """

    papers: ClassVar[dict[str, str]] = {
        "Karras 2019": "Karras, Laine, Aila: A Style-Based Generator Architecture for Generative Adversarial Networks. "
        "CVPR 2019",
        "Karras 2020": "Karras, Laine, Aittala, Hellsten, Lehtinen, Aila: Analyzing and Improving the Image Quality of "
        "StyleGAN. CVPR 2020",
    }

    family: Literal["stylegan2"] = "stylegan2"
    ema_halflife_kimg: float = setting(5.0, "Karras 2020b, authors' `auto`: batch · 10 / 32", gt=0)
    ema_rampup: float = setting(0.05, "Karras 2020b, authors' `auto`", gt=0)

    z_dim: int = setting(512, "Karras 2019", "length of the latent z", ge=1)
    w_dim: int = setting(512, "Karras 2019", "length of the style w", ge=1)
    mapping_layers: int = setting(
        2, "Karras 2020b, authors' `auto`; Karras 2020 has 8", "fully connected layers from z to w", ge=1
    )
    channel_base: int = setting(
        16384, "Karras 2020b: half of Karras 2020 below 512 px", "feature maps times resolution", ge=512
    )
    channel_max: int = setting(512, "Karras 2020", "most feature maps at any resolution", ge=1)
    minibatch_group: int = setting(
        4, "Karras 2020", "images a minibatch standard deviation; at most this divisor of the batch", ge=1
    )

    learning_rate: float = setting(0.0025, "Karras 2020b, below 1024 px", gt=0)
    adam_betas: tuple[Decay, Decay] = setting((0.0, 0.99), "Karras 2019")
    r1_gamma: float | None = setting(
        None, "Karras 2020b, authors' `auto`: 0.0002 · size² / batch", "weight γ of the R1 penalty", ge=0
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
        """Return `r1_gamma`, or the heuristic of Karras 2020b for images of `size` pixels."""
        return self.r1_gamma if self.r1_gamma is not None else 0.0002 * size**2 / self.batch

    @property
    def process_batch_multiple(self) -> int:
        """Whole groups of the minibatch standard deviation, and two pairs of labels for path-length regularisation."""
        return math.lcm(self._group, 4)

    @property
    def _group(self) -> int:
        """A divisor of the batch, so that a group never holds real and generated images."""
        return next(g for g in range(self.minibatch_group, 0, -1) if self.batch % g == 0)

    def build_generator(self, size: int, n_classes: int) -> Generator:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return Generator(
            size,
            n_classes,
            z_dim=self.z_dim,
            w_dim=self.w_dim,
            mapping_layers=self.mapping_layers,
            channel_base=self.channel_base,
            channel_max=self.channel_max,
        )

    def build_discriminator(self, size: int, n_classes: int) -> Discriminator:
        """Return a freshly initialised discriminator."""
        return Discriminator(
            size,
            n_classes,
            w_dim=self.w_dim,
            mapping_layers=self.mapping_layers,
            channel_base=self.channel_base,
            channel_max=self.channel_max,
            minibatch_group=self._group,
        )

    def build_objective(self, generator: Generator, discriminator: Discriminator) -> StyleGAN2Objective:
        """Return the losses of both networks."""
        return StyleGAN2Objective(
            generator,
            discriminator,
            r1_weight=self.r1_gamma_at(generator.size),
            r1_interval=self.r1_interval,
            path_length_weight=self.path_length_weight,
            path_length_interval=self.path_length_interval,
            style_mixing=self.style_mixing,
            augmentation=self._augmentation(generator.constant.device),
            lecam=self.build_lecam(generator),
        )

    def _augmentation(self, device: torch.device) -> Augmentation:
        if self.ada_policy is None:
            return DiffAugment(self.diffaugment)
        assert self.ada_kimg is not None, "resolve the recipe first"
        controller = AdaController(
            self.batch,
            ada_kimg=self.ada_kimg,
            target=self.ada_target,
            interval_steps=self.ada_interval,
            device=device,
        )
        return AdaptiveAugmentation(self.ada_policy, controller)

    def build_optimizers(self, generator: Generator, discriminator: Discriminator) -> tuple[Optimizer, Optimizer]:
        """Return one Adam per network, corrected for lazy regularisation (Karras 2020, appendix B)."""
        return (
            self._adam(generator, self.path_length_interval if self.path_length_weight else None),
            self._adam(discriminator, self.r1_interval if self.r1_gamma_at(generator.size) else None),
        )

    def _adam(self, network: nn.Module, interval: int | None) -> Optimizer:
        share = interval / (interval + 1) if interval else 1.0
        return adam(network, self.learning_rate * share, (self.adam_betas[0] ** share, self.adam_betas[1] ** share))


register_gan(StyleGAN2Recipe(name="stylegan2"))
register_gan(StyleGAN2Recipe(name="stylegan2-ada", ada_policy=AdaPolicy()))
register_gan(StyleGAN2Recipe(name="stylegan2-diffaug", diffaugment=ALL_OPERATIONS))
register_gan(StyleGAN2Recipe(name="stylegan2-diffaug+phantom", diffaugment=ALL_OPERATIONS, pretrain_kimg=300.0))
