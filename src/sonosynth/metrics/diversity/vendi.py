"""Vendi score: how many distinct images a set holds in effect.

Friedman and Dieng, "The Vendi Score: A Diversity Evaluation Metric for Machine Learning", TMLR 2023. No reference is
needed; it is read beside the score of as many real images, its real baseline.
"""

import numpy as np

from sonosynth.core.errors import ClassError
from sonosynth.core.seeds import numpy_generator
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.intervals.split_half import of_each, split_half_interval
from sonosynth.metrics.metric import Interval, Metric
from sonosynth.metrics.neighbours import block

_DRAWS = 40  # halves an interval is made from: each takes two matrices apart


def vendi_score(features: np.ndarray) -> float:
    """Return the Vendi score of `features` ``[N, D]``: from 1, all alike, to N, all at right angles.

    The exponential of the entropy of the eigenvalues of K / N, where K holds the cosines between features (order q = 1
    in the paper, whose experiments on images use cosines too). It grows with N: compare equal numbers only. Features
    of networks are never negative, so their cosines are large and the score is small. Features that are all zero count
    as alike.
    """
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(f"features must be finite [N, D], not {list(features.shape)} or with NaN or infinity")
    if not len(features):
        raise ClassError("no images: a Vendi score needs at least 1")
    rows = features.astype(np.float64)
    return float(np.exp(_entropy(rows @ rows.T)))


def _entropy(gram: np.ndarray) -> float:
    """Return the entropy of the eigenvalues of the cosines over N, from inner products ``[N, N]``."""
    lengths = np.sqrt(np.diag(gram))
    nothing = lengths == 0
    scale = 1 / np.where(nothing, 1.0, lengths)
    cosines = gram * scale[:, None] * scale
    cosines[np.ix_(nothing, nothing)] = 1.0
    shares = np.linalg.eigvalsh(cosines / len(gram))
    positive = shares[shares > 1e-12]
    return float(-(positive * np.log(positive)).sum())


def _interval(c: Comparison, value: float) -> Interval:
    gram = block(c.space.gram, c.synthetic, c.synthetic)
    rng = numpy_generator(c.seed, "vendi interval")
    statistics = of_each(lambda part: _entropy(block(gram, part, part)))
    found = split_half_interval(float(np.log(value)), statistics, [c.units[1]], rng, _DRAWS)
    return found and (max(float(np.exp(found[0])), 1.0), float(np.exp(found[1])))


METRICS = (
    Metric(
        name="vendi_score",
        part="diversity",
        title="Vendi score",
        about="How many distinct synthetic images there are in effect: the exponential of the entropy of the "
        "eigenvalues of the cosines between features. Its real baseline is the score of as many real images.",
        reference="Friedman and Dieng, TMLR 2023",
        direction="larger",
        range=(1.0, None),
        compares="train",
        value=lambda c: float(np.exp(_entropy(block(c.space.gram, c.synthetic, c.synthetic)))),
        interval=_interval,
        interval_method="disjoint halves of the synthetic images, whole groups, on the entropy",
        most_draws=10,
        prepare=lambda c: c.space.gram,
        ratio=True,
        sentences=(
            "fewer distinct images in effect ({value}) than among as many real ones ({baseline})",
            "more distinct images in effect ({value}) than among as many real ones ({baseline})",
        ),
    ),
)
