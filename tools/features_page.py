"""The reference page of feature networks, made from their registry."""

from sonosynth.features.base import FeatureNetwork
from sonosynth.features.registry import feature_network, list_features
from sonosynth.features.texture import DISTANCES, LEVELS, PATTERNS, STATISTICS
from sonosynth.features.weights import WEIGHTS_FOLDER, DownloadedWeights

OPENING = f"""\
# Feature networks

Distances between sets of images are distances between features. `sonosynth score --features NAME` and `scores.features`
in a [study file](study-file.md) take the names below; a distance in one feature space must not be compared with one in
another.

This page is made from the code by `make reference`.

Every network sees images prepared in one way. Pixels of 0 to 255 are made float; resized to the side below by
antialiased bicubic interpolation (a = -0.5, the support scaled by the reduction, as Pillow does), stretched if they are
not square; clamped to 0 to 255 and not rounded; then `mean` is subtracted and `std` divides. Networks of colour images
get the one grey channel three times. Arithmetic is float32, without TF32. Features that are not finite are an error
that names the image.

`inception` and `efficientnet-lite0` come inside packages that are installed with sonosynth; `random-conv` and `texture`
need no weights. `dinov2` and `radimagenet` are downloaded once, when they are first asked for, to the folder that the
environment variable `{WEIGHTS_FOLDER}` names, else to the user's cache folder. Offline, put the file there yourself,
under its published name. The SHA-256 of every file is verified before it is loaded; state dictionaries are read with
`weights_only=True`. Addresses, sizes and checksums of downloads were collected from public descriptions and have not
been tried against the servers: a checksum that is wrong stops a download, never lets one through.

`sonosynth score` keeps the features it computes, in the folder of `--cache` or of the environment variable
`SONOSYNTH_CACHE`, else in the user's cache folder, under a hash of pixels and network; a study keeps its own. The
folder may be emptied at any time.
"""

TEXTURE = f"""\
## What `texture` measures

Sound travels down, so pairs of pixels side by side (lateral) and one above the other (axial) are kept apart. Images are
quantised to {LEVELS} levels; pairs are {", ".join(map(str, DISTANCES))} pixels apart, in both orders. From each of
their matrices of co-occurrence:

{{statistics}}

From uniform, rotation-invariant local binary patterns, {{patterns}}: the square roots of the shares of
patterns with 0, 1, ... points brighter than the centre, and last of all patterns that are not uniform.

From every feature its mean over the 780 images of BUSI at 128 × 128 pixels is subtracted, and its standard deviation
there divides it. Both are constants of the code: features of one set never depend on another.
"""

KEPT = """\
## Cached features

A study keeps features under a hash of the pixels, their shape, and the network's name, version and checksum.
"""


def page() -> str:
    """Return the whole page as Markdown."""
    networks = [feature_network(name) for name in list_features()]
    table = [["name", "features", "side", "mean", "std", "licence"], ["---"] * 6]
    table += [
        [f"`{n.name}`", str(n.dimension), f"{n.input_px} px", _numbers(n.mean), _numbers(n.std), n.licence]
        for n in networks
    ]
    rows = "".join(f"| {' | '.join(cells)} |\n" for cells in table)
    statistics = "\n".join(f"- {name}: {meaning}" for name, meaning in STATISTICS.items())
    patterns = " and ".join(f"{points} points at {radius} px" for points, radius in PATTERNS)
    texture = TEXTURE.format(statistics=statistics, patterns=patterns)
    return "\n".join([OPENING, rows, *map(_section, networks), texture, KEPT]).rstrip("\n") + "\n"


def _section(network: FeatureNetwork) -> str:
    about = network.about[0].upper() + network.about[1:]
    rows = {"side, mean and std": network.scaling} | _weights(network)
    return f"## {network.name}\n\n{about}.\n\n" + "".join(f"- {key}: {value}\n" for key, value in rows.items())


def _weights(network: FeatureNetwork) -> dict[str, str]:
    weights = network.weights
    if weights is None:
        return {"weights": "none"}
    size = f"{weights.size:,} bytes" if weights.size else "size not published exactly"
    rows = {"weights": f"`{weights.file}`, {size}", "SHA-256": f"`{weights.sha256}`"}
    if isinstance(weights, DownloadedWeights):
        return rows | {"address": weights.url, "size and checksum are from": weights.evidence}
    return rows | {"package": f"`{weights.requirement}`"}


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
