"""Walk through docs/tutorial.md as a reader does, and make its pictures anew: python tools/tutorial.py FOLDER.

Every command of the page is typed, every study file saved and every Python example run, in their order, in FOLDER. What
is there already is not made again, so the walk can be interrupted. Pictures of pages need Debian's chromium.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import sonosynth as ss
from sonosynth.gan.sample import save_image_grid

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
PICTURES = PAGE.with_suffix("")
BLOCK = re.compile(
    r"^```(?P<kind>yaml|python)\n(?P<text>.*?)^```$|^    (?P<command>sonosynth [^\n]*)$", re.MULTILINE | re.DOTALL
)


def main() -> None:
    """Walk through the page in the folder that the command line names, and write the pictures beside the page."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for kind, text in steps():
        if kind == "yaml":
            (folder / "study.yaml").write_text(text, encoding="utf-8")
        elif kind == "python":
            run([sys.executable, "-c", text], folder)
        elif not made_by(text, folder):
            run(f"{Path(sys.executable).with_name('sonosynth')} {text.removeprefix('sonosynth ')}", folder)
    take_pictures(folder)


def steps() -> Iterator[tuple[str, str]]:
    """Yield what the page tells its reader to do: ``yaml``, ``python`` or ``command``, and the text."""
    for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        yield (match["kind"] or "command"), (match["text"] or match["command"]).split("  #")[0]


def made_by(command: str, folder: Path) -> bool:
    """Return whether what `command` writes is there; a study and a training go on by themselves."""
    out = re.search(r"--out (\S+)", command)
    return out is not None and not command.startswith("sonosynth train") and (folder / out[1]).exists()


def run(command: str | list[str], folder: Path) -> None:
    """Run `command` in `folder` and end this walk where it fails."""
    print(f"$ {command if isinstance(command, str) else 'python'}", flush=True)
    subprocess.run(command, shell=isinstance(command, str), check=True, cwd=folder)


def take_pictures(folder: Path) -> None:
    """Write the pictures of the page from what the walk has left in `folder`."""
    images = ss.load(folder / "my-images")
    shown = [images.of_class(name).images[:6] for name in images.classes]
    save_image_grid(np.concatenate(shown), PICTURES / "phantoms.png", columns=6)
    study = folder / "runs" / "tutorial"
    shutil.copyfile(study / "figures" / "samples-100.png", PICTURES / "samples.png")
    take_screenshot(folder / "audit" / "audit.html", PICTURES / "audit.png", 800)
    take_screenshot(study / "report.html", PICTURES / "report.png", 900)


def take_screenshot(page: Path, picture: Path, height: int) -> None:
    """Write the first screen of `page`, 1280 pixels wide, to `picture`."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    size = [f"--window-size=1280,{height}", f"--screenshot={picture}"]
    subprocess.run(["chromium", *options, *size, page.resolve().as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
