from pathlib import Path

import pytest

from sonosynth.features.feature_table import page
from sonosynth.features.registry import feature_network, list_features

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "features.md"


def test_the_reference_page_is_what_the_registry_says():
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "docs/reference/features.md is out of date: "
        "python -m sonosynth.features.feature_table > docs/reference/features.md"
    )


@pytest.mark.parametrize("name", list_features())
def test_every_network_is_on_the_page_with_licence_and_checksum(name):
    network = feature_network(name)
    text = page()
    assert f"## {name}\n" in text and network.licence in text and network.sha256 in text
    assert network.name == name and len(network.mean) == len(network.std) in (1, network.channels)
