from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozen_network import extractor_on
from sonosynth.features.dinov2 import VisionTransformer
from sonosynth.features.registry import feature_network

State = dict[str, Tensor]


def published_shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of the published state dictionary of ViT-S/14."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 384),
        "pos_embed": (1, 1370, 384),
        "mask_token": (1, 384),
        "patch_embed.proj.weight": (384, 3, 14, 14),
        "patch_embed.proj.bias": (384,),
        "norm.weight": (384,),
        "norm.bias": (384,),
    }
    linear = {"attn.qkv": (1152, 384), "attn.proj": (384, 384), "mlp.fc1": (1536, 384), "mlp.fc2": (384, 1536)}
    for i in range(12):
        for name, shape in linear.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[f"blocks.{i}.{name}"] = (384,)
    return shapes


@pytest.fixture(scope="module")
def state() -> State:
    rng = np.random.default_rng(0)
    drawn = {k: torch.from_numpy(rng.normal(0, 0.05, s).astype(np.float32)) for k, s in published_shapes().items()}
    return {k: x + 1 if k.endswith(("norm.weight", "norm1.weight", "norm2.weight")) else x for k, x in drawn.items()}


@pytest.fixture(scope="module")
def network(state: State) -> VisionTransformer:
    network = VisionTransformer().eval()
    network.load_state_dict(state, strict=True)
    return network


def by_torch(state: State, x: Tensor, positions: Tensor) -> Tensor:
    """The same network of PyTorch's own transformer layers; the scales of branches are folded into what they scale."""
    patches = F.unfold(x, 14, stride=14).mT @ state["patch_embed.proj.weight"].flatten(1).T
    tokens = torch.cat([state["cls_token"].expand(len(x), -1, -1), patches + state["patch_embed.proj.bias"]], dim=1)
    tokens = tokens + positions
    for i in range(12):
        block = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items() if k.startswith(f"blocks.{i}.")}
        layer = nn.TransformerEncoderLayer(384, 6, 1536, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True)
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": block["attn.qkv.weight"],
                "self_attn.in_proj_bias": block["attn.qkv.bias"],
                "self_attn.out_proj.weight": block["ls1.gamma"][:, None] * block["attn.proj.weight"],
                "self_attn.out_proj.bias": block["ls1.gamma"] * block["attn.proj.bias"],
                "linear1.weight": block["mlp.fc1.weight"],
                "linear1.bias": block["mlp.fc1.bias"],
                "linear2.weight": block["ls2.gamma"][:, None] * block["mlp.fc2.weight"],
                "linear2.bias": block["ls2.gamma"] * block["mlp.fc2.bias"],
                **{k: v for k, v in block.items() if k.startswith("norm")},
            }
        )
        tokens = layer.eval()(tokens)
    return F.layer_norm(tokens, (384,), state["norm.weight"], state["norm.bias"], 1e-6)[:, 0]


def test_names_and_shapes_are_those_published_and_make_up_the_size_of_the_file():
    shapes = {name: tuple(value.shape) for name, value in VisionTransformer().state_dict().items()}
    assert shapes == published_shapes()
    assert len(shapes) == 175
    size = feature_network("dinov2").weights.size
    assert 0 < size - 4 * sum(int(np.prod(shape)) for shape in shapes.values()) < 175 * 500  # names and offsets


@pytest.mark.long
def test_features_are_those_of_pytorchs_own_layers(state, network):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 112, 140)
    with torch.inference_mode():
        expected = by_torch(state, x, network._positions(8, 10))
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1
    assert (expected[0] - expected[1]).abs().max() > 0.01


def cubic(size: int) -> Tensor:
    """The matrix that resizes 37 points to `size` by cubic convolution (Keys 1981, a = -0.75), borders repeated."""
    matrix = torch.zeros(size, 37)
    for i in range(size):
        centre = (i + 0.5) * 37 / (size + 0.1) - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            t, a = abs(centre - tap), -0.75
            near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
            matrix[i, min(max(tap, 0), 36)] += near if t <= 1 else far
    return matrix


def test_positions_of_another_grid_lie_where_training_put_them(state, network):
    with torch.no_grad():
        found = network._positions(16, 20)
    grid = state["pos_embed"][0, 1:].reshape(37, 37, 384)
    expected = torch.einsum("ih,jw,hwc->ijc", cubic(16), cubic(20), grid).reshape(-1, 384)
    assert torch.equal(network._positions(37, 37), state["pos_embed"])
    torch.testing.assert_close(found[0, 0], state["pos_embed"][0, 0])
    torch.testing.assert_close(found[0, 1:], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_the_extractor_runs_on_a_file_of_such_weights(tmp_path: Path, state, network, monkeypatch):
    extractor = extractor_on("dinov2", state, tmp_path, monkeypatch)
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224), dtype=np.uint8)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = network((torch.from_numpy(images)[:, None] / 255 - mean) / std).numpy()
    np.testing.assert_allclose(extractor(images), expected, rtol=1e-3, atol=1e-4)
