"""A published network on weights of a test's own."""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sonosynth.features import registry as features
from sonosynth.features.extract import FeatureExtractor
from sonosynth.features.registry import feature_network, weights_file


def extractor_on(name: str, state: dict[str, Tensor], folder: Path, monkeypatch) -> FeatureExtractor:
    """Return the extractor `name` on `state`, saved in `folder` as the file that is published, with its checksum."""
    known = feature_network(name)
    path = folder / known.weights.file
    torch.save(state, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(features._NETWORKS, name, replace(known, weights=replace(known.weights, sha256=sha256)))
    monkeypatch.setenv("SONOSYNTH_WEIGHTS", str(folder))
    weights_file.cache_clear()
    extractor = FeatureExtractor(name, torch.device("cpu"))
    weights_file.cache_clear()
    return extractor
