"""The how-to page on new families: its code is taken from the page, registered and trained."""

import importlib.util
import json
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recipes_page import all_papers, meaning_of, source_of
from sonosynth.core.draws import Draws
from sonosynth.core.errors import RecipeError
from sonosynth.data.imageset import ImageSet
from sonosynth.gan import registry
from sonosynth.gan.checkpoint import load_generator
from sonosynth.gan.recipe import Batch
from sonosynth.gan.registry import families, list_gans, make_recipe, register_gan
from sonosynth.gan.sample import generate
from sonosynth.gan.train import train_runs
from sonosynth.gan.training.loop import train_run

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-generator.md"
CPU = torch.device("cpu")
NARROW = {"width": 2, "z_dim": 8, "batch": 4}


@pytest.fixture
def family(tmp_path, monkeypatch):
    """The family of the page: its file imported, its recipe registered as the page says, until the test ends."""
    file, registration = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "wgan.py").write_text(file, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("sonosynth.gan.wgan", tmp_path / "wgan.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    known = set(list_gans())
    for table in ("_recipes", "_families"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    exec(registration, {})
    (name,) = set(list_gans()) - known
    return name


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that gives an installed package an entry point of GANs: a module with this text."""
    for table in ("_recipes", "_families"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    monkeypatch.syspath_prepend(tmp_path)

    def install(text: str) -> None:
        (tmp_path / "gan_of_another_package.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, "gan_of_another_package", raising=False)
        point = EntryPoint("other", "gan_of_another_package", registry.ENTRY_POINTS)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else [])

    return install


def test_an_entry_point_of_another_package_is_listed_and_known(installed):
    known = list_gans()
    installed(
        "from sonosynth.gan.registry import register_gan\n"
        "from sonosynth.gan.stylegan2.recipe import StyleGAN2Recipe\n"
        "register_gan(StyleGAN2Recipe(name='other', batch=8))\n"
    )
    registry._load_families.__wrapped__()
    assert list_gans() == (*known, "other")
    assert make_recipe("other", z_dim=4).batch == 8


def test_an_entry_point_that_cannot_be_imported_is_one_line_that_names_it(installed):
    installed("import no_such_module\n")
    with pytest.raises(
        RecipeError, match=r"'gan_of_another_package' of the entry points sonosynth\.gans cannot be imp"
    ):
        registry._load_families.__wrapped__()


@pytest.mark.parametrize("n_classes", [0, 3])
@pytest.mark.parametrize("size", [32, 128])
def test_it_runs_forwards_and_backwards(n_classes, size, family):
    recipe = make_recipe(family, **NARROW)
    generator, discriminator = recipe.build_generator(size, n_classes), recipe.build_discriminator(size, n_classes)
    labels = torch.arange(4) % n_classes if n_classes else None
    z, noise = torch.randn(4, generator.z_dim), torch.randn(4, generator.noise_length)
    images = generator(z, labels, noise)
    assert (images.shape, images.dtype) == ((4, 1, size, size), torch.float32)
    assert torch.equal(images, generator(z, labels, noise))
    objective = recipe.build_objective(generator, discriminator)
    for phase in objective.phases():
        batch = Batch(torch.randn(4, 1, size, size), labels, labels, Draws(0, phase.name, 0, CPU))
        loss, statistics = phase.loss(batch)
        loss.backward()
        network = generator if phase.network == "generator" else discriminator
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        assert statistics and not any(value.requires_grad for value in statistics.values())
    assert len(objective.discriminate(images, labels)) == 4


@pytest.mark.long
@pytest.mark.parametrize("conditional", [True, False])
def test_it_trains_resumes_exactly_saves_and_loads(conditional, family, small_set, tmp_path):
    recipe, data = make_recipe(family, **NARROW), small_set if conditional else small_set.of_class("dark")
    straight = train_run(data, recipe, tmp_path / "straight", kimg=0.06, conditional=conditional)
    train_run(data, recipe, tmp_path / "cut", kimg=0.028, conditional=conditional)
    resumed = train_run(data, recipe, tmp_path / "cut", kimg=0.06, conditional=conditional)
    for file in ("generator.safetensors", "recipe.yaml"):
        assert (straight / file).read_bytes() == (resumed / file).read_bytes()
    network, config = load_generator(straight / "generator.safetensors", CPU)
    assert config.recipe == recipe
    stored = load_file(straight / "generator.safetensors")
    assert all(torch.equal(network.state_dict()[name], value) for name, value in stored.items())
    fresh = recipe.build_generator(32, config.n_classes)
    assert not torch.equal(network.first.weight, fresh.first.weight)
    assert len(generate(straight, 5, seed=1)) == 5


def test_it_takes_part_in_everything_else(family, small_set, tmp_path):
    recipe = make_recipe(family, **NARROW, pretrain_kimg=0.008, pretrain_images=2, lecam_weight=0.3)
    runs = train_runs(small_set, recipe, tmp_path / "run", kimg=0.008, mode="per_class")
    assert isinstance(generate(tmp_path / "run", 4), ImageSet)
    logged = [json.loads((run / "log.jsonl").read_text().splitlines()[-1]) for run in runs]
    assert all({"loss_g", "loss_d", "lecam"} <= set(entry) for entry in logged)
    with pytest.raises(RecipeError, match=r"no setting 'critic_stepps' .did you mean 'critic_steps'"):
        make_recipe(family, critic_stepps=2)


def test_its_settings_are_documented(family):
    described = families()[make_recipe(family).family]
    for setting in set(described.model_fields) - {"name", "family"}:
        assert meaning_of(described, setting)
        assert source_of(described, setting).startswith((*all_papers(), "ours: "))


def test_a_name_is_registered_once(family):
    with pytest.raises(RecipeError, match=f"'{family}' is registered already"):
        register_gan(make_recipe(family))
