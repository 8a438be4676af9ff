"""Projected GAN for one image channel (Sauer et al., Projected GANs Converge Faster, NeurIPS 2021).

The discriminator sees images only through a frozen ImageNet network, whose maps at four scales are mixed by fixed
random convolutions across channels (CCM) and scales (CSM); one small discriminator judges each scale. The generator is
that of FastGAN (Liu et al., Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image Synthesis,
ICLR 2021) as Projected GAN uses it. Images are ``[N, 1, size, size]`` in [-1, 1].
"""

import math
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.features.efficientnet import load_backbone
from sonosynth.gan.networks import blocks
from sonosynth.gan.networks.layers import BatchNorm2d, LeakyReLU, full_precision, leaky_relu
from sonosynth.gan.recipe import Recipe, setting

CLASS_DIM = 64  # length of the class vector on which a conditional discriminator projects
EMBEDDING_DIM = 128


class NetworkSettings(Recipe):
    """The settings that the networks are built from."""

    z_dim: int = setting(256, "Sauer 2021, authors' default", "length of the latent z", ge=1)
    ngf: int = setting(128, "Sauer 2021, authors' default", "width of the generator", ge=4, multiple_of=4)
    lite: bool = setting(
        True, "Sauer 2021, authors' `fastgan_lite`", "the generator with one convolution a block instead of two"
    )
    tanh: bool = setting(
        False, "Sauer 2021, authors' code has none", "keep images in (-1, 1) by a hyperbolic tangent", before=True
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


class SpectralLinear(nn.Linear):
    """Fully connected layer, its weight divided by its largest singular value."""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__(fan_in, fan_out)
        self.norm = blocks.SpectralNorm(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, fan_out]`` of ``x [N, fan_in]``."""
        return F.linear(x, self.weight / self.norm(self.weight), self.bias)


class ConditionalNorm(nn.Module):
    """Batch normalisation whose gain and bias are functions of the class, or plain where there are no classes.

    De Vries et al., Modulating early visual processing by language, NeurIPS 2017.
    """

    def __init__(self, channels: int, embedding_dim: int):
        super().__init__()
        self.norm = BatchNorm2d(channels, affine=not embedding_dim)
        gain_and_bias = (SpectralLinear(embedding_dim, channels) for _ in range(2 if embedding_dim else 0))
        self.affine = nn.ModuleList(gain_and_bias)

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Return ``x [N, channels, H, W]`` normalised, for classes embedded as ``[N, embedding_dim]``."""
        y: Tensor = self.norm(x)
        if not len(self.affine):
            return y
        with full_precision(x):
            gain, bias = (of(embedding)[:, :, None, None] for of in self.affine)
        y = y * (1 + gain).to(y.dtype) + bias.to(y.dtype)
        return y


class ProjectedGenerator(blocks.BlockGenerator):
    """The FastGAN generator of Projected GAN: latents on a sphere, a block a scale, late scales gated by early ones.

    Classes enter through conditional batch normalisation. There is no style space: `truncation` shortens the latent.

    `size` is a power of two from 8 to 512.
    """

    def __init__(self, size: int, n_classes: int, recipe: NetworkSettings):
        super().__init__()
        self.size = size
        self.z_dim = z_dim = recipe.z_dim
        sides = blocks.powers(8, size)
        self.noisy_sides = [] if recipe.lite else sides
        widths = blocks.scaled(blocks.GENERATOR_WIDTHS, recipe.ngf)
        self.embed = nn.Embedding(n_classes, z_dim) if n_classes else None
        self.start = nn.ConvTranspose2d(z_dim, 2 * widths[4], 4, bias=False)
        self.start_sigma = blocks.SpectralNorm(
            self.start.weight.transpose(0, 1)
        )  # a row an output channel, as elsewhere
        self.start_norm = BatchNorm2d(2 * widths[4])
        style = blocks.Style(partial(ConditionalNorm, embedding_dim=z_dim if n_classes else 0), initial_std=None)
        self.blocks = nn.ModuleList(
            blocks.UpBlock(widths[side // 2], widths[side], noisy=not recipe.lite, style=style) for side in sides
        )
        self.excitations = nn.ModuleDict(
            {
                str(side): blocks.SkipLayerExcitation(widths[side // 16], widths[side], initial_std=None)
                for side in blocks.powers(64, size)
            }
        )
        self.to_grey = blocks.SpectralConv2d(widths[size], 1, 3, padding=1, bias=True, initial_std=None)
        self.tanh = recipe.tanh

    def forward(self, z: Tensor, labels: Tensor | None, noise: Tensor, truncation: float = 1.0) -> Tensor:
        """Return float32 images; arguments as for `GeneratorNetwork`, `truncation` multiplies the normalised latent."""
        embedding = None if self.embed is None else self.embed(labels)
        z = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8) * truncation
        with full_precision(z):
            # From one pixel a transposed convolution is a matrix product.
            x = (z @ self.start.weight.flatten(1)).reshape(len(z), -1, 4, 4)
            x = blocks.gated(self.start_norm(x / self.start_sigma(self.start.weight.transpose(0, 1))))
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.grow(x, noise, embedding)[self.size]
        with full_precision(x):
            image: Tensor = self.to_grey(x.float())
        return image.tanh() if self.tanh else image


class FixedConv2d(nn.Module):
    """1×1 convolution with weights that are never trained: buffers, drawn as `nn.Conv2d` draws (He et al. 2015)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        drawn = nn.Conv2d(fan_in, fan_out, 1)
        assert drawn.bias is not None
        self.register_buffer("weight", drawn.weight.detach())
        self.register_buffer("bias", drawn.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x [N, fan_in, H, W]``, of the same sides."""
        return F.conv2d(x, self.weight, self.bias)


class FeatureProjection(nn.Module):
    """Images to four maps of frozen features, mixed at random (Sauer et al. 2021, section 3.2); nothing is trained.

    Cross-channel mixing is a 1×1 convolution of each map. Cross-scale mixing runs from the coarsest map to the finest:
    the sum with the map before, bilinear upsampling, and a 1×1 convolution, as in the authors' code; the paper has a
    3×3 convolution before upsampling.
    """

    def __init__(self, width: int):
        super().__init__()
        known, self.backbone = load_backbone()
        self.mean, self.std = known.mean[0], known.std[0]
        mixed = [width * 2**i for i in range(4)]
        self.channels = [width, *mixed[:3]]
        self.across_channels = nn.ModuleList(
            FixedConv2d(fan_in, fan_out) for fan_in, fan_out in zip(self.backbone.channels, mixed, strict=True)
        )
        self.across_scales = nn.ModuleList(
            FixedConv2d(fan_in, fan_out) for fan_in, fan_out in zip(mixed, self.channels, strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return maps at strides 2, 4, 8 and 16 of images ``[N, 1, H, W]`` in [-1, 1]."""
        pixels = ((images + 1) * 127.5 - self.mean) / self.std
        pixels = pixels.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        # In bfloat16 the backbone's maps of phantoms are off by 6 %, and the gradient of the images with them (cosine
        # 0.75 to that in float32); everything after it may be bfloat16 (0.99).
        with full_precision(pixels):
            maps = self.backbone(pixels)
        mixed = [mix(x) for mix, x in zip(self.across_channels, maps, strict=True)]
        projected: list[Tensor] = []
        x = torch.zeros_like(mixed[-1])
        for lateral, mix in zip(reversed(mixed), reversed(self.across_scales), strict=True):
            # Mixed before it is enlarged, which gives the same: weights of an interpolation add up to 1.
            x = F.interpolate(mix(x + lateral), scale_factor=2, mode="bilinear", align_corners=True)
            projected.insert(0, x)
        return projected


class ScaleDiscriminator(nn.Module):
    """Judge one map of features: down blocks, then a convolution to logits.

    A conditional one projects its output on a vector of the class (Miyato & Koyama 2018), as Karras et al. 2020b do.
    """

    def __init__(self, widths: list[int], n_classes: int):
        super().__init__()
        stages: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            stages.append(blocks.SpectralConv2d(fan_in, fan_out, 4, stride=2, padding=1, initial_std=None))
            # Always by the statistics of the batch: a discriminator has no other use.
            stages += [BatchNorm2d(fan_out, track_running_stats=False), LeakyReLU()]
        self.blocks = nn.Sequential(*stages)
        self.out = blocks.SpectralConv2d(widths[-1], CLASS_DIM if n_classes else 1, 4, initial_std=None)
        self.embed = nn.Embedding(n_classes, EMBEDDING_DIM) if n_classes else None
        self.project = nn.Linear(EMBEDDING_DIM, CLASS_DIM) if n_classes else None

    def forward(self, x: Tensor, labels: Tensor | None, sets: int = 1) -> Tensor:
        """Return float32 logits ``[N, positions]`` of features ``x [N, C, H, W]`` and classes ``[N]``.

        `sets` sets of images of equal size lie behind each other; each is normalised by statistics of its own.
        """
        for layer in self.blocks:
            x = torch.cat([layer(part) for part in x.chunk(sets)]) if isinstance(layer, BatchNorm2d) else layer(x)
        with full_precision(x):
            x = self.out(x.float())
            if self.embed is not None and self.project is not None:
                direction = leaky_relu(self.project(self.embed(labels)))
                x = (x * direction[:, :, None, None]).sum(dim=1) / math.sqrt(CLASS_DIM)
        return x.flatten(1)


class ProjectedDiscriminator(nn.Module):
    """Four discriminators on frozen, randomly mixed features of images enlarged to `feature_px`.

    Its frozen weights are buffers: those of the backbone come from their file, those drawn at random are in the state
    dictionary. Images that are larger than `feature_px` are seen as they are.
    """

    def __init__(self, size: int, n_classes: int, recipe: NetworkSettings):
        super().__init__()
        self.feature_px, ndf = max(size, recipe.feature_px), recipe.ndf
        self.features = FeatureProjection(ndf)
        # Every scale ends at stride 32. There 224 pixels leave 7, which a 4×4 convolution takes to 4 logits a side.
        widths = [ndf, ndf, 2 * ndf, 4 * ndf, 8 * ndf]
        self.scales = nn.ModuleList(
            ScaleDiscriminator([channels, *widths[i + 1 :]], n_classes)
            for i, channels in enumerate(self.features.channels)
        )

    def stages_from_image(self) -> list[list[nn.Module]]:
        """Return the first blocks of all scales, the second ones, and so on: what fine-tuning may freeze.

        The last block of a scale is not among them; the frozen network before all is never trained.
        """
        stages: list[list[nn.Module]] = []
        for judge in self.scales:
            layers: list[nn.Module] = list(judge.blocks)  # type: ignore[arg-type]
            for k in range(len(layers) // 3 - 1):  # a convolution, its normalisation and its activation each
                stages += [[]] if k == len(stages) else []
                stages[k] += layers[3 * k : 3 * k + 3]
        return stages

    def forward(self, images: Tensor, labels: Tensor | None = None, sets: int = 1) -> Tensor:
        """Return float32 logits ``[N, 4 · positions]`` of images ``[N, 1, size, size]`` of classes ``[N]``.

        Batch statistics enter: real and generated images are two `sets`, of equal size, one behind the other.
        """
        with full_precision(images):
            images = F.interpolate(images, size=(self.feature_px,) * 2, mode="bilinear", align_corners=False)
        maps = self.features(images)
        return torch.cat([judge(x, labels, sets) for judge, x in zip(self.scales, maps, strict=True)], dim=1)
