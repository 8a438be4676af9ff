"""What the report's figures share: style, colours, marks, and how they are written."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image

from sonosynth.core.files import atomic_file
from sonosynth.report.render import data_uri, picture_uri
from sonosynth.study.results import Generator

# Okabe and Ito's palette for colour-blind readers without its yellow, which is too pale in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one more than colours, or both would come round together
STYLE = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "sonosynth",
    "pdf.fonttype": 42,
}
WIDTH = 9.2  # inches


@dataclass(frozen=True)
class Picture:
    """A figure as the page needs it; `uri` is a data URI, `name` the file name without ending under ``figures/``."""

    name: str
    alt: str
    uri: str


def colour_of(generator: Generator | None, order: Sequence[Generator]) -> str:
    """Return the colour that stands for `generator` in every figure; near-black for no generator."""
    return "#222222" if generator is None else _COLOURS[order.index(generator) % len(_COLOURS)]


def marker_of(generator: Generator, order: Sequence[Generator]) -> str:
    """Return the mark that stands for `generator`; with its colour it is told from all others."""
    return _MARKERS[order.index(generator) % len(_MARKERS)]


def dodge(k: int, n: int) -> float:
    """Return by how much the k-th of n marks of one size is set aside."""
    return 0.0 if n == 1 else (k / (n - 1) - 0.5) * min(0.44, 0.07 * (n - 1))


def legend(figure: Any, columns: int) -> None:
    """Draw one legend for all panels below the figure."""
    entries: dict[str, Any] = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


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
    """Return a figure drawn in `STYLE` as a data URI: SVG, no date inside."""
    with matplotlib.rc_context(STYLE):
        _lay_out(figure)
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        return data_uri("svg+xml", svg.getvalue())


def _lay_out(figure: Any) -> None:
    """Lay a figure out once for all formats. The solver's last digits vary, and names inside SVG are made of them."""
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position([round(float(side), 6) for side in axes.get_position().bounds])
