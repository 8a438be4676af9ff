"""``sonosynth readers new | invite | plan | serve | analyse``."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sonosynth.web.server import Address

app = typer.Typer(
    no_args_is_help=True, help="Ask readers whether images are real or synthetic, blinded, and analyse what they say."
)

Question = StrEnum("Question", ["QUALITY", "CLASS", "BIRADS"])
StudyFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that 'sonosynth readers new' wrote.")]
Host = Annotated[str, typer.Option(help="Address to listen at. Other machines reach the page only with TLS.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: one that is free.")]
Cert = Annotated[Path | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate for TLS, as PEM.")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Key of the certificate, as PEM.")]
Proxy = Annotated[bool, typer.Option("--behind-proxy", help="A proxy on this machine does TLS; needs --name.")]
Name = Annotated[str | None, typer.Option(help="Host name that browsers use, where it is not --host.")]
Hours = Annotated[float, typer.Option(min=0.01, help="Hours after which an unused link expires.")]


@app.command()
def new(
    training: Annotated[
        Path, typer.Argument(metavar="TRAINING", help="Images that the generator was trained on, or a study directory.")
    ],
    synthetic: Annotated[Path, typer.Option(metavar="RUN", help="Run that makes the images, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must be empty or not there.")],
    real: Annotated[
        Path | None, typer.Option(metavar="SOURCE", help="Held-out images. Default: the test images of the study.")
    ] = None,
    per_class: Annotated[int, typer.Option(min=2, help="Images of each class, of real and of synthetic ones.")] = 30,
    size: Annotated[int | None, typer.Option(min=8, max=2048, help="Side in pixels. Default: the generator's.")] = None,
    repeats: Annotated[int | None, typer.Option(min=0, help="Images shown twice. Default: a tenth of all.")] = None,
    practice: Annotated[int, typer.Option(min=0, help="Images of the training round; an even number.")] = 4,
    ask: Annotated[list[Question] | None, typer.Option(help="What is asked beside real or synthetic.")] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Reader study",
    consent: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Text that readers agree to; blank lines part paragraphs."),
    ] = None,
    instructions: Annotated[Path | None, typer.Option(metavar="FILE", help="Text that they read first.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all draws and of the readers' orders.")] = 0,
) -> None:
    """Draw real and synthetic images for readers, equal in all but the picture, and freeze them."""
    from sonosynth.web.reader_study import CONSENT, INSTRUCTIONS, QUESTIONS, in_words, new_reader_study

    asked = {question.value for question in ask or ()}
    study = new_reader_study(
        training,
        synthetic,
        out,
        real=real,
        per_class=per_class,
        size=size,
        seed=seed,
        repeats=repeats,
        practice=practice,
        questions=[question for question in QUESTIONS if question in asked],
        title=title,
        consent=_text(consent) or CONSENT,
        instructions=_text(instructions) or INSTRUCTIONS,
        tell=lambda note: typer.echo(f"note: {note}", err=True),
    )
    typer.echo(in_words(study))
    typer.echo(f"wrote {out}; next: sonosynth readers invite {shlex.quote(str(out))} --readers 3")


@app.command()
def invite(
    directory: StudyFolder,
    readers: Annotated[int, typer.Option(min=1, max=500, help="How many new readers.")] = 1,
    reader: Annotated[str | None, typer.Option(help="A new link for this reader, such as R01; old ones end.")] = None,
    url: Annotated[str, typer.Option(help="Address under which readers reach the page.")] = "http://127.0.0.1:8766",
    hours: Hours = 168,
) -> None:
    """Print a personal link per reader. It works once; keep who has which number yourself."""
    from sonosynth.core.errors import ReaderStudyError
    from sonosynth.web.answers import Answers
    from sonosynth.web.keys import Keys
    from sonosynth.web.reader_study import ANSWERS, read_reader_study

    study = read_reader_study(directory).study
    answers, keys = Answers(directory / ANSWERS, study.images_sha256), Keys(directory / ANSWERS)
    if reader is not None:
        if reader not in [name for name, _ in answers.readers()]:
            raise ReaderStudyError(f"there is no reader '{reader}'; leave --reader out to invite a new one")
        keys.revoke(reader)
    for name in [reader] if reader is not None else [answers.new_reader() for _ in range(readers)]:
        typer.echo(f"{name}  {url.rstrip('/')}/join/{keys.new_link(name, hours)}")


@app.command("serve")
def serve_readers(
    directory: StudyFolder,
    host: Host = "127.0.0.1",
    port: Port = 8766,
    tls_cert: Cert = None,
    tls_key: TlsKey = None,
    behind_proxy: Proxy = False,
    name: Name = None,
) -> None:
    """Serve the page of a reader study, and nothing else, until it is interrupted."""
    from sonosynth.web.server import check_installed, listen, serve

    address = _address(host, port, tls_cert, tls_key, behind_proxy, name)
    check_installed()
    from sonosynth.web.answers import Answers
    from sonosynth.web.keys import Keys
    from sonosynth.web.reader_app import reader_app
    from sonosynth.web.reader_study import ANSWERS, read_reader_study

    frozen = read_reader_study(directory)
    answers = Answers(directory / ANSWERS, frozen.study.images_sha256)
    page = reader_app(frozen, answers, Keys(directory / ANSWERS), address.access("readers"))
    bound = listen(address)
    typer.echo(f"readers come in by their links, at {address.url(bound.getsockname()[1])}; Ctrl-C ends it", err=True)
    serve(page, address, bound)


@app.command()
def plan(
    auc: Annotated[float, typer.Option(min=0.501, max=0.99, help="AUC that should be found, if true.")] = 0.65,
    margin: Annotated[float, typer.Option(min=0.01, max=0.49, help="AUC within 0.5 +- this counts as guessing.")] = 0.1,
    reader_sd: Annotated[float, typer.Option(min=0, max=0.5, help="Standard deviation between readers.")] = 0.04,
    correlation: Annotated[float, typer.Option(min=0, max=0.99, help="Of errors of readers on the same images.")] = 0.4,
) -> None:
    """Say how likely an answer is, with how many readers and images, before the study starts."""
    from rich.console import Console
    from rich.table import Table

    from sonosynth.statistics.reader_power import ReaderModel, detection_power, equivalence_power

    model = ReaderModel(reader_sd, correlation)
    table = Table(
        "readers", "real images", f"power: AUC {auc:g} is found", f"power: AUC 0.5 is shown within {margin:g}",
        title="as many synthetic images as real ones; tests at 5 %",
    )  # fmt: skip
    for column in table.columns:
        column.justify = "right"
    for n_readers in (3, 5, 8, 12):
        for n in (30, 60, 120):
            found, equal = detection_power(auc, n_readers, n, model), equivalence_power(margin, n_readers, n, model)
            table.add_row(str(n_readers), str(n), f"{found:.0%}", f"{equal:.0%}")
    Console().print(table)


@app.command()
def analyse(
    directory: StudyFolder,
    out: Annotated[Path, typer.Option(help="Folder to write; must be empty or not there.")],
    margin: Annotated[float, typer.Option(help="An average AUC within 0.5 +- this counts as guessing.")] = 0.1,
    accuracy_margin: Annotated[
        float, typer.Option(help="Shares of right classes that differ by less count as equal.")
    ] = 0.1,
) -> None:
    """Analyse the answers: a page, the answers as CSV and for iMRMC, and the numbers as JSON."""
    from sonosynth.web.reader_report import PAGE, write_reader_report

    found = write_reader_report(directory, out, margin=margin, accuracy_margin=accuracy_margin)
    typer.echo(found.verdict)
    typer.echo(str(out / PAGE))


def _text(path: Path | None) -> str:
    from sonosynth.core.errors import ReaderStudyError

    if path is None:
        return ""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ReaderStudyError(f"{path} cannot be read as text ({error}); give a UTF-8 text file") from error
    if not text:
        raise ReaderStudyError(f"{path} is empty; write what readers are to read, or leave the option out")
    return text


def _address(
    host: str, port: int, cert: Path | None, key: Path | None, behind_proxy: bool, name: str | None
) -> "Address":
    from sonosynth.web.server import Address

    address = Address(host, port, cert, key, behind_proxy, name)
    address.check()
    return address
