"""How many readers and images a reader study needs, by the model of Obuchowski and Rockette, before it starts."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

ALPHA = 0.05


@dataclass(frozen=True)
class ReaderModel:
    """What is assumed of readers. The defaults are ours, a guess; a pilot with a few readers tells more.

    Attributes:
        reader_sd: standard deviation of true AUCs between readers.
        correlation: between errors of two readers who see the same cases.
    """

    reader_sd: float = 0.04
    correlation: float = 0.4


def auc_variance(auc: float, n_negative: int, n_positive: int) -> float:
    """Return the variance of one reader's AUC over cases (Hanley and McNeil, Radiology 143:29, 1982, eq. 2)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (n_positive - 1) * (q1 - auc**2) + (n_negative - 1) * (q2 - auc**2)
    return spread / (n_negative * n_positive)


def average_error(auc: float, n_readers: int, n_per_kind: int, model: ReaderModel | None = None) -> tuple[float, float]:
    """Return the standard error of the average AUC, and Hillis' degrees of freedom, that a study will have.

    `n_per_kind` images are real, and as many synthetic. At least two readers.
    """
    if n_readers < 2 or n_per_kind < 2 or not 0 < auc < 1:
        raise ValueError(f"{n_readers} readers, {n_per_kind} images, AUC {auc}: two of each, and an AUC inside 0 to 1")
    model = model or ReaderModel()
    error = auc_variance(auc, n_per_kind, n_per_kind)
    mean_square = model.reader_sd**2 + (1 - model.correlation) * error
    rest = n_readers * model.correlation * error
    df = (n_readers - 1) * ((mean_square + rest) / mean_square) ** 2
    return float(np.sqrt((mean_square + rest) / n_readers)), float(df)


def detection_power(auc: float, n_readers: int, n_per_kind: int, model: ReaderModel | None = None) -> float:
    """Return the power of a two-sided test at 5 % that readers tell the images apart, if their true AUC is `auc`."""
    error, df = average_error(auc, n_readers, n_per_kind, model)
    limit, shift = stats.t.ppf(1 - ALPHA / 2, df), (auc - 0.5) / error
    return float(stats.nct.sf(limit, df, shift) + stats.nct.cdf(-limit, df, shift))


def equivalence_power(
    margin: float, n_readers: int, n_per_kind: int, model: ReaderModel | None = None, auc: float = 0.5
) -> float:
    """Return the power of two one-sided tests at 5 % to show an AUC within `margin` of 0.5, if it is `auc`.

    The standard error is taken as known, which matters little at the degrees of freedom that such studies have.
    """
    error, df = average_error(auc, n_readers, n_per_kind, model)
    limit, distance = stats.t.ppf(1 - ALPHA, df), auc - 0.5
    within = stats.t.cdf((margin - distance) / error - limit, df) + stats.t.cdf((margin + distance) / error - limit, df)
    return float(max(within - 1, 0.0))
