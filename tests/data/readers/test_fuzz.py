"""Damaged files and tables give pixels, rows or an error that the user can mend; never anything else."""

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deep_files import png, pnm, tiff
from hostile.case import encoded
from sonosynth.core.errors import SonosynthError, UnreadableImageError
from sonosynth.data.prepare import prepare_images
from sonosynth.data.readers.images import decode_image_file
from sonosynth.data.scan import read_source, scan

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
# A damaged header may ask for the largest canvas that is still decoded: 2 s on an idle core.
FUZZ = settings(max_examples=150, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])


def several_frames(format: str) -> bytes:
    frames = [Image.open(io.BytesIO(encoded(seed))) for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def turned(format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    return encoded(format=format, exif=exif)


def sixteen_bits(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24) * 100).save(buffer, format)
    return buffer.getvalue()


def deep_grey(write: Callable[[Path, np.ndarray], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "x", np.arange(480, dtype=np.uint16).reshape(20, 24) * 8)
        return (Path(folder) / "x").read_bytes()


def deep_colour(write: Callable[[Path, np.ndarray], object]) -> bytes:
    return deep_grey(lambda path, values: write(path, np.stack([values, values, values // 2], axis=2)))


WHOLE = {
    "png": encoded(),
    "png with a palette": encoded(mode="P"),
    "png with 16 bits": sixteen_bits("PNG"),
    "png in colour with 16 bits": deep_colour(png),
    "png with EXIF": turned("PNG"),
    "png with frames": several_frames("PNG"),
    "jpeg": encoded(format="JPEG"),
    "jpeg in colour with EXIF": turned("JPEG"),
    "jpeg in steps": encoded(format="JPEG", progressive=True),
    "jpeg in CMYK": encoded(format="JPEG", mode="CMYK"),
    "tiff": encoded(format="TIFF"),
    "tiff by libtiff": encoded(format="TIFF", compression="tiff_adobe_deflate"),
    "tiff with 16 bits": sixteen_bits("TIFF"),
    "tiff in colour with 16 bits": deep_colour(partial(tifffile.imwrite, photometric="rgb", compression="lzw")),
    "tiff with 12 bits": deep_grey(partial(tiff, bits=12, deflate=True)),
    "tiff with frames": several_frames("TIFF"),
    "gif": encoded(format="GIF"),
    "gif with frames": several_frames("GIF"),
    "webp": encoded(format="WEBP"),
    "webp with frames": several_frames("WEBP"),
    "bmp": encoded(format="BMP"),
    "bmp with a palette": encoded(format="BMP", mode="P"),
    "pgm": encoded(format="PPM"),
    "ppm with 16 bits": deep_colour(partial(pnm, maxval=4095)),
    "pgm with 16 bits in words": deep_grey(partial(pnm, maxval=4095, plain=True)),
    "pgm in words": b"P2\n# made by hand\n3 2\n255\n0 10 20\n30 40 255\n",
}


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, most: int = 6) -> bytes:
    """Return `whole` with bytes changed, cut out, put in or written twice, mostly near its beginning."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, most))):
        last = max(0, len(content) - 1)
        place = draw(st.one_of(st.integers(0, min(64, last)), st.integers(0, last)))
        length = draw(st.integers(1, 16))
        change = draw(st.sampled_from(("flip", "set", "cut", "insert", "repeat", "end")))
        if change == "flip" and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif change == "set":
            content[place : place + length] = draw(st.sampled_from((b"\0", b"\xff", b"\x7f", b"\x80"))) * length
        elif change == "cut":
            del content[place : place + length]
        elif change == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif change == "repeat":
            content[place:place] = content[place : place + length]
        else:
            del content[place:]
    return bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [pytest.param(content, id=name) for name, content in WHOLE.items()])
def test_a_damaged_picture_gives_pixels_or_a_line(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(whole)
    assert decode_image_file(path).grey.ndim == 2

    @FUZZ
    @given(damaged(whole))
    def fuzz(content: bytes) -> None:
        path.write_bytes(content)
        try:
            grey = decode_image_file(path).grey
        except UnreadableImageError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert grey.dtype == np.uint8 and grey.ndim == 2 and grey.size

    fuzz()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_damaged_volume_gives_pixels_or_a_line(tmp_path: Path, suffix: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = tmp_path / "a" / f"x{suffix}"
    path.parent.mkdir()
    stored = np.random.default_rng(0).integers(0, 256, (3, 6, 9), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(stored), str(path))
    whole = path.read_bytes()
    assert len(scan(read_source(tmp_path)).images) == 3

    @FUZZ
    @given(damaged(whole))
    def fuzz(content: bytes) -> None:
        path.write_bytes(content)
        try:
            assert scan(read_source(tmp_path)).images
        except UnreadableImageError as error:
            assert str(path) in str(error) and "\n" not in str(error)

    fuzz()


@settings(FUZZ, max_examples=400)
@given(st.sampled_from((b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"GIF89a", b"BM", b"P5 ")), st.binary())
def test_bytes_of_no_format_give_pixels_or_a_line(tmp_path: Path, start: bytes, rest: bytes) -> None:
    (tmp_path / "x.png").write_bytes(start + rest)
    try:
        assert decode_image_file(tmp_path / "x.png").grey.size
    except UnreadableImageError as error:
        assert "x.png: " in str(error)


TABLE = (
    b"path,label,group,id,synthetic,note\n"
    b'a.png,benign,1,p,0,"a ""b"", c"\n'
    b"b/c.png,malignant,2,q,0,=1+1\n"
    b".\\d.png,malignant,2,r,0,\xc3\xa4\n"
)
CELLS = (
    "a.png",
    "b/c.png",
    "d.png",
    "..",
    ".",
    "/",
    "C:",
    "",
    " ",
    "\n",
    "\r",
    '"',
    "=x",
    "1",
    "0",
    "9" * 30,
    "x\0",
    "\x1b",
)


def reads_or_says_why(folder: Path, table: bytes) -> None:
    (folder / "manifest.csv").write_bytes(table)
    try:
        source = read_source(folder)
        data, notes = prepare_images(source, 8)
        data.save(folder / "out")
        again = read_source(folder / "out")
    except SonosynthError as error:
        assert str(error).isprintable()
    else:
        assert all(note.isprintable() for note in notes)
        assert [(item.id, item.label) for item in again.items] == [(item.id, item.label) for item in source.items]
        assert data.extra == {name: tuple(item.extra[name] for item in again.items) for name in again.items[0].extra}
    finally:
        for path in sorted((folder / "out").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "b").mkdir()
    for seed, name in enumerate(("a.png", "b/c.png", "d.png")):
        (folder / name).write_bytes(encoded(seed))
    return folder


@pytest.mark.long
@settings(FUZZ, max_examples=400)
@given(damaged(TABLE, most=4))
def test_a_damaged_table_gives_rows_or_a_line(folder: Path, table: bytes) -> None:
    reads_or_says_why(folder, table)


@pytest.mark.slow
@settings(FUZZ, max_examples=400)
@given(st.data())
def test_what_a_table_says_comes_back_or_gives_a_line(folder: Path, data: st.DataObject) -> None:
    cells = st.one_of(st.sampled_from(CELLS), st.text(max_size=12))
    columns = data.draw(
        st.permutations(
            [
                "path",
                "label",
                *data.draw(st.lists(st.sampled_from(["group", "id", "synthetic", "fit", "x"]), unique=True)),
            ]
        )
    )
    rows = [
        {name: data.draw(cells) for name in columns} | {"path": path}
        for path in data.draw(st.lists(st.sampled_from(CELLS[:3]), min_size=1, unique=True))
    ]
    lines = [columns, *([row[name] for name in columns] for row in rows)]
    text = "\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines)
    reads_or_says_why(folder, text.encode())
