"""Named recipes: everything that defines a generator family and its training, as frozen, validated values.

Adding a family is a new file with its networks, objective and recipe, and a registered recipe here:
docs/how-to/add-a-generator.md.
Every setting says what it means and where its default is from; `make reference` writes them to
docs/reference/recipes.md.
"""

import math
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import Optimizer

from sonosynth.core.errors import RecipeError
from sonosynth.core.text import did_you_mean
from sonosynth.gan.augment.ada import AdaPolicy, AdaptiveAugmentation
from sonosynth.gan.augment.controller import AdaController, scaled_ada_kimg
from sonosynth.gan.augment.diffaugment import Augmentation, DiffAugment
from sonosynth.gan.base import Objective
from sonosynth.gan.fastgan import networks as fastgan
from sonosynth.gan.losses.perceptual import perceptual_distance
from sonosynth.gan.projected import networks as projected
from sonosynth.gan.recipe import Decay, DiffAugmentPolicy, Recipe, adam, setting
from sonosynth.gan.stylegan2 import networks as stylegan2
from sonosynth.gan.stylegan2.losses import StyleGAN2Objective

DIFFAUGMENT = ("brightness", "contrast", "translation", "cutout")


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

    def r1_weight(self, size: int) -> float:
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
            minibatch_group=self._group,
        )

    def build_objective(
        self, generator: stylegan2.Generator, discriminator: stylegan2.Discriminator
    ) -> StyleGAN2Objective:
        """Return the losses of both networks."""
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
        """Return one Adam per network, corrected for lazy regularisation (Karras 2020, appendix B)."""
        return (
            self._adam(generator, self.path_length_interval if self.path_length_weight else None),
            self._adam(discriminator, self.r1_interval if self.r1_weight(generator.size) else None),
        )

    def _adam(self, network: nn.Module, interval: int | None) -> Optimizer:
        share = interval / (interval + 1) if interval else 1.0
        return adam(network, self.learning_rate * share, (self.adam_betas[0] ** share, self.adam_betas[1] ** share))


class FastGANRecipe(Recipe):
    """FastGAN (Liu 2021) with DiffAugment."""

    papers: ClassVar[dict[str, str]] = {
        "Liu 2021": "Liu, Zhu, Song, Elgammal: Towards Faster and Stabilized GAN Training for High-fidelity Few-shot "
        "Image Synthesis. ICLR 2021",
    }

    family: Literal["fastgan"] = "fastgan"
    kimg: float = setting(400.0, "Liu 2021, authors' default: 50,000 steps of 8 images", gt=0)
    batch: int = setting(8, "Liu 2021", ge=2, multiple_of=2)
    mirror: bool = setting(True, "Liu 2021, authors' default")
    ema_halflife_kimg: float = setting(5.5, "Liu 2021, authors' default: a decay of 0.999 a step of 8 images", gt=0)
    ema_rampup: float = setting(0.05, "ours: as stylegan2", gt=0)

    z_dim: int = setting(256, "Liu 2021, authors' default", "length of the latent z", ge=1)
    ngf: int = setting(64, "Liu 2021, authors' default", "width of the generator", ge=4, multiple_of=4)
    ndf: int = setting(64, "Liu 2021, authors' default", "width of the discriminator", ge=4, multiple_of=4)
    learning_rate: float = setting(2e-4, "Liu 2021", gt=0)
    adam_betas: tuple[Decay, Decay] = setting((0.5, 0.999), "Liu 2021, authors' default")
    perceptual: Literal["efficientnet-lite0", "l1"] = setting(
        "efficientnet-lite0",
        "ours: in place of LPIPS with VGG of Liu 2021",
        "distance of the discriminator's reconstructions; `l1` needs no network",
    )
    reconstruction_weight: float = setting(
        8.0, "Liu 2021, authors' default: sums over batches of 8", "weight of the reconstructions", ge=0
    )
    diffaugment: DiffAugmentPolicy = setting(
        ("brightness", "contrast", "translation"),
        "Liu 2021, authors' default: colour and translation",
        "operations of DiffAugment on all images that the discriminator sees",
    )

    def build_generator(self, size: int, n_classes: int) -> fastgan.FastGANGenerator:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return fastgan.FastGANGenerator(size, n_classes, z_dim=self.z_dim, ngf=self.ngf)

    def build_discriminator(self, size: int, n_classes: int) -> fastgan.FastGANDiscriminator:
        """Return a freshly initialised discriminator."""
        return fastgan.FastGANDiscriminator(size, n_classes, ndf=self.ndf)

    def build_objective(
        self, generator: fastgan.FastGANGenerator, discriminator: fastgan.FastGANDiscriminator
    ) -> Objective:
        """Return the losses of both networks."""
        device = next(generator.parameters()).device
        return fastgan.FastGANObjective(
            generator,
            discriminator,
            augmentation=self.diffaugment,
            perceptual=perceptual_distance(self.perceptual, device),
            reconstruction_weight=self.reconstruction_weight,
            lecam=self._lecam(generator),
        )


class ProjectedRecipe(Recipe):
    """Projected GAN (Sauer 2021) with the FastGAN-lite generator, EfficientNet-Lite0 and DiffAugment."""

    papers: ClassVar[dict[str, str]] = {
        "Sauer 2021": "Sauer, Chitta, Müller, Geiger: Projected GANs Converge Faster. NeurIPS 2021",
    }

    family: Literal["projected"] = "projected"
    batch: int = setting(16, "ours: as stylegan2; Sauer 2021 has 64", ge=2, multiple_of=2)
    mirror: bool = setting(False, "Sauer 2021, authors' default")
    ema_halflife_kimg: float = setting(5.0, "Sauer 2021, authors' default: batch · 10 / 32", gt=0)
    ema_rampup: float = setting(0.05, "Sauer 2021, authors' default", gt=0)

    z_dim: int = setting(256, "Sauer 2021, authors' default", "length of the latent z", ge=1)
    ngf: int = setting(128, "Sauer 2021, authors' default", "width of the generator", ge=4, multiple_of=4)
    lite: bool = setting(
        True, "Sauer 2021, authors' `fastgan_lite`", "the generator with one convolution a block instead of two"
    )
    ndf: int = setting(64, "Sauer 2021, authors' default", "width of the four discriminators", ge=4)
    feature_px: int = setting(
        224,
        "Sauer 2021, authors' default",
        "side of the images that the frozen network sees; 128 is twice as fast, and farther from real images even "
        "after as much time (results/projected-features)",
        ge=128,
        multiple_of=32,
    )
    learning_rate: float = setting(2e-4, "Sauer 2021", gt=0)
    adam_betas: tuple[Decay, Decay] = setting((0.0, 0.99), "Sauer 2021, authors' default")
    diffaugment: DiffAugmentPolicy = setting(
        DIFFAUGMENT,
        "Sauer 2021: colour, translation, cutout (Zhao 2020)",
        "operations of DiffAugment on all images that the discriminator sees",
    )

    def build_generator(self, size: int, n_classes: int) -> projected.ProjectedGenerator:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return projected.ProjectedGenerator(size, n_classes, z_dim=self.z_dim, ngf=self.ngf, lite=self.lite)

    def build_discriminator(self, size: int, n_classes: int) -> projected.ProjectedDiscriminator:
        """Return a freshly initialised discriminator."""
        return projected.ProjectedDiscriminator(size, n_classes, ndf=self.ndf, feature_px=self.feature_px)

    def build_objective(
        self, generator: projected.ProjectedGenerator, discriminator: projected.ProjectedDiscriminator
    ) -> Objective:
        """Return the losses of both networks."""
        return projected.ProjectedObjective(
            generator, discriminator, augmentation=self.diffaugment, lecam=self._lecam(generator)
        )


RECIPES: dict[str, Recipe] = {}
FAMILIES: dict[str, type[Recipe]] = {}


def register_gan(recipe: Recipe) -> None:
    """Make `recipe` known by its name to every command and study file, and runs of its family readable.

    Raises:
        RecipeError: there is another recipe of that name, or another class of that family.
    """
    if recipe.name in RECIPES or FAMILIES.get(recipe.family, type(recipe)) is not type(recipe):
        what = f"a GAN '{recipe.name}'" if recipe.name in RECIPES else f"another family '{recipe.family}'"
        raise RecipeError(f"{what} is registered already; give the new one another name")
    RECIPES[recipe.name] = recipe
    FAMILIES[recipe.family] = type(recipe)


register_gan(StyleGAN2Recipe(name="stylegan2"))
register_gan(StyleGAN2Recipe(name="stylegan2-ada", ada_policy=AdaPolicy()))
register_gan(StyleGAN2Recipe(name="stylegan2-diffaug", diffaugment=DIFFAUGMENT))
register_gan(StyleGAN2Recipe(name="stylegan2-diffaug+phantom", diffaugment=DIFFAUGMENT, pretrain_kimg=300.0))
register_gan(FastGANRecipe(name="fastgan"))
register_gan(FastGANRecipe(name="fastgan+phantom", pretrain_kimg=300.0))
register_gan(ProjectedRecipe(name="projected"))


def make_recipe(base: str, /, **settings: Any) -> Recipe:
    """Return the named recipe `base` with some settings changed.

    Raises:
        RecipeError: an unknown recipe or setting (with the nearest known one), or a value out of range.
    """
    if base not in RECIPES:
        raise RecipeError(f"no GAN '{base}'{did_you_mean(base, list(RECIPES))}; known: {', '.join(RECIPES)}")
    known = [name for name in type(RECIPES[base]).model_fields if name not in ("name", "family")]
    for name in settings:
        if name not in (*known, "name"):
            raise RecipeError(
                f"GAN '{base}' has no setting '{name}'{did_you_mean(name, known)}; known: " + ", ".join(known)
            )
    return recipe_from_dict(RECIPES[base].model_dump() | settings)


def recipe_from_dict(fields: dict[str, Any]) -> Recipe:
    """Return the recipe with these fields, as `Recipe.model_dump` gave them. Raises RecipeError."""
    try:
        return FAMILIES[fields["family"]].model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecipeError(
            f"GAN '{fields.get('name')}', setting '{where}' = {first['input']!r}: "
            f"{first['msg'].removeprefix('Value error, ')}"
        ) from error
