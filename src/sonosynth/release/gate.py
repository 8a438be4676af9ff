"""The privacy gate: what is looked at before images leave, and whether any of it speaks against them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from sonosynth.core.device import default_device, sampling_batch_size
from sonosynth.core.errors import PrivacyError
from sonosynth.core.text import counted
from sonosynth.core.types import Array
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.checkpoint import STATE, generator_files, load_generator, load_state
from sonosynth.metrics.interpretation import interpret, percent, with_baseline_rows
from sonosynth.metrics.memorisation.membership import membership_auc, membership_interval
from sonosynth.metrics.memorisation.near_copies import copy_share, near_copies
from sonosynth.metrics.memorisation.similarity import FineStructure, most_similar
from sonosynth.metrics.metric import get_metric
from sonosynth.metrics.scorecard import Scorecard
from sonosynth.metrics.scores import ALL, PIXELS, TRAIN, Score
from sonosynth.release.copies import CopyDetector

NEEDED = ("data_copying", "membership_auc")
"""Metrics of the scorecard without whose value nothing is released."""
LIMITS = {
    "near_copies": "more than of real images (p < 0.025); each is replaced in any case",
    "data_copying": "C_T below −3 with an interval below 0",
    "membership_auc": "interval above 0.5",
}
_ROUNDS = 6  # of replacement

State = Literal["passed", "unclear", "not measured", "failed", "told"]
"""What a check says. With ``unclear`` there are too few images to say; ``told`` decides nothing."""


class Check(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    features: str  # network, or pixels
    state: State
    says: str  # in a sentence
    limit: str = ""  # what fails
    value: float | None = None
    low: float | None = None  # lower end of the 95 % interval
    high: float | None = None
    n_real: int | None = None
    n_synthetic: int | None = None


class Privacy(BaseModel):
    """What the gate found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checks: tuple[Check, ...]
    replaced: int  # near-copies in whose place fresh images were put
    accepted: str = ""  # the reason that a person gave for a release that the gate refuses

    @property
    def against(self) -> tuple[Check, ...]:
        """The checks that speak against a release: failed, or not made."""
        return tuple(check for check in self.checks if check.state in ("failed", "not measured"))

    @property
    def counts(self) -> str:
        """How many checks are in each state, in words."""
        states = [check.state for check in self.checks]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))

    def require(self) -> None:
        """Raise PrivacyError if a check speaks against a release and nobody accepted that."""
        if not self.against or self.accepted:
            return
        first, more = self.against[0], len(self.against) - 1
        others = f", and {counted(more, 'other check')}" if more else ""
        raise PrivacyError(
            f"nothing is released: {first.title} ({first.features}), {first.state}: {first.says}{others}; give the "
            "training images (--train) and real images that the generator has not seen (--held-out), train it for less "
            "time or on more images, or write into the card why it may be released all the same (--accept REASON)"
        )


def not_measured(name: str, title: str, why: str, features: str = PIXELS) -> Check:
    """Return a check that could not be made."""
    return Check(name=name, title=title, features=features, state="not measured", says=why, limit=LIMITS.get(name, ""))


@dataclass(frozen=True, eq=False)
class Found:
    """Which of N images are near-copies, by pixels and by features; bool ``[N]`` each."""

    pixels: Array
    features: Array

    @property
    def either(self) -> Array:
        """Whether one of both says so."""
        return np.asarray(self.pixels | self.features)


class CopySearch:
    """Looks for near-copies of `train`, with thresholds set on real images."""

    def __init__(self, train: ImageSet, held_out: ImageSet | None, cache: Path | None = None):
        self._train, self._held_out, self._cache = train, held_out, cache
        self._structure = FineStructure(train.images)
        unseen = None if held_out is None else held_out.images
        self._detector = CopyDetector(train.images, unseen, train.groups)
        self._threshold: float | None = None

    def first(self, images: Array) -> tuple[Found, list[Check]]:
        """Return the near-copies among the first `images`, and whether there are more than among real ones."""
        unseen = None if self._held_out is None else self._held_out.images
        by_pixels = near_copies(self._train.images, images, unseen, self._train.groups, self._cache)
        self._threshold = by_pixels.threshold
        by_features, detector = self._detector(images), self._detector
        real_share = None if detector.threshold is None else float((detector.real > detector.threshold).mean())
        checks = [
            self._check(PIXELS, by_pixels.copied, by_pixels.real_share, len(by_pixels.real.similarity)),
            self._check("copy detector", by_features.copied, real_share, len(detector.real)),
        ]
        return Found(by_pixels.copied, by_features.copied), checks

    def more(self, images: Array) -> Found:
        """Return those among other `images`, by the thresholds of `first`."""
        limit = np.inf if self._threshold is None else self._threshold
        alike = most_similar(FineStructure(images), self._structure, None)[0].similarity
        return Found(np.asarray(alike > limit), self._detector(images).copied)

    def _check(self, features: str, copied: Array, real_share: float | None, n: int) -> Check:
        title = "Near-copies before any was replaced"
        if real_share is None:
            return not_measured("near_copies", title, f"{n} real images are too few for a threshold", features)
        value, (low, high) = copy_share(copied)
        row = Score(
            metric="near_copies",
            features=PIXELS,
            reference=TRAIN,
            class_=ALL,
            value=value,
            low=low,
            high=high,
            real_baseline=real_share,
            real_baseline_n=n,
            n_real=len(self._train),
            n_synthetic=len(copied),
        )
        return _from_row(row, None, features, title)


def replace_copies(
    images: ImageSet, found: Found, search: CopySearch, fresh: Callable[[str, int, int], ImageSet], seed_of_round: int
) -> tuple[ImageSet, int]:
    """Return `images` with fresh ones in the place of near-copies, and how many were near-copies in all.

    `fresh` makes images from a class, a number and a seed. Raises PrivacyError: it goes on making near-copies.
    """
    pixels, extra = images.images.copy(), {name: list(column) for name, column in images.extra.items()}
    wrong, replaced = np.flatnonzero(found.either), 0
    for number in range(_ROUNDS):
        if not len(wrong):
            break
        replaced += len(wrong)
        for label in np.unique(images.labels[wrong]):
            places = wrong[images.labels[wrong] == label]
            made = fresh(images.classes[label], len(places), seed_of_round + number)
            pixels[places] = made.images
            for name, column in made.extra.items():
                for place, value in zip(places, column, strict=True):
                    extra[name][place] = value
        wrong = wrong[search.more(pixels[wrong]).either]
    if len(wrong):
        raise PrivacyError(
            f"nothing is released: of images in the place of near-copies, {len(wrong)} are near-copies again after "
            f"{_ROUNDS} rounds; train the generator for less time, or on more images"
        )
    return replace(images, images=pixels, extra={name: tuple(column) for name, column in extra.items()}), replaced


def from_scorecard(card: Scorecard) -> list[Check]:
    """Return what the metrics of memorisation say over all classes; near-copies have checks of their own."""
    checks = []
    for row, at_baseline in with_baseline_rows(card.scores):
        metric = get_metric(row.metric, row.features)
        if metric.part == "memorisation" and row.class_ == ALL and row.metric != "near_copies":
            checks.append(_from_row(row, at_baseline, row.features, metric.title))
    return checks


def _from_row(row: Score, at_baseline: Score | None, features: str, title: str) -> Check:
    said = interpret(row, at_baseline)
    states: dict[str, State] = {"worse": "failed", "unclear": "unclear", "similar": "passed", "better": "passed"}
    missing: State = "not measured" if row.metric in NEEDED else "told"
    return Check(
        name=row.metric,
        title=title,
        features=features,
        state=states.get(said.state, missing),
        says=said.text,
        limit=LIMITS.get(row.metric, "worse than between real images"),
        value=row.value,
        low=row.low,
        high=row.high,
        n_real=row.n_real,
        n_synthetic=row.n_synthetic,
    )


def discriminator_membership(run: Path, train: ImageSet, held_out: ImageSet) -> Check | None:
    """Return how well the discriminator's outputs tell training images from others; None without a discriminator.

    An attacker who had it would take images with large outputs for training images (Hayes et al., LOGAN, PoPETs 2019,
    white-box attack). A release leaves it out, so this decides nothing, but tells what ``state.pt`` would give away.
    """
    if not all((file.parent / STATE).is_file() for file in generator_files(run)):
        return None
    outputs: list[tuple[Array, Array]] = []
    groups: list[tuple[Array, Array]] = []
    for file in generator_files(run):
        found = _outputs(file, (train, held_out))
        if found is None:
            continue
        (members, of_members), (others, of_others) = found
        middle, spread = np.median(others), max(float(np.std(others)), 1e-12)
        outputs.append(((middle - members) / spread, (middle - others) / spread))
        groups.append((of_members, of_others))
    if not outputs:
        return None
    members, others = (np.concatenate(side) for side in zip(*outputs, strict=True))
    of_members, of_others = (np.concatenate(side) for side in zip(*groups, strict=True))
    value = membership_auc(members, others)
    low, high = membership_interval(members, others, of_members, of_others) or (None, None)
    return Check(
        name="membership_auc",
        title="Membership AUC by the discriminator's outputs",
        features="discriminator",
        state="told",
        says=f"right in {percent(value)} of pairs (chance: {percent(0.5)}); the discriminator is not in the release: "
        "keep state.pt to yourself",
        limit="none: the discriminator is left out",
        value=value,
        low=low,
        high=high,
        n_real=len(members) + len(others),
    )


@torch.no_grad()
def _outputs(generator: Path, sets: Sequence[ImageSet]) -> list[tuple[Array, Array]] | None:
    """Return the discriminator's mean outputs on each set's images of its classes, and their groups; None if empty."""
    device = default_device()
    network, config = load_generator(generator, device)
    discriminator = config.recipe.build_discriminator(config.size, config.n_classes).to(device)
    discriminator.load_state_dict(load_state(generator.parent / STATE, device)["discriminator"])
    objective = config.recipe.build_objective(network, discriminator.eval())
    batch, found = sampling_batch_size(device, config.size), []
    for part in sets:
        known = [name for name in config.classes if name in part.classes]
        chosen = part.with_classes(known).resized(config.size)
        if not len(chosen):
            return None
        numbers = np.array([config.classes.index(name) for name in known])[chosen.labels]
        outputs = []
        for start in range(0, len(chosen), batch):
            x = torch.from_numpy(chosen.images[start : start + batch].copy()).to(device)[:, None] / 127.5 - 1
            labels = torch.from_numpy(numbers[start : start + batch]).to(device) if config.conditional else None
            outputs.append(objective.discriminate(x, labels).float().flatten(1).mean(dim=1).cpu().numpy())
        found.append((np.concatenate(outputs).astype(np.float64), chosen.groups))
    return found
