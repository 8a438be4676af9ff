"""What the documentation site holds beside docs/: a page per public name, the commands, and pages of the whole project.

mkdocs calls the ``on_...`` functions (mkdocs.yml names this file under `hooks`).
"""

import inspect
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import sonosynth

ROOT = Path(__file__).parents[1]
# Pages and files outside docs/ that are shown, or that pages link to.
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "examples/*", "results/README.md", "results/*/*")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
INDEX = """\
# Python

`import sonosynth as ss`. These names are public: they keep their meaning from one minor version to the next
([what is promised](../../CONTRIBUTING.md#versions)). They are imported when they are first used.

| name | what it does | room |
|---|---|---|
"""
NAMES = sorted(name for name in sonosynth.__all__ if not name.startswith("_"))


def on_config(config: MkDocsConfig) -> None:
    """Add the pages of public names, of records and of new how-to guides to the navigation."""
    assert config.nav is not None
    how_to = _entry(config.nav, "How to")
    listed = {page for entry in how_to for page in entry.values()}
    pages = [f"how-to/{path.name}" for path in sorted(ROOT.glob("docs/how-to/*.md"))]
    how_to[-1:-1] = [page for page in pages if page not in listed]  # before the last: how to contribute
    _entry(config.nav, "Python").extend({name: f"reference/api/{name}.md"} for name in NAMES)
    records = sorted(path.parent.name for path in ROOT.glob("results/*/README.md"))
    _entry(config.nav, "Results").extend({name: f"results/{name}/README.md"} for name in records)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add what is made from the code, and what lies outside docs/."""
    files.append(File.generated(config, "reference/commands.md", content=_commands()))
    files.append(File.generated(config, "reference/api/index.md", content=_index()))
    for name in NAMES:
        home = getattr(sonosynth, name).__module__
        page = f"::: {home}.{name}\n    options: {{heading: {name}, toc_label: {name}}}\n"
        files.append(File.generated(config, f"reference/api/{name}.md", content=page))
    for path in sorted({path for pattern in OUTSIDE for path in ROOT.glob(pattern) if path.is_file()}):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: Any) -> str:
    """Lead links of the repository to their pages of the site; where the site has none, the words alone remain."""
    here = page.file.src_uri
    outside = any((ROOT / here).match(pattern) for pattern in OUTSIDE)

    def rewrite(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups()
        target = posixpath.normpath(posixpath.join("" if outside else "docs", posixpath.dirname(here), target))
        if (ROOT / target).is_dir():
            target += "/README.md"
        target = target.removeprefix("docs/")
        if files.get_file_from_path(target) is None:
            return text
        return f"{image}[{text}]({posixpath.relpath(target, posixpath.dirname(here) or '.')}{anchor or ''})"

    return LINK.sub(rewrite, markdown)


def _entry(nav: list[Any], name: str) -> list[Any]:
    """Return the list of pages under `name`, anywhere in the navigation."""
    for item in nav:
        if isinstance(item, dict):
            for key, value in item.items():
                if isinstance(value, list):
                    found: list[Any] = value if key == name else _entry(value, name)
                    if found:
                        return found
    return []


def _index() -> str:
    """Return a table of the public names, those of one room of the package together."""
    rows = []
    for name in NAMES:
        value = getattr(sonosynth, name)
        first = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append((value.__module__.split(".")[1], f"| [`{name}`]({name}.md) | {first} |"))
    return INDEX + "\n".join(f"{row} `{room}` |" for room, row in sorted(rows)) + "\n"


def _commands() -> str:
    """Return the help of every command as one page."""
    command = [sys.executable, "-m", "typer", "sonosynth.cli.main", "utils", "docs", "--name", "sonosynth"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return told.replace("# `sonosynth`", "# Commands", 1)
