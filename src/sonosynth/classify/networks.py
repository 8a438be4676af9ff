"""Classifier networks by name: small CNNs from scratch, one with ImageNet weights, and whatever MONAI has."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.core.errors import SonosynthError
from sonosynth.core.text import did_you_mean
from sonosynth.features.efficientnet import STRIDE
from sonosynth.features.registry import feature_network, weights_file

FROM_SCRATCH = 1e-3
FINE_TUNING = 3e-4
MONAI = "monai:"


class NetworkError(SonosynthError):
    """A classifier network is unknown, or cannot be used as asked."""


@dataclass(frozen=True)
class Network:
    """What is known of one classifier network, by its name in tables and study files.

    `build` takes the number of classes and dropout, and returns a network from ``[N, 1, H, W]`` to logits
    ``[N, n_classes]``.
    """

    name: str
    build: Callable[[int, float], nn.Module]
    learning_rate: float = FROM_SCRATCH  # the peak, unless another is asked for
    normalisation: tuple[float, float] | None = None  # mean and deviation of pixels of 0 to 1; None: of the images


def _monai() -> Any:
    """Return MONAI's networks, imported when they are first asked for: MONAI takes two seconds."""
    from monai.networks import nets

    return nets


class _MatrixConvolution(nn.Conv2d):
    """A convolution as one matrix product of unfolded patches: where maps have 2 × 2 positions, three times as fast.

    oneDNN packs the weights anew for each of forward, backward by input and backward by weights; at 64 pixels the last
    stage of ResNet-18 holds three quarters of all weights and takes a third of the time of a step on a CPU.
    """

    LARGEST = 4  # positions of the map; above it the patches cost more than the packing

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, C_out, H', W']`` of ``x [N, C_in, H, W]``."""
        padding, kernel, stride = cast(tuple[int, int], self.padding), self.kernel_size, self.stride
        height, width = ((x.shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
        if height * width > self.LARGEST:
            return super().forward(x)
        patches = F.unfold(x, kernel, padding=padding, stride=stride)
        return (self.weight.flatten(1) @ patches).view(len(x), -1, height, width)


def _resnet18(n_classes: int, dropout: float) -> nn.Module:
    # MONAI's stem keeps full resolution by default; the standard stem of He et al. 2016 has stride two.
    network = _monai().resnet18(spatial_dims=2, n_input_channels=1, num_classes=n_classes, conv1_t_stride=2)
    for block in network.layer4.modules():  # its 3 × 3 convolutions, which have no bias, become matrix products
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                stride, padding = (cast(tuple[int, int], value) for value in (layer.stride, layer.padding))
                product = _MatrixConvolution(layer.in_channels, layer.out_channels, 3, stride, padding, bias=False)
                product.weight = layer.weight
                setattr(block, name, product)
    if dropout:
        network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)
    return cast(nn.Module, network)


def _densenet121(n_classes: int, dropout: float) -> nn.Module:
    of_monai: type[nn.Module] = _monai().DenseNet121
    return of_monai(spatial_dims=2, in_channels=1, out_channels=n_classes, dropout_prob=dropout)


class PretrainedEfficientNet(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights, trainable, and a new last layer.

    The weights are those of `features`, where each batch normalisation is folded into its convolution: the statistics
    of ImageNet stay as they are, which suits batches of few images, and everything else is trained. The grey channel is
    repeated to three. Images smaller than `LEAST_PX` are enlarged to it, since the features were learnt at 224 pixels
    and 64 leave the last stages 2 × 2 positions; sides are rounded up to multiples of 32. Both bilinearly.
    """

    LEAST_PX = 128

    def __init__(self, n_classes: int, dropout: float):
        super().__init__()
        known = feature_network("efficientnet-lite0")
        self.features = known.build(weights_file(known.name))
        for module in self.features.modules():  # parameters in place of the buffers that keep the frozen weights
            for name, value in list(module.named_buffers(recurse=False)):
                delattr(module, name)
                module.register_parameter(name, nn.Parameter(value))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(known.dimension, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, n_classes]`` of images ``[N, 1, H, W]``, normalised as `feature_network` says."""
        px = [max(self.LEAST_PX, -(-side // STRIDE) * STRIDE) for side in x.shape[2:]]
        if px != list(x.shape[2:]):
            x = F.interpolate(x, size=px, mode="bilinear", align_corners=False)
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier(self.dropout(self.features(x)))
        return logits


_PRETRAINED = feature_network("efficientnet-lite0")
_PRETRAINED_SCALING = _PRETRAINED.mean[0] / 255, _PRETRAINED.std[0] / 255

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("resnet18", _resnet18),
        Network("densenet121", _densenet121),
        Network("efficientnet-lite0", PretrainedEfficientNet, FINE_TUNING, normalisation=_PRETRAINED_SCALING),
    )
}
"""The networks that have a name of their own."""


def find_network(name: str) -> Network:
    """Return network `name`: one of `NETWORKS`, or a class or function of MONAI, by its name or ``monai:name``.

    Of MONAI can be used what takes the number of spatial dimensions, of input channels and of classes, and needs
    nothing else; that it gives one logit per class is seen when it is built.

    Raises:
        NetworkError: unknown, or it needs other arguments.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    member = name.removeprefix(MONAI)
    builder = getattr(_monai(), member, None)
    if member.startswith("_") or not callable(builder):
        raise NetworkError(
            f"no classifier network '{name}'{_nearest_to(name)}; known: {', '.join(NETWORKS)}, and those of MONAI"
        )
    given = _parameters(builder, member)
    return Network(name, lambda n_classes, dropout: _build_monai(builder, member, given, n_classes, dropout))


def build_network(name: str, n_classes: int, *, px: tuple[int, int] = (64, 64), dropout: float = 0.0) -> nn.Module:
    """Return the network `name`, freshly initialised, taking ``[N, 1, H, W]`` to logits ``[N, n_classes]``.

    A network of MONAI is tried on images of height and width `px`.

    Raises:
        NetworkError: unknown, no classifier, unfit for images of `px`, or without dropout where some is asked for.
    """
    network = find_network(name)
    model = network.build(n_classes, dropout)
    if name in NETWORKS:
        return model
    was_training = model.training
    with torch.no_grad():
        try:
            out = model.eval()(torch.zeros(2, 1, *px))
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
            raise NetworkError(f"network '{name}' cannot see images of {px[1]}×{px[0]} pixels: {error}") from error
    model.train(was_training)
    shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if shape != [2, n_classes]:
        raise NetworkError(
            f"network '{name}' is no classifier: of 2 images it makes {shape}, not {[2, n_classes]}{_nearest_to(name)}"
        )
    return model


_INPUTS, _OUTPUTS, _DROPOUTS = ("in_channels", "n_input_channels"), ("num_classes", "out_channels"), ("dropout_prob",)


def _parameters(builder: Callable[..., Any], name: str) -> set[str]:
    """Return the parameters of a class or function of MONAI, and of those that it hands its keyword arguments to.

    Raises NetworkError if it cannot be a classifier.
    """
    parameters: set[str] = set()
    for part in builder.__mro__ if inspect.isclass(builder) else (builder, _monai().ResNet):
        taken = inspect.signature(part).parameters
        parameters |= set(taken)
        if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
            break
    for kind in (("spatial_dims",), _INPUTS, _OUTPUTS):
        if not parameters & set(kind):
            takes = f"takes no {' or '.join(kind)}"
            raise NetworkError(f"'{name}' of MONAI is no classifier network: it {takes}{_nearest_to(name)}")
    free = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    own = inspect.signature(builder).parameters  # what stands behind **kwargs is given, or has a default
    needed = [key for key, p in own.items() if p.default is p.empty and p.kind not in free]
    beyond = [key for key in needed if key not in ("spatial_dims", *_INPUTS, *_OUTPUTS)]
    if beyond:
        raise NetworkError(
            f"'{name}' of MONAI cannot be made from the number of classes alone: it needs {', '.join(beyond)} too"
            f"{_nearest_to(name)}"
        )
    return parameters


def _build_monai(builder: Callable[..., Any], name: str, known: set[str], n_classes: int, dropout: float) -> Any:
    # Some would download weights; the stride of the stem is as for resnet18.
    fixed = {"spatial_dims": 2, **dict.fromkeys(_INPUTS, 1), "pretrained": False, "conv1_t_stride": 2}
    arguments: dict[str, Any] = {key: value for key, value in fixed.items() if key in known}
    arguments[next(key for key in _OUTPUTS if key in known)] = n_classes
    if dropout:
        keys = [key for key in _DROPOUTS if key in known]
        if not keys:
            raise NetworkError(f"'{name}' of MONAI has no dropout; leave it at 0")
        arguments[keys[0]] = dropout
    try:
        return builder(**arguments)
    except (TypeError, ValueError, RuntimeError, NotImplementedError, KeyError) as error:
        raise NetworkError(f"'{name}' of MONAI cannot be built for one channel in 2D: {error}") from error


def _nearest_to(name: str) -> str:
    suffixes = ("DenseNet", "SENet", "SEResN", "resnet")
    usable = [member for member in dir(_monai()) if member.startswith(suffixes) and member != "resnet"]
    own = name.removeprefix(MONAI)
    return did_you_mean(own, [known for known in (*NETWORKS, *usable) if known != own])
