"""How far a reconstruction is from its target: what FastGAN's discriminator learns to encode by."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.features.efficientnet import load_backbone
from sonosynth.gan.networks.layers import full_precision


class FrozenFeatureDistance:
    """Distance of two batches of images in features of EfficientNet-Lite0, which stands for LPIPS of the authors.

    It compares features of the frozen network at strides 4, 8 and 16 as LPIPS does (Zhang et al. 2018), without weights
    learned from people's judgements: each position's features are scaled to unit length, and squared differences are
    summed over channels and averaged over positions and strides. Images with a side of less than `px` pixels are
    enlarged to it. It is not the network of the Fréchet distance.

    Raises:
        FeatureError: weights that are missing or damaged.
    """

    def __init__(self, device: torch.device, px: int = 32):
        network, backbone = load_backbone()
        self._px = px
        self._mean, self._std = network.mean[0], network.std[0]
        self._backbone = backbone.to(device).eval()

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        """Return the float32 mean distance of images ``[N, 1, h, w]`` in [-1, 1]; no gradient reaches `target`."""
        with torch.no_grad():
            wanted = self._features(target)
        found = self._features(images)
        distances = [(a - b).square().sum(dim=1).mean() for a, b in zip(found, wanted, strict=True)]
        return torch.stack(distances).mean()

    def _features(self, images: Tensor) -> list[Tensor]:
        pixels = (images.float() * 127.5 + (127.5 - self._mean)) / self._std
        if pixels.shape[2] < self._px:
            pixels = F.interpolate(pixels, size=(self._px,) * 2, mode="bilinear")
        pixels = pixels.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with full_precision(pixels):  # as in Projected GAN; of phantoms, bfloat16 gives other gradients (cosine 0.78)
            maps = self._backbone(pixels, scales=3)
        return [F.normalize(x, dim=1, eps=1e-6) for x in maps]


def l1_pyramid(images: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of images ``[N, 1, h, w]`` at full, half and quarter size, averaged."""
    difference = images - target
    return torch.stack([F.avg_pool2d(difference, k).abs().mean() for k in (1, 2, 4)]).mean()
