"""Membership inference: can one tell from synthetic images which real images the generator was trained on?"""

import numpy as np

from sonosynth.metrics.intervals.subsampling import MIN_GROUPS, min_group_count, t_interval


def membership_auc(members: np.ndarray, non_members: np.ndarray) -> float:
    """Return the area under the ROC curve of an attack that takes real images near a synthetic one for members.

    It knows the synthetic images only, not the generator (a black-box attack on generators: Chen et al., "GAN-Leaks",
    CCS 2020, section 4). 0.5 is chance: the share of pairs in which the training image is the nearer one, ties counting
    half. Both sets are held against the same synthetic images, so their sizes do not move it.

    Args:
        members: ``[T]``, of each training image the distance to its nearest synthetic image.
        non_members: ``[U]``, likewise of each held-out image.
    """
    return float(placements(members, non_members)[0].mean())


def membership_interval(
    members: np.ndarray,
    non_members: np.ndarray,
    groups_members: np.ndarray,
    groups_non_members: np.ndarray,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return the interval of `membership_auc`, or None with fewer than `MIN_GROUPS` groups on either side.

    DeLong's variance (DeLong, DeLong, Clarke-Pearson, Biometrics 44:837, 1988) with whole groups as units (Obuchowski,
    Biometrics 53:567, 1997). It is for these synthetic images: others of the same generator would add to it.
    """
    n_groups = min_group_count((groups_members, groups_non_members))
    if n_groups < MIN_GROUPS:
        return None
    of_members, of_non_members = placements(members, non_members)
    value = float(of_members.mean())
    variance = sum(
        group_variance((part - value) / len(part), groups)
        for part, groups in ((of_members, groups_members), (of_non_members, groups_non_members))
    )
    low, high = t_interval(value, float(np.sqrt(variance)), n_groups, level)
    return max(low, 0.0), min(high, 1.0)


def placements(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of `x` the share of `y` that is larger, and for each of `y` the share of `x` that is smaller.

    Ties count half; both means are P(x < y).
    """
    below, above = np.sort(x), np.sort(y)
    larger = 1 - (np.searchsorted(above, x, "left") + np.searchsorted(above, x, "right")) / (2 * len(y))
    smaller = (np.searchsorted(below, y, "left") + np.searchsorted(below, y, "right")) / (2 * len(x))
    return larger, smaller


def group_variance(influence: np.ndarray, groups: np.ndarray) -> float:
    """Return the variance of an estimate from what each image adds to it, ``[N]`` around zero, summed over groups."""
    _, number = np.unique(groups, return_inverse=True)
    sums = np.bincount(number, influence)
    return float((sums**2).sum() * len(sums) / (len(sums) - 1))
