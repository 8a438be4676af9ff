import json
import shutil

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from image_sets import blobs
from sonosynth.core.device import bfloat16
from sonosynth.core.errors import RecipeError
from sonosynth.gan.checkpoint import run_config
from sonosynth.gan.networks.layers import EqualLinear
from sonosynth.gan.recipe import COMPILE_KIMG
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.sample import synthesise
from sonosynth.gan.training import loop as train_module
from sonosynth.gan.training.loop import train_run
from sonosynth.gan.training.trainer import Trainer

CPU = torch.device("cpu")
NARROW = {
    "stylegan2-ada": {"channel_base": 512, "channel_max": 16, "z_dim": 16, "w_dim": 16, "batch": 4, "ada_kimg": 0.1},
    "fastgan": {"ngf": 8, "ndf": 8, "z_dim": 16, "batch": 4, "perceptual": "l1"},
    "projected": {"ngf": 8, "ndf": 8, "z_dim": 16, "batch": 4, "feature_px": 128},
    "r3gan": {"channel_base": 512, "channel_max": 16, "z_dim": 8, "batch": 4, "blocks": 1},
}


@pytest.fixture
def traced(monkeypatch):
    """Take whole graphs as compiling does, but run them as they are: turning them into machine code takes minutes."""

    def trace(function, device):
        return torch.compile(function, dynamic=False, fullgraph=True, backend="eager")

    monkeypatch.setattr("sonosynth.gan.training.trainer.compile_function", trace)


def test_the_length_of_a_run_alone_decides_unless_it_is_set():
    auto = make_recipe("stylegan2")
    assert not any(auto.compiles(kimg) for kimg in (1.0, COMPILE_KIMG - 0.1))
    assert all(auto.compiles(kimg) for kimg in (COMPILE_KIMG, 300.0))
    assert make_recipe("stylegan2", compile="on").compiles(0.1)
    assert not make_recipe("stylegan2", compile=False).compiles(1000.0), "YAML reads the word off as false"
    assert auto.compile_plan(10) == "compile: off, since the run is not at least 30 kimg long"
    assert make_recipe("projected", compile=True).compile_plan(1) == "compile: on, as set"
    with pytest.raises(RecipeError, match="compile"):
        make_recipe("stylegan2", compile="perhaps")


def test_without_a_compiler_nothing_is_begun(small_set, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    recipe = make_recipe("stylegan2", compile="on")
    with pytest.raises(RecipeError, match=r"no C\+\+ compiler"):
        train_run(small_set, recipe, tmp_path / "run", kimg=0.1, conditional=True, device=CPU)
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("name", list(NARROW))
def test_a_compiled_step_is_the_step(name, small_set, traced):
    plain, fast = (
        Trainer(small_set, run_config(small_set, make_recipe(name, **NARROW[name]), conditional=True, seed=0), CPU)
        for _ in range(2)
    )
    before = fast.state_dict()["generator"]
    weights = {key: value.clone() for key, value in before.items()}
    fast.compile()
    assert all(torch.equal(value, weights[key]) for key, value in fast.state_dict()["generator"].items())
    assert fast.step_count == 0
    expected, found = plain.step(), fast.step()
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0.05, atol=0.02, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.slow
def test_a_compiled_run_resumes_exactly_and_says_how_long_compiling_took(small_set, tmp_path, monkeypatch):
    narrow = NARROW["stylegan2-ada"] | {"path_length_weight": 0, "r1_gamma": 0}
    recipe = make_recipe("stylegan2-ada", **narrow, compile="on")

    def keep(done, total, latest):
        if round(done * 1000) == 28:
            shutil.copytree(tmp_path / "straight", tmp_path / "cut")  # as a kill after this step would leave it

    monkeypatch.setattr(train_module, "SAVE_SECONDS", 0.0)
    arguments = {"kimg": 0.072, "conditional": True, "device": CPU}
    straight = train_run(small_set, recipe, tmp_path / "straight", progress=keep, **arguments)
    assert torch.load(tmp_path / "cut" / "state.pt", weights_only=True)["step"] == 7
    resumed = train_run(small_set, recipe, tmp_path / "cut", **arguments)
    assert (straight / "generator.safetensors").read_bytes() == (resumed / "generator.safetensors").read_bytes()
    assert json.loads((straight / "log.jsonl").read_text().splitlines()[0])["event"].startswith("compiled in ")


class Seen(TorchDispatchMode):
    """Keeps the names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func.overloadpacket if hasattr(func, "overloadpacket") else func))
        return func(*args, **(kwargs or {}))


@pytest.mark.long
def test_an_activation_differentiated_twice_makes_no_zeros_without_memory():
    layer = EqualLinear(4, 4, activate=True)
    slope = torch.compile(torch.func.grad(lambda x: layer(x).square().sum()), backend="eager", fullgraph=True)
    gradient = slope(torch.randn(3, 4))
    with Seen() as seen:
        gradient.square().sum().backward()
    assert "aten.mm" in seen.names and "aten._efficientzerotensor" not in seen.names


@pytest.mark.slow
def test_bfloat16_changes_a_run_less_than_another_seed_does():
    data = blobs(24, 32)
    recipe = make_recipe("stylegan2", **{**NARROW["stylegan2-ada"], "ada_kimg": None}, ada_policy=None)

    def outcome(seed: int) -> np.ndarray:
        trainer = Trainer(data, run_config(data, recipe, conditional=True, seed=seed), CPU)
        losses = [[float(s[key]) for key in ("loss_d", "loss_g")] for s in (trainer.step() for _ in range(20))]
        made = synthesise(trainer.ema, np.arange(64) % 2, conditional=True, seed=0).astype(float)
        return np.array([*np.mean(losses[10:], axis=0), made.mean() / 255, made.std() / 255])

    with bfloat16(True):
        fast = [outcome(seed) for seed in range(2)]
    with bfloat16(False):
        slow = [outcome(seed) for seed in range(3)]
    spread = np.maximum(np.ptp(slow, axis=0), 0.02)
    for low, full in zip(fast, slow, strict=False):
        assert (np.abs(low - full) < spread / 2).all(), (fast, slow)
