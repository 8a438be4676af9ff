"""Read a page that the product wrote, as a test wants it."""

import html.parser
import re
from html import unescape
from pathlib import Path


class Checker(html.parser.HTMLParser):
    """Collect addresses, alt texts, ids and text, and see that every element is closed."""

    VOID = ("meta", "img", "br", "link", "hr", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.addresses, self.links, self.images, self.ids, self.text = [], [], [], [], set(), []
        self.rows: list[list[str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [given[name] for name in ("src", "srcset", "data") if given.get(name)]
        if tag == "link":
            self.addresses.append(given["href"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if tag == "tr":
            self.rows.append([])
        self.ids.add(given.get("id"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            assert "url(" not in data and "@import" not in data
            return
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th") and self.rows:
            self.rows[-1].append(data.strip())


def read(path: Path) -> tuple[Checker, str]:
    return parse(path.read_text(encoding="utf-8"))


def parse(html: str) -> tuple[Checker, str]:
    page = Checker(html)
    return page, in_one_line("".join(page.text))


def in_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def answers(html: str) -> dict[str, tuple[str, str]]:
    """Return the answers to a reviewer's questions on the page of a study, each with where its link leads."""
    found = re.findall(r'<div><dt><a href="#(.*?)">(.*?)</a></dt><dd>(.*?)</dd></div>', html, re.DOTALL)
    return {question: (in_one_line(unescape(answer)), link) for link, question, answer in found}
