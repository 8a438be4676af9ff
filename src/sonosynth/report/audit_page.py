"""``audit.html``: the findings of an audit with pictures, in one self-contained page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sonosynth.audit.findings import Findings
from sonosynth.core.text import counted
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
    clusters, conflicts = findings.clusters, findings.conflicts
    apart = [members for members in clusters if members not in conflicts]
    kinds: Counter[str] = Counter(pair.kind for pair in findings.duplicates)
    context = {
        "findings": findings,
        "source": findings.report.source,
        "groups": len(np.unique(findings.groups)),
        "in_clusters": sum(len(members) for members in clusters),
        "kinds": {name: kinds[kind] for kind, name in _KINDS.items() if kinds[kind]},
        "conflicts": [_cluster(findings, members) for members in conflicts],
        "clusters": [_cluster(findings, members) for members in apart[:_CLUSTERS]],
        "n_clusters": len(clusters),
        "not_shown": max(0, len(apart) - _CLUSTERS),
        "value_text": _value_text,
        "with_words": _outlined(findings, [i for i, o in enumerate(findings.overlays) if o.words]),
        "with_calipers": _outlined(findings, [i for i, o in enumerate(findings.overlays) if o.calipers]),
        "classes": _classes(findings),
        "oddities": [
            (name, len(images), [_figure(findings, i) for i in images[:_SHOWN]])
            for name, images in findings.quality_problems().items()
        ],
        "outliers": [
            _figure(findings, i, f"{findings.outlier_scores[i]:.2f} times") for i in findings.outliers[:_SHOWN]
        ],
        "command": next_command,
    }
    return render("audit.html", context)


def _figure(findings: Findings, index: int, text: str = "", picture: Image.Image | None = None) -> dict[str, str]:
    item = findings.report.images[index].item
    uri = picture_uri(picture or Image.fromarray(findings.pictures[index]), "jpeg", quality=80)
    return {"uri": uri, "id": item.id, "label": item.label, "text": text}


def _cluster(findings: Findings, members: Sequence[int]) -> dict[str, Any]:
    images = findings.report.images
    pairs = [pair for pair in findings.duplicates if pair.a in members and pair.b in members]
    return {
        "figures": [_figure(findings, i) for i in members],
        "labels": sorted({images[i].item.label for i in members}),
        "range": f"{counted(len(pairs), 'pair')}, similarity {min(p.similarity for p in pairs):.2f} to "
        f"{max(p.similarity for p in pairs):.2f}",
        "pairs": [
            f"{images[p.a].item.id} and {images[p.b].item.id}: {_KINDS[p.kind]}, {p.similarity:.2f}" for p in pairs
        ],
        "name": f"group {findings.groups[members[0]]}",
    }


def _value_text(value: float | Mapping[str, float] | None, name: str) -> str:
    """Return a median, a share, or the shares of several kinds, the commonest first, of the property `name`."""
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        ordered = sorted(value.items(), key=lambda of_kind: (-of_kind[1], of_kind[0]))
        return ", ".join(f"{kind} {100 * part:.1f} %" for kind, part in ordered)
    return f"{100 * value:.1f} %" if name in _SHARES else f"{value:.3g}"


def _outlined(findings: Findings, images: Sequence[int]) -> dict[str, Any]:
    """Return how many images carry something, and some of them with it outlined."""
    picked = [images[round(k * (len(images) - 1) / (_SHOWN // 2 - 1))] for k in range(_SHOWN // 2)] if images else []
    figures = []
    for i in dict.fromkeys(picked):
        grey, overlays = findings.pictures[i], findings.overlays[i]
        picture = Image.fromarray(grey).convert("RGB")
        pen, factor = ImageDraw.Draw(picture), grey.shape[1] / findings.report.images[i].width
        for left, top, right, bottom in overlays.boxes:
            box = [left * factor - 2, top * factor - 2, right * factor + 2, bottom * factor + 2]
            pen.rectangle(box, outline="#ffd400")
        for x, y, arm in overlays.calipers:
            reach = (arm + 4) * factor
            circle = [x * factor - reach, y * factor - reach, x * factor + reach, y * factor + reach]
            pen.ellipse(circle, outline="#ff5a36")
        # The words are counted, not shown as text: they may name a patient.
        text = counted(len(overlays.words), "word") if overlays.words else ""
        figures.append(_figure(findings, i, text, picture))
    return {"n": len(images), "figures": figures}


def _classes(findings: Findings) -> list[dict[str, Any]]:
    rows = []
    for label, name in enumerate(findings.report.source.classes):
        chosen = np.flatnonzero(findings.labels == label)
        quality = [findings.quality[i] for i in chosen.tolist()]
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
