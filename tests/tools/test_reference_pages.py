import pytest

from reference import FOLDER, PAGES
from sonosynth.features.registry import feature_network, list_features


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_says(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), f"{name} is out of date; run make reference"


@pytest.mark.parametrize("name", list_features())
def test_every_network_is_on_the_page_with_licence_and_checksum(name):
    network = feature_network(name)
    text = PAGES["features.md"]()
    assert f"## {name}\n" in text and network.licence in text and network.sha256 in text
    assert network.name == name and len(network.mean) == len(network.std) in (1, network.channels)
