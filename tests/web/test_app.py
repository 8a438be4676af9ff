"""The rules of safety under every page, each attacked."""

import logging
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
pytest.importorskip("httpx")

from fastapi import Request
from fastapi.testclient import TestClient

from sonosynth.core.errors import WebError
from sonosynth.web import app as web
from sonosynth.web.app import MAX_BODY, Access, new_app, session_of
from sonosynth.web.keys import Keys
from sonosynth.web.server import Address

BASE = "http://127.0.0.1:8765"


class Page:
    """A small page, and a browser that is not signed in."""

    def __init__(self, access=None, hours=1.0):
        self.keys = Keys()
        self.key = self.keys.new_link("owner", hours)
        self.changes = 0
        access = access or Access("test")
        self.app = new_app("Test", access, self.keys)

        @self.app.get("/")
        def first(request: Request):
            return self.app.state.pages.show(request, "error.html", what=f"who: {session_of(request).who}")

        @self.app.post("/change/{name}")
        def change(name: str):
            self.changes += 1

        @self.app.get("/broken")
        def broken():
            raise RuntimeError("inside")

        base = BASE.replace("http:", "https:") if access.secure else BASE
        self.browser = TestClient(self.app, base_url=base, raise_server_exceptions=False)

    def sign_in(self):
        return self.browser.post("/join", data={"key": self.key})

    @property
    def csrf(self):
        (cookie,) = self.browser.cookies.values()
        return self.keys.session(cookie).csrf


@pytest.fixture
def page():
    return Page()


def test_a_link_becomes_a_cookie_that_scripts_and_other_sites_do_not_have(page):
    answer = page.browser.post("/join", data={"key": page.key}, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 303
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert "who: owner" in page.browser.get("/").text


def test_by_tls_the_cookie_is_bound_to_it():
    page = Page(Access("test", secure=True))
    answer = page.browser.post("/join", data={"key": page.key}, follow_redirects=False)
    assert answer.headers["set-cookie"].startswith("__Host-sonosynth-test=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]


def test_a_link_works_once(page):
    assert page.sign_in().status_code == 200
    assert Page.sign_in(page).status_code == 403


def test_looking_at_a_link_does_not_use_it_up(page):
    for _ in range(3):
        assert page.browser.get(f"/join/{page.key}").status_code == 200
    assert page.sign_in().status_code == 200


def test_a_link_expires():
    assert Page(hours=-0.001).sign_in().status_code == 403


def test_a_session_expires():
    keys = Keys(session_hours=-0.001)
    token = keys.redeem(keys.new_link("owner", 1))
    assert token is not None
    assert keys.session(token) is None


def test_revoking_ends_sessions_and_links(page):
    page.sign_in()
    later = page.keys.new_link("owner", 1)
    page.keys.revoke("owner")
    assert page.browser.get("/").status_code == 401
    assert page.browser.post("/join", data={"key": later}).status_code == 403


def test_keys_are_stored_as_hashes_alone(tmp_path):
    keys = Keys(tmp_path / "keys.sqlite")
    key = keys.new_link("owner", 1)
    token = keys.redeem(key)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.encode() not in stored and token.encode() not in stored


@pytest.mark.parametrize("key", ["", "x", "a" * 43, "' OR 1=1 --", "\x00", "é"])
def test_a_wrong_key_opens_nothing(page, key):
    assert page.browser.post("/join", data={"key": key}).status_code in (403, 422)
    assert page.browser.get("/").status_code == 401


@pytest.mark.parametrize("cookie", ["", "wrong", "a" * 43, '"', "x; y=;;="])
def test_a_wrong_cookie_opens_nothing(page, cookie):
    assert page.browser.get("/", headers={"cookie": f"sonosynth-test={cookie}"}).status_code == 401


def test_a_cookie_of_the_other_page_opens_nothing(page):
    token = page.keys.redeem(page.key)
    assert page.browser.get("/", headers={"cookie": f"sonosynth-readers={token}"}).status_code == 401
    assert page.browser.get("/", headers={"cookie": f"sonosynth-test={token}"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/change/x", "/broken", "/joined", "/statics/x", "/docs", "/openapi.json"])
def test_nothing_is_told_without_a_session(page, path):
    assert page.browser.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_pages_of_fastapi_itself_are_off(page, path):
    page.sign_in()
    assert page.browser.get(path).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-csrf-token": "0" * 64},
        {"x-csrf-token": ""},
    ],
)
def test_a_change_needs_the_token_of_the_session(page, headers):
    page.sign_in()
    assert page.browser.post("/change/x", headers=headers).status_code == 403
    assert page.changes == 0


def test_a_token_of_another_session_changes_nothing(page):
    page.sign_in()
    other = page.keys.session(page.keys.redeem(page.keys.new_link("other", 1)))
    assert page.browser.post("/change/x", data={"csrf": other.csrf}).status_code == 403
    assert page.browser.post("/change/x", data={"csrf": page.csrf}).status_code == 200
    assert page.changes == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_page_changes_nothing_even_with_the_token(page, headers):
    page.sign_in()
    answer = page.browser.post("/change/x", headers={"x-csrf-token": page.csrf, **headers})
    assert answer.status_code == 403
    assert page.changes == 0


def test_another_page_signs_no_browser_in(page):
    answer = page.browser.post("/join", data={"key": page.key}, headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert page.sign_in().status_code == 200  # and the link is not used up


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1.elsewhere.example", "", "localhost:x", "[::1"])
def test_a_host_name_that_is_not_ours_is_refused(page, host):
    page.sign_in()
    assert page.browser.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("path", ["/", "/join/x", "/static/web.css", "/static/nothing", "/nothing", "/broken"])
def test_every_answer_has_the_headers(page, path):
    page.sign_in()
    headers = page.browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "cache-control" in headers


def test_pages_have_no_inline_script_or_style():
    for template in Path(web.__file__).parent.joinpath("templates").glob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert " style=" not in text and "<style" not in text and " onclick=" not in text, template.name
        assert text.count("<script") == text.count('<script src="/static/'), template.name
        assert "//" not in text.replace("http://www.w3.org", ""), f"{template.name} asks elsewhere"


@pytest.mark.parametrize(
    "name", ["..%2fapp.py", "%2e%2e/app.py", "../keys.py", "%2fetc%2fpasswd", "web.css%00", "....//app.py"]
)
def test_no_path_leads_out_of_the_static_files(page, name):
    assert page.browser.get(f"/static/{name}").status_code in (401, 404)


def test_a_large_body_is_refused_whatever_it_says_of_its_length(page):
    page.sign_in()
    large = b"x" * (MAX_BODY + 1)
    assert page.browser.post("/change/x", content=large).status_code == 413
    assert page.browser.post("/change/x", content=iter([large[:100], large])).status_code == 413
    assert page.browser.post("/change/x", content=b"", headers={"content-length": "many"}).status_code == 413
    assert page.changes == 0


def test_a_long_address_is_refused(page):
    page.sign_in()
    assert page.browser.get("/?" + "x" * 3000).status_code == 414


def test_who_asks_too_often_waits(page, monkeypatch):
    monkeypatch.setattr(web, "STRANGERS_PER_MINUTE", 5)
    page = Page()
    codes = [page.browser.get("/").status_code for _ in range(8)]
    assert codes[:5] == [401] * 5 and 429 in codes[5:]
    # a key cannot be guessed any more, not even the right one
    assert page.sign_in().status_code == 429


def test_limits_remember_a_bounded_number_of_addresses(monkeypatch):
    monkeypatch.setattr(web, "_REMEMBERED", 10)
    limit = web._Limit(5)
    for i in range(100):
        limit.allows(str(i))
    assert len(limit._left) == 10


def test_the_log_has_routes_but_no_names_and_no_keys(page, caplog):
    caplog.set_level(logging.INFO, "sonosynth.web")
    page.browser.get(f"/join/{page.key}")
    page.sign_in()
    page.browser.post("/change/Grace-Hopper?x=secret", data={"csrf": page.csrf})
    page.browser.get("/nothing/Grace-Hopper")
    (token,) = page.browser.cookies.values()
    text = caplog.text
    assert "/change/{name} 200" in text and "/join/{key} 200" in text
    for secret in (page.key, token, page.csrf, "Grace", "secret", "owner", "testclient"):
        assert secret not in text


def test_a_fault_is_told_without_its_inside(page, caplog):
    page.sign_in()
    answer = page.browser.get("/broken")
    assert answer.status_code == 500
    assert "inside" not in answer.text and "Traceback" not in answer.text
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize(
    ("address", "what"),
    [
        (Address(host="0.0.0.0"), "TLS"),
        (Address(host="192.0.2.1"), "TLS"),
        (Address(host="::"), "TLS"),
        (Address(host="example.org"), "TLS"),
        (Address(tls_cert=Path("cert.pem")), "both"),
        (Address(tls_cert=Path("cert.pem"), tls_key=Path("key.pem")), "no file"),
        (Address(behind_proxy=True), "--name"),
    ],
)
def test_a_page_that_others_could_listen_to_is_not_served(address, what):
    with pytest.raises(WebError, match=what):
        address.check()


def test_a_page_on_this_machine_is_served_without_more():
    for host in ("127.0.0.1", "localhost", "::1"):
        Address(host=host).check()
    Address(host="0.0.0.0", behind_proxy=True, name="study.example.org").check()
    assert Address(host="0.0.0.0", behind_proxy=True, name="study.example.org").access("x").hosts == (
        "0.0.0.0",
        "study.example.org",
    )
