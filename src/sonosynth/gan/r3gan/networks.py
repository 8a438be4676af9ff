"""R3GAN for one image channel (Huang, Gokaslan, Kuleshov, Tompkin: The GAN is dead; long live the GAN! A Modern GAN
Baseline, NeurIPS 2024, section 3).

Generator and discriminator mirror each other: a stage per resolution, each of residual blocks with a grouped 3×3
convolution between two 1×1 convolutions. There is no normalisation, no style and no noise. Images are
``[N, 1, size, size]`` in about [-1, 1].
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.gan.networks import layers
from sonosynth.gan.recipe import GeneratorNetwork, Recipe, setting

EXPANSION = 2  # feature maps inside a block, as a multiple of those that it is given
GAIN = math.sqrt(2 / (1 + 0.2**2))  # keeps the variance of what a leaky ReLU of slope 0.2 lets through (He et al. 2015)


class NetworkSettings(Recipe):
    """The settings that the networks are built from."""

    z_dim: int = setting(64, "Huang 2024, authors' default", "length of the latent z", ge=1)
    channel_base: int = setting(
        24576, "Huang 2024, authors' FFHQ: 768 to 32 px, 384, 192 and 96 after", "feature maps times resolution", ge=512
    )
    channel_max: int = setting(768, "Huang 2024, authors' FFHQ", "most feature maps at any resolution", ge=1)
    group_width: int = setting(
        16, "Huang 2024, section 3.4, authors' default", "feature maps per group of a grouped convolution", ge=1
    )
    blocks: int = setting(2, "Huang 2024, authors' default", "residual blocks per resolution", ge=1)


def normal_weight(*shape: int, gain: float = 1.0) -> nn.Parameter:
    """Return a weight ``[fan_out, ...]`` of normal values with standard deviation ``gain / √fan_in``."""
    return nn.Parameter(torch.randn(shape) * (gain / math.sqrt(math.prod(shape[1:]))))


class Pointwise(nn.Module):
    """1×1 convolution without bias."""

    def __init__(self, fan_in: int, fan_out: int, gain: float = 1.0):
        super().__init__()
        self.weight = normal_weight(fan_out, fan_in, 1, 1, gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, fan_out, H, W]`` of ``x [N, fan_in, H, W]``."""
        return F.conv2d(x, self.weight)


class ResidualBlock(nn.Module):
    """``x + f(x)``, where f is 1×1 convolution, bias, leaky ReLU, grouped 3×3 convolution, bias, leaky ReLU, 1×1.

    Initialised as Fixup does (Zhang et al. 2019): the last weight is zero, so the block begins as the identity, and the
    others are scaled by ``n_blocks ^ (-1/4)``, where `n_blocks` counts the residual blocks of the network.
    """

    def __init__(self, width: int, group_width: int, n_blocks: int):
        super().__init__()
        inner, gain = EXPANSION * width, GAIN * n_blocks**-0.25
        self.groups = inner // math.gcd(inner, group_width)
        self.expand = Pointwise(width, inner, gain)
        self.bias_expanded = nn.Parameter(torch.zeros(inner))
        self.grouped_weight = normal_weight(inner, inner // self.groups, 3, 3, gain=gain)
        self.bias_grouped = nn.Parameter(torch.zeros(inner))
        self.contract = Pointwise(inner, width, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, width, H, W]`` of ``x [N, width, H, W]``."""
        y = self.expand(x)
        y = layers.leaky_relu(y + self.bias_expanded.to(y.dtype)[:, None, None])
        y = F.conv2d(y, self.grouped_weight, padding=1, groups=self.groups)
        y = layers.leaky_relu(y + self.bias_grouped.to(y.dtype)[:, None, None])
        out: Tensor = x + self.contract(y)
        return out


def _stages(widths: list[int], recipe: NetworkSettings) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Return stages of residual blocks of `widths`, and what takes features from one width to the next."""
    n_blocks = recipe.blocks * len(widths)
    stages = nn.ModuleList(
        nn.Sequential(*(ResidualBlock(width, recipe.group_width, n_blocks) for _ in range(recipe.blocks)))
        for width in widths
    )
    return stages, nn.ModuleList(Pointwise(i, o) if i != o else nn.Identity() for i, o in pairwise(widths))


class Generator(GeneratorNetwork):
    """Latents ``z [N, z_dim]`` and classes ``[N]`` to images.

    The latent, with a learned vector of the class beside it, weighs 4×4 patterns that are learned too; then every stage
    doubles the size by bilinear interpolation.

    `size` is a power of two of at least 8.
    """

    resample_filter: Tensor

    def __init__(self, size: int, n_classes: int, recipe: NetworkSettings):
        super().__init__()
        self.size = size
        self.z_dim = z_dim = recipe.z_dim
        widths = layers.stage_widths(size, recipe.channel_base, recipe.channel_max)
        self.embed = normal_weight(z_dim, n_classes) if n_classes else None
        self.patterns = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.first = normal_weight(widths[0], z_dim * (2 if n_classes else 1))
        self.stages, self.transitions = _stages(widths, recipe)
        self.to_grey = Pointwise(widths[-1], 1)
        self.register_buffer("resample_filter", layers.resample_filter(), persistent=False)

    @property
    def noise_length(self) -> int:
        """Number of noise values an image takes besides its latent: none."""
        return 0

    def forward(self, z: Tensor, labels: Tensor | None, noise: Tensor, truncation: float = 1.0) -> Tensor:
        """Return float32 images; `truncation` is a factor of the latent, as there are no styles."""
        z = z * truncation
        with layers.full_precision(z):
            if self.embed is not None:
                z = torch.cat([z, self.embed.t()[labels]], dim=1)
            x = self.patterns * (z @ self.first.t())[:, :, None, None]
        x = self.stages[0](x.contiguous(memory_format=torch.channels_last))
        for transition, stage in zip(self.transitions, list(self.stages)[1:], strict=True):
            x = stage(layers.upsample(transition(x), self.resample_filter))
        with layers.full_precision(x):
            image: Tensor = self.to_grey(layers.at_least_float32(x))
        return image


class Discriminator(nn.Module):
    """The generator in reverse: stages that halve the size down to 4×4, then one weighted sum per feature map.

    A conditional one scores the product of its output with a learned vector of the class (Miyato & Koyama 2018).
    """

    smoothing: Tensor

    def __init__(self, size: int, n_classes: int, recipe: NetworkSettings):
        super().__init__()
        widths = layers.stage_widths(size, recipe.channel_base, recipe.channel_max)[::-1]
        last = widths[-1]
        self.from_grey = Pointwise(1, widths[0])
        self.stages, self.transitions = _stages(widths, recipe)
        self.patterns = normal_weight(last, 4, 4)
        # The class vectors are as long as the first stage of the authors' discriminator is wide: as the last one here.
        self.out = normal_weight(last if n_classes else 1, last)
        self.embed = normal_weight(last, n_classes, gain=1 / math.sqrt(last)) if n_classes else None
        self.register_buffer("smoothing", layers.resample_filter(1.0, 2.0, 1.0), persistent=False)

    def stages_from_image(self) -> list[list[nn.Module]]:
        """Return the modules of every resolution but the last, from the image on: what fine-tuning may freeze."""
        modules = [[stage, transition] for stage, transition in zip(self.stages, self.transitions, strict=False)]
        modules[0].append(self.from_grey)
        return modules

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return float32 logits ``[N]`` of images ``[N, 1, size, size]`` of classes ``[N]``."""
        x = self.from_grey(images.contiguous(memory_format=torch.channels_last))
        for stage, transition in zip(self.stages, [*self.transitions, None], strict=True):
            x = stage(x)
            if transition is not None:
                x = transition(layers.downsample(x, self.smoothing))
        x = layers.at_least_float32(x)
        with layers.full_precision(x):
            x = (x * self.patterns).sum(dim=(2, 3)) @ self.out.t()
            if self.embed is not None:
                x = (x * self.embed.t()[labels]).sum(dim=1, keepdim=True)
        logits: Tensor = x[:, 0]
        return logits
