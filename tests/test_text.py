"""Numbers and their nouns."""

from sonosynth.text import counted


def test_one_is_singular_and_all_else_plural():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
    assert [counted(n, "image has", "images have") for n in (1, 2)] == ["1 image has", "2 images have"]
