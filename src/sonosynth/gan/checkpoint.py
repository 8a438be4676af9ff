"""What a run leaves on disk: recipe.yaml, log.jsonl, generator.safetensors and state.pt, never a pickled object."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from sonosynth.core.errors import RunError
from sonosynth.core.files import atomic_file, check_file_types, is_vacant, write_text
from sonosynth.core.strict_yaml import parse_yaml
from sonosynth.core.text import one_line
from sonosynth.data.resize import OriginalArea
from sonosynth.gan.base import GeneratorNetwork
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.registry import recipe_from_dict

GENERATOR = "generator.safetensors"
BEST = "best.safetensors"
RECIPE = "recipe.yaml"
STATE = "state.pt"
LOG = "log.jsonl"
SAMPLES = "samples"
TRANSFER = "transfer.json"
PRETRAINING = "pretraining"
EVENTS = "tensorboard"


@dataclass(frozen=True)
class RunConfig:
    """All that decides what a run computes, apart from its length.

    Attributes:
        recipe: the generator family and its training.
        size: image side in pixels.
        classes: the classes the generator makes; one for an unconditional generator of a single class.
        class_counts: training images of each class, the proportions in which labels are drawn.
        conditional: whether the networks see the class.
        data: fingerprint of the training images.
        seed: of all random draws.
        start: fingerprint of the run whose weights it starts from, or empty.
        frame: what part of an image shows the original, where all training images agree on it.
    """

    recipe: Recipe
    size: int
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    conditional: bool
    data: str
    seed: int
    start: str = ""
    frame: OriginalArea | None = None

    @property
    def n_classes(self) -> int:
        """Classes that the networks distinguish: 0 for an unconditional generator."""
        return len(self.classes) if self.conditional else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values; of the recipe, what it records."""
        plain = asdict(self) | {"recipe": self.recipe.record()}
        return json.loads(json.dumps(plain))  # type: ignore[no-any-return]

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> "RunConfig":
        """Return the configuration that `to_dict` wrote."""
        return RunConfig(
            **{
                **plain,
                "recipe": recipe_from_dict(plain["recipe"]),
                "classes": tuple(plain["classes"]),
                "class_counts": tuple(plain["class_counts"]),
                "frame": OriginalArea(**plain["frame"]) if plain.get("frame") else None,
            }
        )


def save_generator(path: Path, network: nn.Module, config: RunConfig, kimg: float) -> None:
    """Write weights and configuration as safetensors; equal runs give equal files."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {"sonosynth": json.dumps(config.to_dict() | {"kimg": kimg}, sort_keys=True)}
    with atomic_file(path) as beside:
        beside.write_bytes(save(tensors, metadata))  # an OSError of ours names the file; one of safetensors would not


def load_generator(path: Path, device: torch.device) -> tuple[GeneratorNetwork, RunConfig]:
    """Read what `save_generator` wrote. Raises RunError if `path` is not such a file."""
    config, tensors = _read(path, device)
    network = config.recipe.build_generator(config.size, config.n_classes).to(device)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(
            f"{path} does not hold the weights of the generator that it names; take it from its run again, or make "
            "images with the version of sonosynth that trained it"
        ) from error
    return network.eval().requires_grad_(False), config


def read_config(path: Path) -> RunConfig:
    """Return the configuration in a file that `save_generator` wrote. Raises RunError if `path` is not such a file."""
    return _read(path, None)[0]


def _read(path: Path, device: torch.device | None) -> tuple[RunConfig, dict[str, torch.Tensor]]:
    """Return configuration and tensors of a generator file; no tensors without a device."""
    try:
        with safe_open(path, framework="pt", device=str(device or "cpu")) as file:
            plain = json.loads(file.metadata()["sonosynth"])
            tensors = {name: file.get_tensor(name) for name in file.keys() if device is not None}  # noqa: SIM118
        plain.pop("kimg")
        return RunConfig.from_dict(plain), tensors
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is not a sonosynth generator ({error}); train one with 'sonosynth train'") from error


def recorded(directory: Path) -> dict[str, Any]:
    """Return the configuration of the run in `directory` as it was written, empty without one.

    Raises:
        RunError: it is damaged.
    """
    path = directory / RECIPE
    if not path.is_file():
        return {}
    try:
        found = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise RunError(f"{path} is damaged ({one_line(str(error))}); choose another --out") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} is damaged (it is no mapping); choose another --out")
    return found


def check_run(directory: Path, config: RunConfig) -> None:
    """Check that `directory` is the run of `config`, or can be made it; write nothing.

    Raises:
        RunError: it holds another run, or files that are not a run's.
        OutputError: it is no folder, or a file or folder of the run is a device, a pipe or a socket.
    """
    check_file_types(directory, (RECIPE, STATE, LOG, GENERATOR, BEST, TRANSFER), (SAMPLES, EVENTS, PRETRAINING))
    if not (directory / RECIPE).is_file():
        if not is_vacant(directory):
            raise RunError(f"{directory} is not empty and holds no run; choose another --out")
        return
    found = recorded(directory)
    if found != config.to_dict():
        raise RunError(
            f"{directory} belongs to another run ({_difference(found, config.to_dict())}); choose another --out"
        )


def claim_run(directory: Path, config: RunConfig) -> None:
    """Make `directory` the run of `config`, unless it is; raises like `check_run`."""
    check_run(directory, config)
    if not (directory / RECIPE).is_file():
        write_text(directory / RECIPE, yaml.safe_dump(config.to_dict(), sort_keys=True))


def _difference(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> str:
    for key in wanted:
        if isinstance(wanted[key], dict) and isinstance(found.get(key), dict) and found[key] != wanted[key]:
            return _difference(found[key], wanted[key], f"{prefix}{key}.")
        if found.get(key) != wanted[key]:
            return f"its {prefix}{key} is {found.get(key)!r}, asked for {wanted[key]!r}"
    return "it has settings of another version"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and lists of them so that `load_state` can read them without unpickling code."""
    with atomic_file(path) as beside, beside.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, which torch hides behind an error of its own
                raise error.__context__ from error
            raise


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what `save_state` wrote. Raises RunError if the file is damaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise RunError(f"{path} is damaged ({type(error).__name__}); remove it to start this run again") from error
    return state


class Log:
    """`log.jsonl`: one JSON object a line, cut back on resume to what the restored state had seen."""

    def __init__(self, path: Path, kimg: float):
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._path = path
        self._lines = [line for line in lines if _kimg_of(line) <= kimg]
        write_text(path, "".join(f"{line}\n" for line in self._lines))

    def append(self, entry: Mapping[str, float | str | None]) -> None:
        """Add a line; numbers are rounded to six significant digits."""
        line = json.dumps({name: _plain(value) for name, value in entry.items()}, allow_nan=False)
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"{line}\n")


def _kimg_of(line: str) -> float:
    try:
        return float(json.loads(line)["kimg"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # a line cut short by a kill


def _plain(value: float | str | None) -> float | str | None:
    return float(f"{value:.6g}") if isinstance(value, float) else value
