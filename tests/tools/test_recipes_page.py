import pytest

from recipes_page import all_papers, meaning_of, source_of
from sonosynth.gan.augment.ada import AdaPolicy
from sonosynth.gan.registry import families, make_recipe


@pytest.mark.parametrize("name", list(families()))
def test_every_setting_has_a_meaning_and_a_known_source(name):
    family = families()[name]
    for setting in set(family.model_fields) - {"name", "family"}:
        assert meaning_of(family, setting)
        assert source_of(family, setting).startswith((*all_papers(), "ours: "))


def test_the_example_of_a_setting_inside_a_setting_works():
    assert make_recipe("stylegan2-ada", ada_policy={"rotation_degrees": 10}).ada_policy == AdaPolicy(
        rotation_degrees=10
    )
