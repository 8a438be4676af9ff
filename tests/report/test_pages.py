"""Pages of the repository: what they link to is there, in what others clone."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_links_between_pages_lead_somewhere():
    there = tracked()
    lost = []
    for page in sorted(file for file in there if file.suffix == ".md" and file.is_file()):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            if ":" in name:
                continue
            target = (page.parent / name).resolve() if name else page
            if target not in there or (anchor and anchor not in anchors(target)):
                lost.append(f"{page.relative_to(ROOT)}: {link}")
    assert not lost
