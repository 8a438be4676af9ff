import re

import pytest
import yaml

from sonosynth.core.strict_yaml import DuplicateKeyError, parse_yaml


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands twice in one mapping, first in line 1"),
        ("a:\n  b: 1\n  'b': 2\n", "line 3: the key 'b' stands twice in one mapping, first in line 2"),
        ("- {x: 1, y: [{seed: 1, seed: 1}]}\n", "line 1: the key 'seed' stands twice"),
        ("1: a\n0x1: b\n", "line 2: the key '0x1' stands twice"),
        ("a: &a {x: 1}\nb: &b {y: 2}\nc:\n  <<: *a\n  <<: *b\n", "line 5: the key '<<' stands twice"),
        ("base: &base {x: 1, x: 2}\nc: {<<: *base}\n", "line 1: the key 'x' stands twice"),
        ("c: {x: 1, <<: {y: 1}, x: 2}\n", "line 1: the key 'x' stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(text, told):
    with pytest.raises(DuplicateKeyError, match=re.escape(told)):
        parse_yaml(text)


def test_merge_keys_are_followed_and_may_be_overridden():
    for x, y in (("x", "y"), ("learning_rate", "batch")):
        base = f"a: &a {{{x}: 1, {y}: 1}}\nb: &b {{<<: *a, {y}: 2}}\nd: &d {{{y}: 3}}\n"
        assert parse_yaml(f"{base}c: {{<<: *b, z: 3}}")["c"] == {x: 1, y: 2, "z": 3}
        assert parse_yaml(f"{base}c: {{{x}: 9, <<: [*b, *a]}}")["c"] == {x: 9, y: 2}
        assert parse_yaml(f"{base}c: {{<<: [*d, *a]}}")["c"] == {x: 1, y: 3}, "the first wins"
        assert parse_yaml(f"{base}c: {{<<: [*a, *d]}}")["c"] == {x: 1, y: 1}
    laughs = "a0: &a0 {x: 1}\n"
    for i in range(11):
        laughs += f"a{i + 1}: &a{i + 1} {{<<: [{', '.join([f'*a{i}'] * 9)}]}}\n"
    assert parse_yaml(laughs)["a11"] == {"x": 1}
    with pytest.raises(yaml.YAMLError, match="line 1: a merge key"):
        parse_yaml("a: {<<: 3}")
    assert parse_yaml("{=: 1, a: 2000-01-01}")["="] == 1
