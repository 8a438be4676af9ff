"""The reference page of public data sets, made from the catalogue itself."""

from sonosynth.datasets.catalogue import CATALOGUE, PublicDataset

OPENING = """\
# Public data sets

`sonosynth data fetch` lists them; `sonosynth data fetch NAME --out DIR` shows the licence and what it lets you do with
weights trained on the images, downloads, verifies, unpacks and says what to do next. `DIR` appears only when all of it
is there. A download that broke off waits in `DIR.download`, and the same command goes on with it. Where a server does
not serve programs, download the file by hand, save it under that folder by the name below, and run the same command
again.

`DIR/source.json` records where the files came from, their SHA-256, the licence, what it says of trained weights, and
the citation. A set whose labels stand in a table gets a `manifest.csv` of path, label and group beside it; nothing else
is changed.

What is said of trained weights is our reading of the licences and no legal advice. Where the licence does not say it,
ask the authors.

Addresses, sizes and checksums were collected from public descriptions of the sets and have not all been tried against
the servers: a wrong one stops a download with a line that says how to get the file by hand.

This page is made from the code by `make reference`.
"""


def page() -> str:
    """Return the whole page as Markdown."""
    return "\n".join([OPENING, *map(_section, CATALOGUE)])


def _section(entry: PublicDataset) -> str:
    rows = [
        ("images", f"{entry.images}; classes: {'; '.join(entry.classes)}"),
        ("licence", entry.licence),
        ("trained weights", entry.weights),
        ("cite", f"{entry.citation}. [doi {entry.doi}](https://doi.org/{entry.doi})"),
        ("data", f"<{entry.page}>" + (f", doi {entry.data_doi}" if entry.data_doi else "; no doi of their own")),
        ("SOURCE", "`DIR`" if entry.source == "." else f"`DIR/{entry.source}`"),
        ("labels", entry.layout),
    ]
    for file in entry.files:
        size = f"{file.size:,} bytes" if file.size is not None else "size not published"
        rows.append((f"`{file.name}`", f"<{file.url}>; {size}; checksum: {file.checksum or 'none published'}"))
    table = "".join(f"| {name} | {text} |\n" for name, text in (("", ""), ("---", "---"), *rows))
    return f"## {entry.name}\n\n{entry.title[0].upper()}{entry.title[1:]}.\n\n{table}"
