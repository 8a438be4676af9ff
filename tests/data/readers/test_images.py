import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from sonosynth.core.errors import UnreadableImageError
from sonosynth.data.readers.images import decode_image_file

RAMP = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)


def write(path: Path, picture: Image.Image, **options) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".gif", ".pgm"])
def test_grey_is_taken_as_it_is(tmp_path: Path, suffix: str) -> None:
    picture = decode_image_file(write(tmp_path / f"x{suffix}", Image.fromarray(RAMP)))
    assert np.array_equal(picture.grey, RAMP) and picture.grey.dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_stored_otherwise_keeps_its_values(tmp_path: Path, mode: str) -> None:
    picture = decode_image_file(write(tmp_path / "x.png", Image.fromarray(RAMP).convert(mode)))
    assert np.array_equal(picture.grey, RAMP)
    assert picture.original_mode == mode
    assert picture.note == (None if mode == "LA" else f"grey stored as {mode}")


def test_grey_jpeg_with_three_channels_is_no_overlay(tmp_path: Path) -> None:
    smooth = Image.fromarray(RAMP).resize((64, 64)).convert("RGB")
    assert decode_image_file(write(tmp_path / "x.jpg", smooth, quality=70)).note == "grey stored as RGB"


def test_coloured_pixels_are_an_overlay_and_become_luma(tmp_path: Path) -> None:
    rgb = np.stack([RAMP] * 3, axis=2)
    rgb[3, 4] = (255, 255, 0)
    picture = decode_image_file(write(tmp_path / "x.png", Image.fromarray(rgb)))
    assert picture.note == "colour overlay"
    assert picture.grey[3, 4] == round(0.299 * 255 + 0.587 * 255)
    assert picture.grey[0, 0] == RAMP[0, 0]


def test_cmyk(tmp_path: Path) -> None:
    cmyk = Image.fromarray(np.full((8, 8, 4), [0, 0, 0, 155], np.uint8), "CMYK")
    picture = decode_image_file(write(tmp_path / "x.tif", cmyk))
    assert picture.original_mode == "CMYK" and (picture.grey == 100).all()
    assert picture.note == "grey stored as CMYK"


def test_one_bit(tmp_path: Path) -> None:
    picture = decode_image_file(write(tmp_path / "x.png", Image.fromarray(RAMP > 100)))
    assert picture.original_mode == "1" and np.array_equal(picture.grey, np.where(RAMP > 100, 255, 0))
    assert picture.note == "1 bit per pixel (a mask?)"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("top", "bits"), [(255, 8), (256, 12), (4095, 12), (4096, 16), (65535, 16)])
def test_sixteen_bit_files_are_scaled_by_the_depth_in_use(tmp_path: Path, suffix: str, top: int, bits: int) -> None:
    values = np.array([[0, top // 2, top]], dtype=np.uint16)
    picture = decode_image_file(write(tmp_path / f"x{suffix}", Image.fromarray(values)))
    assert (
        picture.original_mode == "I;16" and (picture.note or "").split("; ")[0] == f"16-bit file with {bits}-bit values"
    )
    assert picture.grey.tolist() == [[round(v * 255 / (2**bits - 1)) for v in (0, top // 2, top)]]


def test_floating_point_has_no_known_range(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", Image.fromarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)))
    with pytest.raises(UnreadableImageError, match="unknown range"):
        decode_image_file(path)


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    rgba = np.full((4, 4, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[0, 0, 3] = 0
    picture = decode_image_file(write(tmp_path / "x.png", Image.fromarray(rgba)))
    assert picture.grey[0, 0] == 0 and picture.grey[1, 1] == 200
    assert picture.note == "transparent pixels laid over black; grey stored as RGBA"


def test_a_transparent_palette_entry_is_black(tmp_path: Path) -> None:
    palette = Image.fromarray(RAMP).convert("P")
    assert decode_image_file(write(tmp_path / "x.png", palette, transparency=int(RAMP[5, 5]))).grey[5, 5] == 0


# From stored pixels to upright ones, by EXIF orientation.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: stored.T[:, ::-1],
    7: lambda stored: stored.T[::-1, ::-1],
    8: lambda stored: stored.T[::-1],
}
DEEP = RAMP.astype(np.uint16) * 257
MAP = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
TIFFS: dict[str, tuple[np.ndarray, dict[str, object], np.ndarray]] = {
    "grey": (RAMP, {"photometric": "minisblack"}, RAMP),
    "0 is white": (RAMP, {"photometric": "miniswhite"}, 255 - RAMP),
    "16 bits": (DEEP, {"photometric": "minisblack"}, RAMP),
    "16 bits, 0 is white": (DEEP, {"photometric": "miniswhite"}, 255 - RAMP),
    "RGB": (np.stack([RAMP] * 3, 2), {"photometric": "rgb"}, RAMP),
    "planar RGB": (np.stack([RAMP] * 3), {"photometric": "rgb", "planarconfig": "separate"}, RAMP),
    "RGB of 16 bits": (np.stack([DEEP] * 3, 2), {"photometric": "rgb"}, RAMP),
    "planar RGB of 16 bits": (np.stack([DEEP] * 3), {"photometric": "rgb", "planarconfig": "separate"}, RAMP),
    "palette": (RAMP, {"photometric": "palette", "colormap": MAP}, RAMP),
    "bilevel": (RAMP > 100, {"photometric": "minisblack"}, np.where(RAMP > 100, 255, 0)),
}


def check_upright(path: Path, orientation: int, stored: np.ndarray) -> None:
    picture = decode_image_file(path)
    assert np.array_equal(picture.grey, UPRIGHT[orientation](stored))
    assert ("turned upright by its EXIF orientation" in (picture.note or "")) == (orientation != 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("kind", TIFFS)
def test_turned_tiffs(tmp_path: Path, kind: str, compression: str | None, order: str) -> None:
    values, how, expected = TIFFS[kind]
    for orientation in UPRIGHT:
        tags = [(0x0112, 3, 1, orientation, False)]
        file = {"compression": compression, "byteorder": order, "extratags": tags, "metadata": None}
        tifffile.imwrite(tmp_path / "x.tif", values, **how, **file)
        check_upright(tmp_path / "x.tif", orientation, expected)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "group4", "jpeg"])
def test_turned_tiffs_as_pillow_writes_them(tmp_path: Path, compression: str | None) -> None:
    picture = Image.fromarray(RAMP > 100 if compression == "group4" else RAMP)
    stored = np.asarray(Image.open(write(tmp_path / "plain.tif", picture, compression=compression)).convert("L"))
    for orientation in UPRIGHT:
        path = write(tmp_path / "x.tif", picture, compression=compression, tiffinfo={0x0112: orientation})
        check_upright(path, orientation, stored)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "I;16"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, mode: str) -> None:
    if mode in ("P", "1", "I;16") and suffix != ".png":
        pytest.skip("not of this format")
    picture = Image.fromarray(DEEP) if mode == "I;16" else Image.fromarray(RAMP).convert(mode)
    how = {".webp": {"lossless": True}, ".jpg": {"quality": 95}, ".png": {}}[suffix]
    stored = decode_image_file(write(tmp_path / f"plain{suffix}", picture, **how)).grey
    for orientation in UPRIGHT:
        exif = Image.Exif()
        exif[0x0112] = orientation
        check_upright(write(tmp_path / f"x{suffix}", picture, exif=exif, **how), orientation, stored)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_turns_nothing(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode_image_file(write(tmp_path / "x.png", Image.fromarray(RAMP), exif=exif))
    assert np.array_equal(picture.grey, RAMP) and picture.note is None


def test_the_first_of_several_frames_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    picture = decode_image_file(write(tmp_path / "x.tif", frames[0], save_all=True, append_images=frames[1:]))
    assert np.array_equal(picture.grey, RAMP) and picture.note == "first of 2 frames"


def test_a_file_cut_short_anywhere_is_an_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    for suffix in (".png", ".jpg", ".bmp"):
        whole = write(tmp_path / f"whole{suffix}", Image.fromarray(noise)).read_bytes()
        for share in (0.02, 0.2, 0.5, 0.9):
            path = tmp_path / f"cut{suffix}"
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(UnreadableImageError, match=f"cut{suffix}: .*--skip-unreadable"):
                decode_image_file(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"this is a text file\n", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "no image"),
    ],
)
def test_what_is_no_image_is_an_error(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason):
        decode_image_file(tmp_path / "x.png")


def test_a_damaged_byte_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.png", Image.fromarray(RAMP))
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"x\.png: damaged"):
        decode_image_file(path)


def test_a_decompression_bomb_is_an_error(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    for side in (10_000, 50_000):  # Pillow warns of the first and refuses the second
        header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 100)) + chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        with pytest.raises(UnreadableImageError, match=r"more than .* pixels"):
            decode_image_file(tmp_path / "x.png")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="No such file"):
        decode_image_file(tmp_path / "x.png")


def test_no_warning_of_a_decoder_and_none_of_its_words_come_through(tmp_path: Path, capfd) -> None:
    content = bytearray(write(tmp_path / "x.tif", Image.fromarray(RAMP), compression="tiff_adobe_deflate").read_bytes())
    content[40] ^= 0xFF
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(UnreadableImageError, match="damaged"):
        decode_image_file(tmp_path / "x.tif")
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"
