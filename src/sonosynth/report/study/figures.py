"""Figures of sample images and of distances, for the page as data URIs, and on disk as PNG and PDF."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.tables import AT_BASELINE, FRECHET, HELD_OUT, KERNEL, TRAIN, Distance
from sonosynth.data.imageset import MANIFEST, ImageSet
from sonosynth.metrics.metric import get_metric
from sonosynth.report.drawing import (
    PAPER,
    SMALL,
    STYLE,
    WIDTH,
    Dot,
    Picture,
    colour_of,
    dodge,
    dot_figure,
    finish,
    legend,
    marker_of,
)
from sonosynth.report.render import picture_uri
from sonosynth.report.wording import decimals_for, interval_text, number, or_dash
from sonosynth.study.results import Generator, TrainResult

_COLUMNS = 12  # images in a row of a sample grid, at least one per class
_STRIP = 6  # images in a row on the first screen, at least one per class
BASELINE_LABEL = "real baseline"
_REFERENCES = {HELD_OUT: "to the held-out images", TRAIN: "to the training subset"}


@dataclass(frozen=True)
class SampleRow:
    """Images of one source, real or a generator, with all classes of the record."""

    label: str
    images: ImageSet
    source: str  # which of its runs, in words


def sample_rows(record: StudyRecord, order: Sequence[Generator]) -> dict[int, list[SampleRow]]:
    """Return, size by size, real images of the first training subset and images of each generator trained on it.

    Sizes without a generator that has a gallery are left out, and so are all where a record of tables has no pictures.
    """
    folder, classes = record.directory / "data", record.data.classes
    runs = {size: gallery_runs(record, size, order) for size in record.sizes}
    if not any(runs.values()) or not (folder / MANIFEST).is_file():
        return {}
    real, kind = _of_classes(ImageSet.load(folder), classes), "simulated" if record.simulated else "real"
    found = {}
    for size, of_size in runs.items():
        if of_size:
            subset = next(s for s in record.subsets if s.size == size)
            source = f"training subset, {record.unit} {subset.replicate}"
            rows = [SampleRow(f"{kind} images", real.subset(subset.indices), source)]
            for generator, run in of_size.items():
                images = _of_classes(ImageSet.load(record.directory / str(run.gallery)), classes)
                source = f"{record.unit} {run.replicate}, seed {or_dash(run.seed)}"
                rows.append(SampleRow(generator.label(order), images.resized(record.data.size[0]), source))
            found[size] = rows
    return found


def sample_strips(rows: Sequence[SampleRow]) -> dict[str, Any]:
    """Return one strip of images for each row, small, and the gap between its classes as a share of its width."""
    classes = rows[0].images.classes
    each = max(1, _STRIP // len(classes))
    strips = []
    for row in rows:
        canvas, there, gap = _mosaic([row.images], each)
        counts = np.minimum(np.bincount(row.images.labels, minlength=len(classes)), each)
        told = ", ".join(f"{count} {name}" for count, name in zip(counts, classes, strict=True))
        grey = Image.fromarray(canvas)
        grey.putalpha(Image.fromarray(there))
        alt = f"{row.label}: {told} ({row.source})"
        strips.append({"label": row.label, "alt": alt, "uri": picture_uri(grey, "png", optimize=True)})
    return {"classes": classes, "gap": gap / canvas.shape[1], "strips": strips, "each": each}


def _mosaic(rows: Sequence[ImageSet], each: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return a white canvas with `each` images of every class in every row, where they are, and the gap of classes.

    Both arrays are uint8 ``[H, W]``; the second is 255 on images.
    """
    px, n_classes = rows[0].images.shape[1], len(rows[0].classes)
    gap, wide = max(1, px // 32), max(3, px // 8)
    class_width = each * (px + gap) - gap
    shape = len(rows) * (px + wide) - wide, n_classes * (class_width + wide) - wide
    canvas, there = np.full(shape, 255, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    for (i, images), c in itertools.product(enumerate(rows), range(n_classes)):
        for k, index in enumerate(np.flatnonzero(images.labels == c)[:each]):
            y, x = i * (px + wide), c * (class_width + wide) + k * (px + gap)
            canvas[y : y + px, x : x + px] = images.images[index]
            there[y : y + px, x : x + px] = 255
    return canvas, there, wide


def sample_grid(rows: Sequence[SampleRow], size: int, out: Path) -> Picture:
    """Draw real images above those of each generator. Images of one class stand together; all are enlarged alike."""
    classes, px = rows[0].images.classes, rows[0].images.images.shape[1]
    canvas, _, wide = _mosaic([row.images for row in rows], max(1, _COLUMNS // len(classes)))
    height, width = canvas.shape
    left, top = 1.55, 0.3
    scale = (WIDTH - left) / width
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height * scale + top))
        box = (left / WIDTH, 0, 1 - left / WIDTH, height * scale / (height * scale + top))
        axes = figure.add_axes(box)
        axes.imshow(canvas, cmap="gray", vmin=0, vmax=255, interpolation="bicubic", aspect="auto")
        axes.set_axis_off()
        for c, name in enumerate(classes):
            centre = (c + 0.5) * (width + wide) / len(classes) - wide / 2
            axes.text(centre, -0.08 / scale, name, ha="center", va="bottom", fontweight="bold")
        labels = [f"{row.label}\n{'synthetic' if i else 'training subset'}" for i, row in enumerate(rows)]
        for i, label in enumerate(labels):
            axes.text(-0.12 / scale, i * (px + wide) + px / 2, label, ha="right", va="center", linespacing=1.4)
    names = "; ".join(label.replace("\n", " ") for label in labels)
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


def distance_summary(
    distances: Sequence[Distance], features: str, order: Sequence[Generator], out: Path
) -> tuple[Picture, list[Distance]] | None:
    """Draw one distance to the held-out images against size, and return it with what it shows; None without any value.

    It is the kernel distance, which is unbiased at any number of images, where there is one. Generators of a single
    size have a row each.
    """
    of_held_out = [d for d in distances if (d.features, d.reference) == (features, HELD_OUT)]
    known = [(d, d.interval) for d in of_held_out if d.interval is not None]
    metric = KERNEL if any(d.metric == KERNEL for d, _ in known) else FRECHET
    shown = [(d, interval) for d, interval in known if d.metric == metric]
    if not shown:
        return None
    sizes, title = sorted({d.size for d, _ in shown}), get_metric(metric).title_for(features)
    if len(sizes) == 1:
        dots = []
        for d, interval in shown:
            look = colour_of(d.generator, order), marker_of(d.generator, order)
            dots.append(Dot(d.generator.label(order), interval, *look, reference=d.real_baseline))
        figure = dot_figure(dots, f"{title} (smaller is closer)", BASELINE_LABEL)
        figure.axes[0].set_xlim(left=min(0.0, figure.axes[0].get_xlim()[0]))
    else:
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(SMALL, 0.9 * SMALL), layout="constrained")
            panel = figure.subplots()
            _distance_panel(panel, [d for d, _ in shown], metric, sizes, order)
            panel.set(xlabel="training images", ylabel=f"{title} (smaller is closer)")
            legend(figure, columns=2)
    places = decimals_for([interval.value for _, interval in shown])
    told = []
    for generator in dict.fromkeys(d.generator for d, _ in shown):
        values = [f"{interval_text(i, places)} at {d.size}" for d, i in shown if d.generator == generator]
        told.append(f"{generator.label(order)}: {', '.join(values)}")
    baselines = [f"{number(d.real_baseline, places)} at {d.size}" for d, _ in shown if d.real_baseline is not None]
    told += [f"{BASELINE_LABEL}: {', '.join(dict.fromkeys(baselines))}"] if baselines else []
    alt = f"{title} to the held-out images by number of training images. {'; '.join(told)}."
    return finish(figure, "first-distance", alt, out), [d for d, _ in shown]


def _distance_panel(
    panel: Any, distances: Sequence[Distance], metric: str, sizes: Sequence[int], order: Sequence[Generator]
) -> None:
    present = [g for g in order if any(d.generator == g for d in distances)]
    for k, generator in enumerate(present):
        colour, marker = colour_of(generator, order), marker_of(generator, order)
        aside = dodge(k, len(present))
        look = {"color": colour, "mec": colour, "marker": marker, "zorder": 3}
        filled = look | {"mfc": colour, "ms": 6, "lw": 1, "label": generator.label(order)}
        hollow = look | {"mfc": PAPER, "ms": 4.5, "lw": 0, "ls": ":", "label": "_nolegend_"}
        mine = [d for d in distances if d.generator == generator]
        for suffix, marks, opacity, shift in (("", filled, 1, aside), (AT_BASELINE, hollow, 0.6, aside + 0.05)):
            found = [(d, d.interval) for d in mine if d.metric == metric + suffix and d.interval is not None]
            for d, interval in found:
                if np.isfinite([interval.low, interval.high]).all():
                    x = sizes.index(d.size) + shift
                    panel.vlines(x, interval.low, interval.high, colors=colour, lw=1.4, alpha=opacity)
            panel.plot([sizes.index(d.size) + shift for d, _ in found], [i.value for _, i in found], **marks)
    if any(d.metric == metric + AT_BASELINE for d in distances):
        panel.plot([], [], marker="o", ms=4.5, mec="#555555", mfc=PAPER, lw=0, label="hollow: recomputed at m")
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
            panel.hlines(baseline, left, right, colors="#555555", linestyles="--", lw=1.3, label=BASELINE_LABEL)
