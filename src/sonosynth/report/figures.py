"""The report's figures, drawn with matplotlib: for the page as data URIs, and on disk as PNG and PDF."""

import base64
import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sonosynth.data.imageset import ImageSet
from sonosynth.files import atomic_file
from sonosynth.report.record import StudyRecord, TrainRun
from sonosynth.report.tables import AT_FLOOR, FRECHET, HELD_OUT, KERNEL, TRAIN, Distance, F1Row, Generator, Series
from sonosynth.statistics import Interval

# Okabe and Ito's palette for colour-blind readers without its yellow, which is too pale in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_ARMS = {  # marker, filled
    "real": ("o", False),
    "real+classical": ("s", False),
    "real+synthetic": ("o", True),
    "real+classical+synthetic": ("s", True),
}
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
_COLUMNS = 12  # images in a row of a sample grid, at least one a class
_METRICS = {FRECHET: "Fréchet distance", KERNEL: "Kernel distance"}
_REFERENCES = {HELD_OUT: "to the held-out images", TRAIN: "to the training subset"}


@dataclass(frozen=True)
class Picture:
    """A figure as the page needs it; `uri` is a data URI, `name` the file name without ending under ``figures/``."""

    name: str
    alt: str
    uri: str


def colour_of(generator: Generator | None, order: Sequence[Generator]) -> str:
    """Return the colour that stands for `generator` in every figure; near-black for no generator."""
    return "#222222" if generator is None else _COLOURS[order.index(generator) % len(_COLOURS)]


def sample_grid(record: StudyRecord, size: int, order: Sequence[Generator], out: Path) -> Picture | None:
    """Draw real images of the first training subset of `size` above images of each generator trained on it.

    Images of one class stand together; all are enlarged alike. None if no generator of that size has a gallery.
    """
    rows = _grid_rows(record, size, order)
    if len(rows) < 2:
        return None
    classes, px = record.data.classes, record.data.size[0]
    each = max(1, _COLUMNS // len(classes))
    gap, wide = max(1, px // 32), max(3, px // 8)
    class_width = each * (px + gap) - gap
    height, width = len(rows) * (px + wide) - wide, len(classes) * (class_width + wide) - wide
    canvas = np.full((height, width), 255, dtype=np.uint8)
    for i, (_, images) in enumerate(rows):
        for c in range(len(classes)):
            for k, index in enumerate(np.flatnonzero(images.labels == c)[:each]):
                y, x = i * (px + wide), c * (class_width + wide) + k * (px + gap)
                canvas[y : y + px, x : x + px] = images.images[index]
    left, top = 1.55, 0.3
    scale = (WIDTH - left) / width
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height * scale + top))
        box = (left / WIDTH, 0, 1 - left / WIDTH, height * scale / (height * scale + top))
        axes = figure.add_axes(box)
        axes.imshow(canvas, cmap="gray", vmin=0, vmax=255, interpolation="bicubic", aspect="auto")
        axes.set_axis_off()
        for c, name in enumerate(classes):
            centre = c * (class_width + wide) + class_width / 2
            axes.text(centre, -0.08 / scale, name, ha="center", va="bottom", fontweight="bold")
        for i, (label, _) in enumerate(rows):
            axes.text(-0.12 / scale, i * (px + wide) + px / 2, label, ha="right", va="center", linespacing=1.4)
    names = "; ".join(label.replace("\n", " ") for label, _ in rows)
    alt = f"Ultrasound images at size {size}, grouped by class ({', '.join(classes)}). Rows: {names}."
    return _finish(figure, f"samples-{size}", alt, out, photographic=True)


def _grid_rows(record: StudyRecord, size: int, order: Sequence[Generator]) -> list[tuple[str, ImageSet]]:
    subset = next((s for s in record.subsets if s.size == size), None)
    if subset is None:
        return []
    kind = "simulated" if record.simulated else "real"
    rows = [(f"{kind} images\ntraining subset", record.data.subset(subset.indices))]
    for generator in order:
        run = gallery_run(record, size, generator)
        if run is not None and run.gallery is not None:
            images = ImageSet.load(run.gallery)
            known = [name for name in record.data.classes if name in images.classes]
            shown = images.with_classes(known).resized(record.data.size[0])
            numbers = np.array([record.data.classes.index(name) for name in known], dtype=np.int64)
            labels = numbers[shown.labels]
            whole = ImageSet(shown.images, labels, record.data.classes, shown.groups, shown.ids, shown.synthetic)
            rows.append((f"{generator.label(order)}\nsynthetic", whole))
    return rows


def gallery_run(record: StudyRecord, size: int, generator: Generator) -> TrainRun | None:
    """Return the run whose images the sample grid shows: the lowest draw and seed with a gallery."""
    runs = [
        run
        for run in record.training
        if (run.gan, run.mode or "", run.size) == (generator.gan, generator.mode, size)
        and run.gallery is not None
        and run.gallery.is_dir()
    ]
    return min(runs, key=lambda run: (run.draw, run.seed or 0), default=None)


def distance_figure(
    distances: Sequence[Distance], features: str, order: Sequence[Generator], out: Path
) -> Picture | None:
    """Draw distance against size: a row of panels a metric, a column a reference; None without any value."""
    shown = [d for d in distances if d.features == features and d.interval is not None]
    metrics = [m for m in _METRICS if any(d.metric == m for d in shown)]
    references = [r for r in _REFERENCES if any(d.reference == r for d in shown)]
    if not metrics or not references:
        return None
    sizes = sorted({d.size for d in shown})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.75 * len(metrics) + 0.5), layout="constrained")
        panels = figure.subplots(len(metrics), len(references), squeeze=False, sharey="row", sharex=True)
        for (i, metric), (j, reference) in itertools.product(enumerate(metrics), enumerate(references)):
            panel = panels[i, j]
            picked = [d for d in shown if d.reference == reference]
            _distance_panel(panel, picked, metric, sizes, order)
            panel.set_title(f"{_METRICS[metric]} {_REFERENCES[reference]}", loc="left", fontweight="bold")
            if i == len(metrics) - 1:
                panel.set_xlabel("training images asked for")
            if j == 0:
                panel.set_ylabel(f"{_METRICS[metric]} (smaller is closer)")
        _legend(figure, panels.ravel())
    names = ", ".join(g.label(order) for g in order if any(d.generator == g for d in shown))
    alt = f"Distances in {features} features against training size {_sizes(sizes)} for {names}, with floors."
    return _finish(figure, f"distance-{features}", alt, out)


def _distance_panel(
    panel: Any, distances: Sequence[Distance], metric: str, sizes: Sequence[int], order: Sequence[Generator]
) -> None:
    present = [g for g in order if any(d.generator == g for d in distances)]
    for k, generator in enumerate(present):
        colour, marker = colour_of(generator, order), _MARKERS[order.index(generator) % len(_MARKERS)]
        dodge = _dodge(k, len(present))
        for suffix, filled in (("", True), (AT_FLOOR, False)):
            points = [
                (sizes.index(d.size) + dodge + (0 if filled else 0.05), d.interval)
                for d in distances
                if d.generator == generator and d.metric == metric + suffix and d.interval is not None
            ]
            label = generator.label(order) if filled else "_nolegend_"
            _points(panel, points, colour, marker, filled, label, joined=filled)
    if any(d.metric == metric + AT_FLOOR for d in distances):
        panel.plot([], [], marker="o", ms=4.5, mec="#555555", mfc="white", lw=0, label="hollow: recomputed at m")
    label = "floor at m"
    for i, size in enumerate(sizes):
        chosen = [d for d in distances if d.metric == metric and d.size == size]
        floors = [s.floor for d in chosen for s in d.scores if s.floor is not None]
        if floors:
            panel.hlines(np.mean(floors), i - 0.36, i + 0.36, colors="#555555", linestyles="--", lw=1.3, label=label)
    _size_axis(panel, sizes)
    panel.axhline(0, color="#999999", lw=0.8, zorder=1)  # the panels of a row share their limits, which must include 0


def f1_figure(rows: Sequence[F1Row], network: str, order: Sequence[Generator], out: Path) -> Picture | None:
    """Draw macro F1 against size with one line an arm and generator, one panel a ratio; None without rows."""
    rows = [row for row in rows if row.series.network == network]
    if not rows:
        return None
    ratios: list[float | None] = [*sorted({row.series.ratio for row in rows if row.series.ratio is not None})] or [None]
    sizes = sorted({row.size for row in rows})
    with matplotlib.rc_context(STYLE):
        columns = min(2, len(ratios))
        lines = -(-len(ratios) // columns)
        figure = Figure(figsize=(WIDTH, 3.4 * lines + 0.7), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for panel, ratio in itertools.zip_longest(panels.ravel(), ratios):
            if ratio is None and len(ratios) > 1:
                panel.set_axis_off()
                continue
            series = list(dict.fromkeys(r.series for r in rows if r.series.ratio in (None, ratio)))
            for k, one in enumerate(series):
                marker, filled = _ARMS.get(one.arm, ("P", one.generator is not None))
                points = [
                    (sizes.index(r.size) + _dodge(k, len(series)), r.intervals.macro_f1)
                    for r in rows
                    if r.series == one
                ]
                label = series_label(one, order, ratio=False)
                _points(panel, points, colour_of(one.generator, order), marker, filled, label, joined=True)
            _size_axis(panel, sizes)
            panel.set_xlabel("training images asked for, without the synthetic ones")
            panel.set_ylabel("macro F1 on the test set")
            if ratio is not None:
                panel.set_title(f"synthetic to real {ratio:g} : 1", loc="left", fontweight="bold")
        _legend(figure, panels.ravel())
    arms = ", ".join(dict.fromkeys(row.series.arm for row in rows))
    alt = f"Macro F1 of {network} against training size {_sizes(sizes)}, with intervals, for the arms {arms}."
    return _finish(figure, f"f1-{network}", alt, out)


def confusion_figure(
    rows: Sequence[F1Row], network: str, size: int, classes: Sequence[str], order: Sequence[Generator], out: Path
) -> Picture | None:
    """Draw the mean confusion matrix of every series at one size, shaded by share of the true class."""
    rows = [row for row in rows if row.series.network == network and row.size == size]
    if not rows:
        return None
    columns = min(4, max(len(rows), 3))
    lines = -(-len(rows) // columns)
    several = len({row.series.ratio for row in rows if row.series.ratio is not None}) > 1
    style = {**STYLE, "axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, (WIDTH / columns + 0.15) * lines + 0.25), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for i, (panel, row) in enumerate(itertools.zip_longest(panels, rows)):
            if row is None:
                panel.set_axis_off()
                continue
            _confusion_panel(panel, row.confusion, classes)
            panel.tick_params(labelbottom=i + columns >= len(rows))
            panel.set_title(series_label(row.series, order, ratio=several, split=True), fontsize=8.5)
        figure.supxlabel("predicted class", fontsize=9)
        figure.supylabel("true class", fontsize=9)
    best = "; ".join(f"{series_label(r.series, order, several)}: {np.trace(r.confusion):.1f} right" for r in rows)
    alt = f"Confusion matrices of {network} at size {size}, mean over runs. Of {rows[0].confusion.sum():.0f}, {best}."
    return _finish(figure, f"confusion-{network}-{size}", alt, out)


def _confusion_panel(panel: Any, confusion: np.ndarray, classes: Sequence[str]) -> None:
    total = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, total, out=np.zeros_like(confusion), where=total > 0)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1.15)
    if len(classes) <= 6:
        for i, j in np.ndindex(confusion.shape):
            colour = "white" if share[i, j] > 0.62 else "#1a1a1a"
            text = f"{confusion[i, j]:.1f}\n{share[i, j]:.0%}"
            panel.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    panel.set_xticks(range(len(classes)), classes, rotation=30 if len(classes) > 2 else 0)
    panel.set_yticks(range(len(classes)), classes)
    panel.tick_params(length=0, labelsize=8)


def series_label(series: Series, order: Sequence[Generator], ratio: bool, split: bool = False) -> str:
    """Return e.g. ``"real+synthetic, fastgan, ×2"``; with `split` the arm stands on a line of its own."""
    rest = [series.generator.label(order)] if series.generator else []
    rest += [f"×{series.ratio:g}"] if ratio and series.ratio is not None else []
    return ("\n" if split else ", ").join([series.arm, *([", ".join(rest)] if rest else [])])


def _points(
    panel: Any,
    points: Sequence[tuple[float, Interval]],
    colour: str,
    marker: str,
    filled: bool,
    label: str,
    joined: bool,
) -> None:
    for x, interval in points:
        if np.isfinite([interval.low, interval.high]).all():
            panel.vlines(x, interval.low, interval.high, colors=colour, lw=1.4, alpha=1 if joined else 0.6)
    xs = [x for x, _ in points]
    ys = [interval.value for _, interval in points]
    panel.plot(
        xs,
        ys,
        marker=marker,
        ms=6 if joined else 4.5,
        mec=colour,
        mfc=colour if filled else "white",
        color=colour,
        lw=1 if joined else 0,
        ls="-" if filled else ":",
        label=label,
        zorder=3,
    )


def _dodge(k: int, n: int) -> float:
    return 0.0 if n == 1 else (k / (n - 1) - 0.5) * min(0.44, 0.07 * (n - 1))


def _size_axis(panel: Any, sizes: Sequence[int]) -> None:
    panel.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    panel.set_xlim(-0.5, len(sizes) - 0.5)
    for i in range(len(sizes)):
        panel.axvspan(i - 0.38, i + 0.38, color="#f4f6f8", zorder=0, lw=0)


def _legend(figure: Any, panels: Iterable[Any]) -> None:
    entries: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3)


def _sizes(sizes: Sequence[int]) -> str:
    return ", ".join(str(size) for size in sizes)


def _finish(figure: Any, name: str, alt: str, out: Path, photographic: bool = False) -> Picture:
    """Write ``NAME.png`` and ``NAME.pdf`` under `out` and return the picture: greyscale PNG or SVG, no date inside."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    with matplotlib.rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, not once a format
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
        for ending, data in (("png", png.getvalue()), ("pdf", _saved(figure, "pdf", {"CreationDate": None}))):
            with atomic_file(out / f"{name}.{ending}") as beside:
                beside.write_bytes(data)
        if photographic:
            grey = io.BytesIO()
            Image.open(png).convert("L").save(grey, "png", optimize=True)
            return Picture(name, alt, _uri("png", grey.getvalue()))
    return Picture(name, alt, vector(figure))


def vector(figure: Any) -> str:
    """Return a figure drawn in `STYLE` as a data URI: SVG, no date inside."""
    with matplotlib.rc_context(STYLE):
        return _uri("svg+xml", _saved(figure, "svg", {"Date": None}))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _saved(figure: Any, form: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=metadata)
    return buffer.getvalue()
