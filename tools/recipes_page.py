"""The reference page of recipes, made from the recipes themselves."""

import csv
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from sonosynth.gan.augment.ada import PUBLISHED, AdaPolicy
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.registry import families, list_gans, make_recipe

SIZES = (64, 128, 256)

OPENING = """\
# Recipes

A recipe is a generator family with its settings. `sonosynth train --gan RECIPE --set SETTING=VALUE` changes a setting,
and so does `{base: RECIPE, SETTING: VALUE}` in a [study file](study-file.md). `recipe.yaml` in a run holds them all.

This page is made from the code by `make reference`.

## Families

With millions of trained parameters at 256 × 256 pixels, unconditional.
"""

ADA_OPENING = """\
The settings inside `ada_policy`; what is not given stays at its default: `--set 'ada_policy={rotation_degrees: 10}'`.
"""

DEPARTURES = """\
## Departures

Beyond what the tables say, published figures stand for other settings or code than these:

- Every family mirrors images: few images become twice as many, and a mirrored B-mode image is one that could have been
  taken. Of the authors, Liu 2021 and the few-shot runs of Zhao 2020 mirror.
- `stylegan2` and `stylegan2-ada` draw the layer at which styles change for every image, the authors' code for a batch.
- Several of Adam's phases of `stylegan2` are in full precision, which on a GPU means TF32 for convolutions (10 bits of
  mantissa); the authors' code switches TF32 off.
- A run that starts from another (`--from`, pretraining) begins the ramp of the moving average anew, where the authors'
  code of Karras 2020b has none: an average of 5 kimg would hardly leave the first weights in a run of 1 kimg.
- Of generators with batch normalisation (`fastgan`, `projected`), the moving average has the statistics of images that
  it makes itself. The authors' code samples FastGAN by the statistics of each batch, so that an image depends on those
  beside it, and Projected GAN by those of the live network.
- `fastgan` has the hinge loss of the paper; the authors' code draws its margins between 0.8 and 1
  (`--set smallest_margin=0.8`). Its decoders have the authors' widths at `ndf` = 64 and narrow with the discriminator;
  theirs are always of that width. EfficientNet-Lite0 stands for LPIPS. Images below 256 px have reconstructions of
  fewer than the authors' 128 px: at 64 px, enlarging 32 to 64 before the frozen network gave distances as small as
  enlarging to 128 ([record](../../results/2026-12-recipe-settings/README.md)), which takes 1.6 times as long.
- `projected` below 128 px is ours: its generator ends earlier, and everything else is as at 128 px. The two noise
  strengths of a block of its larger generator (`--set lite=false`) are trained apart; the authors' conditional one has
  one for both.
- `r3gan` keeps the learning rate, γ and Adam's second decay at the values with which its authors' schedules begin, and
  augments by DiffAugment, where they have the transforms of ADA. Its last discriminator stage, not a fixed number of
  feature maps, gives the length of the class vectors; that is the same in the published widths.
- No paper has conditional FastGAN; Projected GAN's authors have it in code alone.
"""

SOURCES = """\
## Sources

"Authors'" is code that the authors published with the paper; "ours" a choice of this project.
"""


MEASURED = """\
## What the settings are worth

Settings of this page ("now") beside those of earlier versions ("before"): one conditional generator on 100 images of
BUSI, 64 px, 20 kimg, narrow networks, two seeds ([record](../../results/2026-12-recipe-settings/README.md)). Distances
and recall of 500 images, for either seed, by Inception / by EfficientNet-Lite0. Distances are better small, recall
large.
"""
RECORD = Path(__file__).parents[1] / "results" / "2026-12-recipe-settings" / "scores.csv"
COMPARED = {
    "stylegan2 before": "`stylegan2` before: no mirroring, class through 2 layers",
    "stylegan2": "`stylegan2` now: mirroring, 8 layers",
    "stylegan2-fewshot": "`stylegan2-fewshot`",
    "stylegan2-diffaug before": "`stylegan2-diffaug` before: no mirroring, 2 layers, other settings of `stylegan2`",
    "stylegan2-diffaug weak R1": "`stylegan2-diffaug` before, but with mirroring and 8 layers",
    "stylegan2-diffaug": "`stylegan2-diffaug` now: few-shot settings too",
    "fastgan before": "`fastgan` before: `perceptual_px=32`",
    "fastgan 64": "`fastgan` now: `perceptual_px=64`",
    "fastgan": "`fastgan` with `perceptual_px=128`",
    "projected before": "`projected` before: tanh, half of the side cut out, no mirroring",
    "projected": "`projected` now: none of these",
}
SPACES = ("inception", "efficientnet-lite0")
MEASURES = (("kernel_distance", "held-out"), ("kernel_distance", "train"), ("recall", "held-out"))


def page() -> str:
    """Return the whole page as Markdown."""
    sections = [_family(name, family) for name, family in families().items()]
    papers = "\n".join(f"- {short}: {paper}." for short, paper in sorted(all_papers().items()))
    return "\n".join([OPENING, _networks(), *sections, _ada(), _measured(), DEPARTURES, SOURCES, papers, ""])


def all_papers() -> dict[str, str]:
    """Return the papers that sources of settings name, by their short names."""
    return Recipe.papers | {short: paper for family in families().values() for short, paper in family.papers.items()}


def _recipes_of(family: type[Recipe]) -> list[Recipe]:
    return [recipe for recipe in map(make_recipe, list_gans()) if type(recipe) is family]


def _networks() -> str:
    rows = []
    for name, family in families().items():
        recipes = _recipes_of(family)
        counts = recipes[0].parameter_counts(SIZES[-1], 0)
        millions = [f"{count / 1e6:.1f}" for count in counts]
        rows.append([f"[{name}](#family-{name})", ", ".join(f"`{recipe.name}`" for recipe in recipes), *millions])
    return _table(["family", "recipes", "generator", "discriminator"], rows)


def _family(name: str, family: type[Recipe]) -> str:
    recipes = _recipes_of(family)
    keys = [key for key in family.model_fields if key not in ("name", "family")]
    rows = [[f"`{key}`", _defaults(recipes, key), meaning_of(family, key), source_of(family, key)] for key in keys]
    about = re.sub(r"\s+", " ", (family.__doc__ or "").replace("``", "`")).strip()
    return f"## Family {name}\n\n{about}\n\n{_table(['setting', 'default', 'meaning', 'source'], rows)}"


def _measured() -> str:
    """Return the table of old and new settings, from the scores of the record."""
    with RECORD.open(encoding="utf-8", newline="") as file:
        known = [row for row in csv.DictReader(file) if row["class"] == "all"]
    rows = []
    for gan in dict.fromkeys(row["gan"] for row in known):
        cells = [COMPARED[gan]]
        for metric, reference in MEASURES:
            found = [row for row in known if (row["gan"], row["metric"], row["reference"]) == (gan, metric, reference)]
            values = {space: [float(row["value"]) for row in found if row["features"] == space] for space in SPACES}
            cells.append(" / ".join(", ".join(f"{value:.3f}" for value in values[space]) for space in SPACES))
        rows.append(cells)
    headings = ["recipe", "kernel distance, held-out", "kernel distance, training", "recall, held-out"]
    return f"{MEASURED}\n{_table(headings, rows)}"


def meaning_of(family: type[Recipe], setting: str) -> str:
    """Return what `setting` does in `family`: as its nearest class that says so has it."""
    found = (base.model_fields[setting].description for base in family.__mro__ if issubclass(base, Recipe))
    return next(meaning for meaning in found if meaning)


def source_of(family: type[Recipe], setting: str) -> str:
    """Return where the default of `setting` in `family` is from."""
    extra = family.model_fields[setting].json_schema_extra
    assert isinstance(extra, dict), f"{family.__name__}.{setting} has no source"
    return str(extra["source"])


def _defaults(recipes: list[Recipe], key: str) -> str:
    """Return the default of a setting in the first recipe of a family, and in those that differ from it."""
    names: dict[str, list[str]] = {}
    for recipe in recipes:
        names.setdefault(_default(recipe, key), []).append(f"`{recipe.name}`")
    first, *others = names
    return "; ".join([first, *(f"{', '.join(names[value])}: {value}" for value in others)])


def _default(recipe: Recipe, key: str) -> str:
    """Return the default of a setting; of one that depends on the run, its values."""
    value = getattr(recipe.resolved(recipe.kimg), key)
    if value is None and hasattr(recipe, f"{key}_at"):
        return ", ".join(f"{getattr(recipe, f'{key}_at')(size):.3g} at {size} px" for size in SIZES)
    if key == "ada_kimg" and value is not None:
        return f"{value:g} for {recipe.kimg:g} kimg"
    return "[below](#transforms-of-ada)" if isinstance(value, AdaPolicy) else _plain(value)


def _plain(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ", ".join(_plain(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _ada() -> str:
    """Return the section on the settings inside `ada_policy`, explained by the docstring of `AdaPolicy`."""
    about, _, attributes = (AdaPolicy.__doc__ or "").partition("Attributes:")
    meanings = dict(re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", attributes, re.MULTILINE))
    rows = []
    for field in fields(AdaPolicy):
        meaning = re.sub(r"\s+", " ", meanings[field.name])
        rows.append([f"`{field.name}`", _plain(field.default), _plain(getattr(PUBLISHED, field.name)), meaning])
    text = re.sub(r"\s*\n\s*\n\s*", "\n\n", about.replace("``", "`"))
    text = "\n\n".join(re.sub(r"\s+", " ", paragraph).strip() for paragraph in text.split("\n\n"))
    table = _table(["setting", "default", "Karras 2020b", "meaning"], rows)
    return f"## Transforms of ADA\n\n{ADA_OPENING}\n{text.strip()}\n\n{table}"


def _table(heading: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
