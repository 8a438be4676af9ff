"""Numbers and lists in the words of the report."""

from collections.abc import Iterable, Sequence

import numpy as np

from sonosynth.core.text import counted
from sonosynth.statistics.scores import Interval

MINUS = "\N{MINUS SIGN}"


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """Return `value` with a fixed number of decimals and a true minus; an en dash for None or NaN."""
    if value is None or not np.isfinite(value):
        return "–"
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.replace("-", "").replace("+", "")
    return text.replace("-", MINUS)


def interval_text(interval: Interval | None, decimals: int, sign: bool = False, scale: float = 1) -> str:
    """Return ``"0.512 [0.431, 0.590]"``; without the brackets where there is no interval."""
    if interval is None:
        return "–"
    value, low, high = (scale * x for x in (interval.value, interval.low, interval.high))
    limits = (
        f" [{number(low, decimals, sign)}, {number(high, decimals, sign)}]" if np.isfinite([low, high]).all() else ""
    )
    return number(value, decimals, sign) + limits


def percent(interval: Interval | None, sign: bool = True) -> str:
    """Return a relative difference as ``"+7.0 % [−2.1, +15.3]"``."""
    text = interval_text(interval, 1, sign, scale=100)
    value, _, limits = text.partition(" ")
    return text if value == "–" else " ".join(part for part in (f"{value}\N{NO-BREAK SPACE}%", limits) if part)


def short_number(value: float | None) -> str:
    """Return `value` with three digits and a true minus; empty for None."""
    return "" if value is None else f"{value:.3g}".replace("-", MINUS)


def markdown_cell(text: str) -> str:
    """Return `text` as a cell of a table in Markdown: on one line, without the sign that ends a cell."""
    return " ".join(text.splitlines()).replace("|", "\\|")


def p_text(p: float | None, relation: bool = False) -> str:
    """Return a p-value with three decimals, or that it is below 0.001; with `relation` as ``"= 0.012"``."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{'= ' if relation else ''}{p:.3f}"


def decimals_for(values: Sequence[float]) -> int:
    """Return how many decimals show the largest of `values` with three to four digits."""
    largest = max((abs(v) for v in values if np.isfinite(v)), default=1.0)
    return 1 if largest >= 10 else 3 if largest >= 1 else 4


def in_a_sentence(title: str) -> str:
    """Return the title of a metric as it stands within a sentence: names and abbreviations keep their capital."""
    keeps = title.startswith(("Fréchet", "Nakagami")) or title[1:2].isupper()
    return title if keeps else title[:1].lower() + title[1:]


def spent(noun: str, seconds: Sequence[float]) -> str:
    """Return how long runs took together and each, and how many per hour that is, one after another."""
    each = float(np.median(seconds)) if seconds else 0.0
    if not each:
        return f"{noun} runs: time not known"
    runs, minutes = counted(len(seconds), f"{noun} run"), sum(seconds) / 60
    return f"{runs}: {minutes:.1f} minutes, median {each:.1f} s, {3600 / each:.0f} per hour in one process"


def listed(values: Iterable[int]) -> str:
    """Return ``"0–4"`` for consecutive numbers, ``"0, 2, 7"`` for others, an en dash for none."""
    numbers = sorted(values)
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}–{numbers[-1]}"
    return ", ".join(str(v) for v in numbers) or "–"


def or_dash(value: object) -> str:
    """Return the value, a fraction as short as it is; an en dash for None."""
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
