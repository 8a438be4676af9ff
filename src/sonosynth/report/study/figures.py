"""Figures of sample images and of distances, for the page as data URIs, and on disk as PNG and PDF."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.tables import AT_BASELINE, FRECHET, HELD_OUT, KERNEL, TRAIN, Distance
from sonosynth.data.imageset import MANIFEST, ImageSet
from sonosynth.metrics.metric import get_metric
from sonosynth.report.drawing import STYLE, WIDTH, Picture, colour_of, dodge, finish, legend, marker_of
from sonosynth.study.results import Generator, TrainResult

_COLUMNS = 12  # images in a row of a sample grid, at least one a class
_REFERENCES = {HELD_OUT: "to the held-out images", TRAIN: "to the training subset"}


def sample_grid(record: StudyRecord, size: int, order: Sequence[Generator], out: Path) -> Picture | None:
    """Draw real images of the first training subset of `size` above images of each generator trained on it.

    Images of one class stand together; all are enlarged alike. None if no generator of that size has a gallery.
    """
    subset = next((s for s in record.subsets if s.size == size), None)
    runs = gallery_runs(record, size, order)
    pictures = record.directory / "data"
    if subset is None or not runs or not (pictures / MANIFEST).is_file():  # a record of tables alone has no pictures
        return None
    kind = "simulated" if record.simulated else "real"
    real = _of_classes(ImageSet.load(pictures), record.data.classes).subset(subset.indices)
    rows = [(f"{kind} images\ntraining subset", real)]
    for generator, run in runs.items():
        shown = _of_classes(ImageSet.load(record.directory / str(run.gallery)), record.data.classes)
        rows.append((f"{generator.label(order)}\nsynthetic", shown.resized(record.data.size[0])))
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
    return finish(figure, f"samples-{size}", alt, out, photographic=True)


def _of_classes(images: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """Return the images of `classes` with these numbers; `images` may lack some of them, or have others."""
    known = [name for name in classes if name in images.classes]
    shown = images.with_classes(known)
    numbers = np.array([classes.index(name) for name in known], dtype=np.int64)
    return replace(shown, labels=numbers[shown.labels], classes=classes)


def gallery_runs(record: StudyRecord, size: int, order: Sequence[Generator]) -> dict[Generator, TrainResult]:
    """Return the run of each generator whose images the sample grid shows: the lowest draw and seed with a gallery."""
    there = [run for run in record.training if run.size == size and run.gallery is not None]
    there = [run for run in there if (record.directory / str(run.gallery)).is_dir()]
    runs: dict[Generator, TrainResult] = {}
    for run in sorted(there, key=lambda run: (run.replicate, run.seed or 0)):
        runs.setdefault(run.generator, run)
    return {generator: runs[generator] for generator in order if generator in runs}


def distance_figure(
    distances: Sequence[Distance], features: str, order: Sequence[Generator], out: Path
) -> Picture | None:
    """Draw distance against size: one row of panels per metric, one column per reference; None without any value."""
    shown = [d for d in distances if d.features == features and d.interval is not None]
    metrics = [m for m in (FRECHET, KERNEL) if any(d.metric == m for d in shown)]
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
            title = get_metric(metric).title_for(features)
            panel.set_title(f"{title} {_REFERENCES[reference]}", loc="left", fontweight="bold")
            if i == len(metrics) - 1:
                panel.set_xlabel("training images asked for")
            if j == 0:
                panel.set_ylabel(f"{title} (smaller is closer)")
        legend(figure, columns=3)
    names = ", ".join(g.label(order) for g in order if any(d.generator == g for d in shown))
    at = ", ".join(map(str, sizes))
    alt = f"Distances in {features} features against training size {at} for {names}, with real baselines."
    return finish(figure, f"distance-{features}", alt, out)


def _distance_panel(
    panel: Any, distances: Sequence[Distance], metric: str, sizes: Sequence[int], order: Sequence[Generator]
) -> None:
    present = [g for g in order if any(d.generator == g for d in distances)]
    for k, generator in enumerate(present):
        colour, marker = colour_of(generator, order), marker_of(generator, order)
        aside = dodge(k, len(present))
        look = {"color": colour, "mec": colour, "marker": marker, "zorder": 3}
        filled = look | {"mfc": colour, "ms": 6, "lw": 1, "label": generator.label(order)}
        hollow = look | {"mfc": "white", "ms": 4.5, "lw": 0, "ls": ":", "label": "_nolegend_"}
        mine = [d for d in distances if d.generator == generator]
        for suffix, marks, opacity, shift in (("", filled, 1, aside), (AT_BASELINE, hollow, 0.6, aside + 0.05)):
            found = [(d, d.interval) for d in mine if d.metric == metric + suffix and d.interval is not None]
            for d, interval in found:
                if np.isfinite([interval.low, interval.high]).all():
                    x = sizes.index(d.size) + shift
                    panel.vlines(x, interval.low, interval.high, colors=colour, lw=1.4, alpha=opacity)
            panel.plot([sizes.index(d.size) + shift for d, _ in found], [i.value for _, i in found], **marks)
    if any(d.metric == metric + AT_BASELINE for d in distances):
        panel.plot([], [], marker="o", ms=4.5, mec="#555555", mfc="white", lw=0, label="hollow: recomputed at m")
    for i, size in enumerate(sizes):
        _baselines(panel, [d for d in distances if (d.metric, d.size) == (metric, size)], i, present)
        panel.axvspan(i - 0.38, i + 0.38, color="#f4f6f8", zorder=0, lw=0)
    panel.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    panel.set_xlim(-0.5, len(sizes) - 0.5)
    panel.axhline(0, color="#999999", lw=0.8, zorder=1)  # the panels of a row share their limits, which must include 0


def _baselines(panel: Any, distances: Sequence[Distance], at: int, present: Sequence[Generator]) -> None:
    """Draw the mean baseline of all generators, or one at the marks of each where their numbers of images differ."""
    of = {
        d.generator: [(s.real_baseline_n, s.real_baseline) for s in d.scores if s.real_baseline is not None]
        for d in distances
    }
    every = [pair for pairs in of.values() for pair in pairs]
    alike = len({frozenset(n for n, _ in pairs) for pairs in of.values() if pairs}) == 1
    spans = [(every, at - 0.36, at + 0.36)] if alike else []
    for k, generator in enumerate(() if alike else present):
        middle = at + dodge(k, len(present)) + 0.025  # between the filled and the hollow mark
        spans.append((of.get(generator, []), middle - 0.03, middle + 0.03))
    for pairs, left, right in spans:
        if pairs:
            baseline = np.mean([baseline for _, baseline in pairs])
            panel.hlines(baseline, left, right, colors="#555555", linestyles="--", lw=1.3, label="real baseline at m")
