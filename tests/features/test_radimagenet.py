import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frozen_network import extractor_on
from sonosynth.features.radimagenet import KerasResNet50

State = dict[str, Tensor]
BLOCKS = (3, 4, 6, 3)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of the converted state dictionary."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(convolution: str, norm: str, *shape: int) -> None:
        shapes[f"{convolution}.weight"] = shape
        shapes.update({f"{name}": shape[:1] for name in (f"{convolution}.bias", f"{norm}.weight", f"{norm}.bias")})
        shapes.update({f"{norm}.running_mean": shape[:1], f"{norm}.running_var": shape[:1]})
        shapes[f"{norm}.num_batches_tracked"] = ()

    layer("conv1", "bn1", 64, 3, 7, 7)
    fan_in = 64
    for stage, n_blocks in enumerate(BLOCKS):
        width = 64 * 2**stage
        for block in range(n_blocks):
            at = f"layer{stage + 1}.{block}."
            layer(f"{at}conv1", f"{at}bn1", width, fan_in, 1, 1)
            layer(f"{at}conv2", f"{at}bn2", width, width, 3, 3)
            layer(f"{at}conv3", f"{at}bn3", 4 * width, width, 1, 1)
            if block == 0:
                layer(f"{at}downsample.0", f"{at}downsample.1", 4 * width, fan_in, 1, 1)
            fan_in = 4 * width
    return shapes


@pytest.fixture(scope="module")
def state() -> State:
    rng = np.random.default_rng(0)
    state: State = {}
    for name, shape in published_shapes().items():
        values = rng.normal(0, 0.1, shape) if len(shape) < 4 else rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        if name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight")):
            values = np.exp(values)
        state[name] = torch.zeros((), dtype=torch.int64) if shape == () else torch.tensor(values, dtype=torch.float32)
    return state


def by_definition(state: State, x: Tensor) -> Tensor:
    """Keras' ResNet-50, layer by layer: explicit zero padding, the stride in the first convolution of a stage."""

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1, pad: int = 0) -> Tensor:
        x = F.conv2d(F.pad(x, (pad,) * 4), state[f"{convolution}.weight"], state[f"{convolution}.bias"], stride)
        mean, var, gamma, beta = (
            state[f"{norm}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1.001e-5) * gamma + beta

    x = F.max_pool2d(F.pad(layer(x, "conv1", "bn1", 2, 3).relu(), (1, 1, 1, 1)), 3, 2)
    for stage, n_blocks in enumerate(BLOCKS):
        for block in range(n_blocks):
            at, stride = f"layer{stage + 1}.{block}.", 2 if stage and not block else 1
            shortcut = layer(x, f"{at}downsample.0", f"{at}downsample.1", stride) if not block else x
            y = layer(x, f"{at}conv1", f"{at}bn1", stride).relu()
            y = layer(y, f"{at}conv2", f"{at}bn2", pad=1).relu()
            x = (layer(y, f"{at}conv3", f"{at}bn3") + shortcut).relu()
    return x.mean(dim=(2, 3))


def test_names_and_shapes_are_those_published_and_as_many_as_keras_counts():
    shapes = {name: tuple(value.shape) for name, value in KerasResNet50().state_dict().items()}
    assert shapes == published_shapes()
    # Keras' summary of ResNet50(include_top=False).
    assert sum(int(np.prod(s)) for name, s in shapes.items() if "num_batches" not in name) == 23_587_712


@pytest.mark.long
def test_the_extractor_on_a_file_of_such_weights_gives_what_the_definition_gives(tmp_path, state, monkeypatch):
    extractor = extractor_on("radimagenet", state, tmp_path, monkeypatch)
    images = np.random.default_rng(1).integers(0, 256, (2, 224, 224), dtype=np.uint8)
    # As MONAI: of [0, 1], blue first, less the means of ImageNet.
    means = torch.tensor([103.939, 116.779, 123.68])[:, None, None] / 255
    with torch.inference_mode():
        expected = by_definition(state, torch.from_numpy(images)[:, None] / 255 - means).numpy()
    assert expected.shape == (2, 2048) and expected.std() > 0.05
    np.testing.assert_allclose(extractor(images), expected, rtol=1e-3, atol=1e-4)
