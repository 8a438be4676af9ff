"""How far readers agree beyond chance: Cohen's and Fleiss' kappa."""

import numpy as np


def cohen_kappa(first: np.ndarray, second: np.ndarray, *, weighted: bool = False) -> float | None:
    """Return Cohen's kappa (Educ Psychol Meas 20:37, 1960) of two ratings ``[N]`` of the same cases.

    `weighted`: disagreement counts by the square of its distance (Cohen, Psychol Bull 70:213, 1968), for ratings on a
    scale, whose numbers are taken as they are. None where chance alone agrees always, as with one rating throughout.
    """
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(f"{len(first)} and {len(second)} ratings: kappa needs as many of both, and at least one")
    values, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    k = len(values)
    table = np.zeros((k, k))
    np.add.at(table, (codes[: len(first)], codes[len(first) :]), 1 / len(first))
    if weighted:
        scale = values.astype(np.float64)
        weight = (scale[:, None] - scale) ** 2
    else:
        weight = 1.0 - np.eye(k)
    expected = float((weight * np.outer(table.sum(axis=1), table.sum(axis=0))).sum())
    return None if expected == 0 else 1 - float((weight * table).sum()) / expected


def fleiss_kappa(ratings: np.ndarray) -> float | None:
    """Return Fleiss' kappa (Psychol Bull 76:378, 1971) of R readers' ratings ``[R, N]``; R at least 2.

    None where all ratings are one.
    """
    r, n = ratings.shape
    if r < 2 or n == 0:
        raise ValueError(f"{r} readers and {n} cases: agreement needs two readers and one case")
    values = np.unique(ratings)
    counts = (ratings[:, :, None] == values).sum(axis=0)
    agreement = float(((counts**2).sum(axis=1) - r).mean()) / (r * (r - 1))
    chance = float(((counts.sum(axis=0) / (r * n)) ** 2).sum())
    return None if chance == 1 else (agreement - chance) / (1 - chance)
