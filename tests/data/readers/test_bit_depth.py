"""Values of other depths than 8 bits: what a header states, what is decided for a whole source, what a user says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from deep_files import chunk, png, pnm, tiff
from sonosynth.core.errors import SourceError, UnreadableImageError
from sonosynth.data.load import load_together
from sonosynth.data.prepare import prepare_images
from sonosynth.data.readers import frames, images
from sonosynth.data.readers.images import decode_image_file
from sonosynth.data.scan import decode_all, decode_image, read_source, scan
from sonosynth.data.source import ReadOptions, SourceItem


def values(top: int, size: tuple[int, int] = (12, 20)) -> np.ndarray:
    """Return whole numbers of 0 to `top`, both included."""
    found = np.random.default_rng(top).integers(0, top + 1, size)
    found[0, :2] = 0, top
    return found


def scaled(stored: np.ndarray, white: int) -> np.ndarray:
    return np.rint(stored.astype(np.float64) * 255 / white).astype(np.uint8)


def pages(path: Path, stored: np.ndarray, **how: object) -> Path:
    tifffile.imwrite(path, stored, metadata=None, **how)
    return path


# ---------------------------------------------------------------------------------------------------- stated depth


@pytest.mark.parametrize("plain", [False, True], ids=["binary", "plain"])
@pytest.mark.parametrize("colours", [False, True], ids=["pgm", "ppm"])
@pytest.mark.parametrize("maxval", [1, 3, 15, 100, 255, 256, 1023, 4095, 65535])
def test_maxval_is_white_in_pgm_and_ppm(tmp_path: Path, maxval: int, colours: bool, plain: bool) -> None:
    dark = np.minimum(values(maxval), max(1, maxval // 4))  # so that the largest value tells nothing
    stored = np.stack([dark] * 3, axis=2) if colours else dark
    picture = decode_image_file(pnm(tmp_path / "x.pnm", stored, maxval, plain))
    assert np.array_equal(picture.grey, scaled(dark, maxval))
    if maxval > 255:
        assert "values scaled by the range that the file states" in (picture.note or "")


@pytest.mark.parametrize("content", [b"P5 4 3 1023\n" + bytes(23), b"P2 4 3 1023\n1 2 3", b"P2 4 3 1023\n" + b"x " * 12,
                                     b"P2 1 1 1023\n" + b"1" * 5000])  # fmt: skip
def test_a_damaged_deep_pgm_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pgm").write_bytes(content)
    with pytest.raises(UnreadableImageError, match="damaged"):
        decode_image_file(tmp_path / "x.pgm")


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 9, 10, 12, 14, 15])
def test_bits_per_sample_of_tiff_give_the_range(tmp_path: Path, bits: int, order: str, deflate: bool) -> None:
    top = 2**bits - 1
    stored = values(top) if bits < 9 else values(top // 4)  # so that the largest value tells nothing
    if bits < 9:
        stored[0, 1] = top
    for photometric, expected in ((1, scaled(stored, top)), (0, scaled(top - stored, top))):
        picture = decode_image_file(tiff(tmp_path / "x.tif", stored, bits, order, photometric, deflate=deflate))
        assert np.array_equal(picture.grey, expected), photometric


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_in_which_0_is_white_are_inverted(tmp_path: Path, order: str) -> None:
    stored = values(65535)
    picture = decode_image_file(tiff(tmp_path / "x.tif", stored, 16, order, photometric=0))
    assert np.array_equal(picture.grey, scaled(65535 - stored, 65535))
    twelve = values(4095)
    assert np.array_equal(
        decode_image_file(tiff(tmp_path / "y.tif", twelve, 16, order, 0)).grey, scaled(4095 - twelve, 4095)
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_few_bits_of_png_fill_the_range(tmp_path: Path, bits: int) -> None:
    stored = values(2**bits - 1)
    assert np.array_equal(decode_image_file(png(tmp_path / "x.png", stored, bits)).grey, scaled(stored, 2**bits - 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_significant_bits_of_png(tmp_path: Path, channels: int) -> None:
    sbit = chunk(b"sBIT", bytes([10] * channels))
    stored = values(1023)
    write = {1: lambda v: v, 3: lambda v: np.stack([v] * 3, axis=2)}[channels]
    # As the specification has it: scaled to the full range, here by repeating the bits.
    full = png(tmp_path / "full.png", write((stored << 6) | (stored >> 4)), more=sbit)
    assert np.array_equal(decode_image_file(full).grey, scaled((stored << 6) | (stored >> 4), 65535))
    assert abs(decode_image_file(full).grey.astype(int) - scaled(stored, 1023)).max() <= 1
    # As many programs write it.
    assert np.array_equal(
        decode_image_file(png(tmp_path / "raw.png", write(stored), more=sbit)).grey, scaled(stored, 1023)
    )


@pytest.mark.parametrize("stated", [b"", b"\0", b"\x20", b"\xff"])
def test_significant_bits_that_cannot_be_are_ignored(tmp_path: Path, stated: bytes) -> None:
    stored = values(4095)
    path = png(tmp_path / "x.png", stored, more=chunk(b"sBIT", stated))
    assert np.array_equal(decode_image_file(path).grey, scaled(stored, 4095))


def test_significant_bits_are_read_alike_in_all_files(tmp_path: Path) -> None:
    sbit = chunk(b"sBIT", bytes([10]))
    (tmp_path / "a").mkdir()
    dark, bright = values(900), values(1023) << 6
    png(tmp_path / "a" / "0.png", dark, more=sbit)
    png(tmp_path / "a" / "1.png", bright, more=sbit)
    _, greys = decode_all(read_source(tmp_path), lambda item, picture: picture.grey)
    assert np.array_equal(greys[0], scaled(dark, 65535)) and np.array_equal(greys[1], scaled(bright, 65535))


@pytest.mark.parametrize("factor", [1, 256, 257])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_colour_maps_of_8_bits_in_fields_of_16(tmp_path: Path, bits: int, factor: int) -> None:
    entries = np.random.default_rng(bits).integers(0, 256, 2**bits)
    entries[0] = 200
    stored = values(2**bits - 1)
    picture = decode_image_file(
        tiff(tmp_path / "x.tif", stored, bits, photometric=3, colour_map=np.tile(entries * factor, 3))
    )
    assert np.array_equal(picture.grey, entries[stored])
    assert ("palette entries of 8 bits in fields of 16" in (picture.note or "")) == (factor == 1)


# ---------------------------------------------------------------------------------------------------- colours


def with_alpha(colours: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    parts = [colours if colours.ndim == 3 else colours[..., None]]
    return np.concatenate([*parts, *([] if alpha is None else [alpha[..., None]])], axis=2)


def deep_writers() -> dict[str, Callable[[Path, np.ndarray], Path]]:
    """Return what writes ``[H, W, 2 to 4]`` of uint16: PNG, and TIFF with channels side by side or one by one."""

    def as_tiff(planar: bool, **how: object) -> Callable[[Path, np.ndarray], Path]:
        def write(folder: Path, stored: np.ndarray) -> Path:
            count = stored.shape[2]
            extra = {"extrasamples": ["unassalpha"]} if count in (2, 4) else {}
            kind = {"photometric": "rgb" if count > 2 else "minisblack", **extra, **how}
            arranged = np.moveaxis(stored, 2, 0) if planar else stored
            return pages(folder / "x.tif", arranged, planarconfig="separate" if planar else "contig", **kind)

        return write

    return {
        "png": lambda folder, stored: png(folder / "x.png", stored),
        "tiff": as_tiff(False),
        "planar tiff": as_tiff(True),
        "big-endian tiff": as_tiff(False, byteorder=">"),
        "tiff with lzw": as_tiff(False, compression="lzw", predictor=2),
        "planar tiff with deflate": as_tiff(True, compression="zlib"),
    }


@pytest.mark.parametrize("top", [255, 4095, 65535])
@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("writer", deep_writers())
def test_equal_channels_of_16_bits_are_the_data_of_one(tmp_path: Path, writer: str, channels: int, top: int) -> None:
    stored = values(top).astype(np.uint16)
    alpha = np.full_like(stored, 65535) if channels in (2, 4) else None
    colours = stored if channels == 2 else np.stack([stored] * 3, axis=2)
    picture = decode_image_file(deep_writers()[writer](tmp_path, with_alpha(colours, alpha)))
    assert np.array_equal(picture.grey, decode_image_file(png(tmp_path / "one.png", stored)).grey)
    assert np.array_equal(picture.grey, scaled(stored, top))
    assert "transparent" not in (picture.note or "") and "colour" not in (picture.note or "")


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("writer", deep_writers())
def test_transparent_pixels_of_16_bits_are_black_and_count_for_nothing(
    tmp_path: Path, writer: str, channels: int
) -> None:
    stored, alpha = values(4095).astype(np.uint16), np.full((12, 20), 65535, np.uint16)
    alpha[5], alpha[6] = 0, 32768
    hidden = stored.copy()
    hidden[5] = 65535  # more than 12 bits, but nobody sees it
    colours = hidden if channels == 2 else np.stack([hidden] * 3, axis=2)
    picture = decode_image_file(deep_writers()[writer](tmp_path, with_alpha(colours, alpha)))
    assert np.array_equal(picture.grey, np.rint(stored * (alpha / 65535) * 255 / 4095).astype(np.uint8))
    assert "transparent pixels laid over black" in (picture.note or "")


def test_a_transparent_value_of_16_bits_is_black(tmp_path: Path) -> None:
    stored = values(4095)
    clear = int(stored[3, 4])
    for colours in (stored, np.stack([stored] * 3, axis=2)):
        key = np.full(colours.size // stored.size, clear).astype(">u2").tobytes()
        picture = decode_image_file(png(tmp_path / "x.png", colours, more=chunk(b"tRNS", key)))
        assert np.array_equal(picture.grey, np.where(stored == clear, 0, scaled(stored, 4095)))


def test_luma_is_rounded_once(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 4096, (40, 50, 3)).astype(np.uint16)
    colours[0, 0] = 4095
    expected = np.rint(colours.astype(np.float64) @ [0.299, 0.587, 0.114] * 255 / 4095).astype(np.uint8)
    for path in (
        png(tmp_path / "x.png", colours),
        pages(tmp_path / "x.tif", colours, photometric="rgb"),
        pnm(tmp_path / "x.ppm", colours, 4095),
    ):
        picture = decode_image_file(path)
        assert np.array_equal(picture.grey, expected), path.suffix
        assert "colour overlay" in (picture.note or "") and picture.original_mode.startswith("RGB;16")


def test_codecs_that_may_fill_the_memory_are_refused(tmp_path: Path) -> None:
    path = pages(tmp_path / "x.tif", values(4095).astype(np.uint16), photometric="minisblack", compression="jpeg2000")
    with pytest.raises(UnreadableImageError, match="compression 34712 of 16 bits is not read"):
        decode_image_file(path)


# ---------------------------------------------------------------------------------------------------- one decision


def folder(root: Path, **tops: int) -> Path:
    """Write 16-bit PNGs ``CLASS_NAME`` with values up to the number given."""
    for name, top in tops.items():
        label, _, stem = name.partition("_")
        (root / label).mkdir(parents=True, exist_ok=True)
        png(root / label / f"{stem}.png", values(top))
    return root


def greys(source: Path, **options: int) -> dict[str, np.ndarray]:
    report, found = decode_all(read_source(source, ReadOptions(**options)), lambda item, picture: picture.grey)
    return {image.item.id: grey for image, grey in zip(report.images, found, strict=True)}


def test_one_depth_for_all_files_of_a_source(tmp_path: Path) -> None:
    folder(tmp_path, a_dark=3900, a_mid=700, b_bright=4300)
    found = greys(tmp_path)
    assert np.array_equal(found["dark"], scaled(values(3900), 65535))
    assert np.array_equal(found["mid"], scaled(values(700), 65535))
    notes = [note for note in scan(read_source(tmp_path)).notes() if "16-bit" in note]
    assert notes == ["16-bit file with 16-bit values: 3 of 3 images: dark, mid, bright"]
    dark = "dark, at most a quarter of that range is used: give --bits if the values have fewer bits: 3 of 3 images"
    assert any(note.startswith(dark) for note in scan(read_source(tmp_path)).notes())
    data, _ = prepare_images(read_source(tmp_path), 16)
    assert data.images[list(data.ids).index("bright")].max() < 20


def test_the_decision_rests_on_the_files_that_are_read(tmp_path: Path) -> None:
    folder(tmp_path, a_x=3900, a_y=200, b_x=5000)
    _, notes = prepare_images(read_source(tmp_path), 16, classes=["a"])
    assert any("12-bit values: 2 of 2" in note for note in notes)
    (tmp_path / "b" / "x.png").write_bytes((tmp_path / "b" / "x.png").read_bytes()[:-30])
    png(tmp_path / "b" / "z.png", values(100))
    report = scan(read_source(tmp_path), skip_unreadable=True)
    assert len(report.unreadable) == 1 and "16-bit file with 12-bit values" in report.conversions()


def test_a_source_of_several_kinds_has_one_depth(tmp_path: Path) -> None:
    folder(tmp_path, a_png=3000)
    stack = np.stack([values(top) for top in (100, 2000, 4300)]).astype(np.uint16)
    pages(tmp_path / "a" / "stack.tif", stack, photometric="minisblack")
    pages(tmp_path / "a" / "colour.tif", np.stack([values(2500)] * 3, 2).astype(np.uint16), photometric="rgb")
    pnm(tmp_path / "a" / "stated.pgm", values(1023), 1023)
    Image.fromarray(values(200).astype(np.uint8)).save(tmp_path / "a" / "eight.png")
    found = greys(tmp_path)
    assert np.array_equal(found["png"], scaled(values(3000), 65535))
    assert np.array_equal(found["colour"], scaled(values(2500), 65535))
    assert np.array_equal(found["stack_f0001"], scaled(values(2000), 65535))
    assert np.array_equal(found["stated"], scaled(values(1023), 1023))
    assert np.array_equal(found["eight"], values(200))


def test_8_bit_sources_are_read_once_and_deep_ones_only_until_the_depth_is_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = images.decode_image_file

    def counting(path: Path, depth: object) -> object:
        read.append(path.name)
        return real(path, depth)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "decode_image_file", counting)
    monkeypatch.setattr(frames, "THREADS", 1)
    for name in "xyz":
        (tmp_path / "eight" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(values(200).astype(np.uint8)).save(tmp_path / "eight" / "a" / f"{name}.png")
    scan(read_source(tmp_path / "eight"))
    assert sorted(read) == ["x.png", "y.png", "z.png"]
    read.clear()
    folder(tmp_path / "deep", **{f"a_{i:03d}": 60000 for i in range(40)})
    scan(read_source(tmp_path / "deep"))
    assert 40 < len(read) < 80


def test_a_single_image_is_decided_alone_unless_the_depth_is_given(tmp_path: Path) -> None:
    folder(tmp_path, a_x=3900, a_y=5000)
    item = SourceItem(tmp_path / "a" / "x.png", "a", None, "x")
    assert np.array_equal(decode_image(item).grey, scaled(values(3900), 4095))
    assert np.array_equal(decode_image(item, ReadOptions(bits=16)).grey, scaled(values(3900), 65535))


def test_frames_of_one_stack_are_decided_together(tmp_path: Path) -> None:
    stack = np.stack([values(top) for top in (100, 4300)]).astype(np.uint16)
    item = SourceItem(pages(tmp_path / "x.tif", stack, photometric="minisblack"), "a", None, "x", frame=0)
    assert np.array_equal(decode_image(item).grey, scaled(values(100), 65535))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_user_states_the_depth(tmp_path: Path, bits: int) -> None:
    folder(tmp_path, a_x=1000, a_y=900)
    pnm(tmp_path / "a" / "stated.pgm", values(500), 511)
    found = greys(tmp_path, bits=bits)
    assert np.array_equal(found["x"], scaled(values(1000), 2**bits - 1))
    assert np.array_equal(found["stated"], scaled(values(500), 511))


@pytest.mark.parametrize("skip", [False, True])
def test_values_above_the_depth_that_the_user_states_are_an_error(tmp_path: Path, skip: bool) -> None:
    folder(tmp_path, a_x=1000, a_y=1024)
    source = read_source(tmp_path, ReadOptions(bits=10))
    with pytest.raises(SourceError, match=r"y\.png: the value 1024 is above 1023, the largest of 10 bits; .*--bits"):
        scan(source, skip_unreadable=skip)


@pytest.mark.parametrize("bits", [7, 17])
def test_bits_are_8_to_16(bits: int) -> None:
    with pytest.raises(SourceError, match="bits must be 8 to 16"):
        ReadOptions(bits=bits)


def test_sets_that_are_compared_share_the_depth(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "1", a_x=3900), folder(tmp_path / "2", a_x=4300)
    one, two = load_together([first, second])
    assert np.array_equal(one.images[0], scaled(values(3900), 65535))
    assert np.array_equal(two.images[0], scaled(values(4300), 65535))


def test_npz_takes_the_depth_that_the_user_states(tmp_path: Path) -> None:
    images = np.stack([values(1000), values(900)]).astype(np.uint16)
    np.savez(tmp_path / "x.npz", images=images, labels=[0, 1])
    found = greys(tmp_path / "x.npz", bits=14)
    assert all(
        np.array_equal(grey, scaled(stored, 2**14 - 1)) for grey, stored in zip(found.values(), images, strict=True)
    )
    with pytest.raises(SourceError, match=r"x\.npz: the value 1000 is above 511"):
        greys(tmp_path / "x.npz", bits=9)


def test_colours_of_16_bits_in_npz_keep_their_low_byte(tmp_path: Path) -> None:
    stored = values(4095).astype(np.uint16)
    np.savez(tmp_path / "x.npz", images=np.stack([stored] * 3, axis=2)[None], labels=[0])
    assert np.array_equal(next(iter(greys(tmp_path / "x.npz").values())), scaled(stored, 4095))
