"""Write the reference pages that are made from the code: python tools/reference.py (or make reference)."""

from pathlib import Path

import catalogue_page
import features_page
import recipes_page

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
PAGES = {"catalogue.md": catalogue_page.page, "features.md": features_page.page, "recipes.md": recipes_page.page}


def main() -> None:
    """Write each page to docs/reference."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
