"""``sonosynth release`` and ``sonosynth verify``, as a user types them."""

import pytest
from typer.testing import CliRunner, Result

from image_sets import blobs
from made_up_runs import made_up_run
from sonosynth.cli.main import app

pytestmark = pytest.mark.long


def sonosynth(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_release_is_made_verified_and_refused_as_held_out_images(tmp_path):
    train, held_out = blobs(14, seed=1), blobs(11, seed=2)
    train.save(tmp_path / "train")
    held_out.save(tmp_path / "held-out")
    run, out = made_up_run(tmp_path / "run", train), tmp_path / "out"
    how = ["--train", tmp_path / "train", "--held-out", tmp_path / "held-out", "--features", "random-conv"]
    made = sonosynth("release", run, "--out", out, "-n", 22, *how, "--data-name", "BUSI", "--clip", 4)
    assert made.exit_code == 0, made.output
    assert made.stdout == f"{out}\n" and "note: no licence of the training images (BUSI) is stated" in made.stderr
    assert "passed: Are these the training images?" in made.stderr and "0 near-copies replaced" in made.stderr
    assert sonosynth("verify", out).exit_code == 0
    info = sonosynth("data", "info", out)
    told = " ".join(info.stdout.split())
    assert "image set (synthetic)" in told and "they are refused as test, held-out or validation images" in told
    again = sonosynth("release", run, "--out", out, "-n", 22, *how)
    assert again.exit_code == 2 and again.stderr.count("error: ") == 1
    score = sonosynth("score", tmp_path / "train", out, "--held-out", out, "--features", "random-conv")
    assert score.exit_code == 2 and "marked as synthetic" in score.stderr


def test_a_refusal_is_one_line_and_leaves_nothing(tmp_path):
    run = made_up_run(tmp_path / "run", blobs(4))
    refused = sonosynth("release", run, "--out", tmp_path / "out", "-n", 4)
    assert refused.exit_code == 2 and refused.stderr.count("error: ") == 1
    assert "--train" in refused.stderr and "--accept REASON" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    nothing = sonosynth("verify", tmp_path / "out")
    assert nothing.exit_code == 2 and "is no release" in nothing.stderr
