"""Runs that start from another run or from a prior."""

import json

import pytest
import torch
import yaml
from PIL import Image

from image_sets import blobs
from made_up_priors import TINY, made_up_prior
from sonosynth.core.errors import MixedSizesError, PriorError, RecipeError, RunError
from sonosynth.gan.checkpoint import run_config
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.sample import generate
from sonosynth.gan.train import train
from sonosynth.gan.training.trainer import Trainer
from sonosynth.gan.training.transfer import class_dimensions, describe_prior, transfer, with_prior
from sonosynth.priors.prior import read_prior

CPU = torch.device("cpu")
NARROW = {
    "stylegan2": {"channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4},
    "fastgan": TINY,
    "projected": {"ngf": 8, "ndf": 8, "z_dim": 8, "batch": 4, "feature_px": 128},
    "r3gan": {"channel_base": 512, "channel_max": 8, "z_dim": 8, "batch": 4},
}


def narrow(name: str, **settings) -> Recipe:
    known = type(make_recipe(name)).model_fields
    return make_recipe(name, **{key: value for key, value in NARROW[name].items() if key in known} | settings)


def trainer(recipe: Recipe, data) -> Trainer:
    return Trainer(data, run_config(data, recipe, conditional=True, seed=5), CPU)


@pytest.fixture
def prior(tmp_path):
    """A prior of the classes dark, grey and light."""
    return made_up_prior(tmp_path / "noise", blobs(4, classes=("dark", "grey", "light")))


@pytest.mark.parametrize("name", NARROW)
def test_classes_are_taken_over_by_name_and_new_ones_are_the_mean(name, tmp_path):
    recipe = narrow(name)
    folder = made_up_prior(tmp_path / "prior", blobs(4, classes=("dark", "grey", "light")), recipe)
    networks = read_prior(folder).weights()
    found = trainer(recipe, blobs(4, classes=("Light", "other", "dark")))
    told = transfer(found, folder)
    assert told["left"] == [] and told["classes"] == {"Light": "light", "other": "the mean of all", "dark": "dark"}
    along = class_dimensions(found.config)
    assert along and {key.partition(".")[0] for key in along} == {"generator", "discriminator"}
    for network, source in networks.items():
        for key, tensor in getattr(found, network).state_dict().items():
            dimension = along.get(f"{network}.{key}")
            if dimension is None:
                assert torch.equal(tensor, source[key]), key
                continue
            rows = [source[key].select(dimension, i) for i in range(3)]
            expected = torch.stack([rows[2], torch.stack(rows).mean(0), rows[0]], dimension)
            assert torch.allclose(tensor, expected), key
    assert all(torch.equal(a, b) for a, b in zip(found.ema.parameters(), found.generator.parameters(), strict=True))


def test_runs_per_class_take_the_class_of_their_name(prior, tmp_path):
    run = train(
        blobs(4, classes=("grey", "light")), "fastgan", tmp_path / "run", start=prior, kimg=0.004, settings=TINY
    )
    told = json.loads((run.directory / "light" / "transfer.json").read_text())
    assert told["classes"] == {"light": "light"} and not told["left"]
    assert told["source"] == read_prior(prior).card.sha256
    assert generate(run, 6).class_counts == {"grey": 3, "light": 3}


def test_networks_are_those_of_the_prior_and_the_run_goes_on(prior, tmp_path):
    data, lines = blobs(4), list[str]()
    settings = {"perceptual": "l1"}
    for kimg in (0.008, 0.016):
        run = train(
            data, "fastgan+prior", tmp_path / "run", start=str(prior), kimg=kimg, settings=settings, tell=lines.append
        )
    recorded = yaml.safe_load((run.directory / "recipe.yaml").read_text())
    assert recorded["recipe"]["ngf"] == 4 and recorded["recipe"]["prior"] == str(prior)
    assert recorded["start"] == read_prior(prior).card.sha256
    assert run.log()[-1]["kimg"] == 0.016
    assert "from prior 'noise': 1 kimg on 12 images of noise (dark, grey, light)" in lines[0]
    assert "cite what it was trained on: Nobody, Noise, 2026" in lines[0]
    once = train(data, "fastgan+prior", tmp_path / "once", start=prior, kimg=0.016, settings=settings)
    ours, theirs = (path.directory / "generator.safetensors" for path in (run, once))
    assert ours.read_bytes() == theirs.read_bytes()


def test_new_classes_are_told(prior):
    (line, _) = describe_prior(narrow("fastgan", prior=str(prior)), ("dark", "cyst", "mass"))
    assert line.endswith("(dark, grey, light); cyst, mass start from the mean of these")
    assert describe_prior(narrow("fastgan"), ("dark",)) == []


REFUSED = {
    "width": ({"ngf": 8}, "has networks with ngf = 4, not 8; leave that setting out"),
    "size": ({"size": 64}, "is a generator of the family 'fastgan' for 32 px, not 'fastgan' for 64 px"),
    "family": ({"gan": "projected"}, "is a generator of the family 'fastgan' for 32 px, not 'projected' for 32 px"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_prior_that_does_not_fit_is_refused_before_anything_is_written(case, prior, tmp_path):
    change, message = dict(REFUSED[case][0]), REFUSED[case][1]
    gan, data = change.pop("gan", "fastgan"), blobs(4, size=change.pop("size", 32))
    with pytest.raises(PriorError, match=message):
        train(data, gan, tmp_path / "run", start=prior, kimg=0.004, settings=change)
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_one_thing(prior, tmp_path):
    train(blobs(4), "fastgan", tmp_path / "first", kimg=0.004, settings=TINY, conditional=True)
    with pytest.raises(RunError, match=r"would start from prior .* and .*first"):
        train(blobs(4), "fastgan", tmp_path / "run", start=tmp_path / "first", settings=TINY | {"prior": str(prior)})
    with pytest.raises(RunError, match=r"would start from prior .* and"):
        train(blobs(4), "fastgan", tmp_path / "run", start=prior, settings=TINY | {"prior": str(prior)})
    with pytest.raises(RunError, match=r"would start from its own pretraining .* and prior"):
        train(blobs(4), "fastgan+phantom", tmp_path / "run", start=prior, settings=TINY)
    with pytest.raises(PriorError, match="no prior 'nowhere'; known:"):
        train(blobs(4), "fastgan", tmp_path / "run", start="prior:nowhere", settings=TINY)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", NARROW)
def test_frozen_stages_of_the_discriminator_do_not_move(name):
    recipe = narrow(name, freeze_discriminator=1)
    found = trainer(recipe, blobs(4))
    frozen = {id(p) for module in found.discriminator.stages_from_image()[0] for p in module.parameters()}
    before = {key: p.clone() for key, p in found.discriminator.named_parameters()}
    found.step()
    moved = {key: not torch.equal(p, before[key]) for key, p in found.discriminator.named_parameters()}
    assert frozen and any(moved.values())
    for key, parameter in found.discriminator.named_parameters():
        assert not (id(parameter) in frozen and moved[key]), key
    with pytest.raises(RecipeError, match=r"freeze_discriminator = 99: its discriminator for 32 px has \d stages"):
        narrow(name, freeze_discriminator=99).build_discriminator(32, 2)


@pytest.mark.parametrize("name", NARROW)
def test_the_discriminator_has_a_rate_of_its_own(name):
    data = blobs(4)
    plain, slow = (trainer(narrow(name, discriminator_rate=rate), data).optimizers for rate in (1.0, 0.25))
    rates = [{key: optimizer.param_groups[0]["lr"] for key, optimizer in both.items()} for both in (plain, slow)]
    assert rates[1]["discriminator"] == pytest.approx(rates[0]["discriminator"] / 4)
    assert rates[1]["generator"] == rates[0]["generator"]


def test_settings_of_fine_tuning_are_recorded_where_they_are_used(prior):
    names = {"prior", "freeze_discriminator", "discriminator_rate"}
    assert not names & narrow("fastgan").record().keys()
    used = with_prior(narrow("fastgan", prior=str(prior), freeze_discriminator=1, discriminator_rate=0.5), 32)
    assert names <= used.record().keys()


def test_images_of_any_size_are_brought_to_that_of_the_prior(prior, tmp_path):
    for i, side in enumerate((40, 48, 50, 50)):
        folder = tmp_path / "images" / ("dark" if i % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blobs(1, size=side).images[0]).save(folder / f"{i}.png")
    lines = list[str]()
    how = {"kimg": 0.004, "settings": {"perceptual": "l1"}}
    train(tmp_path / "images", "fastgan+prior", tmp_path / "run", start=prior, tell=lines.append, **how)
    assert "on 4 images of 32 px" in lines[0]
    with pytest.raises(MixedSizesError, match=r"or bring it to one size here \(--size 64\)"):
        train(tmp_path / "images", "fastgan", tmp_path / "other", **how)
    train(tmp_path / "images", "fastgan", tmp_path / "sized", size=32, kimg=0.004, settings=TINY)
    with pytest.raises(PriorError, match="for 32 px, not 'fastgan' for 64 px"):
        train(tmp_path / "images", "fastgan+prior", tmp_path / "other", start=prior, size=64, **how)
