"""C_T, a test for copied training images (Meehan, Chaudhuri, Dasgupta, AISTATS 2020, arXiv:2004.05675)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sonosynth.core.text import counted
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.interpretation import TOO_FEW
from sonosynth.metrics.intervals.subsampling import MIN_GROUPS, min_group_count, t_interval
from sonosynth.metrics.memorisation.membership import group_variance, placements
from sonosynth.metrics.memorisation.three_sets import ThreeSets, cells_of, without_held_out
from sonosynth.metrics.metric import Interpretation, Interval, Metric, State, Value
from sonosynth.metrics.neighbours import block
from sonosynth.metrics.scores import Score

MIN_IMAGES = 20
"""Held-out and synthetic images that a cell needs: from about so many, the rank sum is as good as normal, and -3 is
within reach without every image being a copy (with 8 of each, the lowest score there is is -3.4)."""
PER_CELL = 100  # images of the smallest of the three sets there are to a cell, on average
COPYING = -3.0  # C_T below tells of copying (Meehan et al. 2020)


@dataclass(frozen=True, eq=False)
class Cell:
    """Held-out and synthetic images of one cell."""

    held_out: np.ndarray  # [n], which held-out images they are
    synthetic: np.ndarray  # [m], which synthetic images
    of_held_out: np.ndarray  # [n], share of pairs of each held-out image in which it is nearer to a training image
    of_synthetic: np.ndarray  # [m], share of pairs of each synthetic image in which the held-out image is nearer

    @property
    def scale(self) -> float:
        """What turns a probability into a z-score: the pairs, over the deviation of the rank sum under equality."""
        n, m = len(self.held_out), len(self.synthetic)
        return float(np.sqrt(12 * n * m / (n + m + 1)))


def cell_count(n_train: int, n_held_out: int, n_synthetic: int) -> int:
    """Return the number of cells for sets of these sizes: one for every `PER_CELL` images of the smallest, or 1."""
    return max(1, min(n_train, n_held_out, n_synthetic) // PER_CELL)


def usable_cells(
    held_out: np.ndarray,
    synthetic: np.ndarray,
    cells_train: np.ndarray,
    cells_held_out: np.ndarray,
    cells_synthetic: np.ndarray,
) -> list[Cell]:
    """Return the cells that hold `MIN_IMAGES` held-out and as many synthetic images, and a training image.

    From distances to training images, ``[U, T]`` and ``[S, T]``, and the cells of all three by `assign_cells`.
    """
    usable = []
    for cell in np.unique(cells_train):
        t, u, s = (np.flatnonzero(cells == cell) for cells in (cells_train, cells_held_out, cells_synthetic))
        if min(len(u), len(s)) >= MIN_IMAGES:
            nearest = block(held_out, u, t).min(axis=1), block(synthetic, s, t).min(axis=1)
            usable.append(Cell(u, s, *placements(*nearest)))
    return usable


def data_copying(cells: Sequence[Cell]) -> float | None:
    """Return C_T: about 0 if synthetic images are as near to training images as new images are, below -3 for copies.

    In each cell, the z-score of Mann and Whitney's U compares how far synthetic and held-out images are from the
    nearest training image of the cell; negative where synthetic ones are nearer. C_T is the mean over the cells with at
    least `MIN_IMAGES` synthetic images, weighted by their held-out images; here, a cell must also hold `MIN_IMAGES`
    held-out images and a training image (`usable_cells`). None without such a cell. Far above 0 means the opposite of
    copying: images unlike real ones. Ranks see a generator that is too near overall; a few copies among new images
    hardly move them.
    """
    if not cells:
        return None
    scores = [cell.scale * (cell.of_held_out.mean() - 0.5) for cell in cells]
    return float(np.average(scores, weights=[len(cell.held_out) for cell in cells]))


def data_copying_interval(cells: Sequence[Cell], groups_held_out: np.ndarray, groups_synthetic: np.ndarray) -> Interval:
    """Return the interval of `data_copying` for given training images and cells; None without cells or few groups.

    The variance of U as for the area under an ROC curve (see `membership_interval`), over groups, with what an image
    adds in its cell. If images of a group are alike, this is wider than the ±2 of the z-score itself.
    """
    n_groups = min_group_count((groups_held_out, groups_synthetic))
    if not cells or n_groups < MIN_GROUPS:
        return None
    of_held_out, of_synthetic = np.zeros(len(groups_held_out)), np.zeros(len(groups_synthetic))
    weights = np.array([len(cell.held_out) for cell in cells])
    value = 0.0
    for cell, weight in zip(cells, (weights / weights.sum()).tolist(), strict=True):
        probability = float(cell.of_synthetic.mean())
        value += weight * cell.scale * (probability - 0.5)
        of_held_out[cell.held_out] = weight * cell.scale * (cell.of_held_out - probability) / len(cell.held_out)
        of_synthetic[cell.synthetic] = weight * cell.scale * (cell.of_synthetic - probability) / len(cell.synthetic)
    variance = group_variance(of_held_out, groups_held_out) + group_variance(of_synthetic, groups_synthetic)
    return t_interval(value, float(np.sqrt(variance)), n_groups)


def _cells(c: Comparison) -> tuple[list[Cell], str]:
    """Return the cells that can be used, and how many there are in words."""
    sets, n_cells = c.whole.shared(ThreeSets), cell_count(len(c.real), len(c.held_out), len(c.synthetic))
    cells = c.whole.shared(cells_of, n_cells)
    distances = sets.between(c.held_out, c.real), sets.between(c.synthetic, c.real)
    usable = usable_cells(*distances, cells[c.real], cells[c.held_out], cells[c.synthetic])
    return usable, counted(n_cells, "cell")


def _value(c: Comparison) -> Value:
    if missing := without_held_out(c):
        return missing
    cells, of_all = _cells(c)
    if not cells:
        needed = f"C_T needs {MIN_IMAGES} held-out and {MIN_IMAGES} synthetic images in one of {of_all}"
        return Value(None, f"{needed}; there are {len(c.held_out)} and {len(c.synthetic)} in all")
    held_out, synthetic = sum(len(cell.held_out) for cell in cells), sum(len(cell.synthetic) for cell in cells)
    hold = f"hold {held_out} held-out and {counted(synthetic, 'synthetic image')}"
    return Value(data_copying(cells), f"C_T over {len(cells)} of {of_all}, which {hold}")


def _interpret(score: Score) -> Interpretation:
    value = score.value
    assert value is not None
    if score.low is None or score.high is None:
        return Interpretation("unclear", f"{TOO_FEW}: C_T has no interval")
    low, high = score.low, score.high
    if value < COPYING and high < 0:
        return Interpretation("worse", "nearer to training images than new real images are (C_T below −3): copies")
    if value > -COPYING and low > 0:
        text = "farther from training images than new real images are: no copies, but not like them"
        return Interpretation("better", text)
    if abs(value) > -COPYING:
        ends = f"{low:.1f} to {high:.1f}".replace("-", "\N{MINUS SIGN}")
        return Interpretation("unclear", f"{TOO_FEW}: {ends}, and 0 is no copying")
    lowest = f"{low:.1f}".replace("-", "\N{MINUS SIGN}")
    state: State = "unclear" if low < COPYING else "similar"
    return Interpretation(state, f"no copying found (C_T above −3); as low as {lowest} is possible")


METRICS = (
    Metric(
        name="data_copying",
        part="memorisation",
        title="Data copying, C_T",
        about="z-score of distances to the nearest training image, of synthetic against held-out images: about 0, "
        "below −3 for copies.",
        reference="Meehan et al., AISTATS 2020",
        direction="target",
        range=(None, None),
        compares="both",
        value=_value,
        interval=lambda c, _: data_copying_interval(_cells(c)[0], c.space.groups[c.held_out], c.groups[1]),
        interval_method="variance of Mann and Whitney's U, groups as units",
        prepare=ThreeSets.prepare,
        interpret=_interpret,
    ),
)
