import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from sonosynth.cli.data import Fit, app
from sonosynth.core.errors import OutputError, PhantomError, SourceError, UnreadableImageError
from sonosynth.data.load import load
from sonosynth.data.prepare import prepare_images
from sonosynth.data.resize import Fit as FitName
from sonosynth.data.scan import read_source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    rng = np.random.default_rng(0)
    for name, count in (("benign", 3), ("malignant", 2)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (20 + i, 30), dtype=np.uint8)
            Image.fromarray(image).save(root / name / f"{name} ({i + 1}).png")
    return root


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_info(source: Path) -> None:
    result = call("info", source)
    assert result.exit_code == 0
    for part in ("image folder", "5 (benign 3, malignant 2)", "20 to 22, median 21", "L 5", "sonosynth data prepare"):
        assert part in result.stdout


def test_info_advises_a_command_that_a_shell_takes(source: Path, tmp_path: Path) -> None:
    odd = source.rename(tmp_path / """it's $HOME "x" """)
    line = next(line for line in call("info", odd).stdout.splitlines() if line.startswith("next: "))
    assert shlex.split(line)[4] == str(odd)


def test_info_as_json(source: Path) -> None:
    summary = json.loads(call("info", source, "--json").stdout)
    assert summary["classes"] == {"benign": 3, "malignant": 2} and summary["height"]["max"] == 22


def test_info_stops_at_an_unreadable_file_unless_told(source: Path) -> None:
    (source / "benign" / "bad.png").write_text("text")
    assert isinstance(call("info", source).exception, UnreadableImageError)
    result = call("info", source, "--skip-unreadable")
    assert result.exit_code == 0 and "1 unreadable file left out" in result.stdout
    assert "--size 128 --skip-unreadable" in result.stdout


def test_prepare_once_and_again(source: Path, tmp_path: Path) -> None:
    arguments = ("prepare", source, "--out", tmp_path / "out", "--size", 16, "--fit", "pad")
    first = call(*arguments)
    assert first.exit_code == 0 and f"wrote {tmp_path / 'out'}" in first.stdout
    expected, _ = prepare_images(read_source(source), 16, "pad")
    assert load(tmp_path / "out").fingerprint() == expected.fingerprint()
    second = call(*arguments)
    assert second.exit_code == 0 and "already done" in second.stdout
    other = call(*arguments[:-1], "crop")
    assert isinstance(other.exception, OutputError) and "fit pad, not crop" in str(other.exception)
    (source / "benign" / "benign (3).png").unlink()
    assert "another content of the source" in str(call(*arguments).exception)
    info = call("info", tmp_path / "out")
    assert "image set" in info.stdout and "ready to use" in info.stdout


def test_prepare_again_sees_that_a_mask_has_changed(source: Path, tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 2:8] = 255
    path = source / "benign" / "benign (1)_mask.png"
    Image.fromarray(mask).save(path)
    arguments = ("prepare", source, "--size", 16, "--out")
    assert call(*arguments, tmp_path / "plain").exit_code == call(*arguments, tmp_path / "m", "--fit", "mask").exit_code
    Image.fromarray(mask.T[:20, :20]).save(path)
    assert "already done" in call(*arguments, tmp_path / "plain").stdout
    assert "another content of the source" in str(call(*arguments, tmp_path / "m", "--fit", "mask").exception)


def test_prepare_of_an_empty_folder_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = call("prepare", tmp_path / "empty", "--out", tmp_path / "out")
    assert isinstance(result.exception, SourceError) and not (tmp_path / "out").exists()


def test_phantom_once_and_again(tmp_path: Path) -> None:
    arguments = ("phantom", "--out", tmp_path / "out", "--per-class", 2, "--size", 16, "--seed", 3)
    assert call(*arguments).exit_code == 0
    data = load(tmp_path / "out")
    assert data.size == (16, 16) and set(data.class_counts.values()) == {2}
    assert "already done" in call(*arguments).stdout
    assert "seed 3, not 0" in str(call(*arguments[:-2]).exception)


@pytest.mark.long
def test_phantom_settings_and_masks(tmp_path: Path) -> None:
    arguments = ("phantom", "--out", tmp_path / "out", "--per-class", 2, "--size", 32)
    chosen = ("--set", "frequency_mhz=9", "--set", "dynamic_range_db=55..60", "--set", "shape=round")
    assert call(*arguments, *chosen, "--masks", "--workers", 2).exit_code == 0
    data = load(tmp_path / "out")
    assert set(data.extra["frequency_mhz"]) == {"9"} and data.extra["shape"] == ("round",) * 4 + ("",) * 2
    assert all(55 <= float(value) <= 60 for value in data.extra["dynamic_range_db"])
    mask = np.asarray(Image.open(tmp_path / "out" / "benign" / "benign-0001_mask.png"))
    assert mask.shape == (32, 32) and set(np.unique(mask)) == {0, 255}
    assert "already done" in call(*arguments, *chosen, "--masks").stdout
    assert "masks True, not None" in str(call(*arguments, *chosen).exception)
    assert "settings {" in str(call(*arguments, "--masks").exception)


def test_phantom_settings_are_checked_first(tmp_path: Path) -> None:
    wrong = call("phantom", "--out", tmp_path / "out", "--set", "depth=3")
    assert isinstance(wrong.exception, PhantomError) and "did you mean 'depth_mm'" in str(wrong.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [("--size", "4"), ("--fit", "shrink"), ("--size", "x")])
def test_wrong_options_are_usage_errors(source: Path, tmp_path: Path, wrong: tuple[str, str]) -> None:
    assert call("prepare", source, "--out", tmp_path / "out", *wrong).exit_code == 2


def test_every_fit_is_known_to_prepare() -> None:
    assert {fit.value for fit in Fit} == set(get_args(FitName))


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, sonosynth.cli.data; print([m for m in ('torch', 'pandas', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_bits_and_axis_reach_the_reader_and_the_record(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    volume = np.random.default_rng(0).integers(0, 1000, (4, 6, 9)).astype(np.uint16)
    for label in "ab":
        (tmp_path / "source" / label).mkdir(parents=True)
        sitk.WriteImage(sitk.GetImageFromArray(volume), str(tmp_path / "source" / label / f"{label}.nrrd"))
    result = call("info", tmp_path / "source", "--bits", 10, "--axis", "x")
    assert "18 (a 9, b 9)" in result.stdout and "16-bit file with 10-bit values: 18 of 18 images" in result.stdout
    assert "NRRD uint16 18" in result.stdout and "--bits 10 --axis x" in result.stdout
    how = ("prepare", tmp_path / "source", "--out", tmp_path / "out", "--size", 16)
    assert call(*how, "--bits", 10, "--axis", "x").exit_code == 0
    assert json.loads((tmp_path / "out" / "prepare.json").read_text())["arguments"]["bits"] == 10
    assert "nothing written" in call(*how, "--bits", 10, "--axis", "x").stdout
    for other in (("--bits", 11, "--axis", "x"), ("--bits", 10, "--axis", "y"), ("--axis", "x"), ("--bits", 10)):
        with pytest.raises(OutputError, match="made with other arguments"):
            call_raising(*how, *other)
    with pytest.raises(SourceError, match=r"a\.nrrd: the value \d+ is above 511, the largest of 9 bits"):
        call_raising("audit", tmp_path / "source", "--out", tmp_path / "audit", "--bits", 9)


def call_raising(*arguments: object) -> None:
    error = call(*arguments).exception
    assert error is not None
    raise error


@pytest.mark.parametrize("wrong", [("--bits", 7), ("--bits", 17), ("--axis", "w")])
def test_bits_and_axis_are_checked(source: Path, wrong: tuple[str, object]) -> None:
    assert call("info", source, *wrong).exit_code == 2
