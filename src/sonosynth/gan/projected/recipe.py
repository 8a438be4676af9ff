"""The settings of Projected GAN and its registered recipe."""

from typing import ClassVar, Literal

from sonosynth.gan.augment.diffaugment import ALL_OPERATIONS
from sonosynth.gan.projected.losses import ProjectedObjective
from sonosynth.gan.projected.networks import ProjectedDiscriminator, ProjectedGenerator
from sonosynth.gan.recipe import Decay, DiffAugmentPolicy, Recipe, setting
from sonosynth.gan.registry import register_gan


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
        "after as much time (results/2026-11-projected-features)",
        ge=128,
        multiple_of=32,
    )
    learning_rate: float = setting(2e-4, "Sauer 2021", gt=0)
    adam_betas: tuple[Decay, Decay] = setting((0.0, 0.99), "Sauer 2021, authors' default")
    diffaugment: DiffAugmentPolicy = setting(
        ALL_OPERATIONS,
        "Sauer 2021: colour, translation, cutout (Zhao 2020)",
        "operations of DiffAugment on all images that the discriminator sees",
    )

    def build_generator(self, size: int, n_classes: int) -> ProjectedGenerator:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return ProjectedGenerator(size, n_classes, z_dim=self.z_dim, ngf=self.ngf, lite=self.lite)

    def build_discriminator(self, size: int, n_classes: int) -> ProjectedDiscriminator:
        """Return a freshly initialised discriminator."""
        return ProjectedDiscriminator(size, n_classes, ndf=self.ndf, feature_px=self.feature_px)

    def build_objective(
        self, generator: ProjectedGenerator, discriminator: ProjectedDiscriminator
    ) -> ProjectedObjective:
        """Return the losses of both networks."""
        return ProjectedObjective(
            generator, discriminator, augmentation=self.diffaugment, lecam=self.build_lecam(generator)
        )


register_gan(ProjectedRecipe(name="projected"))
