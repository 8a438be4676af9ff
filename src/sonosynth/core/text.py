"""Wording of messages, notes, tables and pages that all parts of the package use."""

import difflib
from collections.abc import Iterable, Sequence


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun: ``"1 image"``, ``"0 images"``, ``"3 images"``.

    Without `plural`, `noun` takes an "s". With a verb, both are needed: ``counted(n, "image has", "images have")``.
    """
    return f"{n} {agreeing(n, noun, plural or noun + 's')}"


def agreeing(n: float, singular: str, plural: str) -> str:
    """Return the word that goes with a number: ``agreeing(1, "is", "are")`` is ``"is"``."""
    return singular if n == 1 else plural


def joined(names: Sequence[str]) -> str:
    """Return ``"a, b and c"``."""
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def span(numbers: Iterable[float]) -> str:
    """Return ``"48"`` or ``"48–51"``; an en dash alone for no numbers."""
    values = sorted(set(numbers))
    if not values:
        return "–"
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g}–{values[-1]:g}"


def one_line(text: str) -> str:
    """Return `text` with line ends, terminal codes and all else that does not print written as escapes, as in repr."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return what is wrong with a `name` that is none of the `known`: which there are, and which one may be meant."""
    names = list(known)
    return f"no {kind} '{name}'{did_you_mean(name, names)}; known: {', '.join(names)}"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
