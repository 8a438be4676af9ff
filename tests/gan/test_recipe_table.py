from pathlib import Path

import pytest

from sonosynth.gan.augment.ada import AdaPolicy
from sonosynth.gan.recipe_table import all_papers, meaning_of, page, source_of
from sonosynth.gan.registry import FAMILIES, make_recipe

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "recipes.md"


def test_the_reference_page_is_what_the_code_says():
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "docs/reference/recipes.md is out of date; run python -m sonosynth.gan.recipe_table > docs/reference/recipes.md"
    )


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_setting_has_a_meaning_and_a_known_source(name):
    family = FAMILIES[name]
    for setting in set(family.model_fields) - {"name", "family"}:
        assert meaning_of(family, setting)
        assert source_of(family, setting).startswith((*all_papers(), "ours: "))


def test_the_example_of_a_setting_inside_a_setting_works():
    assert make_recipe("stylegan2-ada", ada_policy={"rotation_degrees": 10}).ada_policy == AdaPolicy(
        rotation_degrees=10
    )
