"""Recipes by name: those of this package and those that other packages add.

A family is one folder beside this file: its networks, its losses, and a ``recipe.py`` that ends with a call of
`register_gan` for each of its recipes. Other packages name such a module in the entry point group ``sonosynth.gans``.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from sonosynth.core.errors import RecipeError
from sonosynth.core.text import did_you_mean
from sonosynth.gan.recipe import Recipe

FAMILY_FOLDERS = ("stylegan2", "fastgan", "projected", "r3gan")
ENTRY_POINTS = "sonosynth.gans"

_recipes: dict[str, Recipe] = {}
_families: dict[str, type[Recipe]] = {}


def register_gan(recipe: Recipe) -> None:
    """Make `recipe` known by its name to every command and study file, and runs of its family readable.

    Example:
        >>> register_gan(make_recipe("stylegan2", channel_base=4096, name="stylegan2-narrow"))

    Raises:
        RecipeError: there is another recipe of that name, or another class of that family.
    """
    if recipe.name in _recipes or _families.get(recipe.family, type(recipe)) is not type(recipe):
        what = f"a GAN '{recipe.name}'" if recipe.name in _recipes else f"another family '{recipe.family}'"
        raise RecipeError(f"{what} is registered already; give the new one another name")
    _recipes[recipe.name] = recipe
    _families[recipe.family] = type(recipe)


def list_gans() -> tuple[str, ...]:
    """Return the names of all recipes.

    Example:
        >>> "stylegan2-ada" in list_gans()
        True
    """
    _load_families()
    return tuple(_recipes)


def families() -> dict[str, type[Recipe]]:
    """Return the recipe class of every family by the family's name."""
    _load_families()
    return dict(_families)


@cache
def _load_families() -> None:
    """Import what registers recipes; not earlier than needed, as the families import this file."""
    for folder in FAMILY_FOLDERS:
        import_module(f"sonosynth.gan.{folder}.recipe")
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except ImportError as error:
            raise RecipeError(
                f"'{entry.value}' of the entry points {ENTRY_POINTS} cannot be imported ({error}); repair or uninstall "
                f"the package {entry.dist.name if entry.dist else 'that has it'}"
            ) from error


def make_recipe(base: str | Recipe, /, **settings: Any) -> Recipe:
    """Return the recipe `base`, given itself or by name, with some settings changed.

    Args:
        base: a recipe, or one of `list_gans`.
        settings: new values; ``name`` gives the changed recipe a name of its own.

    Example:
        >>> make_recipe("stylegan2", channel_base=4096).channel_base
        4096

    Raises:
        RecipeError: an unknown recipe or setting (with the nearest known one), or a value out of range.
    """
    names = list_gans()
    if isinstance(base, str) and base not in names:
        raise RecipeError(f"no GAN '{base}'{did_you_mean(base, names)}; known: {', '.join(names)}")
    recipe = _recipes[base] if isinstance(base, str) else base
    known = [name for name in type(recipe).model_fields if name not in ("name", "family")]
    for name in settings:
        if name not in (*known, "name"):
            suggestion = did_you_mean(name, known)
            raise RecipeError(f"GAN '{recipe.name}' has no setting '{name}'{suggestion}; known: {', '.join(known)}")
    made = recipe_from_dict(recipe.model_dump() | settings)
    made._given = recipe.given | settings.keys() - {"name"}
    return made


def recipe_from_dict(fields: dict[str, Any]) -> Recipe:
    """Return the recipe with these fields of `model_dump`; what earlier versions had no setting for is as it was then.

    Raises RecipeError: unknown family or value out of range.
    """
    known = families()
    if fields.get("family") not in known:
        raise RecipeError(
            f"no family of generators '{fields.get('family')}'{did_you_mean(str(fields.get('family')), list(known))}; "
            f"known: {', '.join(known)}; install the package that has it"
        )
    try:
        family = known[fields["family"]]
        return family.model_validate(family.defaults_before() | fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecipeError(
            f"GAN '{fields.get('name')}', setting '{where}' = {first['input']!r}: "
            f"{first['msg'].removeprefix('Value error, ')}"
        ) from error
