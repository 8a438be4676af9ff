"""The page of a reader study. A reader sees one image at a time, and never labels, other readers or names of files.

All that a reader sees stands at one address, whatever the image is, and only the image that is to be rated now can be
asked for, under an address that is new for every reader and every showing.
"""

import hashlib
import hmac
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from sonosynth.web.answers import Answer, Answers
from sonosynth.web.app import Access, Pages, form_body, form_of, new_app, session_of
from sonosynth.web.keys import Keys, Session
from sonosynth.web.reader_study import BI_RADS, QUALITY, SCALE, FrozenStudy

Reader = Annotated[Session, Depends(session_of)]


class _AnswerForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    position: int = Field(ge=0, le=100_000)
    rating: int = Field(ge=1, le=len(SCALE))
    quality: int | None = Field(None, ge=1, le=len(QUALITY))
    label: str | None = Field(None, max_length=200)
    birads: Literal["1", "2", "3", "4A", "4B", "4C", "5"] | None = None
    viewing_ms: int | None = Field(None, ge=0, le=86_400_000)


def reader_app(frozen: FrozenStudy, answers: Answers, keys: Keys, access: Access) -> FastAPI:
    """Return the application in which readers rate the images of a study."""
    study = frozen.study
    app = new_app(study.title, access, keys)
    pages: Pages = app.state.pages

    def place(reader: str) -> tuple[bool, int, int | None]:
        """Return whether the reader practises, the position, and the item there; None at the end."""
        practised, rated, told = answers.progress(reader)
        order = study.practice_order(reader)
        if told is not None:
            return True, practised - 1, order[practised - 1]
        if practised < len(order):
            return True, practised, order[practised]
        order = study.order(reader)
        return False, rated, order[rated] if rated < len(order) else None

    def image_address(reader: str, practice: bool, position: int) -> str:
        message = f"{reader}/{practice}/{position}".encode()
        return hmac.new(answers.secret.encode(), message, hashlib.sha256).hexdigest()[:32]

    @app.get("/")
    def first(request: Request, session: Reader) -> Response:
        reader = session.who
        if not answers.has_consented(reader):
            texts = {name: getattr(study, name).split("\n\n") for name in ("consent", "instructions")}
            return pages.show(request, "consent.html", n=len(study.order(reader)), **texts)
        practice, position, item = place(reader)
        if item is None:
            return pages.show(request, "readers_done.html", n=position)
        told = answers.progress(reader)[2]
        if told is None:
            answers.showing(reader, practice, position)
        n = len(study.practice_order(reader) if practice else study.order(reader))
        return pages.show(
            request,
            "rate.html" if told is None else "practice_result.html",
            image=image_address(reader, practice, position),
            size=study.size,
            practice=practice,
            position=position,
            n=n,
            scale=SCALE,
            quality=QUALITY if "quality" in study.questions else (),
            classes=study.classes if "class" in study.questions else (),
            bi_rads=BI_RADS if "birads" in study.questions else (),
            synthetic=study.items[item].synthetic if told is not None else None,
            rating=told,
        )

    @app.get("/image/{address}")
    def image(address: str, session: Reader) -> Response:
        practice, position, item = place(session.who)
        expected = image_address(session.who, practice, position)
        known = item is not None and answers.has_consented(session.who)
        if not (known and hmac.compare_digest(address.encode(), expected.encode())) or item is None:
            raise HTTPException(404, "this image is not shown now")
        return Response(frozen.pictures[item], media_type="image/png")

    @app.post("/consent")
    def consent(session: Reader) -> Response:
        answers.consent(session.who)
        return RedirectResponse("/", 303)

    @app.post("/answer", openapi_extra=form_body(_AnswerForm))
    def answer(form: Annotated[_AnswerForm, Depends(form_of(_AnswerForm))], session: Reader) -> Response:
        reader = session.who
        if not answers.has_consented(reader):
            raise HTTPException(403, "read and accept the first page before you rate images")
        practice, position, item = place(reader)
        if item is None or form.position != position or answers.progress(reader)[2] is not None:
            return RedirectResponse("/", 303)  # sent twice, or from an old page: the first answer stands
        asked = {"quality": form.quality, "class": form.label, "birads": form.birads}
        missing = [name for name in study.questions if asked[name] is None]
        if missing:
            raise HTTPException(422, f"the question '{missing[0]}' is not answered; go back and answer it")
        if form.label is not None and form.label not in study.classes:
            raise HTTPException(422, "there is no such class; go back and choose one of the list")
        kept = {name: asked[name] if name in study.questions else None for name in asked}
        given = Answer(
            reader=reader,
            position=position,
            item=item,
            rating=form.rating,
            quality=form.quality if kept["quality"] else None,
            label=form.label if kept["class"] else None,
            birads=form.birads if kept["birads"] else None,
            viewing_ms=form.viewing_ms,
            elapsed_ms=None,
        )
        answers.record(given, practice=practice)
        return RedirectResponse("/", 303)

    @app.post("/next")
    def next_image(session: Reader) -> Response:
        answers.tell_result(session.who)
        return RedirectResponse("/", 303)

    @app.post("/pause")
    def pause(request: Request, session: Reader) -> Response:
        answers.pause(session.who)
        return pages.show(request, "pause.html")

    return app
