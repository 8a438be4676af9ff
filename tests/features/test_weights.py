import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bad_server import CONTENT, checksum
from sonosynth.core.errors import FeatureError
from sonosynth.features import registry as features
from sonosynth.features.extract import load_features
from sonosynth.features.registry import feature_network, fetch_weights, weights_file
from sonosynth.features.weights import DownloadedWeights, load_into, weights_folder

SHA256 = checksum(kind="sha256").removeprefix("sha256:")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SONOSYNTH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("time.sleep", lambda _: None)
    weights_file.cache_clear()
    yield tmp_path / "weights"
    weights_file.cache_clear()


def publish(server, monkeypatch, **changes: object) -> DownloadedWeights:
    """Let ``dinov2`` be a file of a server on this machine."""
    server.files["x.pth"] = CONTENT
    weights = DownloadedWeights(f"{server.url}/x.pth", "x.pth", len(CONTENT), SHA256, "the test")
    weights = replace(weights, **changes)
    monkeypatch.setitem(features._NETWORKS, "dinov2", replace(feature_network("dinov2"), weights=weights))
    return weights


def test_weights_are_downloaded_once_and_verified(server, monkeypatch, folder):
    publish(server, monkeypatch)
    told = []
    path = fetch_weights("dinov2", lambda *now: told.append(now[:2]))
    assert path == folder / "x.pth" and path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert weights_file("dinov2") == path == fetch_weights("dinov2")
    assert len(server.asked) == 1


def test_a_file_that_a_person_put_there_counts_and_nothing_is_asked_for(server, monkeypatch, folder):
    publish(server, monkeypatch)
    folder.mkdir()
    (folder / "x.pth").write_bytes(CONTENT)
    assert weights_file("dinov2") == folder / "x.pth"
    assert server.asked == []


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_a_truncated_or_changed_file_is_refused_kept_and_not_replaced(server, monkeypatch, folder, content):
    publish(server, monkeypatch)
    folder.mkdir()
    (folder / "x.pth").write_bytes(content)
    with pytest.raises(FeatureError, match=rf"is not the weights file of 'dinov2' .*expected {SHA256[:12]}.*remove it"):
        weights_file("dinov2")
    assert (folder / "x.pth").read_bytes() == content and server.asked == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "the checksum is not sha256:000"),
        ({"size": len(CONTENT) + 1}, "but 300001 were published"),
        ({"file": "y.pth", "url": "http://127.0.0.1:9/y.pth"}, r"127\.0\.0\.1 cannot be reached"),
    ],
)
def test_a_download_that_fails_is_one_line_that_says_how_to_go_on(server, monkeypatch, folder, changes, message):
    weights = publish(server, monkeypatch, **changes)
    with pytest.raises(FeatureError, match=message) as caught:
        weights_file("dinov2")
    line = str(caught.value)
    assert "weights of 'dinov2' cannot be downloaded" in line
    assert f"download {weights.url} elsewhere, save it as {folder / weights.file} (or" in line
    assert "SONOSYNTH_WEIGHTS" in line and "\n" not in line
    assert not (folder / weights.file).exists()


def test_a_download_that_broke_off_is_continued(server, monkeypatch, folder):
    publish(server, monkeypatch)
    server.faults = ["drop"]
    assert weights_file("dinov2").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, f"bytes={len(CONTENT) // 2}-"]


def test_the_folder_is_named_by_the_environment_or_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SONOSYNTH_WEIGHTS", "~/w")
    assert weights_folder() == Path("~/w").expanduser()
    monkeypatch.setenv("SONOSYNTH_WEIGHTS", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    with pytest.raises(FeatureError, match="is not a folder"):
        weights_folder()
    monkeypatch.delenv("SONOSYNTH_WEIGHTS")
    assert weights_folder().parts[-2:] == ("sonosynth", "weights")
    assert not (tmp_path / "w").exists()


def test_networks_without_weights_say_so():
    with pytest.raises(FeatureError, match="'texture' has no weights"):
        fetch_weights("texture")


def test_weights_of_another_network_are_refused_in_one_line(tmp_path):
    torch.save({"weight": torch.zeros(3, 2)}, tmp_path / "other.pth")
    with pytest.raises(FeatureError, match=r"other\.pth holds the weights of another network .*bias") as caught:
        load_into(nn.Linear(2, 3), tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


def test_pickled_code_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        load_into(nn.Linear(2, 3), tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_no_extractor_is_built_of_weights_that_are_missing(server, monkeypatch, folder):
    publish(server, monkeypatch, url="http://127.0.0.1:9/x.pth")
    with pytest.raises(FeatureError, match="cannot be downloaded"):
        load_features("dinov2")
