"""Names that break lines, terminals, file systems or tables; links; and files that are not files."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from hostile.case import Case, encoded, put, sound


def named(*names: str) -> Callable[[Path], None]:
    """Return what puts sound images with these names beside the sound ones."""

    def build(folder: Path) -> None:
        sound(folder)
        for seed, name in enumerate(names, start=10):
            put(folder / name, encoded(seed))

    return build


def broken(name: str) -> Callable[[Path], None]:
    """Return what puts an empty file of this name beside the sound images."""

    def build(folder: Path) -> None:
        sound(folder)
        put(folder / name, b"")

    return build


def linked(name: str, target: str) -> Callable[[Path], None]:
    """Return what puts a link beside the sound images, which lie in ``source``; other things lie around that folder."""

    def build(folder: Path) -> Path:
        source = folder / "source"
        sound(source)
        put(folder / "elsewhere" / "1.png", encoded(7))
        put(folder / "elsewhere" / "text.txt", b"secret")
        put(folder / "elsewhere" / "manifest.csv", b"path,label\na/1.png,x\nb/1.png,y\n")
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).symlink_to(target)
        return source

    return build


def pipe(name: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        sound(folder)
        os.mkfifo(folder / name)

    return build


def a_pipe_alone(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.csv")
    return folder / "pipe.csv"


def a_socket(folder: Path) -> None:
    sound(folder)
    here = Path.cwd()
    os.chdir(folder / "a")  # a socket's path may have a hundred letters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.png")
    finally:
        os.chdir(here)


def listed_pipe(folder: Path) -> None:
    pipe("a/pipe.png")(folder)
    put(folder / "manifest.csv", b"path,label\na/1.png,x\na/pipe.png,x\n")


def not_text(folder: Path) -> None:
    named("a/" + os.fsdecode(b"x\xff.png"))(folder)


def masks_alone(folder: Path) -> None:
    sound(folder)
    for name in ("a/1_mask.png", "c/1_mask.png"):
        put(folder / name, encoded(mode="1"))


def folder_not_text(folder: Path) -> None:
    named("a/" + os.fsdecode(b"sub\xff") + "/1.png")(folder)


def side_not_text(folder: Path) -> None:
    sound(folder)
    for name in (b"a/x.\xff", b"\xfe\xff", b"a/sub\xff/1.txt", b".\xff"):
        put(folder / os.fsdecode(name), encoded())
    (folder / os.fsdecode(b"bare\xff")).mkdir()


def a_file_named_as_image(folder: Path) -> Path:
    return put(folder / "x.png", encoded())


def many_folders(folder: Path) -> None:
    sound(folder)
    for i in range(2000):
        (folder / f"empty {i}").mkdir()


def deep_folders(folder: Path) -> None:
    sound(folder)
    (folder / "a" / "/".join(["deep"] * 300)).mkdir(parents=True)


ESCAPES = "\x1b[31m\x1b]0;owned\x07"
OUT = r"leads? out of"

CASES = [
    Case("name-newline", "a line end in a good file's name", named("a/x\ny.png")),
    Case("name-newline-bad", "a line end in a bad file's name", broken("a/x\ny.png"), r"x\\ny\.png: empty", 1),
    Case("name-return-bad", "a carriage return in a bad file's name", broken("a/x\ry.png"), r"x\\ry\.png: empty", 1),
    Case("name-return", "a carriage return in a good file's name", named("a/x\ry.png")),
    Case("name-tab", "a tab in a bad file's name", broken("a/x\ty.png"), r"x\\ty\.png: empty", 1),
    Case("name-escape", "terminal codes in a bad file's name", broken(f"a/{ESCAPES}.png"), r"\\x1b\[31m\\x1b\]0;", 1),
    Case("name-escape-c1", "an 8-bit terminal code", broken("a/x\x9b31my.png"), r"x\\x9b31my\.png: empty", 1),
    Case(
        "name-escape-class",
        "terminal codes in a class",
        named(f"{ESCAPES}/1.png"),
        tells=r"\\x1b\[31m\\x1b\]0;owned\\x07 1",
    ),
    Case("name-escape-side", "terminal codes in a suffix", named(f"a/x.{ESCAPES}"), tells=r"\.\\x1b\[31m.* \(1\)"),
    Case("name-right-to-left", "a name that shows reversed", broken("a/x\u202egnp.png"), r"x\\u202egnp\.png: empty", 1),
    Case("name-separator", "a line separator of Unicode", broken("a/x\u2028y.png"), r"x\\u2028y\.png: empty", 1),
    Case("name-spaces", "several spaces in a row", broken("a/x   y.png"), r"x   y\.png: empty", 1),
    Case("name-dash", "names that look like options", named("a/-rf.png", "--help/1.png"), tells="--help 1"),
    Case("name-long", "a name of 255 bytes", named(f"a/{'n' * 251}.png", f"b/{'n' * 251}.png")),
    Case("name-long-emoji", "a name of 60 emoji", named(f"a/{'🩺' * 60}.png", f"b/{'🩺' * 59}.png")),
    Case(
        "name-long-letters",
        "a name of 83 letters of three bytes each",
        named(f"a/{'乳' * 83}.png", f"b/{'乳' * 83}.png"),
    ),
    Case("name-devices", "names that Windows keeps", named("a/CON.png", "a/nul.png", "AUX/1.png"), tells="AUX 1"),
    Case("name-dots", "dots and spaces at the ends", named("a/x .png", "a/y..png", "c ./1.png"), tells=r"c \. 1"),
    Case("name-case", "files that differ in case", named("a/x.png", "a/X.png", "A/x.png"), tells="differ only in case"),
    Case("name-accents", "one name composed in two ways", named("a/\u00e9.png", "a/e\u0301.png")),
    Case(
        "name-quotes",
        "quotes, commas and a formula",
        named("a/=1+1\",'.png", "a/@SUM(1).png"),
    ),
    Case("name-formula", "a formula for a class", named("=1+1/x.png"), tells="1 image has values .* '=1\\+1"),
    Case("name-markup", "markup of the table printer", named("[red]/[link=x].png"), tells=r"\[red\] 1"),
    Case("name-percent", "placeholders of formatting", named("a/{0}%s${HOME}.png")),
    Case("name-backslash", "a backslash in a name", named("a/x\\y.png")),
    Case("name-suffix-alone", "a file named .png", named("a/.png"), tells="1 hidden or system file"),
    Case("name-mask-alone", "a class of masks alone", masks_alone, "c holds only masks"),
    Case("name-not-text", "bytes that are not UTF-8", not_text, r"x\\udcff\.png.*not valid text"),
    Case("name-not-text-folder", "such a folder with an image", folder_not_text, r"sub\\udcff.*not valid text"),
    Case("name-not-text-beside", "such names where no image is", side_not_text, tells=r"\\udcff"),
    Case("folder-file", "an image for a SOURCE", a_file_named_as_image, r"x\.png is neither a folder nor"),
    Case("folder-empty", "an empty folder", lambda folder: None, "holds no images"),
    Case("folder-missing", "no such folder", lambda folder: folder / "no\nwhere", r"no\\nwhere does not exist"),
    Case("folder-many", "two thousand empty folders", many_folders, tells="2000 folders without images"),
    Case(
        "folder-deep",
        "three hundred folders deep",
        deep_folders,
    ),
    Case(
        "folder-as-image",
        "a folder named as an image",
        lambda folder: [sound(folder), (folder / "a" / "3.png").mkdir()][0],
    ),
    Case("link-inside", "a link to an image of the source", linked("a/3.png", "../b/1.png"), tells="different labels"),
    Case("link-out", "a link to an image elsewhere", linked("a/3.png", "../../elsewhere/1.png"), tells=OUT),
    Case(
        "link-text",
        "a link to a text file elsewhere",
        linked("a/3.png", "../../elsewhere/text.txt"),
        r"3\.png: no image",
        1,
    ),
    Case("link-broken", "a link to nothing", linked("a/3.png", "nothing.png"), r"3\.png: .*No such file", 1),
    Case("link-itself", "a link to itself", linked("a/3.png", "3.png"), r"3\.png: .*symbolic links", 1),
    Case("link-class", "a class that is a link elsewhere", linked("c", "../elsewhere"), tells=OUT),
    Case("link-class-twice", "a class that is a link to another", linked("c", "b"), tells="different labels"),
    Case(
        "link-root",
        "a class that is a link to the source",
        linked("c", "."),
        tells="linked folders inside class folders not looked into: c/a, c/b",
    ),
    Case("link-up", "a link upwards inside a class", linked("a/up", ".."), tells="not looked into: a/up"),
    Case("link-folder-itself", "a class that is a link to itself", linked("c", "c")),
    Case(
        "link-table", "a table that is a link elsewhere", linked("manifest.csv", "../elsewhere/manifest.csv"), tells=OUT
    ),
    Case(
        "link-table-broken",
        "a table that is a link to nothing",
        linked("manifest.csv", "x.csv"),
        r"manifest\.csv .*No such file",
    ),
    Case(
        "link-zero", "a link to endless zeros", linked("a/3.png", "/dev/zero"), r"3\.png: .*not a file but a device", 1
    ),
    Case(
        "link-table-zero",
        "a table of endless zeros",
        linked("manifest.csv", "/dev/zero"),
        r"manifest\.csv is not a file but a device",
    ),
    Case("pipe", "a pipe named as an image", pipe("a/pipe.png"), r"pipe\.png: .*not a file but a pipe", 1),
    Case("pipe-table", "a pipe named manifest.csv", pipe("manifest.csv"), r"manifest\.csv is not a file but a pipe"),
    Case("pipe-listed", "a pipe in a table", listed_pipe, r"line 3: no file 'a/pipe\.png'"),
    Case("pipe-source", "a pipe for a SOURCE", a_pipe_alone, r"pipe\.csv is neither"),
    Case("pipe-beside", "a pipe that is no image", pipe("a/pipe"), tells="1 file that is not an image"),
    Case("socket", "a socket named as an image", a_socket, r"socket\.png: .*not a file but a socket", 1),
]
