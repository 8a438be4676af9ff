"""Images in, features out: one way of preparing images for all feature networks, and a cache of features."""

from contextlib import nullcontext
from functools import cache as once
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sonosynth.core.cache import cache_file, cached_array
from sonosynth.core.device import default_device, keep_freed_memory
from sonosynth.core.errors import FeatureError
from sonosynth.core.types import Progress
from sonosynth.data.imageset import ImageSet
from sonosynth.features.registry import feature_network, weights_file


class FeatureExtractor:
    """A frozen network in evaluation mode, on one device, in float32.

    Images are made float, resized to ``input_px × input_px`` with PyTorch's antialiased bicubic filter (a = -0.5,
    support scaled by the reduction, as in Pillow; see Parmar et al., "On Aliased Resizing and Surprising Subtleties in
    GAN Evaluation", CVPR 2022), clamped to [0, 255], not rounded, normalised, and given as the three channels of a
    network of colour images. Images that are not square are stretched. TF32 is off.
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

        Raises FeatureError: features of an image that are not finite; ValueError: images of another type or shape.
        """
        if images.ndim != 3 or images.dtype not in (np.uint8, torch.uint8):
            raise ValueError(f"images must be uint8 [N, H, W], not {images.dtype} {list(images.shape)}")
        if self.device.type == "cpu":
            keep_freed_memory()
        features = np.empty((len(images), self.dimension), dtype=np.float32)
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact if self.device.type == "cuda" else nullcontext():
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
        network = self.network
        channel = images.to(self.device)[:, None].float()
        pixels = F.interpolate(channel, size=(network.input_px,) * 2, mode="bicubic", antialias=True).clamp_(0, 255)
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (network.mean, network.std))
        pixels = ((pixels - mean) / std).expand(-1, network.channels, -1, -1)
        return pixels.contiguous(memory_format=torch.channels_last)


_extractor = once(FeatureExtractor)


def load_features(name: str, device: torch.device | None = None) -> FeatureExtractor:
    """Return the extractor `name` on `device` (the default device if not given), built once per process.

    Raises FeatureError: unknown name, or weights that are missing or damaged.
    """
    return _extractor(name, device or default_device())


def embed(
    images: ImageSet | np.ndarray,
    name: str = "inception",
    cache: str | Path | None = None,
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
    path = cache_file(Path(cache), name, (network.name, network.version, network.sha256), pixels) if cache else None
    if progress and path and path.is_file():
        progress(len(pixels), len(pixels))

    def make() -> np.ndarray:
        return load_features(name)(pixels, progress=progress)

    features = cached_array(path, (len(pixels), network.dimension), np.float32, make)
    if path:
        _check_finite(features, f"{path}: cached features", "remove the file")
    return features


def _check_finite(features: np.ndarray, what: str, remedy: str, start: int = 0) -> None:
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        raise FeatureError(f"{what}: those of image {start + broken[0]} (counted from 0) are NaN or infinite; {remedy}")
