"""What the report's figures share: style, colours, marks, and how they are written."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sonosynth.core.files import atomic_file
from sonosynth.report.render import data_uri, picture_uri
from sonosynth.statistics.scores import Interval
from sonosynth.study.results import Generator

# Okabe and Ito's palette for colour-blind readers without its yellow, which is too pale in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one more than colours, or both would come round together
INK, PAPER, GRID = "#1c2430", "#ffffff", "#e3e6ea"
# What takes the place of greys, and of a blue, where a page is shown dark; other colours stay.
_DARK = {
    INK: "#e4e8ee",
    PAPER: "#14181f",  # as --paper of report.css
    GRID: "#333b47",
    "#f4f6f8": "#1d232c",
    "#999999": "#6b7480",
    "#555555": "#a9b2bd",
    "#444444": "#b8c0ca",
    "#0072b2": "#3f9fe0",
}
STYLE = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "sonosynth",
    "pdf.fonttype": 42,
}
WIDTH = 9.2  # inches
SMALL = 3.9  # inches, of figures that stand three in a row
_LONGEST = 22  # characters in a line beside a small figure


@dataclass(frozen=True)
class Picture:
    """A figure as the page needs it; `uri` is a data URI, `name` the file name without ending under ``figures/``."""

    name: str
    alt: str
    uri: str


def colour_of(generator: Generator | None, order: Sequence[Generator]) -> str:
    """Return the colour that stands for `generator` in every figure; that of text for no generator."""
    return INK if generator is None else _COLOURS[order.index(generator) % len(_COLOURS)]


def marker_of(generator: Generator, order: Sequence[Generator]) -> str:
    """Return the mark that stands for `generator`; with its colour it is told from all others."""
    return _MARKERS[order.index(generator) % len(_MARKERS)]


def dodge(k: int, n: int) -> float:
    """Return by how much the k-th of n marks of one size is set aside."""
    return 0.0 if n == 1 else (k / (n - 1) - 0.5) * min(0.44, 0.07 * (n - 1))


@dataclass(frozen=True)
class Dot:
    """A value with its interval in a row of its own."""

    label: str
    interval: Interval
    colour: str
    marker: str
    hollow: bool = False
    reference: float | None = None  # a value to compare with


def dot_figure(dots: Sequence[Dot], xlabel: str, reference: str = "") -> Figure:
    """Return a small figure with a row for each of `dots`; `reference` is what their references are called."""
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(SMALL, max(2.2, 0.34 * len(dots) + 1.1)), layout="constrained")
        panel = figure.subplots()
        alike = len({dot.reference for dot in dots}) == 1
        for y, dot in enumerate(dots):
            low, high = dot.interval.low, dot.interval.high
            if np.isfinite([low, high]).all():
                panel.hlines(y, low, high, colors=dot.colour, lw=1.6)
            face = PAPER if dot.hollow else dot.colour
            panel.plot(dot.interval.value, y, dot.marker, mec=dot.colour, mfc=face, ms=6, zorder=3)
            if dot.reference is not None and not (alike and y):
                from_y, to_y = (-0.5, len(dots) - 0.5) if alike else (y - 0.4, y + 0.4)
                panel.vlines(dot.reference, from_y, to_y, colors="#555555", ls="--", lw=1.3, label=reference)
        panel.set_yticks(range(len(dots)), [fill(dot.label, _LONGEST) for dot in dots])
        panel.set_ylim(len(dots) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        panel.locator_params(axis="x", nbins=5)
        panel.set_xlabel(xlabel)
        legend(figure, columns=1)
    return figure


def legend(figure: Any, columns: int) -> None:
    """Draw one legend for all panels below the figure; in two columns long names take several lines."""
    entries: dict[str, Any] = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        labels = [fill(label, _LONGEST + 4) if columns == 2 else label for label in entries]
        figure.legend(entries.values(), labels, loc="outside lower center", ncols=columns)


def finish(figure: Any, name: str, alt: str, out: Path, photographic: bool = False) -> Picture:
    """Write ``NAME.png`` and ``NAME.pdf`` under `out` and return the picture: greyscale PNG or SVG, no date inside."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    with matplotlib.rc_context(STYLE):
        _lay_out(figure)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
        with atomic_file(out / f"{name}.png") as beside:
            beside.write_bytes(png.getvalue())
        with atomic_file(out / f"{name}.pdf") as beside:
            figure.savefig(beside, format="pdf", metadata={"CreationDate": None})
        if photographic:
            return Picture(name, alt, picture_uri(Image.open(png).convert("L"), "png", optimize=True))
    return Picture(name, alt, vector(figure))


def vector(figure: Any) -> str:
    """Return a figure drawn in `STYLE` as a data URI: SVG, no date inside, dark where the reader's pages are."""
    with matplotlib.rc_context(STYLE):
        _lay_out(figure)
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in _DARK.items()
        for what in ("fill", "stroke")
    )
    dark = f"@media screen and (prefers-color-scheme:dark){{{rules}}}</style>".encode()
    return data_uri("svg+xml", svg.getvalue().replace(b"</style>", dark, 1))


def _lay_out(figure: Any) -> None:
    """Lay a figure out once for all formats. The solver's last digits vary, and names inside SVG are made of them.

    A figure that keeps its engine, or one that stands in for it, is drawn twice for every format.
    """
    engine = figure.get_layout_engine()
    if engine is None:
        return
    engine.execute(figure)
    figure.set_layout_engine(None)
    for axes in figure.axes:
        axes.set_position([round(float(side), 6) for side in axes.get_position().bounds])
