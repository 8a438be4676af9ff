"""What a reviewer asks first, answered in a line each, with a link to the rest of the answer."""

from collections.abc import Sequence
from typing import Any

from sonosynth.analysis.contrasts import Contrast
from sonosynth.analysis.power import WANTED, DetectableDifference
from sonosynth.analysis.record import StudyRecord, groups_in_words
from sonosynth.core.text import agreeing, counted, joined, span
from sonosynth.report.study.classifier_tables import no_p_values
from sonosynth.report.wording import listed, number
from sonosynth.statistics import MIN_DRAWS

_SHOWN_VERSIONS = ("sonosynth", "torch", "monai", "scikit-learn", "scipy")


def reviewers_questions(
    record: StudyRecord, contrasts: Sequence[Contrast], power: Sequence[DetectableDifference]
) -> list[dict[str, str]]:
    """Return questions with `answer`, and where the rest of it stands: the `link` within the page."""
    found = [
        _entry("How many images?", _images(record), "numbers"),
        _entry(f"Which {record.unit}s and seeds?", _seeds(record), "seeds"),
        _entry("What was tuned on what?", _choices(record), "study-file"),
        _entry("Grouped? Duplicates?", _groups(record), "data"),
    ]
    if record.classifiers:
        found.append(_entry("How are intervals made?", _intervals(record), "methods"))
    if contrasts:
        found.append(_entry("Which test, corrected how?", _tests(record, contrasts), "contrasts"))
    if power:
        found.append(_entry("What could it have seen?", _power(power), "power"))
    return [*found, _entry("Which versions?", _versions(record), "provenance")]


def _entry(question: str, answer: str, link: str) -> dict[str, str]:
    return {"question": question, "answer": answer, "link": link}


def _images(record: StudyRecord) -> str:
    sizes = joined([str(size) for size in sorted({s.size for s in record.subsets})])
    n_test = span(len(test) for test in record.tests)
    each = "" if record.splits is None else f" in each of {counted(len(record.tests), 'split')}"
    same = ", the same for every arm" if record.design.classifiers.trains else ""
    return f"Training {sizes}; test {n_test} in {groups_in_words(record)}{each}{same}."


def _seeds(record: StudyRecord) -> str:
    parts = [f"{counted(record.n_draws, record.unit)} a size"]
    if record.trained:
        parts.append(f"GAN seeds {listed({t.seed for t in record.training if t.seed is not None})}")
    if record.classifiers:
        parts.append(f"classifier seeds {listed({r.seed for r in record.classifiers})}")
    return f"{', '.join(parts)}; split seed {record.design.split.seed}."


def _choices(record: StudyRecord) -> str:
    parts = ["Nothing on the test images"]
    if record.classifiers:
        validated = any("validation" in run.factors for run in record.classifiers)
        chosen = "its weights chosen on validation images that no generator saw" if validated else "no selection"
        parts.append(f"each classifier {counted(record.design.classifiers.steps, 'step')}, {chosen}")
    if record.trained:
        training = record.design.training
        kept = "the weights nearest to the training subset" if training.snapshot == "best" else "the last weights"
        chosen = ", the length of each run chosen by distance to the training subset"
        parts.append(f"generators: {kept}{'' if training.patience_kimg is None else chosen}")
    if record.filters:
        parts.append("filters: training images alone")
    return f"{'; '.join(parts)}."


def _groups(record: StudyRecord) -> str:
    data = record.design.data
    apart = "The test set is a source of its own" if record.own_test else "Whole groups on one side of every split"
    if data.groups == "audit":
        origin = "duplicates found by an audit are one group"
    elif data.grouped:
        origin = f"groups from the table {data.groups}"
    else:
        origin = "groups as the source names them, exact copies joined; near-duplicates were not looked for"
    notes = (record.provenance.get("data") or {}).get("notes") or []
    dropped = [note for note in notes if " dropped" in note]
    return f"{'; '.join([apart, origin, *dropped])}."


def _intervals(record: StudyRecord) -> str:
    sizes, unit = record.untested_sizes, record.unit
    few = f" At size {sizes}, there are too few {unit}s for that." if sizes else ""
    if record.splits is not None:
        if not record.is_tested:
            some = max(record.finished_draws) >= MIN_DRAWS
            return f"There are none{' where' if some else ':'} fewer than three splits have finished."
        splits = counted(max(record.finished_draws), "split")
        return f"t over up to {splits}, corrected for their overlap (Nadeau and Bengio); seeds averaged.{few}"
    if record.is_tested:
        return f"t, with draws and test groups as crossed random factors; seeds averaged in a draw.{few}"
    return f"t over {record.beside_draws}; with fewer than three draws they hold for these training subsets alone."


def _tests(record: StudyRecord, contrasts: Sequence[Contrast]) -> str:
    paired = "Paired by draw and test group" if record.splits is None else "Corrected resampled t test, paired by split"
    families = sorted({c.family for c in contrasts if c.adjusted is not None and c.asked})
    if families:
        comparisons = agreeing(families[-1], "comparison", "comparisons")
        how = f"Holm over sizes and generators ({joined([str(n) for n in families])} {comparisons})"
        return f"{paired}; {how}."
    if any(c.adjusted is not None for c in contrasts):
        return f"{paired}; Holm over sizes and generators."
    return f"None: {'; '.join(no_p_values(contrasts))}."


def _power(power: Sequence[DetectableDifference]) -> str:
    if all(d.tested_draws > d.draws for d in power):
        return "Nothing: without a test no difference is detected. What three would see is one click away."
    values = [d.alone for d in power]
    ends = [number(v, 3) for v in sorted({min(values), max(values)})]
    source = "" if all(d.pairs for d in power) else ", by variances of BUSI"
    return f"A difference in macro F1 of {' to '.join(ends)} with a chance of {WANTED:.0%} in a single test{source}."


def _versions(record: StudyRecord) -> str:
    known: dict[str, Any] = record.provenance.get("versions") or {}
    shown = [f"{name} {known[name]}" for name in _SHOWN_VERSIONS if name in known]
    device = [str(record.provenance["device"])] if record.provenance.get("device") else []
    if not shown and not device:
        return "Unknown: no provenance was written."
    others = [f"{counted(cells, 'cell')} by {machine}" for machine, cells in record.made_elsewhere.items()]
    return f"{'; '.join([', '.join(shown + device), *others])}."
