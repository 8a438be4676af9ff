"""`train` and `generate` as a Python user calls them, without the command line."""

import os

import pytest

from sonosynth.core.errors import ClassError, RecipeError, RunError
from sonosynth.gan.checkpoint import Run
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.sample import generate
from sonosynth.gan.train import train

TINY = {"channel_base": 512, "channel_max": 16, "z_dim": 16, "w_dim": 16, "batch": 4}
SHORT = {"settings": TINY, "kimg": 0.008}


@pytest.mark.long
def test_images_or_their_folder_give_the_same_run(small_set, tmp_path):
    small_set.save(tmp_path / "images")
    runs = [
        train(data, "stylegan2", tmp_path / name, conditional=True, **SHORT)
        for data, name in ((small_set, "a"), (tmp_path / "images", "b"), (str(tmp_path / "images"), "c"))
    ]
    files = {(run.directory / "generator.safetensors").read_bytes() for run in runs}
    assert len(files) == 1
    assert runs[0].classes == ("dark", "light")
    assert [line["kimg"] for line in runs[0].log()] == [0.008]


@pytest.mark.long
def test_a_run_stands_for_its_directory(small_set, tmp_path):
    run = train(small_set, make_recipe("stylegan2", **TINY), tmp_path / "run", kimg=0.008, conditional=True)
    assert os.fspath(run) == str(tmp_path / "run") and repr(run) == f"Run('{tmp_path / 'run'}')"
    same = generate(run, 3, seed=1), generate(str(tmp_path / "run"), 3, seed=1)
    assert (same[0].images == same[1].images).all()
    more = train(small_set, "stylegan2", tmp_path / "more", start=run, conditional=True, **SHORT)
    assert (more.directory / "transfer.json").is_file()


@pytest.mark.long
def test_a_run_per_class_lists_all_its_lines(small_set, tmp_path):
    told: list[str] = []
    run = train(small_set, "stylegan2", tmp_path / "run", conditional=False, tell=told.append, **SHORT)
    assert run.classes == ("dark", "light")
    assert [line["run"] for line in run.log()] == ["dark", "light"]
    assert len(told) == 1 and "0.008 kimg per class, batch 4, seed 0, mode per_class" in told[0]
    train(small_set, "stylegan2", tmp_path / "run", conditional=False, tell=told.append, **SHORT)
    assert told[1].endswith("nothing to do; more of either goes on")


def test_the_best_generator_is_kept_where_a_distance_is_given(small_set, tmp_path):
    seen = []
    run = train(
        small_set,
        "stylegan2",
        tmp_path / "run",
        class_name="dark",
        distance_to=lambda data: lambda images: seen.append((len(data), images.shape)) or 1.0,
        **SHORT,
    )
    assert seen == [(10, (128, 32, 32))]
    assert generate(run, 2, snapshot="best").class_counts == {"dark": 2}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"class_name": "dark", "conditional": True}, RecipeError, "leave one of them out"),
        ({"class_name": "drak"}, ClassError, "did you mean 'dark'"),
        ({"patience_kimg": 1.0}, RecipeError, "give distance_to too"),
        ({"settings": {"chanel_base": 1}}, RecipeError, "did you mean 'channel_base'"),
        ({"devices": 3}, RecipeError, "3 processes need a multiple of"),
        ({"kimg": float("inf")}, RunError, "kimg must be a number above 0"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(small_set, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        train(small_set, "stylegan2", tmp_path / "run", **(SHORT | arguments))
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_generator_is_told(tmp_path):
    with pytest.raises(RunError, match="holds no generator"):
        Run(tmp_path).log()
