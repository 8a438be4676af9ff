"""The application under every page, with the rules of safety that none can forget.

Every request passes `_Guard` before any route sees it: the host it names must be ours, its size and rate are limited,
it needs a session (but for links and the files of the page), and one that changes something needs the session's CSRF
token. Every answer carries a strict content security policy. The log names routes, never addresses, names, keys or
values.
"""

import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from sonosynth.report.render import template_environment
from sonosynth.web.keys import SESSION_HOURS, Keys, Session

MAX_BODY = 64 << 10  # bytes
MAX_URL = 2048
REQUESTS_PER_MINUTE = 1200  # of one session; ours
STRANGERS_PER_MINUTE = 600  # of one address without a session: 50 readers of one hospital join at once
_REMEMBERED = 4096  # sessions and addresses of which requests are counted
_OPEN = ("/join", "/static/")  # what needs no session
_LOG = logging.getLogger("sonosynth.web")
_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Form = TypeVar("Form", bound=BaseModel)


@dataclass(frozen=True)
class Access:
    """From where a page is reached."""

    page: str  # its name, which its cookie has too: two pages may share a host
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")  # names in the Host header that are ours
    secure: bool = False  # whether browsers reach it by TLS, here or at a proxy

    @property
    def cookie(self) -> str:
        """The name of the session's cookie; the prefix binds it to this host and TLS."""
        return f"__Host-sonosynth-{self.page}" if self.secure else f"sonosynth-{self.page}"


class Pages:
    """Templates, which get the session's CSRF token; a missing value is an error."""

    def __init__(self, title: str):
        self._environment = template_environment("sonosynth.web")
        self._environment.globals["site"] = title

    def show(self, request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
        """Return the page that `template` makes of `context`."""
        session = request.scope.get("session")
        context |= {"csrf": session.csrf if session else "", "path": request.url.path}
        return HTMLResponse(self._environment.get_template(template).render(context), status)


def session_of(request: Request) -> Session:
    """Return the session of a request, which the guard has found; for routes to depend on."""
    session: Session = request.scope["session"]
    return session


def form_of(model: type[Form]) -> Callable[[Request], Awaitable[Form]]:
    """Return what a route depends on to have the fields of a posted form as `model`."""

    async def read(request: Request) -> Form:
        return await read_form(request, model)

    return read


async def read_form(request: Request, model: type[Form]) -> Form:
    """Return the fields of a posted form as `model`. Raises HTTPException 422, which says what is wrong."""
    fields = {name: value for name, value in form_fields(await request.body()).items() if value != ""}
    fields.pop("csrf", None)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        raise HTTPException(422, f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def form_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI description of a route says of a form, as its ``openapi_extra``."""
    schema = model.model_json_schema()
    schema["properties"]["csrf"] = {"type": "string"}
    return {"requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": schema}}, "required": True}}


def form_fields(body: bytes) -> dict[str, str]:
    """Return the fields of a form, of repeated ones the last."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200))
    except ValueError:
        return {}


def new_app(title: str, access: Access, keys: Keys) -> FastAPI:
    """Return an application with the rules of safety, to which a page adds its routes; its pages: ``state.pages``."""
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    pages = app.state.pages = Pages(title)
    static = {file.name: file.read_bytes() for file in files("sonosynth.web").joinpath("static").iterdir()}

    @app.get("/static/{name}")
    def static_file(name: str) -> Response:
        if name not in static:
            raise HTTPException(404)
        kind = _TYPES[name.rpartition(".")[2]]
        return Response(static[name], media_type=kind, headers={"cache-control": "private, max-age=3600"})

    @app.get("/join/{key}")
    def join(request: Request, key: str) -> Response:
        # What reads mail may follow links, so that a link is used up by a button alone.
        return pages.show(request, "join.html", key=key, refused=False)

    @app.post("/join", openapi_extra=form_body(_Join))
    async def joined(request: Request) -> Response:
        form = await read_form(request, _Join)
        token = keys.redeem(form.key)
        if token is None:
            return pages.show(request, "join.html", status=403, key="", refused=True)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            access.cookie,
            token,
            max_age=int(SESSION_HOURS * 3600),
            path="/",
            secure=access.secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return pages.show(request, "error.html", status=error.status_code, what=error.detail)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        what = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        return pages.show(request, "error.html", status=422, what=what)

    app.add_middleware(_Guard, access=access, keys=keys, pages=pages)
    return app


class _Join(BaseModel):
    key: str


class _Limit:
    """At most so many requests a minute of each of the latest who ask, in bursts of a minute's worth (token bucket)."""

    def __init__(self, per_minute: int):
        self._most = float(per_minute)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, who: str) -> bool:
        now = time.monotonic()
        left, last = self._left.pop(who, (self._most, now))
        left = min(self._most, left + (now - last) * self._most / 60)
        self._left[who] = max(left - 1, 0.0), now
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return left >= 1


class _Guard:
    """What stands between the network and every route."""

    def __init__(self, app: Any, access: Access, keys: Keys, pages: Pages):
        self._app, self._access, self._keys, self._pages = app, access, keys, pages
        self._known, self._strangers = _Limit(REQUESTS_PER_MINUTE), _Limit(STRANGERS_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no page has sockets
        began, status = time.perf_counter(), 0

        async def guarded_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}
                headers = dict(_HEADERS)
                if b"cache-control" not in given:
                    headers["cache-control"] = "no-store"
                if self._access.secure:
                    headers["strict-transport-security"] = "max-age=31536000"
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in headers.items())]
            await send(message)

        try:
            problem, replay = await self._problem(scope, receive)
            if problem is None:
                await self._app(scope, replay, guarded_send)
            else:
                code, what = problem
                answer = self._pages.show(Request(scope), "error.html", status=code, what=what)
                if code == 413:  # what is left of the body is not read
                    answer.headers["connection"] = "close"
                await answer(scope, replay, guarded_send)
        except Exception:
            _LOG.exception("a fault of the program")
            if status:  # an answer has begun, and can only break off
                raise
            what = "this is a fault of the program, and its log has more; what you sent before is kept"
            await self._pages.show(Request(scope), "error.html", status=500, what=what)(scope, receive, guarded_send)
        finally:
            route = getattr(scope.get("route"), "path", "-")
            milliseconds = 1000 * (time.perf_counter() - began)
            _LOG.info("%s %s %d %.0f ms", scope["method"][:8] if route != "-" else "-", route, status, milliseconds)

    async def _problem(self, scope: Scope, receive: Receive) -> tuple[tuple[int, str] | None, Receive]:
        """Return why a request is refused, or None, with the session in `scope`; and a `receive` for the routes."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        scope["session"] = session = self._session(headers)
        host = headers.get("host", "")
        if _without_port(host) not in self._access.hosts:
            return (421, "this page has another name"), receive
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URL:
            return (414, "the address is too long"), receive
        address = (scope.get("client") or ("",))[0]
        limit, who = (self._known, session.csrf) if session else (self._strangers, address)
        if not limit.allows(who):
            return (429, "too many requests; wait a minute"), receive
        path = scope["path"]
        if session is None and not any(path == open_ or path.startswith(f"{open_.rstrip('/')}/") for open_ in _OPEN):
            return (401, "open the link that you were given; it works once, and a session lasts 12 hours"), receive
        if scope["method"] in ("GET", "HEAD"):
            return None, receive
        if not _same_origin(headers, scope["scheme"] if not self._access.secure else "https", host):
            return (403, "the request comes from another page"), receive
        body = await _body(headers, receive)
        if body is None:
            return (413, f"more than {MAX_BODY >> 10} KiB were sent"), receive
        if path != "/join":
            given = headers.get("x-csrf-token") or form_fields(body).get("csrf", "")
            if session is None or not hmac.compare_digest(given.encode(), session.csrf.encode()):
                return (403, "the form is of another session; go back, load the page again, and repeat it"), receive
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return None, replay

    def _session(self, headers: Mapping[str, str]) -> Session | None:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._access.cookie)
        except CookieError:
            return None
        return None if cookie is None else self._keys.session(cookie.value)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _same_origin(headers: Mapping[str, str], scheme: str, host: str) -> bool:
    """Return whether a browser says that a request comes from this page; programs that are none say nothing."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    return site in ("same-origin", "none") and origin in (None, f"{scheme}://{host}")


async def _body(headers: Mapping[str, str], receive: Receive) -> bytes | None:
    """Return the body of a request, None if it is too large."""
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY:
        return None
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return body
