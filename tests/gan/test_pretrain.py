"""Recipes that train on phantoms first."""

import json
import signal

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from image_sets import blobs
from sonosynth.core.errors import RunError
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.sample import generate
from sonosynth.gan.train import train_runs
from sonosynth.gan.training.loop import train_run
from sonosynth.gan.training.transfer import Pretraining, describe_pretraining, pretraining_for, pretrainings
from sonosynth.phantoms.phantom import CLASSES, phantom

STYLEGAN2 = {"channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}
FASTGAN = {"ngf": 8, "ndf": 8, "z_dim": 8, "batch": 4, "perceptual": "l1"}


def tiny(name: str = "stylegan2-diffaug", **settings):
    width = STYLEGAN2 if name.startswith("stylegan2") else FASTGAN
    return make_recipe(name, **(width | settings))


def pretrained(name: str = "stylegan2-diffaug+phantom", **settings):
    return tiny(name, **({"pretrain_kimg": 0.024, "pretrain_images": 4} | settings))


def weights(run) -> dict[str, torch.Tensor]:
    return load_file(run / "generator.safetensors")


def assert_equal_runs(run, other) -> None:
    for file in ("generator.safetensors", "recipe.yaml", "transfer.json"):
        assert (run / file).read_bytes() == (other / file).read_bytes(), file


@pytest.fixture
def lesions() -> ImageSet:
    """Twenty-four images of the classes that the phantom knows, in another order."""
    return blobs(8, classes=("normal", "malignant", "benign"))


def test_classes_are_matched_by_name_or_phantoms_are_shown_without_labels():
    assert pretraining_for(("normal", "benign"), True) == Pretraining(("normal", "benign"), True)
    assert pretraining_for(("Malignant",), False) == Pretraining(("malignant",), False)
    assert pretraining_for(("benign", "cyst"), True) == Pretraining(CLASSES, False)
    assert pretraining_for(("benign", "Benign"), True) == Pretraining(CLASSES, False)
    names = {pretraining_for(*run).name for run in [(CLASSES, True), (("benign",), False), (("cyst",), False)]}
    assert names == {"benign-malignant-normal", "benign", "benign-malignant-normal-unlabelled"}
    assert len(pretrainings(("benign", "cyst", "fibroadenoma"), conditional=False)) == 2


def test_the_user_is_told():
    recipe = pretrained()
    assert describe_pretraining(recipe, ("normal", "benign"), True) == [
        "first 0.024 kimg on phantoms, 4 of each of normal, benign"
    ]
    assert describe_pretraining(recipe, ("cyst", "mass"), False) == [
        "first 0.024 kimg on phantoms, 4 of each of benign, malignant, normal, without labels"
    ]
    assert describe_pretraining(tiny(), ("cyst", "mass"), False) == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["stylegan2-diffaug", "fastgan"])
def test_by_recipe_is_the_same_as_by_hand(name, lesions, tmp_path):
    first = train_run(phantom(4, 32, 0, lesions.classes), tiny(name), tmp_path / "first", kimg=0.024, conditional=True)
    by_hand = train_run(lesions, tiny(name), tmp_path / "hand", kimg=0.02, conditional=True, seed=3, start=first)
    run = train_run(lesions, pretrained(f"{name}+phantom"), tmp_path / "run", kimg=0.02, conditional=True, seed=3)
    ours, theirs = weights(run), weights(by_hand)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    told = json.loads((run / "transfer.json").read_text())
    assert told["left"] == []
    recorded = yaml.safe_load((run / "recipe.yaml").read_text())
    assert recorded["recipe"]["pretrain_kimg"] == 0.024
    assert recorded["recipe"]["pretrain_images"] == 4
    apart = train_run(lesions, tiny(name), tmp_path / "apart", kimg=0.02, conditional=True, seed=3)
    assert not all(torch.equal(ours[key], value) for key, value in weights(apart).items())


@pytest.mark.long
def test_a_run_cut_anywhere_ends_as_one_that_was_not(lesions, tmp_path):
    arguments = {"conditional": True, "seed": 1}
    straight = train_run(lesions, pretrained(), tmp_path / "straight", kimg=0.04, **arguments)

    def press_at(kimg, of):
        def press(done, total, latest):
            if (round(done, 6), round(total, 6)) == (kimg, of):
                signal.raise_signal(signal.SIGINT)

        return press

    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):  # in pretraining, whose state is saved
        train_run(lesions, pretrained(), cut, kimg=0.04, progress=press_at(0.012, 0.024), **arguments)
    with pytest.raises(RunError, match="holds no generator"):
        generate(cut, 4)

    def die(done, total, latest):
        if round(total, 6) == 0.04:
            raise MemoryError

    with pytest.raises(MemoryError):  # after the weights were taken, before any state was saved
        train_run(lesions, pretrained(), cut, kimg=0.04, progress=die, **arguments)
    assert not (cut / "state.pt").exists()
    with pytest.raises(KeyboardInterrupt):
        train_run(lesions, pretrained(), cut, kimg=0.04, progress=press_at(0.02, 0.04), **arguments)
    assert_equal_runs(train_run(lesions, pretrained(), cut, kimg=0.04, **arguments), straight)


@pytest.mark.long
def test_a_longer_kimg_goes_on_and_needs_no_pretraining_any_more(lesions, tmp_path):
    import shutil

    straight = train_run(lesions, pretrained(), tmp_path / "straight", kimg=0.04, conditional=True)
    run = train_run(lesions, pretrained(), tmp_path / "run", kimg=0.02, conditional=True)
    shutil.rmtree(run / "pretraining")
    assert_equal_runs(train_run(lesions, pretrained(), run, kimg=0.04, conditional=True), straight)
    assert not (run / "pretraining").exists()


@pytest.mark.long
def test_classes_that_no_phantom_has_start_from_an_unconditional_generator(small_set, tmp_path):
    run = train_run(small_set, pretrained(), tmp_path / "run", kimg=0.008, conditional=True)
    first = run / "pretraining" / "benign-malignant-normal-unlabelled"
    recorded = yaml.safe_load((first / "run" / "recipe.yaml").read_text())
    assert (recorded["conditional"], recorded["classes"]) == (False, list(CLASSES))
    assert ImageSet.load(first / "phantoms").class_counts == dict.fromkeys(CLASSES, 4)
    told = json.loads((run / "transfer.json").read_text())
    assert "generator.layers.0.conv.weight" in told["taken"]
    assert "generator.mapping.embed.weight" in told["left"]


@pytest.mark.long
def test_classes_of_one_data_set_share_what_they_can(tmp_path):
    data = blobs(6, classes=("benign", "cyst", "lipoma"))
    train_runs(data, pretrained(), tmp_path / "run", kimg=0.008, mode="per_class")
    shared = tmp_path / "run" / "pretraining"
    assert sorted(path.name for path in shared.glob("[!.]*")) == ["benign", "benign-malignant-normal-unlabelled"]
    made = generate(tmp_path / "run", 6)
    assert made.class_counts == {"benign": 2, "cyst": 2, "lipoma": 2}


@pytest.mark.long
def test_seeds_of_pretraining_and_of_the_run_are_apart(lesions, tmp_path):
    runs = {}
    for seed, pretrain_seed in ((0, 0), (1, 0), (0, 1)):
        recipe, out = pretrained(pretrain_seed=pretrain_seed), tmp_path / f"{seed}-{pretrain_seed}"
        runs[seed, pretrain_seed] = train_run(lesions, recipe, out, kimg=0.004, conditional=True, seed=seed)
    source = {key: json.loads((run / "transfer.json").read_text())["source"] for key, run in runs.items()}
    assert source[0, 0] == source[1, 0] != source[0, 1]
    assert not np.array_equal(*(generate(runs[key], 4).images for key in ((0, 0), (1, 0))))


@pytest.mark.long
def test_runs_of_any_length_share_a_pretraining(lesions, tmp_path):
    recipe = tiny("stylegan2-ada", pretrain_kimg=0.008, pretrain_images=2)
    runs = [
        train_run(lesions, recipe, tmp_path / f"{kimg}", kimg=kimg, conditional=True, pretraining=tmp_path / "shared")
        for kimg in (0.004, 0.008)
    ]
    first, second = (json.loads((run / "transfer.json").read_text())["source"] for run in runs)
    assert first == second
    ada_kimg = [yaml.safe_load((run / "recipe.yaml").read_text())["recipe"]["ada_kimg"] for run in runs]
    assert ada_kimg == [0.001, 0.002]
    (shared,) = (tmp_path / "shared").glob("*/run/recipe.yaml")
    assert yaml.safe_load(shared.read_text())["recipe"]["ada_kimg"] == 0.002


def test_two_starts_are_refused_before_anything_is_written(lesions, tmp_path):
    with pytest.raises(RunError, match=r"would start from its own pretraining .* and"):
        train_run(lesions, pretrained(), tmp_path / "run", kimg=0.004, conditional=True, start=tmp_path)
    assert not (tmp_path / "run").exists()


def test_recipes_without_pretraining_record_nothing_of_it():
    assert not [key for key in tiny().record() if key.startswith("pretrain")]
    assert {"pretrain_kimg", "pretrain_images", "pretrain_seed"} <= set(pretrained().record())


@pytest.mark.long
def test_a_run_a_class_keeps_its_pretraining_beside_it_whatever_the_class_is_called(tmp_path):
    data = blobs(8, classes=("pretraining", "benign"))
    runs = train_runs(data, pretrained(), tmp_path / "run", kimg=0.004, mode="per_class")
    again = train_runs(data, pretrained(), tmp_path / "run", kimg=0.004, mode="per_class")
    assert runs == again and set(generate(tmp_path / "run", 4).classes) == set(data.classes)
    kept = {path.name for path in (tmp_path / "run" / "pretraining").iterdir() if path.is_dir()}
    assert kept == {"benign", "benign-malignant-normal-unlabelled"}
