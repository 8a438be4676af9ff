"""Clips: which frames are taken, and that they are the right ones."""

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sonosynth.data.clips import MOST_FRAMES, chosen
from sonosynth.data.prepare import prepare
from sonosynth.data.readers import Source, decode, decode_all, read_source, scan
from sonosynth.errors import SourceError, UnreadableImageError

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
    frames = chosen(count)
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
    taken = chosen(25)
    assert source.kind == "image folder"
    assert [item.id for item in source.items] == [f"x_f{i:04d}" for i in taken] + [f"y_f{i:04d}" for i in range(3)]
    assert [item.group for item in source.items] == ["1"] * 10 + ["2"] * 3
    assert any("2 clips" in note and "at most 10 evenly spaced frames" in note for note in source.notes)
    for image, expected in zip(pictures(source), [*frames[taken], *other], strict=True):
        difference = abs(image.astype(int) - expected)
        assert difference.max() == 0 if CODECS[suffix] == "ffv1" else np.median(difference) <= 2
    data, _ = prepare(source, 16)
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
    assert np.array_equal(decode(source.items[3]).grey, frames[3])


def test_clips_in_a_manifest_and_colours(tmp_path: Path) -> None:
    clip(tmp_path / "x.avi", levels(2))
    (tmp_path / "manifest.csv").write_text("path,label,group\nx.avi,a,p7\n")
    source = read_source(tmp_path)
    assert [(item.id, item.group) for item in source.items] == [("x_f0000", "p7"), ("x_f0001", "p7")]
    assert decode(source.items[0]).original_mode == "clip gray"


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
