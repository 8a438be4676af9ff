"""Figures of classifiers' scores: learning curves and confusion matrices."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sonosynth.analysis.contrasts import BASELINE, CLASSICAL, Contrast
from sonosynth.analysis.equivalent_real_images import Curve
from sonosynth.analysis.tables import F1Row, Series
from sonosynth.report.drawing import (
    INK,
    PAPER,
    SMALL,
    STYLE,
    WIDTH,
    Dot,
    Picture,
    colour_of,
    dot_figure,
    finish,
    legend,
    marker_of,
)
from sonosynth.report.wording import interval_text, number
from sonosynth.study.results import Generator

_ARMS = {  # marker, line
    "real": ("o", "-"),
    "real+classical": ("s", "-"),
    "oversampled": ("^", ":"),
    "real+synthetic": ("o", "-"),
    "real+classical+synthetic": ("s", "-"),
    "synthetic-only": ("D", "--"),
}
_UNKNOWN_ARM = ("P", "-.")
_GREY = "#7d8590"  # for arms without synthetic images that are nobody's plain baseline


def learning_figures(
    curves: Sequence[Curve], network: str, order: Sequence[Generator], out: Path
) -> list[tuple[str, Picture]]:
    """Draw macro F1 against size, a panel for every generator and kind of augmentation, with those without synthetic
    images in each; one figure for every ratio and level of further factors, with its name in words.
    """
    mine = [c for c in curves if c.series.network == network]
    settings = list(dict.fromkeys((c.series.ratio, c.series.factors) for c in mine if c.series.generator))
    pictures = []
    for ratio, factors in settings or [(None, ())]:
        like = Series(network, "", None, ratio, factors)
        wanted = (ratio, factors)
        chosen = [
            c
            for c in mine
            if ((c.series.ratio, c.series.factors) == wanted if c.series.generator else like.contains(c.series))
        ]
        words = ", ".join([*([f"{ratio:g} : 1"] if ratio is not None else []), *([like.levels] if factors else [])])
        name = f"learning-{network}" + (f"-{words.replace(' : 1', '').replace(' ', '_')}" if len(settings) > 1 else "")
        pictures.append((words, _learning_figure(chosen, name, network, order, out)))
    return pictures if mine else []


def _learning_figure(
    curves: Sequence[Curve], name: str, network: str, order: Sequence[Generator], out: Path
) -> Picture:
    grid = _panels(curves, order)
    columns = min(3, max(len(row) for row in grid))
    grid = [row[i : i + columns] for row in grid for i in range(0, len(row), columns)]
    sizes = sorted({size for c in curves for size in c.curve.sizes})
    with matplotlib.rc_context(STYLE):
        width = WIDTH if columns > 1 else 0.65 * WIDTH
        figure = Figure(figsize=(width, 2.75 * len(grid) + 0.6), layout="constrained")
        axes = figure.subplots(len(grid), columns, squeeze=False, sharey=True, sharex=True)
        for (i, row), j in itertools.product(enumerate(grid), range(columns)):
            panel = axes[i, j]
            if j >= len(row):
                panel.set_axis_off()
                continue
            title, content = row[j]
            _learning_panel(panel, content, sizes, order)
            panel.set_title(title, loc="left", fontweight="bold")
            if i + 1 == len(grid) or j >= len(grid[i + 1]):  # nothing below
                panel.set_xlabel("training images asked for")
                panel.tick_params(labelbottom=True)
            if j == 0:
                panel.set_ylabel("macro F1 on the test set")
        arms = list(dict.fromkeys(c.series.arm for c in curves))
        synthetic = {c.series.arm for c in curves if c.series.generator}
        keys, grey = [], "#444444"
        for arm in arms:
            marker, line = _ARMS.get(arm, _UNKNOWN_ARM)
            face = grey if arm in synthetic else PAPER
            keys.append(Line2D([], [], c=grey, marker=marker, mec=grey, mfc=face, ms=5, ls=line, lw=1.3, label=arm))
        figure.legend(handles=keys, loc="outside lower center", ncols=min(4, len(arms)))
    shown = ", ".join(str(int(size)) for size in sizes)
    alt = f"Macro F1 of {network} against training size {shown}, with bands, for the arms {', '.join(arms)}."
    return finish(figure, name, alt, out)


def _panels(curves: Sequence[Curve], order: Sequence[Generator]) -> list[list[tuple[str, list[Curve]]]]:
    """Return rows of panels, title and curves each: first what is not augmented, then what is."""
    if not any(c.series.generator for c in curves):
        return [[("", list(curves))]]
    grid = []
    for augmented, words in ((False, ""), (True, ", with classical")):
        alike = [c for c in curves if ("classical" in c.series.arm.split("+")) == augmented]
        plain = [c for c in alike if c.series.generator is None]
        row = [
            (generator.label(order) + words, plain + with_images)
            for generator in order
            if (with_images := [c for c in alike if c.series.generator == generator])
        ]
        if row or plain:
            grid.append(row or [("no synthetic images" + words, plain)])
    return grid


def _learning_panel(panel: Any, curves: Sequence[Curve], sizes: Sequence[float], order: Sequence[Generator]) -> None:
    for k, c in enumerate(curves):
        marker, line = _ARMS.get(c.series.arm, _UNKNOWN_ARM)
        plain = c.series.arm in (BASELINE, CLASSICAL)
        colour = colour_of(c.series.generator, order) if c.series.generator or plain else _GREY
        xs = [size * 1.04 ** (k - (len(curves) - 1) / 2) if len(sizes) == 1 else size for size in c.curve.sizes]
        lows, highs = [p.low for p in c.curve.points], [p.high for p in c.curve.points]
        if len(xs) > 1:
            panel.fill_between(xs, lows, highs, color=colour, alpha=0.16, lw=0)
        else:
            panel.vlines(xs, lows, highs, color=colour, lw=1.4)
        face = colour if c.series.generator else PAPER
        values = [p.value for p in c.curve.points]
        panel.plot(xs, values, color=colour, marker=marker, ms=5, mec=colour, mfc=face, ls=line, lw=1.3, zorder=3)
    _size_axis(panel, sizes)


def _size_axis(panel: Any, sizes: Sequence[float]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [f"{size:g}" for size in sizes])
    panel.minorticks_off()
    panel.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)


@dataclass(frozen=True)
class F1Summary:
    """Macro F1 on the first screen: one panel, of one network."""

    picture: Picture
    curves: tuple[Curve, ...]  # all that are drawn
    banded: tuple[Curve, ...]  # those with a band

    @property
    def sizes(self) -> list[int]:
        """Training sizes, ascending."""
        return sorted({int(size) for c in self.curves for size in c.curve.sizes})


def f1_summary(
    curves: Sequence[Curve], network: str, compared: Contrast | None, order: Sequence[Generator], out: Path
) -> F1Summary | None:
    """Draw macro F1 against size, for the arm of `compared` with the images of every generator, its baseline, and the
    arms `real` and `real+classical`; without `compared` for all arms that have no synthetic images, None without any.

    Bands are of `compared` and its baseline alone, as many hide each other. Arms of a single size have a row each.
    """
    shown = [c for c in curves if c.series.network == network and c.series.generator is None]
    banded = shown
    if compared is not None:
        like, plain = compared.row.series, compared.baseline.series
        shown = [c for c in shown if like.contains(c.series) and c.series.arm in (BASELINE, CLASSICAL, plain.arm)]
        shown += [c for c in curves if c.series.generator and replace(c.series, generator=like.generator) == like]
        banded = [c for c in shown if c.series in (like, plain)]
    if not shown:
        return None
    sizes = sorted({size for c in shown for size in c.curve.sizes})
    if len(sizes) == 1:
        banded = shown
        dots = [Dot(_added(c.series, order), c.curve.points[0], *_look(c.series, order)) for c in shown]
        figure = dot_figure(dots, f"macro F1, {sizes[0]:g} training images")
    else:
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(SMALL, 0.9 * SMALL), layout="constrained")
            panel = figure.subplots()
            for c in shown:
                colour, marker, hollow = _look(c.series, order)
                if c in banded:
                    lows, highs = [p.low for p in c.curve.points], [p.high for p in c.curve.points]
                    panel.fill_between(c.curve.sizes, lows, highs, color=colour, alpha=0.2, lw=0)
                panel.plot(
                    c.curve.sizes,
                    [p.value for p in c.curve.points],
                    color=colour,
                    marker=marker,
                    ms=5,
                    mfc=PAPER if hollow else colour,
                    ls="-" if c in banded else "--",
                    lw=1.8 if c in banded else 1,
                    label=_added(c.series, order),
                    zorder=4 if c in banded else 3,
                )
            _size_axis(panel, sizes)
            panel.set(xlabel="training images", ylabel="macro F1 on the test set")
            legend(figure, columns=2)
    told = []
    for c in shown:
        points = [interval_text(p, 3) if c in banded else number(p.value, 3) for p in c.curve.points]
        values = ", ".join(f"{point} at {size:g}" for point, size in zip(points, c.curve.sizes, strict=True))
        told.append(f"{series_label(c.series, order, ratio=False)}: {values}")
    alt = f"Macro F1 of {network} on the test set by number of training images. {'; '.join(told)}."
    return F1Summary(finish(figure, "first-f1", alt, out), tuple(shown), tuple(banded))


def _added(series: Series, order: Sequence[Generator]) -> str:
    return f"+ {series.generator.label(order)}" if series.generator else series.arm


def _look(series: Series, order: Sequence[Generator]) -> tuple[str, str, bool]:
    """Return colour, mark and whether it is hollow, as in the figures of distances."""
    if series.generator:
        return colour_of(series.generator, order), marker_of(series.generator, order), False
    colour = INK if series.arm in (BASELINE, CLASSICAL) else _GREY
    return colour, _ARMS.get(series.arm, _UNKNOWN_ARM)[0], True


def confusion_figure(rows: Sequence[F1Row], classes: Sequence[str], order: Sequence[Generator], out: Path) -> Picture:
    """Draw the mean confusion matrices of `rows`, of one network and size, shaded by share of the true class."""
    network, size = rows[0].series.network, rows[0].size
    columns = min(4, max(len(rows), 3))
    lines = -(-len(rows) // columns)
    several = len({row.series.ratio for row in rows if row.series.ratio is not None}) > 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, (WIDTH / columns + 0.15) * lines + 0.25), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for i, (panel, row) in enumerate(itertools.zip_longest(panels, rows)):
            if row is None:
                panel.set_axis_off()
                continue
            below = i + columns >= len(rows)
            _confusion_panel(panel, row.confusion, classes, rows=i % columns == 0, columns=below)
            panel.set_title(series_label(row.series, order, ratio=several, split=True), fontsize=8.5)
        figure.supxlabel("predicted class", fontsize=9)
        figure.supylabel("true class", fontsize=9)
    best = "; ".join(f"{series_label(r.series, order, several)}: {np.trace(r.confusion):.1f} right" for r in rows)
    alt = f"Confusion matrices of {network} at size {size}, mean over runs. Of {rows[0].confusion.sum():.0f}, {best}."
    return finish(figure, f"confusion-{network}-{size}", alt, out)


def _confusion_panel(panel: Any, confusion: np.ndarray, classes: Sequence[str], *, rows: bool, columns: bool) -> None:
    """Draw one matrix, with the names of its rows and columns as asked, not as ticks: these take seconds to lay out."""
    total = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, total, out=np.zeros_like(confusion), where=total > 0)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1.15)
    panel.set(xticks=[], yticks=[])
    panel.set_axis_off()
    for axis in (panel.xaxis, panel.yaxis):  # else each drawing lays out ticks that nobody sees, to place the title
        axis.set_visible(False)
    if len(classes) <= 6:
        for i, j in np.ndindex(confusion.shape):
            colour = "#fefefe" if share[i, j] > 0.62 else "#1a1a1a"  # on dark pages too, where INK and PAPER turn
            text = f"{confusion[i, j]:.1f}\n{share[i, j]:.0%}"
            panel.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    n, turned = len(classes), {"rotation": 30, "ha": "right"} if len(classes) > 2 else {"ha": "center"}
    for k, name in enumerate(classes):
        if rows:
            panel.text(-0.6, k, name, ha="right", va="center", fontsize=8)
        if columns:
            panel.text(k, n - 0.42, name, va="top", fontsize=8, rotation_mode="anchor", **turned)


def series_label(series: Series, order: Sequence[Generator], ratio: bool, split: bool = False) -> str:
    """Return e.g. ``"real+synthetic, fastgan, ×2"``; with `split` the arm stands on a line of its own."""
    rest = [series.generator.label(order)] if series.generator else []
    rest += [f"×{series.ratio:g}"] if ratio and series.ratio is not None else []
    rest += [series.levels] if series.levels else []
    return ("\n" if split else ", ").join([series.arm, *([", ".join(rest)] if rest else [])])
