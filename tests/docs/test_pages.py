"""Pages of the repository: what they link to, type and name is there, in what others clone."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

import sonosynth
from sonosynth.cli.main import app

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"^ +(?:[A-Z_]+=\S+ )*sonosynth (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def tracked() -> set[Path]:
    """Return the files that a clone has, and their folders."""
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {ROOT / name for name in told.split("\0") if name}
    return files | {folder for file in files for folder in file.parents}


def anchors(page: Path) -> set[str]:
    """Return the names under which a page's headings are found, as GitHub makes them."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages() -> list[Path]:
    return sorted(file for file in tracked() if file.suffix == ".md" and file.is_file())


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_links_between_pages_lead_somewhere():
    there = tracked()
    lost = []
    for page in pages():
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            if ":" in name:
                continue
            target = (page.parent / name).resolve() if name else page
            if target not in there or (anchor and anchor not in anchors(target)):
                lost.append(f"{page.relative_to(ROOT)}: {link}")
    assert not lost


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_commands_on_pages_have_the_options_that_they_are_given():
    unknown = []
    for page in pages():
        for line in COMMAND.findall(page.read_text(encoding="utf-8")):
            words = shlex.split(line, comments=True)
            command = typer.main.get_command(app)
            while hasattr(command, "commands"):
                command = command.commands.get(words.pop(0))
            if command is None:
                unknown.append(f"{page.name}: {line}")
                continue
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            unknown += [
                f"{page.name}: {word} of {line}" for word in words if word.startswith("-") and word not in options
            ]
    assert not unknown


def test_files_of_the_package_that_pages_name_are_there():
    lost = []
    for page in (page for page in pages() if not page.name.startswith("add-a")):  # which tell to write files
        for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.pyi?)`", page.read_text(encoding="utf-8")):
            if not any((root / name).exists() for root in (ROOT, Path(sonosynth.__file__).parent, page.parent)):
                lost.append(f"{page.name}: {name}")
    assert not lost


def test_public_names_that_pages_use_are_there():
    used = {
        (page.name, name) for page in pages() for name in re.findall(r"\bss\.(\w+)", page.read_text(encoding="utf-8"))
    }
    assert not {(page, name) for page, name in used if name not in sonosynth.__all__}


def test_the_architecture_page_tells_of_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in Path(sonosynth.__file__).parent.glob("*/__init__.py")}
    assert not [room for room in rooms if f"| `{room}` |" not in text]


def test_the_citation_is_of_the_version_in_pyproject():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (
        citation["version"]
        == tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    )
