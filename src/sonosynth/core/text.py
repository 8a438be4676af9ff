"""Words of messages, notes, tables and pages that all parts of the package use."""


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun: ``"1 image"``, ``"0 images"``, ``"3 images"``.

    Args:
        n: the number.
        noun: for one; a verb may follow it.
        plural: for all other numbers; `noun` with an "s" if not given. With a verb, both are needed:
            ``counted(n, "image has", "images have")``.
    """
    return f"{n} {agreeing(n, noun, plural or noun + 's')}"


def agreeing(n: float, singular: str, plural: str) -> str:
    """Return the word that goes with a number: ``agreeing(1, "is", "are")`` is ``"is"``."""
    return singular if n == 1 else plural
