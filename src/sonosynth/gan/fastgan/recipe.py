"""The settings of FastGAN and its registered recipes."""

from typing import ClassVar, Literal

from sonosynth.gan.fastgan.losses import FastGANObjective
from sonosynth.gan.fastgan.networks import FastGANDiscriminator, FastGANGenerator
from sonosynth.gan.fastgan.perceptual import perceptual_distance
from sonosynth.gan.recipe import Decay, DiffAugmentPolicy, Recipe, setting
from sonosynth.gan.registry import register_gan


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

    def build_generator(self, size: int, n_classes: int) -> FastGANGenerator:
        """Return a freshly initialised generator; `n_classes` is 0 for an unconditional one."""
        return FastGANGenerator(size, n_classes, z_dim=self.z_dim, ngf=self.ngf)

    def build_discriminator(self, size: int, n_classes: int) -> FastGANDiscriminator:
        """Return a freshly initialised discriminator."""
        return FastGANDiscriminator(size, n_classes, ndf=self.ndf)

    def build_objective(self, generator: FastGANGenerator, discriminator: FastGANDiscriminator) -> FastGANObjective:
        """Return the losses of both networks."""
        device = next(generator.parameters()).device
        return FastGANObjective(
            generator,
            discriminator,
            augmentation=self.diffaugment,
            perceptual=perceptual_distance(self.perceptual, device),
            reconstruction_weight=self.reconstruction_weight,
            lecam=self.build_lecam(generator),
        )


register_gan(FastGANRecipe(name="fastgan"))
register_gan(FastGANRecipe(name="fastgan+phantom", pretrain_kimg=300.0))
