"""Named recipes: everything that defines a generator family and its training, as frozen, validated values.

Adding a family is a new file with its networks and objective, a subclass of `Recipe` here and an entry in `RECIPES`.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import nn
from torch.optim import Optimizer

from sonosynth.errors import RecipeError, nearest
from sonosynth.gan import fastgan, projected, stylegan2
from sonosynth.gan.ada import AdaPolicy, AdaptiveAugmentation
from sonosynth.gan.augment import OPERATIONS, Augmentation, DiffAugment
from sonosynth.gan.controller import AdaController, scaled_ada_kimg
from sonosynth.gan.game import GeneratorNetwork, Objective
from sonosynth.gan.lecam import LeCam
from sonosynth.gan.losses import StyleGAN2Objective

DIFFAUGMENT = ("brightness", "contrast", "translation", "cutout")


class Recipe(BaseModel, ABC):
    """Settings that every family of generators has, and what a family builds from them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str
    mode: Literal["per_class", "conditional"] = "per_class"  # as far as known, the mode of Maack et al. 2022
    kimg: float = Field(300.0, gt=0)  # thousands of real images shown; few-shot runs of Zhao et al. 2020
    batch: int = Field(16, ge=2, multiple_of=2)
    mirror: bool = False  # horizontal flips of the real images
    balanced_classes: bool = False  # every class as often, instead of in the proportions of the training images
    ema_halflife_kimg: float = Field(gt=0)
    ema_rampup: float = Field(gt=0)  # the half-life is at most this share of the images shown so far
    learning_rate: float = Field(gt=0)
    adam_betas: tuple[float, float]
    # LeCam regularisation (Tseng et al. 2021), off at 0. Its authors' scripts have 0.3 with the hinge losses of BigGAN
    # (CIFAR), but far less with the logistic losses of StyleGAN2: 1e-6 (CIFAR) and 3e-7 (FFHQ). Their decay is 0.99.
    lecam_weight: float = Field(0.0, ge=0)
    lecam_decay: float = Field(0.99, ge=0, lt=1)

    def resolved(self, kimg: float) -> Self:
        """Return the recipe with all that depends on the length of a run, `kimg`, written out."""
        return self

    @abstractmethod
    def build_generator(self, size: int, n_classes: int) -> GeneratorNetwork:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""

    @abstractmethod
    def build_discriminator(self, size: int, n_classes: int) -> nn.Module:
        """Return a freshly initialised discriminator."""

    @abstractmethod
    def build_objective(self, generator: Any, discriminator: Any) -> Objective:
        """Return the losses of the game between the two networks."""

    def build_optimizers(self, generator: Any, discriminator: Any) -> tuple[Optimizer, Optimizer]:
        """Return an optimiser for the generator and one for the discriminator: Adam, unless a family overrides it."""
        rate, betas = self.learning_rate, self.adam_betas
        return _adam(generator, rate, betas), _adam(discriminator, rate, betas)

    def _lecam(self, generator: nn.Module) -> LeCam:
        return LeCam(self.lecam_weight, self.lecam_decay, next(generator.parameters()).device)

    def parameter_counts(self, size: int, n_classes: int) -> tuple[int, int]:
        """Return the numbers of trained parameters of generator and discriminator."""
        with torch.device("meta"):
            players = self.build_generator(size, n_classes), self.build_discriminator(size, n_classes)
        return tuple(sum(p.numel() for p in player.parameters()) for player in players)  # type: ignore[return-value]


def _known_operations(policy: tuple[str, ...]) -> tuple[str, ...]:
    for name in policy:
        if name not in OPERATIONS:
            raise ValueError(f"unknown operation '{name}'{nearest(name, list(OPERATIONS))}")
    return policy


DiffAugmentPolicy = Annotated[tuple[str, ...], AfterValidator(_known_operations)]


class StyleGAN2Recipe(Recipe):
    """StyleGAN2 (Karras et al. 2020) with optional DiffAugment (Zhao et al. 2020).

    Defaults are those of the ``auto`` configuration of Karras et al. 2020b (Training Generative Adversarial Networks
    with Limited Data) for sizes below 512 px, at the batch it takes for 256 px on one GPU.
    """

    family: Literal["stylegan2"] = "stylegan2"
    ema_halflife_kimg: float = Field(5.0, gt=0)  # batch · 10 / 32
    ema_rampup: float = Field(0.05, gt=0)

    z_dim: int = Field(512, ge=1)
    w_dim: int = Field(512, ge=1)
    mapping_layers: int = Field(2, ge=1)
    channel_base: int = Field(16384, ge=512)  # feature maps times resolution
    channel_max: int = Field(512, ge=1)
    minibatch_group: int = Field(4, ge=1)

    learning_rate: float = Field(0.0025, gt=0)
    adam_betas: tuple[float, float] = (0.0, 0.99)
    r1_gamma: float | None = Field(None, ge=0)  # None: 0.0002 · size² / batch
    r1_interval: int = Field(16, ge=1)
    path_length_weight: float = Field(2.0, ge=0)
    path_length_interval: int = Field(4, ge=1)
    style_mixing: float = Field(0.9, ge=0, le=1)
    diffaugment: DiffAugmentPolicy = ()

    ada_policy: AdaPolicy | None = None
    ada_target: float = Field(0.6, gt=-1, lt=1)
    ada_interval: int = Field(4, ge=1)
    ada_kimg: float | None = Field(None, gt=0)  # None: 500, scaled down for short runs

    def resolved(self, kimg: float) -> Self:
        """Return the recipe with `ada_kimg` written out for a run of `kimg`."""
        if self.ada_policy is None or self.ada_kimg is not None:
            return self
        return self.model_copy(update={"ada_kimg": scaled_ada_kimg(kimg)})

    def r1_weight(self, size: int) -> float:
        """Return `r1_gamma`, or the heuristic of Karras et al. 2020b for images of `size` pixels."""
        return self.r1_gamma if self.r1_gamma is not None else 0.0002 * size**2 / self.batch

    def build_generator(self, size: int, n_classes: int) -> stylegan2.Generator:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return stylegan2.Generator(
            size,
            n_classes,
            z_dim=self.z_dim,
            w_dim=self.w_dim,
            mapping_layers=self.mapping_layers,
            channel_base=self.channel_base,
            channel_max=self.channel_max,
        )

    def build_discriminator(self, size: int, n_classes: int) -> stylegan2.Discriminator:
        """Return a freshly initialised discriminator."""
        return stylegan2.Discriminator(
            size,
            n_classes,
            w_dim=self.w_dim,
            mapping_layers=self.mapping_layers,
            channel_base=self.channel_base,
            channel_max=self.channel_max,
            # A divisor of the batch, so that a group never holds real and generated images.
            minibatch_group=next(g for g in range(self.minibatch_group, 0, -1) if self.batch % g == 0),
        )

    def build_objective(
        self, generator: stylegan2.Generator, discriminator: stylegan2.Discriminator
    ) -> StyleGAN2Objective:
        """Return the losses of the game between the two networks."""
        return StyleGAN2Objective(
            generator,
            discriminator,
            r1_weight=self.r1_weight(generator.size),
            r1_interval=self.r1_interval,
            path_length_weight=self.path_length_weight,
            path_length_interval=self.path_length_interval,
            style_mixing=self.style_mixing,
            augmentation=self._augmentation(generator.constant.device),
            lecam=self._lecam(generator),
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

    def build_optimizers(
        self, generator: stylegan2.Generator, discriminator: stylegan2.Discriminator
    ) -> tuple[Optimizer, Optimizer]:
        """Return one Adam a player, corrected for lazy regularisation (Karras et al. 2020, appendix B)."""
        return (
            self._adam(generator, self.path_length_interval if self.path_length_weight else None),
            self._adam(discriminator, self.r1_interval if self.r1_weight(generator.size) else None),
        )

    def _adam(self, network: nn.Module, interval: int | None) -> Optimizer:
        share = interval / (interval + 1) if interval else 1.0
        return _adam(network, self.learning_rate * share, (self.adam_betas[0] ** share, self.adam_betas[1] ** share))


class FastGANRecipe(Recipe):
    """FastGAN (Liu et al. 2021) with DiffAugment; defaults are those of the paper and of its authors' release."""

    family: Literal["fastgan"] = "fastgan"
    kimg: float = Field(400.0, gt=0)  # 50,000 steps of 8 images
    batch: int = Field(8, ge=2, multiple_of=2)
    ema_halflife_kimg: float = Field(5.5, gt=0)  # a decay of 0.999 a step of 8 images
    ema_rampup: float = Field(0.05, gt=0)  # not in the paper; as StyleGAN2

    z_dim: int = Field(256, ge=1)
    ngf: int = Field(64, ge=4, multiple_of=4)
    ndf: int = Field(64, ge=4, multiple_of=4)
    learning_rate: float = Field(2e-4, gt=0)
    adam_betas: tuple[float, float] = (0.5, 0.999)
    perceptual: Literal["efficientnet-lite0", "l1"] = "efficientnet-lite0"  # the paper: LPIPS with VGG
    reconstruction_weight: float = Field(8.0, ge=0)  # the authors sum over batches of 8
    diffaugment: DiffAugmentPolicy = ("brightness", "contrast", "translation")
    mirror: bool = True

    def build_generator(self, size: int, n_classes: int) -> fastgan.FastGANGenerator:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return fastgan.FastGANGenerator(size, n_classes, z_dim=self.z_dim, ngf=self.ngf)

    def build_discriminator(self, size: int, n_classes: int) -> fastgan.FastGANDiscriminator:
        """Return a freshly initialised discriminator."""
        return fastgan.FastGANDiscriminator(size, n_classes, ndf=self.ndf)

    def build_objective(
        self, generator: fastgan.FastGANGenerator, discriminator: fastgan.FastGANDiscriminator
    ) -> Objective:
        """Return the losses of the game between the two networks."""
        device = next(generator.parameters()).device
        return fastgan.FastGANObjective(
            generator,
            discriminator,
            augmentation=self.diffaugment,
            perceptual=fastgan.perceptual_distance(self.perceptual, device),
            reconstruction_weight=self.reconstruction_weight,
            lecam=self._lecam(generator),
        )


class ProjectedRecipe(Recipe):
    """Projected GAN (Sauer et al. 2021) with the FastGAN-lite generator, EfficientNet-Lite0 and DiffAugment."""

    family: Literal["projected"] = "projected"
    ema_halflife_kimg: float = Field(5.0, gt=0)  # batch · 10 / 32
    ema_rampup: float = Field(0.05, gt=0)

    z_dim: int = Field(256, ge=1)
    ngf: int = Field(128, ge=4, multiple_of=4)
    lite: bool = True
    ndf: int = Field(64, ge=4)
    feature_px: int = Field(224, ge=128, multiple_of=32)
    learning_rate: float = Field(2e-4, gt=0)
    adam_betas: tuple[float, float] = (0.0, 0.99)
    diffaugment: DiffAugmentPolicy = DIFFAUGMENT

    def build_generator(self, size: int, n_classes: int) -> projected.ProjectedGenerator:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return projected.ProjectedGenerator(size, n_classes, z_dim=self.z_dim, ngf=self.ngf, lite=self.lite)

    def build_discriminator(self, size: int, n_classes: int) -> projected.ProjectedDiscriminator:
        """Return a freshly initialised discriminator."""
        return projected.ProjectedDiscriminator(size, n_classes, ndf=self.ndf, feature_px=self.feature_px)

    def build_objective(
        self, generator: projected.ProjectedGenerator, discriminator: projected.ProjectedDiscriminator
    ) -> Objective:
        """Return the losses of the game between the two networks."""
        return projected.ProjectedObjective(
            generator, discriminator, augmentation=self.diffaugment, lecam=self._lecam(generator)
        )


def _adam(network: nn.Module, learning_rate: float, betas: tuple[float, float]) -> Optimizer:
    trained = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.Adam(trained, lr=learning_rate, betas=betas, eps=1e-8, fused=True)


FAMILIES: dict[str, type[Recipe]] = {
    "stylegan2": StyleGAN2Recipe,
    "fastgan": FastGANRecipe,
    "projected": ProjectedRecipe,
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        StyleGAN2Recipe(name="stylegan2"),
        StyleGAN2Recipe(name="stylegan2-ada", ada_policy=AdaPolicy()),
        StyleGAN2Recipe(name="stylegan2-diffaug", diffaugment=DIFFAUGMENT),
        FastGANRecipe(name="fastgan"),
        ProjectedRecipe(name="projected"),
    )
}


def make_recipe(base: str, **settings: Any) -> Recipe:
    """Return the named recipe `base` with some settings changed.

    Raises:
        RecipeError: an unknown recipe or setting (with the nearest known one), or a value out of range.
    """
    if base not in RECIPES:
        raise RecipeError(f"no GAN '{base}'{nearest(base, list(RECIPES))}; known: {', '.join(RECIPES)}")
    known = [name for name in type(RECIPES[base]).model_fields if name not in ("name", "family")]
    for name in settings:
        if name not in (*known, "name"):
            raise RecipeError(f"GAN '{base}' has no setting '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return recipe_from_dict(RECIPES[base].model_dump() | settings)


def recipe_from_dict(fields: dict[str, Any]) -> Recipe:
    """Return the recipe with these fields, as `Recipe.model_dump` gave them. Raises RecipeError."""
    try:
        return FAMILIES[fields["family"]].model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecipeError(
            f"GAN '{fields.get('name')}', setting '{where}' = {first['input']!r}: {first['msg']}"
        ) from error
