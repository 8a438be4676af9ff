"""What a scorecard comes to: four short verdicts for the top of its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import TYPE_CHECKING

from sonosynth.core.text import counted, joined
from sonosynth.metrics.interpretation import interpret, with_baseline_rows
from sonosynth.metrics.metric import Interpretation, Metric, State, get_metric
from sonosynth.metrics.scores import ALL, HELD_OUT, PIXELS, TRAIN, Score
from sonosynth.report.wording import MINUS, in_a_sentence, number

if TYPE_CHECKING:
    from sonosynth.metrics.scorecard import Scorecard

_WORST_FIRST: tuple[State, ...] = ("worse", "better", "unclear", "similar", "none")
_TOO_FEW = "Too few images to say"
_HEADLINES: Mapping[str, Mapping[State, str]] = {
    part: dict(zip(_WORST_FIRST, (*texts, "No real baseline" if part == "realism" else "Not known"), strict=True))
    for part, *texts in (
        ("distances", "Farther than real images", "Closer than real images", _TOO_FEW, "No difference found"),
        ("diversity", "Less diverse than real images", "Above real images", _TOO_FEW, "No loss of diversity found"),
        ("memorisation", "Signs of memorisation", "No sign found", "Not settled", "No sign found"),
        ("realism", "Above the real baseline", "Below the real baseline", _TOO_FEW, "No difference found"),
    )
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
class Row:
    """A row of a scorecard, what its metric declares, the row at the size of the real baseline, and what it says."""

    score: Score
    metric: Metric
    at_baseline: Score | None
    interpretation: Interpretation

    @property
    def title(self) -> str:
        """The name of the metric in these features."""
        return self.metric.title_for(self.score.features)


def interpreted_rows(scores: Sequence[Score]) -> list[Row]:
    """Return all of `scores` that are not themselves at the size of a real baseline."""
    return [
        Row(score, get_metric(score.metric, score.features), at_baseline, interpret(score, at_baseline))
        for score, at_baseline in with_baseline_rows(scores)
    ]


def verdicts(card: "Scorecard", rows: Sequence[Row]) -> list[Verdict]:
    """Return the verdicts on what was measured, over all classes, to held-out images where there are any."""
    reference = HELD_OUT if HELD_OUT in card.sets else TRAIN
    real = "held-out images" if reference == HELD_OUT else "the training images"
    overall = [row for row in rows if row.score.class_ == ALL and row.metric.headline]

    titles = {
        "distances": f"How close to {real}?",
        "diversity": "How diverse?",
        "memorisation": "Are training images remembered?",
        "realism": f"Like {real} as ultrasound?",
    }
    found = []
    for part, title in titles.items():
        mine = [row for row in overall if row.metric.part == part]
        if part == "memorisation":  # by pixels first
            mine.sort(key=lambda row: row.score.features != PIXELS)
        else:
            mine = [row for row in mine if row.score.reference == reference]
        if mine:
            state = min((row.interpretation.state for row in mine), key=_WORST_FIRST.index)
            headline, sentences = _HEADLINES[part][state], [_sentence(row) for row in mine]
            if part == "realism":
                headline, sentences = _realism(mine, state)
            found.append(Verdict(title, state, headline, tuple(sentences)))
    return found


def _sentence(row: Row) -> Sentence:
    score = row.score
    name = f"{row.title}, {score.features}"
    if score.value is None:
        return Sentence(row.interpretation.text, name)
    numbers = f"{name}: {value_text(row)}"
    if score.real_baseline is not None and row.metric.null_value is None:
        m = f"at\N{NO-BREAK SPACE}m\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{score.real_baseline_n}"
        if row.at_baseline is None or score.n_real == score.n_synthetic == score.real_baseline_n:
            numbers += f"; real baseline {baseline_text(row)} {m}"
        else:
            numbers += f"; {m}: {at_baseline_text(row)}, real baseline {baseline_text(row)}"
    return Sentence(row.interpretation.text, numbers)


def _realism(rows: Sequence[Row], state: State) -> tuple[str, list[Sentence]]:
    """Return the headline, and sentences that name measures together."""
    sentences = []
    valued = [row for row in rows if row.score.value is not None]
    for one in _WORST_FIRST:
        names = [_measure(row) for row in valued if row.interpretation.state == one]
        if names:
            sentences.append(Sentence(f"{_HEADLINES['realism'][one]}: {joined(names)}"))
    for text in dict.fromkeys(row.interpretation.text for row in rows if row.score.value is None):
        names = [_measure(row) for row in rows if row.interpretation.text == text]
        sentences.append(Sentence(text, joined(names)))
    sentences += [Sentence(note) for note in dict.fromkeys(row.score.note for row in valued) if note]
    worse = sum(row.interpretation.state == "worse" for row in rows)
    of_all = f"{worse} of {counted(len(rows), 'measure')} above the real baseline"
    headline = of_all if worse else "No difference found" if state == "similar" else _HEADLINES["realism"][state]
    return headline if valued else "Not known", sentences


def _measure(row: Row) -> str:
    """Return the name of a measure of realism, and how many times the real baseline it is where that is above it."""
    name = in_a_sentence(row.title)
    there = row.at_baseline.value if row.at_baseline and row.interpretation.state == "worse" else None
    if there is None or not row.score.real_baseline:
        return name
    times = there / row.score.real_baseline
    return f"{name} ({times:.{0 if times >= 10 else 1}f} times)"


def value_text(row: Row) -> str:
    """Return the value with its interval, as ``"32.7 [29.3, 36.1]"``."""
    text = _number(row, row.score.value)
    low, high = row.score.low, row.score.high
    return text if low is None else f"{text} [{_number(row, low)}, {_number(row, high)}]"


def at_baseline_text(row: Row) -> str:
    """Return the value at the size of the real baseline with its interval, with as many decimals as the value has."""
    if row.at_baseline is None:
        return "–"
    text, low, high = (_number(row, end) for end in (row.at_baseline.value, row.at_baseline.low, row.at_baseline.high))
    return text if row.at_baseline.low is None else f"{text} [{low}, {high}]"


def baseline_text(row: Row) -> str:
    """Return the real baseline, with the decimals of the value, or two digits where it is compared as a ratio."""
    baseline = row.score.real_baseline
    if row.metric.part == "realism" and baseline:
        return number(baseline, max(_decimals(row), 1 - floor(log10(baseline))))
    return _number(row, baseline)


def _number(row: Row, value: float | None) -> str:
    if value is not None and isfinite(value) and abs(value) >= 1e6:
        return f"{value:.2e}".replace("-", MINUS)
    return number(value, _decimals(row))


def _decimals(row: Row) -> int:
    """Return how many decimals show the largest number of a row with three digits; three for shares."""
    if row.metric.decimals is not None:
        return row.metric.decimals
    score = row.score
    known = [abs(x) for x in (score.value, score.low, score.high, score.real_baseline) if x is not None and x != 0]
    return min(7, max(0, 2 - floor(log10(max(known))))) if known else 2
