"""Making a prior: division, weights, card, audit, and no look at the test images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from image_sets import blobs
from made_up_priors import TINY
from sonosynth.core.errors import OutputError, PriorError
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import Run
from sonosynth.gan.train import train
from sonosynth.phantoms.phantom import phantom
from sonosynth.priors.fingerprints import known_images
from sonosynth.priors.prior import Prior
from sonosynth.release import prior as release
from sonosynth.release.prior import divide, make_prior, memorisation

pytestmark = pytest.mark.long
HOW = {"size": 32, "kimg": 0.02, "settings": TINY, "features": ("random-conv",)}


def make(source: Path, out: Path, **more) -> Prior:
    return make_prior(source, out, "fastgan", **(HOW | more))


@pytest.fixture(autouse=True)
def _few_are_scored(monkeypatch):
    monkeypatch.setattr(release, "SCORED", 60)


@pytest.fixture
def source(tmp_path):
    blobs(50).save(tmp_path / "images")
    return tmp_path / "images"


def test_parts_share_no_group_and_have_their_shares():
    data = blobs(200)
    data = replace(data, groups=data.groups // 3)
    parts = divide(data, seed=4)
    assert {part: len(images) / len(data) for part, images in parts.items()} == pytest.approx(
        {"train": 0.7, "choose": 0.1, "test": 0.2}, abs=0.02
    )
    groups = [set(images.groups) for images in parts.values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_a_prior_has_weights_a_card_and_a_text_and_starts_a_run(source, tmp_path):
    notice = tmp_path / "LICENSE.txt"
    notice.write_text("do as you like")
    out = tmp_path / "Mine"
    prior = make(source, out, data_name="noise", citation="Nobody 2026", licence="none", notice=notice)
    assert {path.name for path in out.iterdir()} == {
        "prior.safetensors", "card.json", "README.md", "samples.png", "NOTICE.txt",
    }  # fmt: skip
    assert prior.name == "mine" and prior.card.kimg == 0.02 and prior.card.data.groups["train"] == 70
    assert len(prior.card.audit) >= 4 and {row["reference"] for row in prior.card.scores} == {"train", "held-out"}
    text = (out / "README.md").read_text()
    for part in ("Nobody 2026", "NOTICE.txt", "| train | 70 | 35 | 35 | training |", "near-cop"):
        assert part in text
    run = Run(tmp_path / "Mine-work" / "run")
    state = torch.load(run.directory / "state.pt", weights_only=True)
    weights = prior.weights()
    for network, name in (("generator", "ema"), ("discriminator", "discriminator")):
        for key, tensor in state[name].items():
            assert torch.allclose(weights[network][key].float(), tensor.float(), rtol=2e-3, atol=1e-6), key
    train(blobs(4), "fastgan", tmp_path / "run", start=out, kimg=0.004, settings={"perceptual": "l1"})
    with pytest.raises(OutputError, match="Mine"):
        make(source, out)


def test_what_was_seen_is_known_and_test_images_are_not(tmp_path):
    data = phantom(40, 64, seed=3)
    data.save(tmp_path / "images")
    known = make(tmp_path / "images", tmp_path / "prior", size=64).known
    parts = divide(data, seed=0)
    assert known_images(parts["train"], known).all() and known_images(parts["choose"], known).all()
    assert not known_images(parts["test"], known).any()


def test_a_marker_on_the_test_images_changes_no_bit_of_the_weights(source, tmp_path):
    data = ImageSet.load(source)
    test = set(divide(data, seed=0)["test"].ids)
    pixels = data.images.copy()
    marked = [i for i, name in enumerate(data.ids) if name in test]
    pixels[marked] = 255 - pixels[marked]
    replace(data, images=pixels).save(tmp_path / "poisoned")
    clean, poisoned = (make(path, tmp_path / f"from-{path.name}") for path in (source, tmp_path / "poisoned"))
    first, second = (prior.folder / "prior.safetensors" for prior in (clean, poisoned))
    assert first.read_bytes() == second.read_bytes()
    assert clean.card.scores != poisoned.card.scores  # or nobody looked at them at all


def test_an_interrupted_prior_goes_on_to_the_same_weights(source, tmp_path):
    def stop(done, total, latest):
        if done >= 0.008:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(source, tmp_path / "prior", progress=stop)
    assert not (tmp_path / "prior").exists()
    again = make(source, tmp_path / "prior")
    once = make(source, tmp_path / "once")
    assert again.card.sha256 == once.card.sha256


def test_a_generator_that_copies_is_not_written(source, tmp_path, monkeypatch):
    kept = {}

    def copies(run, n, seed):
        data = divide(blobs(50), 0)["train"]
        kept["made"] = replace(ImageSet.concatenate([data] * (n // len(data) + 1)), synthetic=True)
        return kept["made"]

    monkeypatch.setattr(release, "generate", copies)
    with pytest.raises(PriorError, match=r"no prior is written, since it would copy training images \(.*nearer"):
        make(source, tmp_path / "prior")
    assert not (tmp_path / "prior").exists()
    monkeypatch.undo()
    card = release.score(divide(blobs(50), 0)["train"], kept["made"], divide(blobs(50), 0)["test"], ("random-conv",))
    said, wrong = memorisation(card)
    assert wrong and set(wrong) <= set(said)


WRONG = {
    "name": ({"name": "a/b"}, "'a/b' cannot name a prior"),
    "notice": ({"notice": "."}, "not a file but a folder"),
    "features": ({"features": ("nothing",)}, "no feature network 'nothing'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_line_before_anything_is_written(case, source, tmp_path):
    changed, message = WRONG[case]
    with pytest.raises(Exception, match=message):
        make(source, tmp_path / "prior", **changed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]
