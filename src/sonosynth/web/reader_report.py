"""The files that an analysis of a reader study leaves: a page, the answers as tables, and the numbers as JSON."""

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from sonosynth.core.errors import ReaderStudyError
from sonosynth.core.files import atomic_directory, check_output, write_json, write_text
from sonosynth.report.render import template_environment
from sonosynth.web.answers import Answers
from sonosynth.web.reader_analysis import ReaderAnalysis, analyse_readers, write_answers_csv, write_imrmc
from sonosynth.web.reader_study import ANSWERS, read_reader_study

PAGE = "readers.html"


def write_reader_report(
    directory: str | Path, out: str | Path, *, margin: float = 0.1, accuracy_margin: float = 0.1
) -> ReaderAnalysis:
    """Analyse the answers in `directory`; write ``readers.html``, ``readers.json``, ``answers.csv`` and ``imrmc.csv``.

    Raises ReaderStudyError if nobody was invited or has finished, and OutputError if `out` is there and not empty.
    """
    directory, out = Path(directory), Path(out)
    check_output(out, directory=True)
    study = read_reader_study(directory).study
    if not (directory / ANSWERS).is_file():
        raise ReaderStudyError(f"{directory} has no answers; invite readers with 'sonosynth readers invite'")
    answers = Answers(directory / ANSWERS, study.images_sha256).all()
    found = analyse_readers(study, answers, margin=margin, accuracy_margin=accuracy_margin)
    template = template_environment("sonosynth.web").get_template("readers_report.html")
    with atomic_directory(out) as beside:
        write_text(beside / PAGE, template.render(study=study, found=found))
        style = files("sonosynth.web").joinpath("static", "web.css").read_text(encoding="utf-8")
        write_text(beside / "report.css", style)
        write_answers_csv(beside / "answers.csv", study, answers)
        write_imrmc(beside / "imrmc.csv", study, answers)
        write_json(beside / "readers.json", _finite({"verdict": found.verdict} | asdict(found)))
    return found


def _finite(value: object) -> object:
    """Return `value` with infinite degrees of freedom as None, which JSON has."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
