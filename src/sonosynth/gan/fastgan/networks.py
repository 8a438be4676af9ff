"""FastGAN for one image channel (Liu et al., Towards Faster and Stabilized GAN Training for High-fidelity Few-shot
Image Synthesis, ICLR 2021), called "the paper" here; widths, kernels and initial values, which it does not print, are
those that its authors published.

The paper treats 256 to 1024 px. At 32 to 512 px every resolution keeps its published width and kind of block; what a
resolution links to or decodes to exists where both ends exist. So a generator of 32 px has no skip-layer excitation,
and a discriminator of 32 px has none either. Networks of 256 and 512 px are the published ones, with one channel.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.gan.networks import blocks
from sonosynth.gan.networks.layers import LeakyReLU, leaky_relu
from sonosynth.gan.recipe import Recipe, setting

# Feature maps of the discriminator at a resolution, as multiples of its width setting.
DISCRIMINATOR_WIDTHS = {8: 8, 16: 4, 32: 2, 64: 1, 128: 0.5, 256: 0.25}
SMALL_WIDTHS = {8: 4, 16: 2, 32: 1, 64: 0.5}  # of the branch that sees the small image
DECODER_WIDTHS = {16: 2, 32: 1, 64: 1, 128: 0.5}

NOISY = (8, 32, 128, 512)  # resolutions of the generator with two convolutions, each followed by noise


class NetworkSettings(Recipe):
    """The settings that the networks are built from."""

    z_dim: int = setting(256, "Liu 2021, authors' default", "length of the latent z", ge=1)
    ngf: int = setting(64, "Liu 2021, authors' default", "width of the generator", ge=4, multiple_of=4)
    ndf: int = setting(64, "Liu 2021, authors' default", "width of the discriminator", ge=4, multiple_of=4)


def small_size(size: int) -> int:
    """Return the side of the second, small image and of all reconstructions: half of `size`, at most 128."""
    return min(128, size // 2)


class Projection(nn.Module):
    """Class term of a logit: ``<e_y, φ(x)>`` with a spectrally normalised embedding (Miyato & Koyama 2018)."""

    def __init__(self, n_classes: int, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_classes, features))
        self.norm = blocks.SpectralNorm(self.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return ``[N, 1]`` of features ``x [N, C, H, W]``, averaged over positions, and classes ``[N]``."""
        embedded: Tensor = self.weight[labels] / self.norm(self.weight)
        return (embedded * x.float().mean(dim=(2, 3))).sum(dim=1, keepdim=True)


class FastGANGenerator(blocks.BlockGenerator):
    """Latents ``z [N, z_dim]``, classes ``[N]`` and noise ``[N, noise_length]`` to images.

    Of a conditional generator, a learned vector of the class is added to the latent; the paper has no classes.
    Batch normalisation uses the statistics of the batch in training mode and running ones in evaluation mode.

    `size` is a power of two from 32 to 512.
    """

    def __init__(self, size: int, n_classes: int, recipe: NetworkSettings):
        super().__init__()
        self.size = size
        self.z_dim = z_dim = recipe.z_dim
        sides = blocks.powers(8, size)
        self.noisy_sides = [side for side in sides if side in NOISY]
        widths = blocks.scaled(blocks.GENERATOR_WIDTHS, recipe.ngf)
        self.embed = nn.Embedding(n_classes, z_dim) if n_classes else None
        if self.embed is not None:
            # As long as the latents themselves, the class drowns them: all images of a class become one.
            nn.init.normal_(self.embed.weight, std=0.1)
        self.first = blocks.SpectralConv2d(z_dim, 2 * widths[4] * 16, 1)
        self.first_norm = blocks.batch_norm(2 * widths[4])
        self.blocks = nn.ModuleDict(
            {str(side): blocks.UpBlock(widths[side // 2], widths[side], noisy=side in NOISY) for side in sides}
        )
        self.excitations = nn.ModuleDict(
            {str(r): blocks.SkipLayerExcitation(widths[r // 16], widths[r]) for r in blocks.powers(64, size)}
        )
        self.to_small = blocks.SpectralConv2d(widths[small_size(size)], 1, 1)
        self.to_image = blocks.SpectralConv2d(widths[size], 1, 3, padding=1)

    def both_sizes(
        self, z: Tensor, labels: Tensor | None, noise: Tensor, truncation: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return float32 images ``[N, 1, size, size]`` and the small ones made on the way, as a pair; see `forward`."""
        z = z * truncation
        if self.embed is not None:
            z = z + self.embed(labels)
        x = self.first(z[:, :, None, None]).reshape(len(z), -1, 4, 4).contiguous(memory_format=torch.channels_last)
        features = self.grow(blocks.gated(self.first_norm(x)), noise)
        small: Tensor = self.to_small(features[small_size(self.size)])
        image: Tensor = self.to_image(features[self.size])
        return image.float(), small.float()

    def forward(self, z: Tensor, labels: Tensor | None, noise: Tensor, truncation: float = 1.0) -> Tensor:
        """Return float32 images ``[N, 1, size, size]``, linear in the last features, so a little beyond [-1, 1] too.

        `truncation` is a factor of z: there is no mapping network, and 0 is the mean of the latents.
        """
        return self.both_sizes(z, labels, noise, truncation)[0]


class DownBlock(nn.Module):
    """Halve the resolution: mean of a path of two convolutions and a path of averaging and one."""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        self.main = nn.Sequential(
            *_convolution(fan_in, fan_out, 4, stride=2, padding=1), *_convolution(fan_out, fan_out, 3, padding=1)
        )
        self.direct = nn.Sequential(nn.AvgPool2d(2), *_convolution(fan_in, fan_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, fan_out, H / 2, W / 2]`` of ``x [N, fan_in, H, W]``."""
        y: Tensor = (self.main(x) + self.direct(x)) / 2
        return y


def _convolution(fan_in: int, fan_out: int, kernel: int, *, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    convolution = blocks.SpectralConv2d(fan_in, fan_out, kernel, stride=stride, padding=padding)
    return [convolution, blocks.batch_norm(fan_out), LeakyReLU()]


class Decoder(nn.Module):
    """Features ``[N, fan_in, 8, 8]`` to images ``[N, 1, side, side]`` in (-1, 1)."""

    def __init__(self, fan_in: int, side: int, width: int):
        super().__init__()
        widths = [fan_in, *(blocks.scaled(DECODER_WIDTHS, width)[r] for r in blocks.powers(16, side))]
        self.layers = nn.ModuleList(blocks.GatedConv2d(i, o, up=True) for i, o in pairwise(widths))
        self.out = blocks.SpectralConv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 images of features `x`."""
        for layer in self.layers:
            x = layer(x)
        return torch.tanh(self.out(x).float())


class Features(NamedTuple):
    """Feature maps of the discriminator: at 16 px, at 8 px, and of the small image at 8 px."""

    middle: Tensor
    last: Tensor
    small: Tensor


class FastGANDiscriminator(nn.Module):
    """Judge of an image and its small version, and encoder of real images for three decoders (section 3.2).

    `size` is a power of two from 32 to 512.
    """

    def __init__(self, size: int, n_classes: int, recipe: NetworkSettings):
        super().__init__()
        ndf = recipe.ndf
        widths, small_widths = blocks.scaled(DISCRIMINATOR_WIDTHS, ndf), blocks.scaled(SMALL_WIDTHS, ndf)
        top, side = min(256, size), small_size(size)
        kernel, stride = (3, 1) if size == top else (4, 2)
        self.stem = blocks.SpectralConv2d(1, widths[top], kernel, stride=stride, padding=1)
        self.resolutions = blocks.powers(8, top // 2)[::-1]
        self.blocks = nn.ModuleDict({str(r): DownBlock(widths[2 * r], widths[r]) for r in self.resolutions})
        linked = [r for r in self.resolutions if 8 * r <= top]
        self.excitations = nn.ModuleDict({str(r): blocks.SkipLayerExcitation(widths[8 * r], widths[r]) for r in linked})
        self.hidden = nn.Sequential(*_convolution(widths[8], 2 * widths[8], 1))
        self.out = blocks.SpectralConv2d(2 * widths[8], 1, 4)
        self.small_stem = blocks.SpectralConv2d(1, small_widths[side // 2], 4, stride=2, padding=1)
        small_blocks = [
            _convolution(small_widths[2 * r], small_widths[r], 4, stride=2, padding=1)
            for r in blocks.powers(8, side // 4)[::-1]
        ]
        self.small_blocks = nn.Sequential(*(layer for block in small_blocks for layer in block))
        self.small_out = blocks.SpectralConv2d(small_widths[8], 1, 4)
        self.decode_whole = Decoder(widths[8], side, ndf)
        self.decode_small = Decoder(small_widths[8], side, ndf)
        self.decode_part = Decoder(widths[16], side, ndf)
        self.project = Projection(n_classes, 2 * widths[8]) if n_classes else None
        self.project_small = Projection(n_classes, small_widths[8]) if n_classes else None

    def stages_from_image(self) -> list[list[nn.Module]]:
        """Return the modules of every resolution, from the image on: what fine-tuning may freeze."""
        small = [self.small_stem, *self.small_blocks]
        stages: list[list[nn.Module]] = [[self.stem, *small]]
        for r in self.resolutions:
            stages.append([self.blocks[str(r)], *([self.excitations[str(r)]] if str(r) in self.excitations else [])])
        return stages

    def features(self, images: Tensor, small: Tensor) -> Features:
        """Return the feature maps of images ``[N, 1, size, size]`` and their small versions."""
        x = leaky_relu(self.stem(images).contiguous(memory_format=torch.channels_last))
        maps = {x.shape[2]: x}
        for r in self.resolutions:
            x = self.blocks[str(r)](x)
            if str(r) in self.excitations:
                x = self.excitations[str(r)](maps[8 * r], x)
            maps[r] = x
        y = leaky_relu(self.small_stem(small).contiguous(memory_format=torch.channels_last))
        return Features(maps[16], maps[8], self.small_blocks(y))

    def logits(self, features: Features, labels: Tensor | None) -> Tensor:
        """Return float32 logits ``[N, 50]``, 5 × 5 of overlapping regions of the image and of the small image."""
        hidden = self.hidden(features.last)
        whole = self.out(hidden).float().flatten(1)
        small = self.small_out(features.small).float().flatten(1)
        if self.project is not None and self.project_small is not None:
            assert labels is not None
            whole = whole + self.project(hidden, labels)
            small = small + self.project_small(features.small, labels)
        return torch.cat([whole, small], dim=1)

    def forward(self, images: Tensor, small: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits ``[N, 50]`` of images ``[N, 1, size, size]``, their small versions and their classes."""
        return self.logits(self.features(images, small), labels)

    def reconstruct(self, features: Features, quadrant: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode the whole image, the small image and one quadrant of the image, each to the side of a small image.

        `quadrant`, int64 ``[N]``, is as in `cut_quadrant`.
        """
        part = cut_quadrant(features.middle, quadrant)
        return self.decode_whole(features.last), self.decode_small(features.small), self.decode_part(part)


def cut_quadrant(x: Tensor, quadrant: Tensor) -> Tensor:
    """Return ``[N, C, H / 2, W / 2]`` of ``x [N, C, H, W]``: quadrant 0 is top left, 1 top right, 2 and 3 below."""
    n, c, h, w = x.shape
    split = x.reshape(n, c, 2, h // 2, 2, w // 2)
    return split[torch.arange(n, device=x.device), :, quadrant // 2, :, quadrant % 2, :]


def shrink(images: Tensor, side: int) -> Tensor:
    """Return images ``[N, 1, side, side]``, means over squares of pixels; the authors keep single ones, which alias."""
    return F.avg_pool2d(images, images.shape[2] // side)
