"""Tables that a spreadsheet, another program or somebody with bad intentions wrote."""

from collections.abc import Callable
from pathlib import Path

from hostile.case import Case, put, sound

GOOD = "path,label\na/1.png,x\na/2.png,x\nb/1.png,y\nb/2.png,y\n"
OWN = "path,label,group,id,synthetic\n"


def table(text: str | bytes, encoding: str = "utf-8") -> Callable[[Path], None]:
    """Return what puts a manifest.csv above the sound images."""

    def build(folder: Path) -> None:
        sound(folder)
        put(folder / "manifest.csv", text if isinstance(text, bytes) else text.encode(encoding))

    return build


def a_million(row: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        table("path,label\n" + "".join(row.format(i) for i in range(10**6)))(folder)

    return build


def a_hole(folder: Path) -> None:
    table(GOOD)(folder)
    with (folder / "manifest.csv").open("r+b") as file:
        file.truncate(1 << 40)


def a_folder(folder: Path) -> None:
    sound(folder)
    (folder / "manifest.csv").mkdir()


def a_line(name: str, what: str, text: str | bytes, stops: str, **how: str) -> Case:
    return Case(name, what, table(text, **how), rf"manifest\.csv.*({stops})")


def reads(name: str, what: str, text: str | bytes, tells: str = "manifest", **how: str) -> Case:
    return Case(name, what, table(text, **how), tells=tells)


CASES = [
    reads("csv-bom", "with a byte order mark", GOOD, encoding="utf-8-sig"),
    reads("csv-crlf", "lines that end as on Windows", GOOD.replace("\n", "\r\n")),
    reads("csv-cr", "lines that end as on an old Macintosh", GOOD.replace("\n", "\r")),
    reads("csv-no-last-line-end", "no line end at its end", GOOD.rstrip()),
    reads(
        "csv-quotes", "every cell in quotes", "\n".join(f'"{a}","{b}"' for a, b in (r.split(",") for r in GOOD.split()))
    ),
    a_line("csv-semicolons", "separated by semicolons", GOOD.replace(",", ";"), "separated by ';'"),
    a_line("csv-tabs", "separated by tabs", GOOD.replace(",", "\t"), "separated by tabs; save it as 'CSV UTF-8'"),
    a_line("csv-sep", "the line that spreadsheets need", "sep=,\n" + GOOD, "remove that line"),
    a_line("csv-utf-16", "in UTF-16, as 'Unicode text' is saved", GOOD, "UTF-8", encoding="utf-16"),
    a_line("csv-latin-1", "in Latin-1", GOOD.replace("x", "gutartig (ä)"), "UTF-8", encoding="latin-1"),
    a_line("csv-empty", "no bytes at all", "", "lacks the column 'path'"),
    a_line("csv-header-alone", "no rows", "path,label\n", "no rows"),
    a_line("csv-nul", "a byte of zero in a path", "path,label\na/1.png\0,x\n", "no file|not a comma-separated"),
    a_line("csv-png", "an image named manifest.csv", b"\x89PNG\r\n\x1a\n", "UTF-8"),
    a_line("csv-quote-open", "a quote that is never closed", 'path,label\n"a/1.png,x\n', "not a comma-separated"),
    a_line("csv-cell", "a cell of a megabyte", f"path,label\n{'x' * 10**6},x\n", "not a comma-separated"),
    a_line("csv-long-path", "a path of 100,000 letters", f"path,label\n{'x' * 10**5},x\n", "line 2: no file"),
    a_line("csv-one-line", "ten million commas", f"path,label\n{',' * 10**7}\n", "no rows"),
    a_line("csv-columns", "a hundred thousand columns", ",".join(f"c{i}" for i in range(10**5)) + "\n1\n", "lacks"),
    a_line("csv-doubled", "one column twice", "path,label,label\na/1.png,x,y\n", "more than once"),
    a_line(
        "csv-doubled-file", "one file twice", "path,label\na/1.png,x\na/../a/1.png,y\n", "line 3: .*already on line 2"
    ),
    a_line("csv-up", "a path that leads out", "path,label\n../../etc/passwd,x\n", "outside"),
    a_line("csv-absolute", "an absolute path", "path,label\n/etc/passwd,x\n", "outside"),
    a_line("csv-drive", "a path on a Windows drive", "path,label\nC:\\x.png,x\n", "outside"),
    a_line("csv-share", "a path on a Windows server", "path,label\n\\\\host\\share\\x.png,x\n", "outside"),
    a_line("csv-device", "a device named as an image", "path,label\n/dev/zero,x\n", "outside"),
    a_line("csv-folder", "a folder named as an image", "path,label\na,x\n", "line 2: no file"),
    a_line("csv-url", "an address", "path,label\nhttps://example.com/x.png,x\n", "line 2: no file"),
    a_line("csv-newline-path", "a line end in a path", 'path,label\n"a\nb.png",x\n', r"no file 'a\\nb\.png'"),
    a_line(
        "csv-escape-path",
        "terminal codes in a path",
        "path,label\n\x1b]0;owned\x07.png,x\n",
        r"no file '\\x1b\]0;owned\\x07",
    ),
    a_line("csv-ragged", "rows of several lengths", GOOD + "a/1.png\n", "line 6: 1 field "),
    a_line(
        "csv-synthetic",
        "marked as both real and synthetic",
        "path,label,synthetic\na/1.png,x,1\nb/1.png,x,no\n",
        "synthetic",
    ),
    Case(
        "csv-huge-group",
        "a group number of 30 digits in an image set",
        table(f"{OWN}a/1.png,x,{'9' * 30},p,0\nb/1.png,x,1,q,0\n"),
        r"manifest\.csv: group '9+' of 'p' is not a whole number",
        info_reads=True,
    ),
    Case(
        "csv-million-missing",
        "a million rows, none of whose files is there",
        a_million("img/{}.png,x\n"),
        r"manifest\.csv, line 2: no file 'img/0\.png'.*999999 more",
        large=True,
    ),
    Case(
        "csv-million-same",
        "a million rows for one file",
        a_million("a/1.png,x\n"),
        r"manifest\.csv, line 3: 'a/1\.png' is already on line 2",
        large=True,
    ),
    Case("csv-terabyte", "a table of a terabyte, all holes", a_hole, r"manifest\.csv.*larger than"),
    Case("csv-is-folder", "a folder named manifest.csv", a_folder, tells="image folder"),
    reads(
        "csv-formulas",
        "cells that a spreadsheet would run",
        'path,label,note\na/1.png,=1+1,"=HYPERLINK(""http://x"")"\n'
        "b/1.png,@SUM(A1),-3.5\nb/2.png,+cmd|' /C calc'!A0,-\n",
        "3 images have values .* formulas",
    ),
    reads("csv-labels-up", "labels that lead out", "path,label\na/1.png,../../../x\nb/1.png,/etc\n", r"/etc 1"),
    reads(
        "csv-labels-own",
        "a label named as the table of the output",
        "path,label\na/1.png,manifest.csv\nb/1.png,prepare.json\n",
    ),
    reads(
        "csv-labels-devices", "labels that Windows keeps for devices", "path,label\na/1.png,CON\nb/1.png,nul\n", "CON 1"
    ),
    reads(
        "csv-labels-case",
        "labels that differ in case",
        "path,label\na/1.png,Benign\nb/1.png,benign\n",
        "differ only in case",
    ),
    reads("csv-labels-accents", "one label composed in two ways", "path,label\na/1.png,\u00e9\nb/1.png,e\u0301\n"),
    reads("csv-label-long", "a label of 5,000 letters", f"path,label\na/1.png,{'l' * 5000}\nb/1.png,y\n"),
    reads("csv-label-lines", "line ends in labels", 'path,label\na/1.png,"x\r\ny"\nb/1.png,"x\ry"\n', r"x\\r\\ny 1"),
    reads(
        "csv-label-escape",
        "terminal codes in labels",
        "path,label\na/1.png,\x1b[2Jx\nb/1.png,\u202ey\n",
        r"\\x1b\[2Jx 1, \\u202ey 1",
    ),
    reads(
        "csv-extra-own-names",
        "columns that the record needs",
        "path,label,fit,scale_x\na/1.png,x,nan,inf\nb/1.png,y,,\n",
        "kept: fit, scale_x",
    ),
    reads(
        "csv-group-digits",
        "groups in digits of other scripts",
        f"{OWN}a/1.png,x,٣,p,0\nb/1.png,x,-4,q,0\n",
        "image set",
    ),
]
