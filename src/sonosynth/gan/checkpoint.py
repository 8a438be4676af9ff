"""What a run leaves on disk: recipe.yaml, log.jsonl, generator.safetensors and state.pt.

None of them can run code when it is read: state.pt is loaded with ``weights_only=True``, which builds tensors and plain
values alone.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from sonosynth.core.errors import ClassError, RunError
from sonosynth.core.files import atomic_file, check_file_types, is_vacant, write_text
from sonosynth.core.strict_yaml import parse_yaml
from sonosynth.core.text import one_line
from sonosynth.data.imageset import ImageSet
from sonosynth.data.resize import OriginalArea, common_original_area
from sonosynth.gan.recipe import GeneratorNetwork, Recipe
from sonosynth.gan.registry import recipe_from_dict
from sonosynth.priors.prior import is_prior, read_prior
from sonosynth.tracking.trackers import ID_FILE, TRACKERS

GENERATOR = "generator.safetensors"
BEST = "best.safetensors"
RECIPE = "recipe.yaml"
STATE = "state.pt"
LOG = "log.jsonl"
SAMPLES = "samples"
TRANSFER = "transfer.json"
PRETRAINING = "pretraining"

Snapshot = Literal["last", "best"]
"""Which weights of a run: those of its end, or those that came nearest to its training images."""


@dataclass(frozen=True)
class RunConfig:
    """All that decides what a run computes, apart from its length."""

    recipe: Recipe
    size: int  # image side in pixels
    classes: tuple[str, ...]  # that the generator makes
    class_counts: tuple[int, ...]  # of the training images, the proportions in which labels are drawn
    conditional: bool  # whether the networks see the class; if not, there is one
    data: str  # fingerprint of the training images
    seed: int
    start: str = ""  # fingerprint of the run whose weights it starts from
    frame: OriginalArea | None = None  # what part shows the original, where all training images agree on it

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
        rebuilt = {
            "recipe": recipe_from_dict(plain["recipe"]),
            "classes": tuple(plain["classes"]),
            "class_counts": tuple(plain["class_counts"]),
            "frame": OriginalArea(**plain["frame"]) if plain.get("frame") else None,
        }
        return RunConfig(**plain | rebuilt)


def run_config(data: ImageSet, recipe: Recipe, *, conditional: bool, seed: int, start: Path | None = None) -> RunConfig:
    """Return the configuration of a run on the classes of `data` that have images, starting from run `start`.

    Raises RunError: the images are not square with a power-of-two side from 32 to 512; ClassError: fewer than two.
    """
    height, width = data.size
    if height != width or width not in (32, 64, 128, 256, 512):
        raise RunError(
            f"a generator needs square images of 32, 64, 128, 256 or 512 pixels, not {width}×{height}; "
            "run 'sonosynth data prepare' with --size"
        )
    counts = {name: count for name, count in data.class_counts.items() if count}
    if len(data) < 2:
        of_class = "".join(f" of class '{name}'" for name in counts)
        raise ClassError(
            f"a generator needs at least two training images, there is {len(data)}{of_class}; add images"
            + ("" if conditional else ", leave the class out, or train one generator for all classes (--conditional)")
        )
    return RunConfig(
        recipe=recipe,
        size=width,
        classes=tuple(counts),
        class_counts=tuple(counts.values()),
        conditional=conditional,
        data=data.fingerprint(),
        seed=seed,
        start=fingerprint(start) if start else "",
        frame=common_original_area(data),
    )


def save_generator(path: Path, network: nn.Module, config: RunConfig, kimg: float) -> None:
    """Write weights and configuration as safetensors; equal runs give equal files."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {"sonosynth": json.dumps(config.to_dict() | {"kimg": kimg}, sort_keys=True)}
    with atomic_file(path) as beside:
        beside.write_bytes(save(tensors, metadata))  # an OSError of ours names the file; one of safetensors would not


def load_generator(path: Path, device: torch.device) -> tuple[GeneratorNetwork, RunConfig]:
    """Read what `save_generator` wrote. Raises RunError if `path` is not such a file."""
    config = read_config(path)
    network = config.recipe.build_generator(config.size, config.n_classes).to(device)
    try:
        network.load_state_dict(load_file(path, device=str(device)))
    except (RuntimeError, SafetensorError) as error:
        raise RunError(
            f"{path} does not hold the weights of the generator that it names; take it from its run again, or make "
            "images with the version of sonosynth that trained it"
        ) from error
    return network.eval().requires_grad_(False), config


def read_config(path: Path) -> RunConfig:
    """Return the configuration in a file that `save_generator` wrote. Raises RunError if `path` is not such a file."""
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads(file.metadata()["sonosynth"])
        plain.pop("kimg")
        return RunConfig.from_dict(plain)
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is not a sonosynth generator ({error}); train one with 'sonosynth train'") from error


def generator_files(run: Path, snapshot: Snapshot = "last") -> list[Path]:
    """Return the generator of a run, or those of its runs per class, by folder name. Raises RunError: none there."""
    name = GENERATOR if snapshot == "last" else BEST
    runs = [run] if (run / GENERATOR).is_file() else sorted(path.parent for path in run.glob(f"*/{GENERATOR}"))
    if not runs:
        raise RunError(f"{run} holds no {GENERATOR}; train a generator there first with 'sonosynth train'")
    for directory in runs:
        if not (directory / name).is_file():
            raise RunError(
                f"{directory} holds no {name}, because no distance to the training images was computed while it was "
                "trained; use the last generator (--last)"
            )
    return [directory / name for directory in runs]


def run_of_class(run: Path, class_name: str | None) -> Path:
    """Return the run of `class_name`, if `run` holds one run per class; otherwise its first; a prior as it is.

    Raises RunError.
    """
    if is_prior(run):
        return run
    files = generator_files(run)
    mine = [file.parent for file in files if read_config(file).classes == (class_name,)]
    return mine[0] if mine else files[0].parent


def fingerprint(run: Path) -> str:
    """Return a SHA-256 of the weights of a run or a prior, which names it in runs that start from it."""
    if is_prior(run):
        return read_prior(run).card.sha256
    (file,) = generator_files(run)
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Run:
    """A directory that `train` wrote, which holds one generator, or one per class in folders of their own.

    It can be given wherever a path is taken.

    Attributes:
        directory: the folder.

    Example:
        >>> run = Run("run")
        >>> generate(run, 4, seed=1)
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = Path(directory)

    def __fspath__(self) -> str:
        return str(self.directory)

    def __repr__(self) -> str:
        return f"Run({str(self.directory)!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of which the run makes images. Raises RunError if it holds no generator."""
        return tuple(name for file in generator_files(self.directory) for name in read_config(file).classes)

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of ``log.jsonl``; of a run per class, those of all, with the name of the folder as ``run``.

        What they hold is in docs/reference/run-directory.md.
        """
        lines: list[dict[str, Any]] = []
        for file in generator_files(self.directory):
            if not (file.parent / LOG).is_file():
                raise RunError(f"{file.parent} has no {LOG}: it holds a generator alone, as a release does")
            folder = {} if file.parent == self.directory else {"run": file.parent.name}
            text = (file.parent / LOG).read_text(encoding="utf-8")
            lines += [json.loads(line) | folder for line in text.splitlines()]
        return lines


def load_run(directory: str | os.PathLike[str]) -> Run:
    """Return the run, or the generator of the release, in `directory`, ready for `generate`.

    Example:
        >>> run = load_run("release")
        >>> synthetic = generate(run, 100, seed=1)

    Raises:
        RunError: there is no generator, or it is damaged.
    """
    run = Run(directory)
    for file in generator_files(run.directory):
        read_config(file)
    return run


def recorded(directory: Path) -> dict[str, Any]:
    """Return the configuration of the run in `directory` as written, empty without one. Raises RunError: damaged."""
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


def resolved_recipe(recipe: Recipe, kimg: float, out: Path) -> Recipe:
    """Return `recipe` with what follows from its length written out, as the run in `out` has it if it has begun.

    A run that began with defaults of an earlier version keeps them, unless the setting was given.
    """
    resolved, begun = recipe.resolved(kimg), recorded(out).get("recipe")
    if not isinstance(begun, dict) or (begun.get("name"), begun.get("family")) != (recipe.name, recipe.family):
        return resolved
    before = type(recipe).defaults_before()
    kept = {}
    for name, field in type(recipe).model_fields.items():
        found = begun.get(name, before.get(name))
        derived = getattr(resolved, name) != getattr(recipe, name) and isinstance(found, float)
        earlier = name not in recipe.given and name in begun | before and found in (field.default, before.get(name))
        if derived or earlier:
            kept[name] = found
    return recipe_from_dict(resolved.model_dump() | kept)


def kept_settings(recipe: Recipe, kimg: float, runs: Iterable[Path]) -> list[str]:
    """Return a line for every setting that one of `runs` keeps as it began: see `resolved_recipe`."""
    fresh, lines = recipe.resolved(kimg), list[str]()
    for run in runs:
        kept = resolved_recipe(recipe, kimg, run)
        lines += [
            f"{name} = {_plain(getattr(kept, name))} is kept, with which this run began; a new run of {kimg:g} kimg "
            f"would have {_plain(getattr(fresh, name))}"
            for name in type(recipe).model_fields
            if getattr(kept, name) != getattr(fresh, name)
        ]
    return list(dict.fromkeys(lines))


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def check_run(directory: Path, config: RunConfig) -> None:
    """Check that `directory` is the run of `config`, or can be made one; write nothing.

    Raises RunError: it holds another run, or files that are not a run's; OutputError: it is no folder, or a file or
    folder of the run is a device, a pipe or a socket.
    """
    files = (RECIPE, STATE, LOG, GENERATOR, BEST, TRANSFER, ID_FILE)
    check_file_types(directory, files, (SAMPLES, PRETRAINING, *TRACKERS))
    if not (directory / RECIPE).is_file():
        if not is_vacant(directory):
            raise RunError(f"{directory} is not empty and holds no run; choose another --out")
        return
    found, wanted = recorded(directory), config.to_dict()
    if isinstance(found.get("recipe"), dict):  # earlier versions had fewer settings
        found["recipe"] = type(config.recipe).defaults_before() | found["recipe"]
    if found != wanted:
        raise RunError(f"{directory} belongs to another run ({_difference(found, wanted)}); choose another --out")


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
    """Write tensors, numbers and lists of them so that `load_state`, which takes nothing else, can read them."""
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
