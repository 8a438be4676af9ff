"""What a release holds, and when there is none."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image

from image_sets import blobs
from made_up_runs import HELD_OUT, TRAIN, made_up_run
from made_up_runs import RELEASE as HOW
from sonosynth.core.errors import ClassError, LeakageError, OutputError, PrivacyError, ReleaseError, RunError
from sonosynth.data.imageset import DIGITAL_SOURCE_TYPE, SYNTHETIC_NOTICE, XMP_KEY, ImageSet
from sonosynth.gan.checkpoint import load_run
from sonosynth.gan.sample import generate
from sonosynth.release import release as module
from sonosynth.release.gate import CopySearch
from sonosynth.release.release import release
from sonosynth.release.verify import verify

pytestmark = pytest.mark.long
QUICK = {"accept": "a test", "features": ("random-conv",), "with_dicom": False}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_release_is_whole_and_made_again_byte_for_byte(made, tmp_path):
    assert verify(made.folder).problems == ()
    again = release(made.run, tmp_path / "again", 24, clip_frames=4, **HOW)
    first, second = contents(made.folder), contents(again.folder)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_images_are_those_of_the_run_and_marked_in_every_file(made):
    expected = generate(made.run, 24, seed=0)
    images = made.images
    assert np.array_equal(images.images, expected.images) and images.synthetic
    for path in images.file_names():
        with Image.open(made.folder / path) as picture:
            assert picture.text["Source"] == SYNTHETIC_NOTICE
            described = ElementTree.fromstring(re.sub(r"<\?xpacket.*?\?>", "", picture.text[XMP_KEY])).find(
                ".//{*}Description"
            )
            assert DIGITAL_SOURCE_TYPE in described.attrib.values()
        assert "synthetic-" in path


def test_the_generator_in_a_release_makes_the_same_images(made):
    run = load_run(made.folder)
    assert np.array_equal(generate(run, 24, seed=0).images, made.images.images)
    with pytest.raises(RunError, match=r"no log\.jsonl: it holds a generator alone"):
        run.log()


def test_a_run_per_class_is_released_with_a_generator_per_class(tmp_path):
    run = made_up_run(tmp_path / "run", TRAIN, conditional=False)
    made = release(run, tmp_path / "out", 8, **HOW | {"accept": "few images"})
    assert set(made.record.weights) == {"dark/generator.safetensors", "light/generator.safetensors"}
    assert made.record.training.confirmed and verify(made.folder).problems == ()
    assert np.array_equal(generate(load_run(made.folder), 8, seed=0).images, ImageSet.load(made.folder).images)


def test_the_card_answers_what_a_reader_asks(made):
    text = (made.folder / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "sonosynth"
    for part in (
        "## May I use it?",
        "BUS-BRA",
        "10.1002/mp.16812",
        "28 images (14 dark, 14 light)",
        "**No image is of a",
    ):
        assert part in body
    checks = {(check.name, check.features): check.state for check in made.release.record.privacy.checks}
    assert checks["training_images", "fingerprint"] == "passed"
    assert {("near_copies", "pixels"), ("near_copies", "copy detector"), ("data_copying", "random-conv")} <= set(checks)
    assert {("membership_auc", by) for by in ("pixels", "random-conv", "discriminator")} <= set(checks)
    assert checks["membership_auc", "discriminator"] == "told"
    for check in made.release.record.privacy.checks:
        assert check.title in body and check.says.replace("|", "\\|") in body


def test_without_the_training_images_nothing_is_released_unless_accepted(made, tmp_path):
    with pytest.raises(PrivacyError, match=r"nothing is released: Near-copies .*--train.*--accept REASON"):
        release(made.run, tmp_path / "out", 4)
    assert list(tmp_path.iterdir()) == []
    accepted = release(made.run, tmp_path / "out", 4, accept="phantoms, no patients")
    assert "Their reason: phantoms, no patients" in (accepted.folder / "README.md").read_text()
    assert verify(accepted.folder).problems == ()


def test_other_images_than_those_of_training_are_refused(made, tmp_path):
    others = HOW | {"train": blobs(40, seed=3)}
    with pytest.raises(PrivacyError, match="not those that the generator was trained on"):
        release(made.run, tmp_path / "out", 24, **others)


def test_a_subset_that_training_drew_is_known(tmp_path):
    from sonosynth.data.split import nested_subsets

    subset = TRAIN.subset(nested_subsets(TRAIN, range(len(TRAIN)), [12], 0, 7)[12])
    run = made_up_run(tmp_path / "run", subset, seed=7)
    assert module._training_images(TRAIN, [module.read_config(run / "generator.safetensors")])[1]
    assert not module._training_images(HELD_OUT, [module.read_config(run / "generator.safetensors")])[1]


def copying(monkeypatch, how_many: int, turned: bool = False, always: bool = False) -> None:
    """Let the generator copy training images at the first places; with `always`, in replacements too."""
    make = module.Sampler.generate

    def copies(self, n, class_name=None, truncation=1.0, seed=0, **more):
        images = make(self, n, class_name, truncation, seed, **more)
        if class_name is not None and not always:
            return images
        pixels = images.images.copy()
        count = min(how_many, n)
        pixels[:count] = np.rot90(TRAIN.images[:count], axes=(1, 2)) if turned else TRAIN.images[:count]
        return replace(images, images=pixels)

    monkeypatch.setattr(module.Sampler, "generate", copies)


@pytest.mark.parametrize("turned", [False, True])
def test_near_copies_are_replaced_and_counted_turned_ones_too(turned, made, tmp_path, monkeypatch):
    copying(monkeypatch, 2, turned)
    clean = release(made.run, tmp_path / "out", 24, **HOW | {"accept": "two of 24 may be more than of real images"})
    images = ImageSet.load(clean.folder).images
    assert clean.record.privacy.replaced == 2
    search = CopySearch(TRAIN, HELD_OUT)
    assert not search.first(images)[0].either.any()
    again = ImageSet.load(clean.folder)
    made_from = zip(again.extra["seed"], again.extra["index"], again.labels, strict=True)
    assert len(set(made_from)) == 24  # each can be made again
    assert "2 of 26 images were near-copies" in (clean.folder / "README.md").read_text()


def test_a_generator_that_copies_is_refused_and_one_that_only_copies_too(made, tmp_path, monkeypatch):
    copying(monkeypatch, 8)
    with pytest.raises(PrivacyError, match=r"nothing is released: Near-copies before any was replaced .*8 of 24"):
        release(made.run, tmp_path / "out", 24, **HOW)
    copying(monkeypatch, 24, always=True)
    with pytest.raises(PrivacyError, match="near-copies again after 6 rounds"):
        release(made.run, tmp_path / "out", 24, **HOW | {"accept": "even so"})
    assert list(tmp_path.iterdir()) == []


def test_licences_that_limit_what_may_be_done_are_told(made, tmp_path):
    for name, said in (("BUS-UCLM", "allows no commercial use"), ("BUSI", "no licence of"), ("", "no licence of")):
        told: list[str] = []
        out = tmp_path / (name or "unnamed")
        release(made.run, out, 4, **QUICK, data_name=name, tell=told.append)
        assert said in told[0] and said in (out / "README.md").read_text()


def test_a_release_of_a_run_in_a_study_cites_the_study(tmp_path):
    run = made_up_run(tmp_path / "mine" / "runs" / "one", TRAIN)
    (tmp_path / "mine" / "study.yaml").write_text("name: mine\n")
    made = release(run, tmp_path / "out", 4, **QUICK)
    assert made.record.study.name == "mine"
    assert "by the study `mine`" in (made.folder / "README.md").read_text()


WRONG = {
    "class": ({"class_name": "grey"}, ClassError, "makes no class 'grey'"),
    "name": ({"name": "a b"}, ReleaseError, "'a b' cannot name a release"),
    "clip": ({"clip_frames": 3}, ReleaseError, "at least 4 frames"),
    "notice": ({"notice": "nowhere.txt"}, ReleaseError, "nowhere.txt does not exist"),
    "key": ({"sign": __file__}, ReleaseError, "no private key of OpenSSH or minisign"),
    "best": ({"snapshot": "best"}, RunError, "use the last generator"),
    "synthetic": ({"train": replace(TRAIN, synthetic=True)}, LeakageError, "marked as synthetic"),
    "shared": ({"held_out": TRAIN}, LeakageError, "held-out"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_line_before_anything_is_written(case, made, tmp_path):
    changed, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        release(made.run, tmp_path / "out", 4, **HOW | changed)
    assert list(tmp_path.iterdir()) == []


def test_folders_in_the_way_and_runs_without_weights_are_refused(made, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match="not empty"):
        release(made.run, tmp_path / "full", 4, **QUICK)
    with pytest.raises(RunError, match=r"holds no generator\.safetensors"):
        release(tmp_path / "full", tmp_path / "out", 4, **QUICK)
    run = made_up_run(tmp_path / "run", blobs(4, classes=("DICOM", "other")))
    with pytest.raises(ReleaseError, match="a class is called 'DICOM'"):
        release(run, tmp_path / "out", 4, **QUICK)


def test_a_full_disk_leaves_nothing(made, tmp_path, monkeypatch):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_sums", full)
    with pytest.raises(OSError, match="No space"):
        release(made.run, tmp_path / "out", 4, **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_release_leaves_nothing_that_passes(made, tmp_path):
    script = (
        "import os, signal\nfrom sonosynth.release import release as m\n"
        "m.write_sums = lambda folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"m.release({str(made.run)!r}, {str(tmp_path / 'out')!r}, 4, accept='a test')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists()
    for left in tmp_path.iterdir():
        assert left.name.startswith(".")
        with pytest.raises(ReleaseError, match="is no release"):
            verify(left)


def test_a_release_is_refused_as_held_out_images(made, tmp_path):
    with pytest.raises(LeakageError, match="marked as synthetic"):
        release(made.run, tmp_path / "out", 4, **HOW | {"held_out": made.folder})


def test_the_record_holds_no_path(made):
    text = json.dumps({name: content.decode(errors="ignore") for name, content in contents(made.folder).items()})
    assert str(made.run) not in text and str(made.folder) not in text
