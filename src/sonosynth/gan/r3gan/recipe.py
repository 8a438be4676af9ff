"""The settings of R3GAN and its registered recipe."""

import math
from typing import ClassVar, Literal

from sonosynth.gan.augment.diffaugment import ALL_OPERATIONS
from sonosynth.gan.r3gan.losses import R3GANObjective
from sonosynth.gan.r3gan.networks import Discriminator, Generator
from sonosynth.gan.recipe import Decay, DiffAugmentPolicy, Recipe, setting
from sonosynth.gan.registry import register_gan


class R3GANRecipe(Recipe):
    """R3GAN (Huang 2024) with DiffAugment. Optimiser and γ are those with which the authors' schedules begin.

    The authors change them over 20,000 kimg; within a few hundred they stay where they begin.
    """

    papers: ClassVar[dict[str, str]] = {
        "Huang 2024": "Huang, Gokaslan, Kuleshov, Tompkin: The GAN is dead; long live the GAN! A Modern GAN Baseline. "
        "NeurIPS 2024",
    }

    family: Literal["r3gan"] = "r3gan"
    batch: int = setting(16, "ours: as stylegan2; Huang 2024 has 256", ge=2, multiple_of=2)
    ema_halflife_kimg: float = setting(
        5.0, "ours: as stylegan2; Huang 2024, authors' code: from 0 to 500 over 20,000 kimg", gt=0
    )
    ema_rampup: float = setting(0.05, "ours: as stylegan2", gt=0)

    z_dim: int = setting(64, "Huang 2024, authors' default", "length of the latent z", ge=1)
    channel_base: int = setting(
        24576, "Huang 2024, authors' FFHQ: 768 to 32 px, 384, 192 and 96 after", "feature maps times resolution", ge=512
    )
    channel_max: int = setting(768, "Huang 2024, authors' FFHQ", "most feature maps at any resolution", ge=1)
    group_width: int = setting(
        16, "Huang 2024, section 3.4, authors' default", "feature maps per group of a grouped convolution", ge=1
    )
    blocks: int = setting(2, "Huang 2024, authors' default", "residual blocks per resolution", ge=1)

    learning_rate: float = setting(2e-4, "Huang 2024, authors' default; falls to 5e-5", gt=0)
    adam_betas: tuple[Decay, Decay] = setting((0.0, 0.9), "Huang 2024, authors' default; the second rises to 0.99")
    gamma: float | None = setting(
        None,
        "Huang 2024, authors' FFHQ: 2 at 64 px, 150 at 256 px, each falling to a tenth; ours: the power law of these",
        "weight γ of the penalties R1 and R2",
        ge=0,
    )
    diffaugment: DiffAugmentPolicy = setting(
        ALL_OPERATIONS,
        "ours: for small data sets, as stylegan2-diffaug; Huang 2024, authors' code: transforms of ADA, at a "
        "probability that rises from 0 to 0.3 over 20,000 kimg",
        "operations of DiffAugment on all images that the discriminator sees",
    )

    def gamma_at(self, size: int) -> float:
        """Return `gamma`, or the default for images of `size` pixels."""
        return self.gamma if self.gamma is not None else 2.0 * (size / 64) ** math.log(75, 4)

    def build_generator(self, size: int, n_classes: int) -> Generator:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return Generator(size, n_classes, z_dim=self.z_dim, **self._shape())

    def build_discriminator(self, size: int, n_classes: int) -> Discriminator:
        """Return a freshly initialised discriminator."""
        return Discriminator(size, n_classes, **self._shape())

    def _shape(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("channel_base", "channel_max", "group_width", "blocks")}

    def build_objective(self, generator: Generator, discriminator: Discriminator) -> R3GANObjective:
        """Return the losses of both networks."""
        return R3GANObjective(
            generator,
            discriminator,
            gamma=self.gamma_at(generator.size),
            augmentation=self.diffaugment,
            lecam=self.build_lecam(generator),
        )


register_gan(R3GANRecipe(name="r3gan"))
