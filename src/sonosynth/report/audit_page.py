"""``audit.html``: the findings of an audit with pictures, in one self-contained page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sonosynth.audit.findings import Findings
from sonosynth.audit.shortcuts import Association
from sonosynth.core.text import counted
from sonosynth.core.types import Array
from sonosynth.data.overlays import Overlays
from sonosynth.report.render import picture_uri, render

_CLUSTERS = 300  # shown with pictures; all of them stand in the tables
_SHOWN = 24  # pictures of everything else
_SHARES = ("burned-in words", "calipers", "colour overlay", "empty border", "share of black pixels")
_KINDS = {
    "exact": "equal pixels",
    "near": "the same part of one frame",
    "partial": "a crop or zoom",
    "flipped": "mirrored",
}


def audit_page(findings: Findings, next_command: str) -> str:
    """Return the page of `findings`; `next_command` is what to type next."""
    return render("audit.html", _context(findings, next_command))


def _context(findings: Findings, command: str) -> dict[str, Any]:
    clusters, conflicts = findings.clusters, findings.conflicts
    kinds: Counter[str] = Counter(pair.kind for pair in findings.duplicates)
    source = findings.report.source
    sizes = [len(members) for members in clusters]
    apart = [members for members in clusters if members not in conflicts]
    return {
        "source": source,
        "n": len(findings.report.images),
        "class_counts": findings.report.class_counts,
        "groups": len(np.unique(findings.groups)),
        "in_clusters": sum(sizes),
        "kinds": {name: kinds[kind] for kind, name in _KINDS.items() if kinds[kind]},
        "conflicts": [_cluster(findings, members) for members in conflicts],
        "clusters": [_cluster(findings, members) for members in apart[:_CLUSTERS]],
        "n_clusters": len(clusters),
        "not_shown": max(0, len(apart) - _CLUSTERS),
        "associations": [_association(findings, row) for row in findings.associations],
        "shortcut": findings.shortcut,
        "storage": findings.storage_differences,
        "with_words": _drawn(findings, [i for i, o in enumerate(findings.overlays) if o.words]),
        "with_calipers": _drawn(findings, [i for i, o in enumerate(findings.overlays) if o.calipers]),
        "classes": _classes(findings),
        "oddities": [
            (name, len(images), [_figure(findings, i) for i in images[:_SHOWN]])
            for name, images in findings.quality_problems().items()
        ],
        "outliers": [
            _figure(findings, i, f"{findings.outlier_scores[i]:.2f} times") for i in findings.outliers[:_SHOWN]
        ],
        "notes": findings.notes,
        "command": command,
    }


def _figure(findings: Findings, index: int, text: str = "") -> dict[str, str]:
    item = findings.report.images[index].item
    return {"uri": _uri(findings.pictures[index]), "id": item.id, "label": item.label, "text": text}


def _uri(grey: Array | Image.Image) -> str:
    picture = grey if isinstance(grey, Image.Image) else Image.fromarray(grey)
    return picture_uri(picture, "jpeg", quality=80)


def _cluster(findings: Findings, members: Sequence[int]) -> dict[str, Any]:
    pairs = [pair for pair in findings.duplicates if pair.a in members and pair.b in members]
    names = [findings.report.images[i].item.id for i in range(len(findings.report.images))] if pairs else []
    return {
        "figures": [_figure(findings, i) for i in members],
        "labels": sorted({findings.report.images[i].item.label for i in members}),
        "range": f"{counted(len(pairs), 'pair')}, similarity {min(p.similarity for p in pairs):.2f} to "
        f"{max(p.similarity for p in pairs):.2f}",
        "pairs": [f"{names[p.a]} and {names[p.b]}: {_KINDS[p.kind]}, {p.similarity:.2f}" for p in pairs],
        "name": f"group {findings.groups[members[0]]}",
    }


def _association(findings: Findings, row: Association) -> dict[str, Any]:
    share = row.name in _SHARES
    values = [row.values.get(c) for c in findings.report.source.classes]
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


def _drawn(findings: Findings, images: Sequence[int]) -> dict[str, Any]:
    """Return how many images carry something, and some of them with it outlined."""
    picked = [images[round(k * (len(images) - 1) / (_SHOWN // 2 - 1))] for k in range(_SHOWN // 2)] if images else []
    shown = []
    for i in dict.fromkeys(picked):
        words = findings.overlays[i].words
        figure = _figure(
            findings, i, counted(len(words), "word") if words else ""
        )  # not as text: it may name a patient
        figure["uri"] = _uri(_outlined(findings.pictures[i], findings.overlays[i], findings.report.images[i].width))
        shown.append(figure)
    return {"n": len(images), "figures": shown}


def _outlined(grey: Array, overlays: Overlays, width: int) -> Image.Image:
    picture = Image.fromarray(grey).convert("RGB")
    pen, factor = ImageDraw.Draw(picture), grey.shape[1] / width
    for left, top, right, bottom in overlays.boxes:
        pen.rectangle([left * factor - 2, top * factor - 2, right * factor + 2, bottom * factor + 2], outline="#ffd400")
    for x, y, arm in overlays.calipers:
        reach = (arm + 4) * factor
        pen.ellipse([x * factor - reach, y * factor - reach, x * factor + reach, y * factor + reach], outline="#ff5a36")
    return picture


def _classes(findings: Findings) -> list[dict[str, Any]]:
    labels = findings.labels
    rows = []
    for i, name in enumerate(findings.report.source.classes):
        chosen = np.flatnonzero(labels == i)
        quality = [findings.quality[j] for j in chosen]
        means = np.array([q.mean for q in quality])
        rows.append(
            {
                "name": name,
                "n": len(chosen),
                "groups": len(np.unique(findings.groups[chosen])),
                "size": f"{np.median([q.width for q in quality]):.0f} × {np.median([q.height for q in quality]):.0f}",
                "aspect": f"{min(q.aspect for q in quality):.2f} to {max(q.aspect for q in quality):.2f}",
                "grey": f"{means.mean():.0f} ± {means.std():.0f}",
                "contrast": f"{np.mean([q.contrast for q in quality]):.0f}",
                "saturated": f"{100 * np.mean([q.saturated for q in quality]):.2f} %",
                "sharpness": f"{np.median([q.sharpness for q in quality]):.3f}",
            }
        )
    return rows
