"""Whole commands, as a user types them, on tiny images."""

import errno
import json
import resource
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from image_sets import blobs
from sonosynth.cli.main import app
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.train import train_runs
from sonosynth.study.study_file import load_design
from tiny_classifier import QUICK
from tiny_classifier import tiny_network as tiny_network

TINY = [
    "--set",
    "channel_base=512",
    "--set",
    "channel_max=8",
    "--set",
    "z_dim=8",
    "--set",
    "w_dim=8",
    "--set",
    "batch=4",
]


def sonosynth(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """Run a command that must fail with exit status 2 and one line, and return the line."""
    result = sonosynth(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.output
    return lines[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "prepared"
    blobs(30).save(folder)
    return folder


@pytest.fixture(scope="module")
def run(images, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    result = sonosynth("train", images, "--gan", "stylegan2", "--out", out, "--kimg", 0.02, "--conditional", *TINY)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(out)
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    return out


def test_from_a_folder_of_photographs_to_scores_and_a_classifier(tmp_path):
    for label, level in (("cyst", 40), ("mass", 200)):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for i, image in enumerate(blobs(10, size=32, classes=("a", "b"), seed=level).images):
            picture = Image.fromarray(image // 2 + level // 2).resize((40 + i % 3, 33))
            picture.save(tmp_path / "mine" / label / f"{i}.jpg")
    prepared, run, made = tmp_path / "prepared", tmp_path / "run", tmp_path / "made"
    assert "next: sonosynth data prepare" in sonosynth("data", "info", tmp_path / "mine").output
    assert sonosynth("data", "prepare", tmp_path / "mine", "--out", prepared, "--size", 32).exit_code == 0
    train = ("train", prepared, "--gan", "stylegan2-diffaug", "--out", run, "--kimg", 0.01, "--conditional", "-n", 24)
    assert sonosynth(*train, "--track", "none", *TINY).exit_code == 0
    assert not (run / "tensorboard").exists()
    assert sonosynth("generate", run, "--out", made, "-n", 24).exit_code == 0
    assert ImageSet.load(made).synthetic
    shown = ("generate", run, "--out", tmp_path / "shown", "-n", 4, "--class", "cyst", "--grid", "--interpolation", 12)
    assert sonosynth(*shown).exit_code == 0
    assert Image.open(tmp_path / "shown" / "grid.png").size == (320, 32)
    assert Image.open(tmp_path / "shown" / "interpolation.png").size == (12 * 32, 32)
    assert Image.open(tmp_path / "shown" / "interpolation.gif").n_frames > 1
    sheets = [*(tmp_path / "shown").glob("*.png"), *(run / "samples").glob("*.png")]
    assert len(sheets) > 2 and all("synthetic" in Image.open(path).info["Source"] for path in sheets)
    assert b"synthetic" in Image.open(tmp_path / "shown" / "interpolation.gif").info["comment"]
    assert ImageSet.load(tmp_path / "shown").class_counts == {"cyst": 4}
    scored = sonosynth("score", prepared, made, "--out", tmp_path / "score.json", "--json")
    assert scored.exit_code == 0, scored.output
    assert {row["metric"] for row in json.loads((tmp_path / "score.json").read_text())} >= {"frechet_distance"}
    blobs(10, classes=("cyst", "mass"), seed=9).save(tmp_path / "test")
    options = ("--synthetic", made, "--arm", "real+synthetic", "--ratio", 0.5, "--steps", 20, "--json")
    classified = sonosynth("classify", prepared, "--test", tmp_path / "test", *options)
    assert classified.exit_code == 0, classified.output
    assert json.loads(classified.stdout)["n_synthetic"] == 20
    assert "are also training images" in refused("classify", prepared, "--test", prepared, "--arm", "real")


def test_train_and_generate_say_what_is_wrong(images, run, tmp_path):
    assert "did you mean 'stylegan2'" in refused("train", images, "--gan", "stylgan2", "--out", tmp_path / "x")
    track = ("train", images, "--gan", "stylegan2", "--out", tmp_path / "x", "--track")
    assert "'foo' is not one of 'tensorboard', 'csv', 'mlflow', 'wandb', 'none'" in refused(*track, "foo")
    assert "--track none is for no tracker" in refused(*track, "none", "--track", "csv")
    assert "no such option: --no-tensorboard; see 'sonosynth train --help'" in refused(*track[:-1], "--no-tensorboard")
    assert "KEY=VALUE" in refused("train", images, "--gan", "stylegan2", "--out", tmp_path / "x", "--set", "batch")
    assert "belongs to another run" in refused("train", images, "--gan", "stylegan2", "--out", run, "--conditional")
    assert "known: dark, light" in refused("generate", run, "--out", tmp_path / "x", "-n", 4, "--class", "drak")
    assert "not empty" in refused("generate", run, "--out", images, "-n", 4)
    assert "did you mean 'dark'" in refused(
        "train", images, "--gan", "stylegan2", "--out", tmp_path / "x", "--class", "drk"
    )
    train = ("train", images, "--gan", "stylegan2", "--out", tmp_path / "x", *TINY)
    assert "adam_betas" in refused(*train, "--set", "adam_betas=[1.5,0.9]")
    assert "not a value in YAML" in refused(*train, "--set", "kimg=2024-99-99")
    assert "not enough memory" in refused("generate", run, "--out", tmp_path / "x", "-n", 10**14)
    assert not (tmp_path / "x").exists()


def test_one_class_starts_from_the_run_of_that_class(images, tmp_path):
    recipe = make_recipe("stylegan2", channel_base=512, channel_max=8, z_dim=8, w_dim=8, batch=4)
    train_runs(ImageSet.load(images), recipe, tmp_path / "each", kimg=0.004, mode="per_class")
    train = ("train", images, "--gan", "stylegan2", "--kimg", 0.004, *TINY)
    told = sonosynth(*train, "--class", "dark", "--from", tmp_path / "each", "--out", tmp_path / "dark")
    assert told.exit_code == 0, told.output
    assert "left as initialised: nothing" in told.stderr


def test_a_first_study_file_is_written_for_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blobs(30).save(Path("My images (2)"))
    told = sonosynth("study", "new", "My images (2)", "--size", 32)
    assert told.exit_code == 0 and "next: sonosynth study plan study.yaml" in told.stdout
    design = load_design(Path("study.yaml"))
    assert (design.name, design.data.size, design.split.sizes) == ("My images _2_", 32, (20, 40))
    assert "is there already" in refused("study", "new", "My images (2)")
    blobs(8).save(Path("few"))
    assert "has 16 images of 2 classes; with fewer than 30" in refused("study", "new", "few", "--out", "few.yaml")
    assert "data.size" in refused("study", "new", "My images (2)", "--size", 63, "--out", "odd.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["My images (2)", "few", "study.yaml"]


def test_a_first_study_file_reads_a_table_as_it_was_told(tmp_path):
    images = blobs(30)
    images.save(tmp_path / "images")
    table = pd.read_csv(tmp_path / "images" / "manifest.csv").rename(columns={"label": "Pathology"})
    table.to_csv(tmp_path / "images" / "table.csv", index=False)
    told = sonosynth(
        "study", "new", tmp_path / "images" / "table.csv", "--label", "Pathology", "--out", tmp_path / "study.yaml"
    )
    assert told.exit_code == 0, told.output
    design = load_design(tmp_path / "study.yaml")
    assert (design.name, design.data.columns.label) == ("images", "Pathology")


def test_one_generator_per_class_is_checked_at_once_and_says_what_it_keeps(tmp_path):
    images = blobs(6)
    images.subset([*range(0, 12, 2), 1]).save(tmp_path / "few")
    train = ("train", "--gan", "stylegan2-ada", "--track", "none", "--per-class", *TINY, "--out", tmp_path / "run")
    assert "there is 1 of class 'light'" in refused(*train, tmp_path / "few", "--kimg", 0.004)
    study = {"name": "few", "data": {"source": str(tmp_path / "few"), "size": 32}, "split": {"sizes": [4]}}
    study |= {"gans": ["stylegan2"], "training": {"mode": "per_class"}}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(study))
    for command in ("plan", "run"):
        line = refused("study", command, tmp_path / "few.yaml", "--out", tmp_path / "study")
        assert "class 'light' has a single group (1 image), which cannot be on both sides" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few", "few.yaml"]
    images.save(tmp_path / "images")
    told = [sonosynth(*train, tmp_path / "images", "--kimg", kimg).stderr for kimg in (0.004, 0.008)]
    assert "note: ada_kimg" not in told[0] and told[1].count("note: ada_kimg = 0.001 is kept") == 1


def test_pretraining_by_recipe_is_told_and_started_from(images, run, tmp_path):
    gan = ("--gan", "stylegan2-diffaug+phantom", "--set", "pretrain_kimg=0.008", "--set", "pretrain_images=2")
    told = sonosynth("train", images, *gan, "--out", tmp_path / "run", "--kimg", 0.004, "--conditional", *TINY)
    assert told.exit_code == 0, told.output
    assert "first 0.008 kimg on phantoms, 2 of each of benign, malignant, normal, without labels" in told.stderr
    assert "tensors from pretraining; left as initialised: generator.mapping.embed.weight" in told.stderr
    assert "leave out all but one" in refused("train", images, *gan, "--out", tmp_path / "x", "--from", run)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gans": ["fastgann"]}, "no GAN 'fastgann'"),
        ({"splits": {}}, "unknown key 'splits'"),
        ({"split": {"sizes": [5000]}}, "5000"),
        ({"data": {"source": "$NOT_SET_ANYWHERE", "size": 32}}, "environment variable"),
        ({"data": {"source": "nowhere", "size": 32}}, "nowhere"),
        ({"data": {"source": "IMAGES", "size": 32, "classes": ["dark"]}}, "at least two classes"),
        ({"data": {"source": "IMAGES", "size": 32, "classes": ["dark", "lihgt"]}}, "did you mean 'light'"),
    ],
)
def test_study_says_what_is_wrong_and_writes_nothing(changes, message, images, tmp_path):
    raw = {"name": "x", "data": {"source": "IMAGES", "size": 32}, "split": {"sizes": [8]}, "gans": []} | changes
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw).replace("IMAGES", str(images)))
    for command in ("plan", "run"):
        assert message in refused("study", command, path, "--out", tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [path]


def test_plan_lists_cells_and_time_and_status_counts(images, tmp_path):
    gan = {"base": "stylegan2", "channel_base": 512, "channel_max": 8, "batch": 4}
    raw = {
        "name": "x",
        "data": {"source": str(images), "size": 32},
        "split": {"sizes": [8]},
        "gans": [gan],
        "training": {"kimg": 4000},
        "scores": {"features": ["random-conv"]},
        "classifiers": QUICK | {"arms": ["real", "real+classical"]},
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    told = sonosynth("study", "plan", path, "--out", tmp_path / "out")
    assert told.exit_code == 0, told.output
    assert "train stylegan2, n=8" in told.stdout
    assert "timing 2 of 3: train stylegan2" in told.stderr
    assert "warning: that is long" in told.stderr
    assert "power: 1 draw of the training subsets: a description only, no test" in told.stdout
    planned = json.loads(sonosynth("study", "plan", path, "--out", tmp_path / "out", "--json").stdout)
    assert [cell["kind"] for cell in planned["cells"]] == ["classify", "classify", "train", "score"]
    assert planned["seconds"] > 4 * 3600
    assert (planned["power"]["draws"], planned["power"]["single"]) == (1, None)
    assert not (tmp_path / "out").exists()
    assert "has not begun" in refused("study", "status", path, "--out", tmp_path / "out")


def test_a_full_disk_is_one_line(images, run, tmp_path, monkeypatch):
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "made"))

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("PIL.Image.Image.save", full)
    assert "the disk is full" in refused("generate", run, "--out", tmp_path / "made", "-n", 4)
    assert not list(tmp_path.iterdir())
    assert "the disk is full" in refused(
        "train", images, "--gan", "stylegan2", "--out", tmp_path / "run", "--kimg", 0.01, "--conditional", *TINY
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 1 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes\nframe #0"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_full_gpu_is_one_line(images, tmp_path, monkeypatch, error):
    def full(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("sonosynth.gan.train.train_runs", full)
    train = ("train", images, "--gan", "stylegan2", "--out", tmp_path / "run", "--kimg", 0.01, "--conditional", *TINY)
    line = refused(*train)
    assert "not enough memory" in line and "take a smaller batch" in line
    assert str(error)[:30] in line and "frame" not in line and "capacity" not in line


def test_other_errors_of_pytorch_are_no_mistake_of_the_user(images, tmp_path, monkeypatch):
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("sonosynth.gan.train.train_runs", broken)
    result = sonosynth("train", images, "--gan", "stylegan2", "--out", tmp_path / "run", "--kimg", 0.01, *TINY)
    assert result.exit_code == 1 and isinstance(result.exception, RuntimeError)


def test_an_interrupt_says_whether_the_command_goes_on(images, run, tmp_path, monkeypatch):
    def pressed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    for place in (
        "gan.train.train_runs",
        "gan.sample.generate",
        "data.prepared_folder.save_once",
        "study.plan.read_study",
        "report.study.finished.read_study",
    ):
        monkeypatch.setattr(f"sonosynth.{place}", pressed)
    train = ("train", images, "--gan", "stylegan2", "--out", tmp_path / "run", "--kimg", 0.01, "--conditional", *TINY)
    goes_on, begins = "what was finished is kept, and the same command goes on", "the same command begins anew"
    for words, told in (
        (train, goes_on),
        (("study", "run", "x.yaml"), goes_on),
        (("study", "plan", "x.yaml"), begins),
        (("data", "prepare", images, "--out", tmp_path / "x"), begins),
        (("generate", run, "--out", tmp_path / "x", "-n", 4), begins),
    ):
        result = sonosynth(*words)
        assert result.exit_code == 130 and result.stderr.splitlines()[-1].startswith(f"interrupted; {told}"), words


@pytest.mark.slow
def test_a_state_that_cannot_be_written_is_one_line_and_the_run_goes_on_later(images, tmp_path):
    train = ("train", images, "--gan", "stylegan2", "--out", tmp_path / "run", "--kimg", 0.004, "--conditional", *TINY)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        line = refused(*train)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "state.pt: larger than a file may be" in line
    assert not list((tmp_path / "run").glob("*state.pt*"))
    assert sonosynth(*train).exit_code == 0


def test_an_out_that_cannot_be_made_is_one_line(images, tmp_path):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "run"
    assert "cannot be written" in refused("train", images, "--gan", "stylegan2", "--out", out, "--kimg", 0.01, *TINY)
    assert "cannot be" in refused("data", "prepare", images, "--out", out, "--size", 32)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "IMAGES"), "missing option '--gan'; see 'sonosynth train --help'"),
        (("generate", "IMAGES", "--out", "x", "-n", 0), "greater than or equal to 1; see 'sonosynth generate --help'"),
        (("nonsense",), "no such command 'nonsense'; see 'sonosynth --help'"),
        (("trian",), "(did you mean 'train'?)"),
        (("--nonsense",), "no such option: --nonsense"),
        (("data", "prepare"), "missing argument 'SOURCE'; see 'sonosynth data prepare --help'"),
        (("train", "IMAGES", "--gan", "stylegan2", "--out", "OUT", "--set", "batch=["), "not a value in YAML"),
        (("train", "IMAGES", "--gan", "stylegan2", "--out", "OUT", "--set", "x={a: 1, a: 2}"), "key 'a' stands twice"),
        (("train", "IMAGES", "--gan", "stylegan2", "--out", "OUT", "--set", "=3"), "give it as KEY=VALUE"),
        (("train", "IMAGES", "--gan", "stylegan2", "--out", "OUT", "--set", "base=x"), "no setting 'base'"),
        (("train", "IMAGES", "--gan", "fastgan", "--out", "OUT", "--class", "dark", "--conditional"), "leave one of"),
        (("train", "IMAGES", "--gan", "stylegan2", "--out", "OUT", "--kimg", "inf"), "above 0, not inf"),
        (("train", "IMAGES", "--gan", "stylegan2", "--out", "IMAGES", "--kimg", 1), "is not empty and holds"),
        (("classify", "IMAGES", "--test", "IMAGES", "--arm", "real", "--ratio", 1), "give some (--synthetic)"),
        (("classify", "IMAGES", "--test", "IMAGES", "--out", "IMAGES"), "is a folder"),
        (("report", "OUT"), "OUT"),
    ],
)
def test_mistakes_in_the_words_of_a_command_are_one_line(words, message, images, tmp_path):
    places = {"IMAGES": str(images), "OUT": str(tmp_path / "out")}
    result = sonosynth(*(places.get(word, word) for word in words))
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.output
    assert places.get(message, message) in result.stderr
    assert not list(tmp_path.iterdir())
