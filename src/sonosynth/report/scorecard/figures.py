"""Figures of a scorecard, drawn with matplotlib, as data URIs for its page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sonosynth.metrics.interpretation import at_baseline_size
from sonosynth.metrics.scores import ALL, HELD_OUT, SYNTHETIC, TRAIN
from sonosynth.metrics.ultrasound.measures import FREQUENCIES
from sonosynth.report.drawing import INK, STYLE, WIDTH, Picture, legend, vector
from sonosynth.report.scorecard.verdicts import Row

if TYPE_CHECKING:
    from sonosynth.metrics.scorecard import Scorecard

# Okabe and Ito's palette for colour-blind readers, and a dash for those who see none.
_ROLES: Mapping[str, tuple[str, str, str]] = {  # label, colour, dash
    TRAIN: ("training", "#0072B2", "-"),
    HELD_OUT: ("held-out", "#009E73", "--"),
    SYNTHETIC: ("synthetic", "#D55E00", "-."),
}
_MARKERS = {TRAIN: "o", HELD_OUT: "s"}
_LOGARITHMIC = 6.0  # times the real baseline: from here on the axis is
_POINTS = 400  # of an empirical distribution
_HISTOGRAMS = {
    "speckle_contrast": ("speckle contrast", "grey levels"),
    "nakagami_m": ("Nakagami shape m", "m"),
    "axial_width": ("axial width of speckle", "pixels"),
    "lateral_width": ("lateral width of speckle", "pixels"),
}


def overview(rows: Sequence[Row], features: str) -> Picture | None:
    """Draw the values of one feature space, or of pixels, beside their real baselines, over all classes; None without.

    Left, one panel for all distances and measures of realism that are compared as multiples of their real baselines,
    and one for each other distance; right, one for shares and the like.
    """
    shown = [row for row in rows if row.score.class_ == ALL and row.score.features == features and _drawable(row)]
    shares = [row for row in shown if row.metric.decimals is not None]
    left: dict[str, list[Row]] = {}
    for row in shown:
        if row.metric.part in ("distances", "realism") or row.metric.ratio:
            panel = row.metric.part if row.metric.ratio else row.metric.name
            left.setdefault(panel, []).append(row)
    columns = [column for column in (list(left.values()), [shares] if shares else []) if column]
    if not columns:
        return None
    heights = [[0.34 * len(_titles(part)) + 0.6 for part in column] for column in columns]
    tallest = max(sum(column) for column in heights)
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(WIDTH, tallest + 0.4), layout="constrained")
        grid = figure.add_gridspec(1, len(columns))
        for i, (column, parts) in enumerate(zip(columns, heights, strict=True)):
            ratios = [*parts, max(tallest - sum(parts), 1e-3)]  # what is left over stays empty
            inner = grid[0, i].subgridspec(len(ratios), 1, height_ratios=ratios)
            for j, part in enumerate(column):
                _forest(figure.add_subplot(inner[j, 0]), part)
        legend(figure, columns=4)
    names = ", ".join(title for column in columns for part in column for title in _titles(part))
    return Picture(f"overview-{features}", f"Values with intervals and real baselines: {names}.", vector(figure))


def _drawable(row: Row) -> bool:
    baseline = row.score.real_baseline
    return row.score.value is not None and (
        row.metric.null_value is not None or (baseline is not None and (baseline > 0 or not row.metric.ratio))
    )


def _titles(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.title for row in rows))


def _forest(panel: Any, rows: Sequence[Row]) -> None:
    titles, scaled = _titles(rows), rows[0].metric.ratio
    for row in rows:
        score, null = row.score, row.metric.null_value
        mine = [r.score.reference for r in rows if r.title == row.title]
        y = titles.index(row.title) + 0.3 * (mine.index(score.reference) - (len(mine) - 1) / 2)
        baseline = (score.real_baseline or 0.0) if null is None else null
        there = at_baseline_size(score, row.at_baseline if null is None else None)
        one = baseline if scaled else 1.0
        label, colour, _ = _ROLES[score.reference]
        panel.plot([there.low / one, there.high / one], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
        marker = _MARKERS[score.reference]
        panel.plot(there.value / one, y, marker, color=colour, ms=5.5, label=f"to the {label} images", zorder=4)
        panel.vlines(baseline / one, y - 0.17, y + 0.17, colors=INK, lw=2.2, zorder=3, label="real baseline")
    panel.set_yticks(range(len(titles)), titles)
    panel.set_ylim(len(titles) - 0.45, -0.55)
    panel.tick_params(axis="y", length=0)
    if scaled:
        panel.set_xlabel("times the real baseline")
        panel.set_xlim(left=0)
        if panel.get_xlim()[1] > _LOGARITHMIC:
            panel.set_xscale("log")
            panel.set_xlim(left=0.3)
            panel.xaxis.set_major_formatter("{x:g}")
    elif rows[0].metric.decimals is not None:
        panel.set_xlim(0, max(1.02, panel.get_xlim()[1]))
    else:
        panel.locator_params(axis="x", nbins=4)


def curves(card: "Scorecard") -> Picture | None:
    """Draw the depth profile and the power spectrum of each set: mean, and 5 to 95 % of its images; None if unknown."""
    if card.ultrasound is None or not card.ultrasound.measured.any():
        return None
    positions = card.ultrasound.depth_profile.shape[1]
    depths = (np.arange(positions) + 0.5) / positions * 100
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for role, part in card.slices.items():
            measured = np.flatnonzero(card.ultrasound.measured[part]) + part.start
            if len(measured):
                _band(left, depths, card.ultrasound.depth_profile[measured], role, upright=True)
                _band(right, FREQUENCIES, card.ultrasound.power_spectrum[measured], role)
        left.set_ylim(100, 0)
        left.set(xlabel="grey levels, less the mean over all depths", ylabel="depth, % of the image")
        right.set(xlabel="spatial frequency, cycles per pixel", ylabel="power over white noise, dB")
        left.set_title("Depth profile", loc="left", fontweight="bold")
        right.set_title("Power spectrum of speckle", loc="left", fontweight="bold")
        legend(figure, columns=4)
    return Picture("curves", "Depth profile and power spectrum of each set, mean and 5 to 95 %.", vector(figure))


def _band(panel: Any, at: np.ndarray, values: np.ndarray, role: str, upright: bool = False) -> None:
    """Draw curves ``[N, P]`` at P positions, which run along the y axis with `upright`."""
    label, colour, dash = _ROLES[role]
    low, high = np.quantile(values, [0.05, 0.95], axis=0)
    (panel.fill_betweenx if upright else panel.fill_between)(at, low, high, color=colour, alpha=0.13, lw=0)
    mean = values.mean(axis=0)
    for curve, width, text in ((low, 0.7, None), (high, 0.7, None), (mean, 2, f"{label} (n = {len(values)})")):
        panel.plot(*((curve, at) if upright else (at, curve)), color=colour, ls=dash, lw=width, label=text)


def distributions(card: "Scorecard") -> Picture | None:
    """Draw the cumulative distributions of the measures of speckle in each set; None if they are unknown."""
    if card.ultrasound is None or not card.ultrasound.measured.any():
        return None
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        panels = figure.subplots(1, len(_HISTOGRAMS), sharey=True)
        for panel, (name, (title, unit)) in zip(panels, _HISTOGRAMS.items(), strict=True):
            for role, part in card.slices.items():
                values = getattr(card.ultrasound, name)[part]
                values = values[np.isfinite(values)]
                if len(values):
                    label, colour, dash = _ROLES[role]
                    x, share = _cumulative(values)
                    panel.plot(x, share, color=colour, ls=dash, lw=1.6, label=f"{label} (n = {len(values)})")
            panel.set_title(title, loc="left", fontweight="bold")
            panel.set_xlabel(unit)
            low, high = np.quantile(getattr(card.ultrasound, name)[card.ultrasound.measured], [0.005, 0.995])
            room = 0.05 * (high - low) or 0.5
            panel.set_xlim(low - room, high + room)  # without the outermost 1 % of all images
        panels[0].set_ylabel("share of images up to it")
        legend(figure, columns=4)
    return Picture("distributions", "Cumulative distributions of speckle measures in each set.", vector(figure))


def similarity(card: "Scorecard") -> Picture | None:
    """Draw how similar synthetic, and real, images are to their most similar training image; None if unknown."""
    copies = card.near_copies
    if copies is None:
        return None
    real = "held-out images" if copies.calibrated_on == "held-out" else "training images, to other groups"
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        panel = figure.subplots()
        for text, role, values in (
            (real, TRAIN if copies.calibrated_on == "train" else HELD_OUT, copies.real.similarity),
            ("synthetic images", SYNTHETIC, copies.training.similarity),
        ):
            _, colour, dash = _ROLES[role]
            x, share = _cumulative(values)
            panel.plot(x, 1 - share, color=colour, ls=dash, lw=1.8, label=f"{text} (n = {len(values)})")
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        if copies.threshold is not None:
            label = f"threshold of a near-copy, {copies.threshold:.2f}"
            panel.axvline(copies.threshold, color=INK, lw=1.3, ls=":", label=label)
        panel.set(xlabel="similarity to the most similar training image", ylabel="share of images above it")
        legend(figure, columns=4)
    return Picture("similarity", "Similarity of synthetic and of real images to training images.", vector(figure))


def _cumulative(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of the empirical distribution function, thinned to `_POINTS` of them."""
    ordered = np.sort(values)
    n = len(ordered)
    kept = np.unique(np.linspace(0, n - 1, min(n, _POINTS)).round().astype(int))
    x = np.repeat(ordered[kept], 2)
    share = np.stack([kept, kept + 1], axis=1).ravel() / n
    return x, share
