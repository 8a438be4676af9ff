"""DINOv2's small vision transformer, frozen (Oquab et al., "DINOv2: Learning Robust Visual Features without
Supervision", TMLR 2024), as the backbone that its authors publish.

A vision transformer (Dosovitskiy et al., ICLR 2021) on patches of 14 × 14 pixels with a learned scale on every residual
branch (Touvron et al., "Going deeper with Image Transformers", ICCV 2021). Modules are called as the published state
dictionary calls them.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.features.base import FeatureNetwork
from sonosynth.features.weights import DownloadedWeights, load_into

PATCH = 14
DIMENSION = 384
HEADS = 6
DEPTH = 12
TRAINED_GRID = 37  # patches per side at 518 pixels, for which positions are stored


class VisionTransformer(nn.Module):
    """ViT-S/14: normalised images to the class token behind the last normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIMENSION))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TRAINED_GRID**2, DIMENSION))
        self.mask_token = nn.Parameter(torch.zeros(1, DIMENSION))  # of training; published, not used here
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, DIMENSION, PATCH, PATCH)})
        self.blocks = nn.ModuleList(_Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(DIMENSION, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 384]`` of images ``x [N, 3, H, W]``, normalised by ImageNet's means and deviations.

        H and W are multiples of 14.
        """
        patches = self.patch_embed["proj"](x).flatten(2).mT
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1)
        tokens = tokens + self._positions(x.shape[2] // PATCH, x.shape[3] // PATCH)
        for block in self.blocks:
            tokens = block(tokens)
        found: Tensor = self.norm(tokens)[:, 0]
        return found

    def _positions(self, height: int, width: int) -> Tensor:
        """Return the positions of a grid of another size: resized as in training, with scales off by 0.1 patch."""
        if (height, width) == (TRAINED_GRID, TRAINED_GRID):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].mT.reshape(1, DIMENSION, TRAINED_GRID, TRAINED_GRID)
        scale = ((height + 0.1) / TRAINED_GRID, (width + 0.1) / TRAINED_GRID)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).mT], dim=1)


class _Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a normalisation, on scaled residual branches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(DIMENSION, eps=1e-6)
        self.attn = _Attention()
        self.ls1 = nn.ParameterDict({"gamma": torch.ones(DIMENSION)})
        self.norm2 = nn.LayerNorm(DIMENSION, eps=1e-6)
        fc1, fc2 = nn.Linear(DIMENSION, 4 * DIMENSION), nn.Linear(4 * DIMENSION, DIMENSION)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, act=nn.GELU(), fc2=fc2))
        self.ls2 = nn.ParameterDict({"gamma": torch.ones(DIMENSION)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x)) * self.ls1["gamma"]
        y: Tensor = x + self.mlp(self.norm2(x)) * self.ls2["gamma"]
        return y


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIMENSION, 3 * DIMENSION)
        self.proj = nn.Linear(DIMENSION, DIMENSION)

    def forward(self, x: Tensor) -> Tensor:
        heads: Tensor = self.qkv(x).reshape(*x.shape[:2], 3, HEADS, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        y: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return y


NETWORK = FeatureNetwork(
    name="dinov2",
    about="DINOv2 ViT-S/14, trained without labels on 142 million photographs; its class token",
    weights=DownloadedWeights(
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
        file="dinov2_vits14_pretrain.pth",
        size=88_283_115,
        sha256="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        evidence="several users of the file report them; the publisher gives none",
    ),
    licence="Apache-2.0 (weights, Meta)",
    input_px=224,
    channels=3,
    dimension=384,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    scaling="ImageNet's means and deviations at 224 px, as in the publishers' evaluations",
    build=lambda path: load_into(VisionTransformer(), path),
)
