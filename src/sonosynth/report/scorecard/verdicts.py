"""What a scorecard comes to: four short verdicts for the top of its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

from sonosynth.core.text import counted, joined
from sonosynth.metrics.interpretation import THREE_DECIMALS, Reading, State, judged, with_baseline_rows
from sonosynth.metrics.scorecard import Scorecard
from sonosynth.metrics.scores import ALL, HELD_OUT, PIXELS, TRAIN, Score
from sonosynth.report.scorecard.words import REALISM, WORDS, unit_of
from sonosynth.report.wording import MINUS, number

_WORST_FIRST: tuple[State, ...] = ("off", "beyond", "unclear", "as real", "none")
_CLOSENESS: Mapping[State, str] = {
    "off": "Farther than real images",
    "beyond": "Closer than real images",
    "unclear": "Too few images to say",
    "as real": "No difference found",
    "none": "Not known",
}
_DIVERSITY: Mapping[State, str] = {
    "off": "Less diverse than real images",
    "beyond": "Above real images",
    "unclear": "Too few images to say",
    "as real": "No loss of diversity found",
    "none": "Not known",
}
_MEMORY: Mapping[State, str] = {
    "off": "Signs of memorisation",
    "beyond": "No sign of it",
    "unclear": "Not settled",
    "as real": "No sign of it",
    "none": "Not known",
}
_REALISM: Mapping[State, str] = {
    "off": "Above the real baseline",
    "as real": "At the real baseline",
    "beyond": "Below the real baseline",
    "unclear": "Too few images to say",
    "none": "No real baseline",
}


@dataclass(frozen=True)
class Sentence:
    """What a row says, and the numbers that it says it from, if they are not in the text."""

    text: str
    numbers: str = ""


@dataclass(frozen=True)
class Verdict:
    """One box: a question, its answer in a few words, and sentences with numbers."""

    title: str
    state: State
    headline: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class Judged:
    """A row of a scorecard with its row at the size of the real baseline and its reading."""

    score: Score
    at_baseline: Score | None
    reading: Reading


def interpreted_rows(card: Scorecard) -> list[Judged]:
    """Return all rows of `card` that are not themselves at the size of a real baseline."""
    return [
        Judged(score, at_baseline, judged(score, at_baseline)) for score, at_baseline in with_baseline_rows(card.scores)
    ]


def verdicts(card: Scorecard, rows: Sequence[Judged]) -> list[Verdict]:
    """Return the verdicts on what was measured, over all classes, to held-out images where there are any."""
    reference = HELD_OUT if HELD_OUT in card.sets else TRAIN
    real = "held-out images" if reference == HELD_OUT else "the training images"
    overall = [row for row in rows if row.score.class_ == ALL]
    there = [row for row in overall if row.score.reference == reference]
    closeness = [row for row in there if row.score.metric == "kernel_distance"]
    diversity = [row for row in there if row.score.metric in ("recall", "coverage")]
    memory = [row for row in overall if row.score.metric in ("near_copies", "membership_auc")]
    memory.sort(key=lambda row: row.score.features != PIXELS)
    realism = [row for row in there if WORDS[row.score.metric].part == REALISM]
    found = [
        _verdict(f"How close to {real}?", closeness, _CLOSENESS),
        _verdict("How diverse?", diversity, _DIVERSITY),
        _verdict("Are training images remembered?", memory, _MEMORY),
        _realism(realism, real),
    ]
    return [one for one in found if one is not None]


def _verdict(title: str, rows: Sequence[Judged], headlines: Mapping[State, str]) -> Verdict | None:
    if not rows:
        return None
    state = _worst(rows)
    return Verdict(title, state, headlines[state], tuple(_sentence(row) for row in rows))


def _worst(rows: Sequence[Judged]) -> State:
    return min((row.reading.state for row in rows), key=_WORST_FIRST.index)


def _sentence(row: Judged) -> Sentence:
    score = row.score
    name = f"{WORDS[score.metric].name}, {score.features}"
    if score.value is None:
        return Sentence(row.reading.text, name)
    numbers = f"{name}: {value_text(score)}"
    if score.real_baseline is not None and score.metric != "membership_auc":
        m = f"at\N{NO-BREAK SPACE}m\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{score.real_baseline_n}"
        if row.at_baseline is None or _full(score):
            numbers += f"; real baseline {baseline_text(score)} {m}"
        else:
            numbers += f"; {m}: {at_baseline_text(row)}, real baseline {baseline_text(score)}"
    return Sentence(row.reading.text, numbers)


def _full(score: Score) -> bool:
    return score.n_real == score.n_synthetic == score.real_baseline_n


def _realism(rows: Sequence[Judged], real: str) -> Verdict | None:
    if not rows:
        return None
    state, sentences = _worst(rows), []
    valued = [row for row in rows if row.score.value is not None]
    for one in _WORST_FIRST:
        names = [_in_a_sentence(row) for row in valued if row.reading.state == one]
        if names:
            sentences.append(Sentence(f"{_REALISM[one]}: {joined(names)}"))
    for text in dict.fromkeys(row.reading.text for row in rows if row.score.value is None):
        names = [_in_a_sentence(row) for row in rows if row.reading.text == text]
        sentences.append(Sentence(text, joined(names)))
    sentences += [Sentence(note) for note in dict.fromkeys(row.score.note for row in valued) if note]
    off = sum(row.reading.state == "off" for row in rows)
    of_all = f"{off} of {counted(len(rows), 'measure')} above the real baseline"
    headline = of_all if off else "No difference found" if state == "as real" else _REALISM[state]
    return Verdict(f"Like {real} as ultrasound?", state, headline if valued else "Not known", tuple(sentences))


def _in_a_sentence(row: Judged) -> str:
    """Return the name of a measure of realism, and how many times the real baseline it is where that is above it."""
    name = WORDS[row.score.metric].name
    name = name if name.startswith("Nakagami") else name[:1].lower() + name[1:]
    if (
        row.reading.state != "off"
        or row.at_baseline is None
        or row.at_baseline.value is None
        or not row.score.real_baseline
    ):
        return name
    times = row.at_baseline.value / row.score.real_baseline
    return f"{name} ({times:.{0 if times >= 10 else 1}f} times)"


def value_text(score: Score) -> str:
    """Return the value with its interval, as ``"32.7 [29.3, 36.1]"``."""
    text = _number(score, score.value)
    return text if score.low is None else f"{text} [{_number(score, score.low)}, {_number(score, score.high)}]"


def at_baseline_text(row: Judged) -> str:
    """Return the value at the size of the baseline, with as many decimals as the value has."""
    return "–" if row.at_baseline is None else _number(row.score, row.at_baseline.value)


def baseline_text(score: Score) -> str:
    """Return the baseline, with as many decimals as the value has, or two digits where it is compared as a ratio."""
    if WORDS[score.metric].part == REALISM and score.real_baseline:
        return number(score.real_baseline, max(_decimals(score), 1 - floor(log10(score.real_baseline))))
    return _number(score, score.real_baseline)


def with_unit(metric: str) -> str:
    """Return the name of `metric`, and its unit in brackets."""
    unit = "share" if metric == "near_copies" else unit_of(metric)
    return f"{WORDS[metric].name} ({unit})" if unit else WORDS[metric].name


def _number(score: Score, value: float | None) -> str:
    if value is not None and isfinite(value) and abs(value) >= 1e6:
        return f"{value:.2e}".replace("-", MINUS)
    return number(value, _decimals(score))


def _decimals(score: Score) -> int:
    """Return how many decimals show the largest number of a row with three digits; three for shares."""
    if score.metric in THREE_DECIMALS:
        return 3
    known = [abs(x) for x in (score.value, score.low, score.high, score.real_baseline) if x is not None and x != 0]
    return min(7, max(0, 2 - floor(log10(max(known))))) if known else 2
