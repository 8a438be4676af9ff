import inspect

import sonosynth


def test_every_public_name_is_a_documented_class_or_function_at_every_access():
    for name in set(dir(sonosynth)) - {"__version__"}:
        for _ in range(2):  # a module of the same name would take its place at the second
            value = getattr(sonosynth, name)
            assert inspect.isclass(value) or inspect.isfunction(value)
            assert value.__doc__


def test_unknown_names_are_attribute_errors():
    assert not hasattr(sonosynth, "no_such_name")
