"""Training of a classifier: its settings, the order of its images, its loop, and the network it leaves."""

import hashlib
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonosynth.classify.augmentation import classical_augmentation
from sonosynth.classify.networks import build_network, find_network
from sonosynth.core.device import autocast, default_device, keep_freed_memory, to_device
from sonosynth.core.draws import Draws, shuffled_indices
from sonosynth.core.errors import DivergenceError, SonosynthError
from sonosynth.core.seeds import seed_of
from sonosynth.core.text import did_you_mean
from sonosynth.core.types import Progress
from sonosynth.data.imageset import ImageSet

PREDICTION_BATCH_SIZE = 128
N_SNAPSHOTS = 10  # of the weights, among which a validation set chooses

Schedule = Literal["cosine", "constant"]
Balance = Literal["none", "weights", "sampling"]
BALANCES: tuple[Balance, ...] = get_args(Balance)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


class TrainingError(SonosynthError):
    """A setting of a classifier's training cannot be what it is."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a classifier is trained; the same for every arm.

    Attributes:
        steps: gradient steps, 1 or more.
        batch: images per step, 2 or more.
        learning_rate: peak, after a linear warm-up over the first twentieth of the steps; None: the network's own.
        weight_decay: of AdamW.
        schedule: of the learning rate after the warm-up: "cosine" falls to zero with the last step.
        balance: "none": classes count as often as they occur; "weights": the loss is weighted against that;
            "sampling": batches have all classes equally often.
        label_smoothing: share of the target that is spread evenly over the classes, 0 to below 1 (Szegedy et al. 2016).
        dropout: probability, 0 to below 1, for networks that have dropout.

    Raises:
        TrainingError: a value is out of its range.
    """

    steps: int = 200
    batch: int = 32
    learning_rate: float | None = None
    weight_decay: float = 1e-2
    schedule: Schedule = "cosine"
    balance: Balance = "none"
    label_smoothing: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        rate = self.learning_rate
        for name, fits, needed in (
            ("steps", self.steps >= 1, "1 or more"),
            ("batch", self.batch >= 2, "2 or more"),
            ("learning_rate", rate is None or 0 < rate < math.inf, "above 0"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "0 or more and below 1"),
            ("dropout", 0 <= self.dropout < 1, "0 or more and below 1"),
        ):
            if not fits:
                raise TrainingError(f"{name} of a classifier must be {needed}, not {getattr(self, name)}")
        for name, known in (("schedule", SCHEDULES), ("balance", BALANCES)):
            value = getattr(self, name)
            if value not in known:
                raise TrainingError(f"unknown {name} '{value}'{did_you_mean(value, known)}; known: {', '.join(known)}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def learning_rate_factor(self, step: int) -> float:
        """Return what the learning rate is multiplied with in `step`."""
        warm_up = max(1, self.steps // 20)
        rest = max(0.0, (step - warm_up) / max(1, self.steps - warm_up))
        after = (1 + math.cos(math.pi * rest)) / 2 if self.schedule == "cosine" else 1.0
        return min((step + 1) / warm_up, after)


DEFAULT_TRAINING = TrainingSettings()


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained classifier: its network, and what is to be known of it."""

    model: nn.Module
    normalisation: tuple[float, float]  # mean and standard deviation that it expects of pixels of 0 to 1
    device: torch.device
    step: int | None = None  # whose weights it has, where a validation set chose it

    def logits(self, x: Tensor) -> Tensor:
        """Return logits ``[N, n_classes]`` of float images ``[N, 1, H, W]`` in [0, 1]."""
        mean, deviation = self.normalisation
        logits: Tensor = self.model(((x - mean) / deviation).contiguous(memory_format=torch.channels_last))
        return logits

    @property
    def weights_digest(self) -> str:
        """SHA-256 over the names and values of all weights, to tell whether two classifiers are one, bit for bit."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities, float64 ``[N, n_classes]``, of uint8 `images` ``[N, H, W]``.

        Raises DivergenceError: they are not finite, since the training was not.
        """
        was_training = self.model.training
        self.model.eval()
        chunks = torch.split(torch.from_numpy(images.copy()).to(self.device), PREDICTION_BATCH_SIZE)
        logits = torch.cat([self.logits(chunk[:, None].float() / 255) for chunk in chunks])
        self.model.train(was_training)
        probabilities: np.ndarray = logits.double().softmax(dim=1).cpu().numpy()
        if not np.isfinite(probabilities).all():
            raise DivergenceError(
                "the training of a classifier became non-finite; lower its learning_rate: --learning-rate of a "
                "command, classifiers.learning_rate of a study"
            )
        return probabilities


def train_classifier(
    pool: ImageSet,
    *,
    classical: bool,
    network: str = "resnet18",
    training: TrainingSettings = DEFAULT_TRAINING,
    normalised_by: ImageSet | None = None,
    validation: ImageSet | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> TrainedClassifier:
    """Train `network` on `pool` for a fixed number of steps.

    `classical` augments the images, and those of `normalised_by` (`pool` if not given) give the mean and the standard
    deviation that normalise all others. Of ten snapshots of the weights `validation` chooses the one with the best
    macro-F1, of equals the latest; without it the weights are those of the last step. The seed is that of initial
    weights, order, augmentation and dropout; `progress` is called with the steps done and their number.

    Raises:
        NetworkError: the network is unknown or cannot be used for such images.
    """
    keep_freed_memory()
    device = device or default_device()
    known = find_network(network)
    normalising = (normalised_by or pool).images
    own = float(normalising.mean()) / 255, max(float(normalising.std()) / 255, 1e-3)
    images, labels = (torch.from_numpy(values.copy()).to(device) for values in (pool.images, pool.labels))
    weights = class_weights(pool.labels, len(pool.classes)).to(device) if training.balance == "weights" else None
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "classifier"))
        model = build_network(network, len(pool.classes), px=pool.size, dropout=training.dropout).to(device)
        classifier = TrainedClassifier(model, known.normalisation or own, device)
        snapshot_steps = {round(training.steps * (i + 1) / N_SNAPSHOTS) for i in range(N_SNAPSHOTS)}
        best_score, best_step, best_weights = -1.0, None, dict[str, Tensor]()
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=training.learning_rate or known.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, training.learning_rate_factor)
        model.train()
        for step in range(training.steps):
            start = step * training.batch
            if training.balance == "sampling":
                index = balanced_indices(pool.labels, start, training.batch, seed)
            else:
                index = shuffled_indices(len(images), start, training.batch, seed)
            index = to_device(index, device)
            x = images[index][:, None].float() / 255
            if classical:
                x = classical_augmentation(x, Draws(seed, "classical", step, device))
            torch.manual_seed(seed_of(seed, "dropout", step))
            with autocast(device):
                logits = classifier.logits(x)
            loss = F.cross_entropy(
                logits.float(), labels[index], weight=weights, label_smoothing=training.label_smoothing
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if validation is not None and step + 1 in snapshot_steps:
                score = _macro_f1(classifier, validation)
                if score >= best_score:
                    best_score, best_step = score, step + 1
                    best_weights = {name: value.clone() for name, value in model.state_dict().items()}
            if progress:
                progress(step + 1, training.steps)
    if best_step is not None:
        model.load_state_dict(best_weights)
    return replace(classifier, step=best_step)


def _macro_f1(classifier: TrainedClassifier, images: ImageSet) -> float:
    """Return the macro-F1 of predictions; -inf where they are not finite: such weights are never the best."""
    from sklearn.metrics import f1_score

    try:
        predicted = classifier.predict(images.images).argmax(axis=1)
    except DivergenceError:
        return -math.inf
    return float(f1_score(images.labels, predicted, average="macro", zero_division=0))


def balanced_indices(labels: np.ndarray, start: int, count: int, seed: int) -> Tensor:
    """Return the samples ``start .. start + count - 1`` of an endless sequence that has all classes equally often.

    The sequence is one of shuffled rounds, each with every class once; the images of a class come in shuffled epochs,
    as in `draws.shuffled_indices`. `labels` are int64 ``[N]``, the result int64 ``[count]`` on the CPU.
    """
    classes = np.unique(labels)
    order = shuffled_indices(len(classes), start, count, seed_of(seed, "class")).numpy()
    rounds = np.arange(start, start + count) // len(classes)
    chosen = np.empty(count, dtype=np.int64)
    for place, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        first, last = rounds[0], rounds[-1]
        turn = shuffled_indices(len(members), int(first), int(last - first + 1), seed_of(seed, "of class", int(label)))
        at = np.flatnonzero(order == place)
        chosen[at] = members[turn.numpy()[rounds[at] - first]]
    return torch.from_numpy(chosen)


def class_weights(labels: np.ndarray, n_classes: int) -> Tensor:
    """Return weights float32 ``[n_classes]``: N / (classes present · images of the class); 0 without images.

    Weighted so, every class counts as much as any other, and the mean weight of an image is 1 (King & Zeng 2001).
    """
    counts = np.bincount(labels, minlength=n_classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(np.where(counts > 0, weights, 0.0).astype(np.float32))
