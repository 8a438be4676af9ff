"""``audit.html``: what an audit found, with pictures, in one self-contained page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sonosynth.audit.audit import Audit
from sonosynth.audit.shortcuts import Association
from sonosynth.core.files import write_text
from sonosynth.core.text import counted
from sonosynth.data.overlays import Overlays
from sonosynth.report.render import picture_uri, render

PAGE = "audit.html"
_CLUSTERS = 300  # shown with pictures; all of them stand in the tables
_SHOWN = 24  # pictures of everything else
_SHARES = ("burned-in words", "calipers", "colour overlay", "empty border", "share of black pixels")
_KINDS = {
    "exact": "equal pixels",
    "near": "the same part of one frame",
    "partial": "a crop or zoom",
    "flipped": "mirrored",
}


def write_audit_page(found: Audit, out: Path, command: str) -> Path:
    """Write ``audit.html`` to the folder `out` and return its path; `command` is what to type next."""
    path = out / PAGE
    write_text(path, render("audit.html", _context(found, command)))
    return path


def _context(found: Audit, command: str) -> dict[str, Any]:
    clusters, conflicts = found.clusters, found.conflicts
    source = found.report.source
    sizes = [len(members) for members in clusters]
    apart = [members for members in clusters if members not in conflicts]
    return {
        "source": source,
        "n": len(found.report.images),
        "class_counts": found.report.class_counts,
        "groups": len(np.unique(found.groups)),
        "in_clusters": sum(sizes),
        "kinds": {_KINDS[kind]: count for kind in _KINDS if (count := sum(d.kind == kind for d in found.duplicates))},
        "conflicts": [_cluster(found, members) for members in conflicts],
        "clusters": [_cluster(found, members) for members in apart[:_CLUSTERS]],
        "n_clusters": len(clusters),
        "not_shown": max(0, len(apart) - _CLUSTERS),
        "associations": [_association(found, row) for row in found.associations],
        "shortcut": found.shortcut,
        "storage": found.storage,
        "with_words": _drawn(found, [i for i, o in enumerate(found.overlays) if o.words]),
        "with_calipers": _drawn(found, [i for i, o in enumerate(found.overlays) if o.calipers]),
        "classes": _classes(found),
        "oddities": [
            (name, len(images), [_figure(found, i) for i in images[:_SHOWN]])
            for name, images in found.oddities().items()
        ],
        "outliers": [_figure(found, i, f"{found.outlying[i]:.2f} times") for i in found.outliers[:_SHOWN]],
        "notes": found.notes,
        "command": command,
    }


def _figure(found: Audit, index: int, text: str = "") -> dict[str, str]:
    item = found.report.images[index].item
    return {"uri": _uri(found.pictures[index]), "id": item.id, "label": item.label, "text": text}


def _uri(grey: np.ndarray[Any, Any] | Image.Image) -> str:
    picture = grey if isinstance(grey, Image.Image) else Image.fromarray(grey)
    return picture_uri(picture, "jpeg", quality=80)


def _cluster(found: Audit, members: Sequence[int]) -> dict[str, Any]:
    pairs = [pair for pair in found.duplicates if pair.a in members and pair.b in members]
    names = [found.report.images[i].item.id for i in range(len(found.report.images))] if pairs else []
    return {
        "figures": [_figure(found, i) for i in members],
        "labels": sorted({found.report.images[i].item.label for i in members}),
        "range": f"{counted(len(pairs), 'pair')}, similarity {min(p.similarity for p in pairs):.2f} to "
        f"{max(p.similarity for p in pairs):.2f}",
        "pairs": [f"{names[p.a]} and {names[p.b]}: {_KINDS[p.kind]}, {p.similarity:.2f}" for p in pairs],
        "name": f"group {found.groups[members[0]]}",
    }


def _association(found: Audit, row: Association) -> dict[str, Any]:
    share = row.name in _SHARES
    values = [row.values.get(c) for c in found.report.source.classes]
    return {
        "name": row.name,
        "values": ["–" if v is None else _value(v, share) for v in values],
        "effect": f"{row.effect:.2f}",
        "p": "< 0.001" if row.p < 0.001 else f"{row.p:.3f}",
        "n": row.n,
        "suspect": row.p < 0.05,
    }


def _value(value: float | Mapping[str, float], share: bool) -> str:
    """Return a median, a share, or the shares of several kinds, the commonest first."""
    if isinstance(value, Mapping):
        ordered = sorted(value.items(), key=lambda of_kind: (-of_kind[1], of_kind[0]))
        return ", ".join(f"{kind} {100 * part:.1f} %" for kind, part in ordered)
    return f"{100 * value:.1f} %" if share else f"{value:.3g}"


def _drawn(found: Audit, images: Sequence[int]) -> dict[str, Any]:
    """Return how many images carry something, and some of them with it outlined."""
    picked = [images[round(k * (len(images) - 1) / (_SHOWN // 2 - 1))] for k in range(_SHOWN // 2)] if images else []
    shown = []
    for i in dict.fromkeys(picked):
        words = found.overlays[i].words
        figure = _figure(found, i, counted(len(words), "word") if words else "")  # not as text: it may name a patient
        figure["uri"] = _uri(_outlined(found.pictures[i], found.overlays[i], found.report.images[i].width))
        shown.append(figure)
    return {"n": len(images), "figures": shown}


def _outlined(grey: np.ndarray[Any, Any], overlays: Overlays, width: int) -> Image.Image:
    picture = Image.fromarray(grey).convert("RGB")
    pen, factor = ImageDraw.Draw(picture), grey.shape[1] / width
    for left, top, right, bottom in overlays.boxes:
        pen.rectangle([left * factor - 2, top * factor - 2, right * factor + 2, bottom * factor + 2], outline="#ffd400")
    for x, y, arm in overlays.calipers:
        reach = (arm + 4) * factor
        pen.ellipse([x * factor - reach, y * factor - reach, x * factor + reach, y * factor + reach], outline="#ff5a36")
    return picture


def _classes(found: Audit) -> list[dict[str, Any]]:
    labels = found.labels
    rows = []
    for i, name in enumerate(found.report.source.classes):
        chosen = np.flatnonzero(labels == i)
        quality = [found.quality[j] for j in chosen]
        means = np.array([q.mean for q in quality])
        rows.append(
            {
                "name": name,
                "n": len(chosen),
                "groups": len(np.unique(found.groups[chosen])),
                "size": f"{np.median([q.width for q in quality]):.0f} × {np.median([q.height for q in quality]):.0f}",
                "aspect": f"{min(q.aspect for q in quality):.2f} to {max(q.aspect for q in quality):.2f}",
                "grey": f"{means.mean():.0f} ± {means.std():.0f}",
                "contrast": f"{np.mean([q.contrast for q in quality]):.0f}",
                "saturated": f"{100 * np.mean([q.saturated for q in quality]):.2f} %",
                "sharpness": f"{np.median([q.sharpness for q in quality]):.3f}",
            }
        )
    return rows
