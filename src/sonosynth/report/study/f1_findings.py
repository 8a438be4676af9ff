"""What the scores of classifiers say, in careful words, never stronger than the intervals."""

from collections.abc import Sequence

import numpy as np

from sonosynth.analysis.contrasts import Contrast
from sonosynth.analysis.equivalent_real_images import ImageEquivalence
from sonosynth.analysis.power import WANTED, DetectableDifference
from sonosynth.analysis.results import Generator
from sonosynth.analysis.tables import LEVEL, Series
from sonosynth.core.text import agreeing, counted, joined, span
from sonosynth.report.wording import interval_text, number, p_text, percent, verdict
from sonosynth.statistics import MIN_DRAWS

WRITTEN_OUT = 12  # comparisons listed among the findings; of more, only a summary
UNSETTLED = "not settled"


def f1_sentences(contrasts: Sequence[Contrast]) -> list[str]:
    """Return whether synthetic images helped, as sentences; empty without a comparison."""
    asked = [c for c in contrasts if c.asked]
    if not asked:
        return []
    sentences = [
        f"{counted(len(asked), 'comparison')} of an arm with synthetic images against the same arm without them: "
        f"{_tally(asked)}. {_tests(asked)} An interval that includes zero means that this study shows no difference, "
        "not that there is none."
    ]
    if len(asked) > WRITTEN_OUT:
        for size in sorted({c.row.size for c in asked}):
            values = [c.difference.absolute.value for c in asked if c.row.size == size]
            low, middle, high = (number(float(v), 3, sign=True) for v in np.quantile(values, [0, 0.5, 1]))
            sentences.append(
                f"Size {size}: {counted(len(values), 'difference')} from {low} to {high} (median {middle}); "
                f"{_tally([c for c in asked if c.row.size == size])}."
            )
    return sentences


def same_volume(contrasts: Sequence[Contrast]) -> list[str]:
    """Return how synthetic images compare with copies of real ones; empty where nobody trained on copies."""
    found = [c for c in contrasts if c.same_volume]
    if not found:
        return []
    return [
        "Against real images repeated to the same volume (oversampled), real+synthetic: in "
        f"{counted(len(found), 'comparison')} {_tally(found)}. {_tests(found)}"
    ]


def _tally(contrasts: Sequence[Contrast]) -> str:
    verdicts = [verdict(c.difference.absolute) for c in contrasts]
    unknown = verdicts.count("–")
    return (
        f"the interval of the difference lies above zero in {verdicts.count('above 0')}, below zero in "
        f"{verdicts.count('below 0')}, and includes zero in {verdicts.count('spans 0')}"
        + (f"; in {unknown} it is unknown" if unknown else "")
    )


def _tests(contrasts: Sequence[Contrast]) -> str:
    adjusted = [c.adjusted for c in contrasts if c.adjusted is not None]
    if not adjusted:
        reasons = dict.fromkeys(c.difference.no_p_value_reason for c in contrasts)
        return f"There is no p-value ({'; '.join(reasons)})."
    numbers = sorted({c.family for c in contrasts})
    families, noun = joined([str(n) for n in numbers]), agreeing(numbers[-1] or 0, "comparison", "comparisons")
    return (
        f"After Holm’s adjustment over sizes and generators ({families} {noun} a family) the p-value is below "
        f"{1 - LEVEL:.2f} in {sum(p < 1 - LEVEL for p in adjusted)} of {len(adjusted)}."
    )


def where(c: Contrast, order: Sequence[Generator]) -> str:
    """Return which comparison it is, e.g. ``"size 50, resnet18, real+synthetic against real, fastgan"``."""
    series = c.row.series
    parts = [f"size {c.row.size}", series.network, f"{series.arm} against {c.baseline.series.arm}"]
    return ", ".join(parts + _images(series, order))


def _images(series: Series, order: Sequence[Generator]) -> list[str]:
    parts = [series.generator.label(order)] if series.generator else []
    parts += [f"{series.ratio:g} synthetic a real image"] if series.ratio is not None else []
    return parts + ([series.levels] if series.levels else [])


def chosen_after(contrasts: Sequence[Contrast], order: Sequence[Generator]) -> list[str]:
    """Return which cell came out best, and that it was chosen by that."""
    asked = [c for c in contrasts if c.asked]
    if len(asked) < 2:
        return []
    best = max(asked, key=lambda c: c.difference.absolute.value)
    return [
        f"Best of {len(asked)} cells, chosen after the fact and therefore flattered by chance: {where(best, order)}, "
        f"difference {interval_text(best.difference.absolute, 3, sign=True)}, "
        f"relative {percent(best.difference.relative)}{_adjusted(best)}."
    ]


def _adjusted(c: Contrast) -> str:
    return "" if c.adjusted is None else f", p {p_text(c.adjusted, relation=True)} by Holm’s method among {c.family}"


def equivalence_sentences(worths: Sequence[ImageEquivalence], order: Sequence[Generator]) -> list[str]:
    """Return how many real images the synthetic ones are worth, as sentences."""
    if not worths:
        return []
    gains = [verdict_of_gain(w) for w in worths]
    sentences = [
        f"Of {counted(len(worths), 'arm and size', 'arms and sizes')}, synthetic images are worth further real ones in "
        f"{gains.count('more')} and cost some in {gains.count('fewer')}, the interval leaving out none; in "
        f"{gains.count(UNSETTLED)} it is {UNSETTLED}. Intervals are not corrected for their number."
    ]
    settled = [w for w in worths if verdict_of_gain(w) != UNSETTLED]
    if len(settled) <= WRITTEN_OUT:
        for w in settled:
            series = w.row.series
            where = ", ".join([f"Size {w.row.size}", series.network, series.arm, *_images(series, order)])
            sentences.append(f"{where}: {w.worth}.")
    return sentences


def verdict_of_gain(worth: ImageEquivalence) -> str:
    """Return whether synthetic images stand for ``"more"`` or ``"fewer"`` real ones, or `UNSETTLED`."""
    gain = worth.worth.gain
    return "more" if gain.low > 0 else "fewer" if gain.high < 0 else UNSETTLED


def power_sentences(power: Sequence[DetectableDifference]) -> list[str]:
    """Return what the design could have seen, one sentence a network."""
    sentences = []
    for network in dict.fromkeys(d.network for d in power):
        mine = [d for d in power if d.network == network]
        if max(d.draws for d in mine) < MIN_DRAWS:
            text = (
                "with fewer than three draws or splits this design has no test and could have detected nothing. "
                "Three would find"
            )
        else:
            text = "the design finds"
        text += f" a true difference in macro F1 with a chance of {WANTED:.0%} if it is "
        text += joined([f"{number(d.alone, 3)} (size {d.size})" for d in mine])
        if any(d.family > 1 for d in mine):
            text += " in a single test, and "
            text += joined([number(d.in_family, 3) for d in mine])
            text += f" as the first of {span(d.family for d in mine)} that are adjusted together"
        sentences.append(f"{network}: {text}. {_source(mine)}")
    return sentences


def _source(power: Sequence[DetectableDifference]) -> str:
    own = [d for d in power if d.pairs]
    if len(own) == len(power):
        return "This follows from the variances of this study itself."
    what = (
        "Variances are" if not own else f"At {joined([f'size {d.size}' for d in power if not d.pairs])} variances are"
    )
    return (
        f"{what} those of ResNet-18 on BUSI at 64 pixels, as this study has too few draws, seeds or splits, or scores "
        "that vary too little, to know its own; other images and networks differ."
    )
