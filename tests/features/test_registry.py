"""Networks of other packages take part by registration or by an entry point."""

from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from sonosynth.core.errors import FeatureError
from sonosynth.features import registry
from sonosynth.features.extract import embed, load_features
from sonosynth.features.random_conv import NETWORK
from sonosynth.features.registry import feature_network, list_features, register_features

OTHER = replace(NETWORK, name="other", input_px=64)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(registry, "_NETWORKS", dict(registry._NETWORKS))


def plugin(monkeypatch, value: str) -> None:
    monkeypatch.setattr(registry, "_plugins", lambda: {"other": EntryPoint("other", value, registry.GROUP)})


def test_a_registered_network_gives_features_under_its_name():
    assert register_features(OTHER) is OTHER
    assert list_features()[-1] == "other" and feature_network("other") is OTHER
    assert embed(IMAGES, "other").shape == (2, OTHER.dimension)


def test_a_name_is_taken_once():
    with pytest.raises(FeatureError, match="there is a feature network 'texture' already"):
        register_features(replace(OTHER, name="texture"))


def test_an_entry_point_of_another_package_is_listed_and_loaded(monkeypatch):
    plugin(monkeypatch, f"{__name__}:OTHER")
    assert list_features()[-1] == "other"
    assert load_features("other")(IMAGES).shape == (2, OTHER.dimension)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:X", "'other' .no_such_module:X. cannot be loaded: No module named"),
        (f"{__name__}:NOTHING", "cannot be loaded"),
        (f"{__name__}:IMAGES", "is not a FeatureNetwork of that name"),
        (f"{__name__}:NETWORK", "is not a FeatureNetwork of that name"),
    ],
)
def test_a_broken_plugin_is_one_line_that_names_it(monkeypatch, value, message):
    plugin(monkeypatch, value)
    with pytest.raises(FeatureError, match=message):
        feature_network("other")


def test_every_listed_network_is_one():
    assert [feature_network(name).name for name in list_features()] == list(list_features())
