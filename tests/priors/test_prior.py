"""Files of priors: read, listed, and refused where they are not what they should be."""

import json

import pytest
import torch

from image_sets import blobs
from made_up_priors import made_up_prior
from sonosynth.core.errors import PriorError
from sonosynth.priors import prior as priors
from sonosynth.priors.prior import find_prior, fitting_prior, list_priors, read_prior


@pytest.fixture
def folder(tmp_path):
    return made_up_prior(tmp_path / "noise-fastgan-32", blobs(6))


def test_weights_are_float32_and_of_both_networks(folder):
    prior = read_prior(folder)
    networks = prior.weights()
    assert networks.keys() == {"generator", "discriminator"} and all(networks.values())
    tensors = [tensor for state in networks.values() for tensor in state.values()]
    assert {tensor.dtype for tensor in tensors} <= {torch.float32, torch.int64}
    assert prior.known.shape == (24, 32) and not prior.shipped


def test_priors_of_the_package_are_listed_and_found_by_name_family_and_size(folder, monkeypatch):
    monkeypatch.setattr(priors, "SHIPPED", folder.parent)
    made_up_prior(folder.parent / "another", blobs(6, size=64))
    assert list_priors() == ("noise-fastgan-32", "another")
    assert find_prior("prior:another") == find_prior("another") == fitting_prior("fastgan", 64)
    assert find_prior("another").shipped
    with pytest.raises(PriorError, match=r"no prior 'noise-fastgan' \(did you mean 'noise-fastgan-32'\?\)"):
        find_prior("prior:noise-fastgan")
    with pytest.raises(
        PriorError, match=r"of 128 px \(there are some of 32 px, 64 px\); prepare the images at another"
    ):
        fitting_prior("fastgan", 128)
    with pytest.raises(PriorError, match="no prior of the family 'r3gan' has images of 64 px; prepare"):
        fitting_prior("r3gan", 64)


DAMAGE = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:500]), "is damaged"),
    "another file": (lambda path: path.write_bytes(b"no weights at all"), "is damaged"),
    "one bit": (
        lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
        "is not the file that card.json beside it describes",
    ),
    "missing": (lambda path: path.unlink(), "is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights_are_one_line(damage, folder):
    change, message = DAMAGE[damage]
    change(folder / "prior.safetensors")
    with pytest.raises(PriorError, match=f"prior.safetensors {message}"):
        read_prior(folder).weights()


CARDS = {
    "no card": (None, "holds no prior"),
    "no JSON": ("{", "is no card of a prior"),
    "a list": ("[]", "is no card of a prior"),
    "a field too many": ({"more": 1}, "is no card of a prior"),
    "a name": ({"name": "../other"}, "is no card of a prior"),
}


@pytest.mark.parametrize("case", CARDS)
def test_damaged_cards_are_one_line(case, folder):
    content, message = CARDS[case]
    path = folder / "card.json"
    before = json.loads(path.read_text())
    path.unlink()
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(before | content))
    with pytest.raises(PriorError, match=message):
        read_prior(folder)


def test_pickled_weights_are_not_read(folder):
    torch.save({"generator.x": torch.zeros(1)}, folder / "prior.safetensors")
    with pytest.raises(PriorError, match="is damaged"):
        read_prior(folder).weights()
