"""``sonosynth priors``, ``prior make`` and ``train --from``, as a user types them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from image_sets import blobs
from made_up_priors import made_up_prior
from sonosynth.cli.main import app
from sonosynth.priors import prior as priors
from sonosynth.priors.prior import README
from sonosynth.release import prior as release


def sonosynth(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_priors_of_the_package_are_listed_and_their_cards_printed(tmp_path, monkeypatch):
    folder = made_up_prior(tmp_path / "noise-32", blobs(6))
    (folder / README).write_text("# noise-32\n")
    monkeypatch.setattr(priors, "SHIPPED", tmp_path)
    listed = sonosynth("priors").stdout
    assert "noise-32" in listed and "fastgan, 32 px, dark, light; 1 kimg on 12 images of noise" in listed
    assert sonosynth("priors", "noise-32").stdout == "# noise-32\n"
    result = sonosynth("priors", "noise")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "error: no prior 'noise' (did you mean 'noise-32'?); known: noise-32, or the folder"
    )


def test_a_package_without_priors_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(priors, "SHIPPED", tmp_path)
    result = sonosynth("priors")
    assert result.exit_code == 0 and "no prior comes with this version; 'sonosynth prior make'" in result.stderr


@pytest.mark.long
def test_a_prior_is_made_and_a_run_starts_from_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(release, "SCORED", 40)
    monkeypatch.setattr(release, "FEATURES", ("random-conv",))
    blobs(40).save(tmp_path / "images")
    tiny = ["--set", "ngf=4", "--set", "ndf=4", "--set", "perceptual=l1", "--set", "z_dim=8", "--set", "batch=4"]
    out = tmp_path / "mine"
    made = sonosynth("prior", "make", tmp_path / "images", "--out", out, "--size", 32, "--kimg", 0.02, *tiny)
    assert made.exit_code == 0, made.output
    assert made.stdout.splitlines()[-1] == str(out) and "near-copy" in made.stderr
    again = sonosynth("prior", "make", tmp_path / "images", "--out", out, "--size", 32, "--kimg", 0.02, *tiny)
    assert again.exit_code == 2 and again.stderr.count("error: ") == 1
    how = ["--gan", "fastgan+prior", "--kimg", 0.004, "--set", "perceptual=l1", "--track", "none"]
    blobs(6).save(tmp_path / "ours")
    run = sonosynth("train", tmp_path / "ours", "--from", out, "--out", tmp_path / "run", *how)
    assert run.exit_code == 0, run.output
    assert "from prior 'mine': 0.02 kimg on 56 images of images (dark, light)" in run.stderr
    assert (tmp_path / "run" / "transfer.json").is_file()
    foreign = sonosynth("train", tmp_path / "ours", "--from", "prior:theirs", "--out", tmp_path / "other", *how)
    assert foreign.exit_code == 2 and "error: no prior 'theirs'" in foreign.stderr
    assert not (tmp_path / "other").exists()
