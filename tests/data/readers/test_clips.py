"""Clips: which frames are taken, and that they are the right ones."""

from pathlib import Path

import av
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sonosynth.core.errors import SourceError, UnreadableImageError
from sonosynth.data.prepare import prepare_images
from sonosynth.data.readers.base import MOST_FRAMES, evenly_spaced
from sonosynth.data.scan import decode_all, decode_image, read_source, scan
from sonosynth.data.source import Source

CODECS = {".avi": "ffv1", ".mkv": "ffv1", ".mp4": "libx264", ".mov": "mjpeg"}


def levels(count: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Return ``[count, H, W]``: frame i is grey i·step with a brighter corner, so that frames are told apart."""
    frames = np.full((count, *size), 0, np.uint8)
    frames += (np.arange(count) * (200 // max(1, count))).astype(np.uint8)[:, None, None]
    frames[:, :8, :8] += 40
    return frames


def clip(path: Path, frames: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = CODECS[path.suffix]
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = {"ffv1": "gray", "libx264": "yuv420p", "mjpeg": "yuvj420p"}[codec]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    return path


def gif(path: Path, frames: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=bool(rest), append_images=rest, duration=40)
    return path


def pictures(source: Source) -> list[np.ndarray]:
    return decode_all(source, lambda item, picture: picture.grey)[1]


@given(st.integers(1, 5000))
def test_chosen_frames_are_few_evenly_spaced_and_inside(count: int) -> None:
    frames = evenly_spaced(count)
    assert len(frames) == min(count, MOST_FRAMES) and frames == sorted(set(frames))
    assert frames[0] >= 0 and frames[-1] < count
    gaps = np.diff(frames)
    assert count == 1 or gaps.max() - gaps.min() <= 1
    assert abs(frames[0] - (count - 1 - frames[-1])) <= 1


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_frames_of_a_clip_are_images_of_one_group(tmp_path: Path, suffix: str) -> None:
    frames, other = levels(25), 255 - levels(3)
    clip(tmp_path / "a" / f"x{suffix}", frames)
    clip(tmp_path / "b" / f"y{suffix}", other)
    source = read_source(tmp_path)
    taken = evenly_spaced(25)
    assert source.kind == "image folder"
    assert [item.id for item in source.items] == [f"x_f{i:04d}" for i in taken] + [f"y_f{i:04d}" for i in range(3)]
    assert [item.group for item in source.items] == ["1"] * 10 + ["2"] * 3
    assert any("2 clips" in note and "at most 10 evenly spaced frames" in note for note in source.notes)
    for image, expected in zip(pictures(source), [*frames[taken], *other], strict=True):
        difference = abs(image.astype(int) - expected)
        assert difference.max() == 0 if CODECS[suffix] == "ffv1" else np.median(difference) <= 2
    data, _ = prepare_images(source, 16)
    assert data.extra["frame"][:2] == (str(taken[0]), str(taken[1])) and data.groups.tolist() == [0] * 10 + [1] * 3


def test_animated_gif_is_a_clip_and_a_still_one_is_an_image(tmp_path: Path) -> None:
    frames = levels(4)
    gif(tmp_path / "a" / "moving.gif", frames)
    gif(tmp_path / "a" / "still.gif", frames[2:3])
    source = read_source(tmp_path)
    assert [(item.id, item.group, item.frame) for item in source.items] == [
        ("moving_f0000", "1", 0),
        ("moving_f0001", "1", 1),
        ("moving_f0002", "1", 2),
        ("moving_f0003", "1", 3),
        ("still", None, None),
    ]
    assert np.array_equal(pictures(source), frames[[0, 1, 2, 3, 2]])
    assert np.array_equal(decode_image(source.items[3]).grey, frames[3])


def animation(path: Path, frames: np.ndarray, **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "RGB" if path.suffix == ".webp" else "L"
    first, *rest = [Image.fromarray(frame).convert(mode) for frame in frames]
    first.save(path, save_all=True, append_images=rest, **how)
    return path


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.tif"])
def test_animations_and_stacks_are_sampled_as_clips_are(tmp_path: Path, name: str) -> None:
    frames = levels(50)
    animation(tmp_path / "a" / name, frames, **({"lossless": True} if name == "x.webp" else {}))
    clip(tmp_path / "a" / "y.avi", frames).rename(tmp_path / "a" / "y.AVI")
    source = read_source(tmp_path)
    assert [(item.frame, item.group) for item in source.items] == [(i, g) for g in "12" for i in evenly_spaced(50)]
    assert all(np.array_equal(image, frames[evenly_spaced(50)[i % 10]]) for i, image in enumerate(pictures(source)))
    kinds = {"x.gif": "GIF clip", "x.png": "APNG clip", "x.webp": "WebP clip", "x.tif": "TIFF stack"}
    assert any(mode.startswith(kinds[name]) for mode in scan(source).summary()["modes"])


def test_the_default_image_of_an_animated_png_may_be_no_frame(tmp_path: Path) -> None:
    frames = levels(12)
    (tmp_path / "a").mkdir()
    still, path = Image.new("L", (48, 32), 255), tmp_path / "a" / "x.png"
    still.save(path, save_all=True, append_images=[Image.fromarray(frame) for frame in frames], default_image=True)
    source = read_source(tmp_path)
    assert [item.frame for item in source.items] == evenly_spaced(12)
    assert all(np.array_equal(image, frames[i]) for i, image in zip(evenly_spaced(12), pictures(source), strict=True))
    still.save(path, save_all=True, append_images=[Image.fromarray(frames[0])], default_image=True)
    assert [item.frame for item in read_source(tmp_path).items] == [None]


def test_an_animated_png_of_16_bits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, *rest = [Image.fromarray(frame.astype(np.uint16) * 257) for frame in levels(3)]
    first.save(tmp_path / "a" / "x.png", save_all=True, append_images=rest)
    with pytest.raises(UnreadableImageError, match=r"x\.png: an animated PNG of 16 bits, which is not read"):
        scan(read_source(tmp_path))


def pages(path: Path, *specs: tuple[np.ndarray, int]) -> Path:
    """Write a TIFF of pages, each with its NewSubfileType."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        for values, kind in specs:
            file.write(values, photometric="minisblack", subfiletype=kind, metadata=None)
    return path


FULL = levels(3, (32, 48))


@pytest.mark.parametrize(
    "specs",
    [
        [(FULL[0], 0), (FULL[0, ::2, ::2], 1), (FULL[0, ::4, ::4], 1)],
        [(FULL[0], 0), (FULL[0, ::2, ::2], 0)],
        [(FULL[0, ::2, ::2], 1), (FULL[0], 0)],
        [(FULL[0, ::2, ::2], 0), (FULL[0], 0)],
        [(FULL[0], 0), (FULL[0] > 20, 4)],
        [(FULL[0], 0), (FULL[0] > 20, 0)],
        [(FULL[0], 0), (FULL[1], 1)],
    ],
    ids=["reduced", "smaller", "reduced first", "smaller first", "mask", "1 bit", "reduced of equal size"],
)
def test_thumbnails_and_masks_in_a_tiff_are_no_frames(tmp_path: Path, specs: list[tuple[np.ndarray, int]]) -> None:
    pages(tmp_path / "a" / "x.tif", *specs)
    source = read_source(tmp_path)
    assert [(item.id, item.frame, item.group) for item in source.items] == [("x", None, None)]
    report, (grey,) = decode_all(source, lambda item, picture: picture.grey)
    assert np.array_equal(grey, FULL[0])
    assert list(report.conversions()) == ["other pages left out: thumbnails, masks, or of another size"]


def test_pages_of_another_size_in_a_stack_are_told_in_one_line(tmp_path: Path) -> None:
    pages(tmp_path / "a" / "x.tif", (FULL[0], 0), (FULL[0, ::2, ::2], 1), (FULL[1], 0), (FULL[2], 0), (FULL[2, 1:], 0))
    source = read_source(tmp_path)
    assert [item.frame for item in source.items] == [0, 1, 2]
    assert all(np.array_equal(a, b) for a, b in zip(pictures(source), FULL, strict=True))
    notes = scan(source).notes()
    assert len([note for note in notes if note.startswith("other pages left out")]) == 1


def test_turned_and_palette_stacks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    colour_map = np.stack([np.arange(255, -1, -1, dtype=np.uint16)] * 3)  # of 8 bits
    for compression in (None, "zlib"):
        tifffile.imwrite(
            tmp_path / "a" / "x.tif", FULL, photometric="palette", colormap=colour_map, compression=compression,
            metadata=None, extratags=[(0x0112, 3, 1, 6, False)],
        )  # fmt: skip
        for grey, stored in zip(pictures(read_source(tmp_path)), FULL, strict=True):
            assert np.array_equal(grey, 255 - np.rot90(stored, -1))


def test_a_tiff_cut_short_within_its_pages_is_an_error(tmp_path: Path) -> None:
    path = pages(tmp_path / "a" / "x.tif", *[(frame, 0) for frame in levels(20)])
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UnreadableImageError, match=r"x\.tif: "):
        scan(read_source(tmp_path))


def test_clips_in_a_manifest_and_colours(tmp_path: Path) -> None:
    clip(tmp_path / "x.avi", levels(2))
    (tmp_path / "manifest.csv").write_text("path,label,group\nx.avi,a,p7\n")
    source = read_source(tmp_path)
    assert [(item.id, item.group) for item in source.items] == [("x_f0000", "p7"), ("x_f0001", "p7")]
    assert decode_image(source.items[0]).original_mode == "clip gray"


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".gif"])
@pytest.mark.parametrize("content", [b"", b"text that is no clip at all", b"#EXTM3U\nfile:///etc/passwd\n"])
def test_what_is_no_clip_is_an_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"x{suffix}").write_bytes(content)
    source = read_source(tmp_path)
    assert len(source.items) == 1
    with pytest.raises(UnreadableImageError, match=r"(empty file|no clip in a format|no image in a format)"):
        scan(source)


def test_a_clip_cut_short_keeps_the_frames_before(tmp_path: Path) -> None:
    path = clip(tmp_path / "a" / "x.avi", np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8))
    source = read_source(tmp_path)
    whole = pictures(source)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report, left = decode_all(source, lambda item, picture: picture.grey, skip_unreadable=True)
    assert 0 < len(left) < 8 and len(report.unreadable) == 8 - len(left)
    assert any(note.startswith("1 unreadable file left out: ") for note in report.notes())
    assert len(report.summary()["unreadable"]) == 1
    assert np.array_equal(left, whole[: len(left)])


def test_a_clip_of_sound_alone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with av.open(tmp_path / "a" / "x.mkv", "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UnreadableImageError, match="a clip without video"):
        scan(read_source(tmp_path))


def test_a_clip_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip(tmp_path / "a" / "x.mp4", levels(60))
    source = read_source(tmp_path)
    opened = []
    av_open = av.open
    monkeypatch.setattr(av, "open", lambda *args, **options: (opened.append(args), av_open(*args, **options))[1])
    assert len(scan(source).images) == 10 and len(opened) == 2  # frames counted, then decoded


@pytest.mark.long
@settings(max_examples=100, deadline=None)
@given(
    suffix=st.sampled_from([*sorted(CODECS), ".gif"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4),
    share=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_give_pixels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, flips: list[tuple[float, int]], share: float
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    path = (gif if suffix == ".gif" else clip)(folder / "a" / f"x{suffix}", levels(12))
    content = bytearray(path.read_bytes())
    for at, change in flips:
        content[int(at * len(content))] ^= change
    path.write_bytes(content[: int(len(content) * share)])
    try:
        _, found = decode_all(read_source(folder), lambda item, picture: picture.grey, skip_unreadable=True)
    except SourceError:
        return
    assert all(picture.dtype == np.uint8 and picture.ndim == 2 for picture in found)
