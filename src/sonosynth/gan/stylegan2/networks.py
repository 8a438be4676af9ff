"""StyleGAN2 for one image channel (Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020).

Skip generator, residual discriminator. Images are ``[N, 1, size, size]`` in about [-1, 1].
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from sonosynth.core import distributed
from sonosynth.gan.networks import layers
from sonosynth.gan.recipe import GeneratorNetwork, Recipe, setting


class NetworkSettings(Recipe):
    """The settings that the networks are built from."""

    z_dim: int = setting(512, "Karras 2019", "length of the latent z", ge=1)
    w_dim: int = setting(512, "Karras 2019", "length of the style w", ge=1)
    mapping_layers: int = setting(
        2, "Karras 2020b, authors' `auto`; Karras 2020 has 8", "fully connected layers from z to w", ge=1
    )
    class_layers: int = setting(
        8,
        "Karras 2020b, authors' code",
        "fully connected layers through which a conditional discriminator sees the class",
        before=2,
        ge=1,
    )
    channel_base: int = setting(
        16384, "Karras 2020b: half of Karras 2020 below 512 px", "feature maps times resolution", ge=512
    )
    channel_max: int = setting(512, "Karras 2020", "most feature maps at any resolution", ge=1)
    minibatch_group: int = setting(
        4, "Karras 2020", "images a minibatch standard deviation; at most this divisor of the batch", ge=1
    )

    @property
    def group_size(self) -> int:
        """Images a minibatch standard deviation: a divisor of the batch, so that real and generated ones do not mix."""
        return next(g for g in range(self.minibatch_group, 0, -1) if self.batch % g == 0)


class MappingNetwork(nn.Module):
    """Map latents and classes to styles ``w [N, w_dim]``, keeping a running mean of w for truncation.

    `z_dim` or `n_classes` may be zero; `n_classes` counts the classes of a conditional network.
    """

    w_mean: Tensor

    def __init__(self, z_dim: int, n_classes: int, w_dim: int, n_layers: int):
        super().__init__()
        self.z_dim = z_dim
        self.embed = layers.EqualLinear(n_classes, w_dim) if n_classes else None
        widths = [z_dim + (w_dim if n_classes else 0), *[w_dim] * n_layers]
        self.layers = nn.Sequential(
            *(layers.EqualLinear(i, o, lr_multiplier=0.01, activate=True) for i, o in pairwise(widths))
        )
        self.register_buffer("w_mean", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, labels: Tensor | None) -> Tensor:
        """Return styles ``[N, w_dim]`` of latents ``[N, z_dim]`` and classes ``[N]``."""
        parts = []
        if z is not None:
            parts.append(_normalised(z))
        if self.embed is not None:
            assert labels is not None
            one_hot = nn.functional.one_hot(labels, self.embed.weight.shape[1]).to(self.embed.weight.dtype)
            parts.append(_normalised(self.embed(one_hot)))
        w: Tensor = self.layers(torch.cat(parts, dim=1))
        return w

    @torch.no_grad()
    def update_mean(self, w: Tensor, decay: float = 0.995) -> None:
        """Move `w_mean` towards the mean of ``w [N, w_dim]``, of all processes; it begins with the first such mean."""
        mean = distributed.mean(w.detach().mean(dim=0))
        self.w_mean.copy_(torch.where(self.w_mean.any(), self.w_mean.lerp(mean, 1 - decay), mean))


def _normalised(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class SynthesisLayer(nn.Module):
    """Modulated 3×3 convolution, noise of learned strength, bias, leaky ReLU."""

    def __init__(self, fan_in: int, fan_out: int, w_dim: int, *, up: bool = False):
        super().__init__()
        self.conv = layers.ModulatedConv2d(fan_in, fan_out, 3, w_dim, up=up)
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(fan_out))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Return features of ``x [N, C, H, W]``, style ``w [N, w_dim]`` and noise of the output's size."""
        x = self.conv(x, w, noise * (self.noise_strength * layers.SQRT2), gain=layers.SQRT2)
        return layers.leaky_relu(x + (self.bias * layers.SQRT2).to(x.dtype)[:, None, None])


class ToGrey(nn.Module):
    """Modulated 1×1 convolution to one channel without demodulation, in full precision.

    To one channel that is a product of every pixel's features with one vector a sample, its styles times the weight.
    """

    def __init__(self, fan_in: int, w_dim: int):
        super().__init__()
        self.affine = layers.EqualLinear(w_dim, fan_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(fan_in))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return an image ``[N, 1, H, W]`` of features ``x [N, C, H, W]`` with style ``w [N, w_dim]``."""
        n, channels, height, width = x.shape
        with layers.full_precision(x):
            vector = self.affine(w) * (self.weight / math.sqrt(channels))
            pixels = layers.at_least_float32(x).permute(0, 2, 3, 1).reshape(n, height * width, channels)
            grey = pixels @ vector[:, :, None]
        image: Tensor = grey.reshape(n, 1, height, width) + self.bias[:, None, None]
        return image


class Generator(GeneratorNetwork):
    """Skip generator: latents ``z [N, z_dim]``, classes ``[N]`` and noise ``[N, noise_length]`` to images.

    `size` is a power of two of at least 8.
    """

    resample_filter: Tensor

    def __init__(self, size: int, n_classes: int, recipe: NetworkSettings):
        super().__init__()
        self.size, self.z_dim, w_dim = size, recipe.z_dim, recipe.w_dim
        widths = layers.stage_widths(size, recipe.channel_base, recipe.channel_max)
        self.resolutions = [4 << k for k in range(len(widths))]
        self.mapping = MappingNetwork(self.z_dim, n_classes, w_dim, recipe.mapping_layers)
        self.constant = nn.Parameter(torch.randn(widths[0], 4, 4))
        synthesis = [SynthesisLayer(widths[0], widths[0], w_dim)]
        for narrow, wide in zip(widths[1:], widths, strict=False):
            synthesis += [SynthesisLayer(wide, narrow, w_dim, up=True), SynthesisLayer(narrow, narrow, w_dim)]
        self.layers = nn.ModuleList(synthesis)
        self.to_grey = nn.ModuleList(ToGrey(width, w_dim) for width in widths)
        self.register_buffer("resample_filter", layers.resample_filter(), persistent=False)

    @property
    def noise_length(self) -> int:
        """Number of noise values an image takes: one a pixel of every synthesis layer."""
        return sum(side**2 for side in self._noise_sides())

    def _noise_sides(self) -> list[int]:
        return [4, *(r for r in self.resolutions[1:] for _ in range(2))]

    def styles(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the styles ``w [N, w_dim]`` of latents ``z [N, z_dim]`` and classes ``[N]``."""
        with layers.full_precision(z):
            w: Tensor = self.mapping(z, labels)
        return w

    def synthesise(self, w: Tensor, noise: Tensor) -> Tensor:
        """Return float32 images ``[N, 1, size, size]`` of noise ``[N, noise_length]`` and styles.

        `w` has one style for all layers, ``[N, w_dim]``, or one a layer, ``[N, n_layers, w_dim]``.
        """
        per_layer = w[:, None].expand(-1, self.n_layers, -1) if w.ndim == 2 else w
        styles = per_layer.unbind(dim=1)
        sides = self._noise_sides()
        maps = [
            flat.reshape(-1, 1, side, side)
            for flat, side in zip(torch.split(noise, [s**2 for s in sides], dim=1), sides, strict=True)
        ]
        x = self.constant.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.layers[0](x, styles[0], maps[0])
        image: Tensor = self.to_grey[0](x, styles[1])
        for block, to_grey in enumerate(list(self.to_grey)[1:]):
            first = 1 + 2 * block
            for layer in (first, first + 1):
                x = self.layers[layer](x, styles[layer], maps[layer])
            with layers.full_precision(image):
                image = layers.upsample(image, self.resample_filter)
            image = image + to_grey(x, styles[first + 2])
        return image

    @property
    def n_layers(self) -> int:
        """Number of styles an image takes: one a synthesis layer and one for the last `ToGrey`."""
        return len(self.layers) + 1

    def forward(self, z: Tensor, labels: Tensor | None, noise: Tensor, truncation: float = 1.0) -> Tensor:
        """Return images; `truncation` ψ pulls w towards its mean: ``w̄ + ψ (w - w̄)``."""
        w: Tensor = self.styles(z, labels)
        if truncation != 1.0:
            w = self.mapping.w_mean.lerp(w, truncation)
        return self.synthesise(w, noise)


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the resolution."""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        self.conv0 = layers.EqualConv2d(fan_in, fan_in, 3)
        self.conv1 = layers.EqualConv2d(fan_in, fan_out, 3, down=True)
        self.skip = layers.EqualConv2d(fan_in, fan_out, 1, bias=False, activate=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, fan_out, H/2, W/2]`` of ``x [N, fan_in, H, W]``."""
        y = self.skip(x, gain=1 / layers.SQRT2)
        out: Tensor = y + self.conv1(self.conv0(x), gain=1 / layers.SQRT2)
        return out


class Discriminator(nn.Module):
    """Residual discriminator; conditional ones score the projection of their output on a class embedding.

    Miyato & Koyama 2018 for the projection.
    """

    def __init__(self, size: int, n_classes: int, recipe: NetworkSettings):
        super().__init__()
        widths = layers.stage_widths(size, recipe.channel_base, recipe.channel_max)[::-1]
        self.from_grey = layers.EqualConv2d(1, widths[0], 1)
        self.blocks = nn.Sequential(*(DiscriminatorBlock(i, o) for i, o in pairwise(widths)))
        last = widths[-1]
        self.group_size = recipe.group_size
        self.conv = layers.EqualConv2d(last + 1, last, 3)
        self.hidden = layers.EqualLinear(last * 16, last, activate=True)
        self.mapping = MappingNetwork(0, n_classes, last, recipe.class_layers) if n_classes else None
        self.out = layers.EqualLinear(last, last if n_classes else 1)

    def stages_from_image(self) -> list[list[nn.Module]]:
        """Return the modules of every resolution, from the image on: what fine-tuning may freeze."""
        first, *others = self.blocks
        return [[self.from_grey, first], *([block] for block in others)]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits ``[N]`` of images ``[N, 1, size, size]`` of classes ``[N]``."""
        x = self.from_grey(images.contiguous(memory_format=torch.channels_last))
        x = layers.minibatch_standard_deviation(self.blocks(x), self.group_size)
        x = layers.at_least_float32(self.conv(x))
        with layers.full_precision(x):
            x = self.out(self.hidden(x.flatten(1)))
            if self.mapping is not None:
                x = (x * self.mapping(None, labels)).sum(dim=1, keepdim=True) / math.sqrt(x.shape[1])
        logits: Tensor = x[:, 0]
        return logits
