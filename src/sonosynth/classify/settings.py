"""How a classifier is trained: the settings, the same for every arm."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from sonosynth.core.errors import SonosynthError, nearest

Schedule = Literal["cosine", "constant"]
Balance = Literal["none", "weights", "sampling"]
BALANCES: tuple[Balance, ...] = get_args(Balance)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


class TrainingError(SonosynthError):
    """A setting of a classifier's training cannot be what it is."""


@dataclass(frozen=True)
class Training:
    """How a classifier is trained; the same for every arm.

    Attributes:
        steps: gradient steps, 1 or more.
        batch: images a step, 2 or more.
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
                raise TrainingError(f"unknown {name} '{value}'{nearest(value, known)}; known: {', '.join(known)}")

    @classmethod
    def of(cls, **settings: Any) -> "Training":
        """Return the training with settings from outside, whose types are not known. Raises TrainingError."""
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def learning_rate_factor(self, step: int) -> float:
        """Return what the learning rate is multiplied with in `step`."""
        warm_up = max(1, self.steps // 20)
        rest = max(0.0, (step - warm_up) / max(1, self.steps - warm_up))
        after = (1 + math.cos(math.pi * rest)) / 2 if self.schedule == "cosine" else 1.0
        return min((step + 1) / warm_up, after)


DEFAULTS = Training()
