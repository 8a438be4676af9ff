"""Clips: video files, animations and TIFF stacks, of which a few evenly spaced frames become images."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sonosynth.core.errors import UnreadableImageError
from sonosynth.data.readers.bit_depth import BitDepth
from sonosynth.data.readers.images import (
    DAMAGE,
    DecodedImage,
    count_pictures,
    damaged,
    from_colours,
    picture_file,
    too_large,
    unreadable,
)
from sonosynth.data.readers.images import SUFFIXES as PICTURES

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

SUFFIXES = frozenset((".avi", ".mkv", ".mov", ".mp4"))
# Neighbouring frames are nearly alike, and a clip is one patient: more frames add weight to it but hardly anything new.
MOST_FRAMES = 10
_LOSSY = 2  # AV_CODEC_PROP_LOSSY of FFmpeg
_RIFF, _AVI, _MATROSKA = b"RIFF", b"AVI ", b"\x1a\x45\xdf\xa3"
_QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def chosen(count: int) -> list[int]:
    """Return the frames taken of a clip of `count`: all, or the middles of `MOST_FRAMES` parts of equal length."""
    if count <= MOST_FRAMES:
        return list(range(count))
    return [(2 * part + 1) * count // (2 * MOST_FRAMES) for part in range(MOST_FRAMES)]


def count_frames(path: Path) -> int:
    """Return the number of frames of the clip or picture at `path`; nothing is decoded.

    Raises:
        UnreadableImageError: no clip and no picture, damaged, or without frames.
    """
    if path.suffix.lower() in PICTURES:
        return count_pictures(path)
    from av import FFmpegError

    try:
        with _opened(path) as container:
            count = sum(packet.size > 0 and not packet.is_discard for packet in container.demux(video=0))
    except (FFmpegError, *DAMAGE) as error:
        raise damaged(path, error) from error
    if not count:
        raise unreadable(path, "a clip without frames")
    return count


class Clip:
    """The frames that are taken of one clip, decoded in one pass."""

    def __init__(self, path: Path, depth: BitDepth) -> None:
        """Decode the clip at `path` as far as it can be.

        Raises:
            UnreadableImageError: it is no clip.
            SourceError: values of a TIFF stack are above the bits that the user gave.
        """
        self._path = path
        self._pictures: dict[int, DecodedImage] = {}
        self._error: UnreadableImageError | None = None
        wanted = chosen(count_frames(path))
        try:
            if path.suffix.lower() in PICTURES:
                with picture_file(path) as file:
                    for index in wanted:
                        self._pictures[index] = file.picture(index, depth)
            else:
                for index, picture in _video_pictures(path, wanted):
                    self._pictures[index] = picture
        except UnreadableImageError as error:
            self._error = error

    def picture(self, frame: int | None) -> DecodedImage:
        """Return frame `frame`, counted from 0.

        Raises:
            UnreadableImageError: the clip is damaged at or before it, or it is none of those taken.
        """
        if frame in self._pictures:
            return self._pictures[frame]
        raise self._error or unreadable(self._path, f"frame {frame} is not there")


def _video_pictures(path: Path, wanted: list[int]) -> Iterator[tuple[int, DecodedImage]]:
    from av import FFmpegError

    try:
        with _opened(path) as container:
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise unreadable(path, "a clip in a codec that is not known")
            if reason := too_large(stream.height, stream.width):
                raise unreadable(path, reason)
            for index, frame in enumerate(container.decode(stream)):
                if (frame.width, frame.height) != (stream.width, stream.height) or frame.is_corrupt:
                    raise unreadable(path, f"frame {index} is damaged or changes its size")
                if index in wanted:
                    yield index, _picture(frame)
                if index == wanted[-1]:
                    return
    except (FFmpegError, *DAMAGE) as error:
        raise damaged(path, error) from error


def _picture(frame: "VideoFrame") -> DecodedImage:
    kind = f"clip {frame.format.name}"
    if frame.format.name == "gray":
        return DecodedImage(frame.to_ndarray(), kind, None)
    grey, note = from_colours(frame.to_ndarray(format="rgb24"), frame.format.name)
    return DecodedImage(grey, kind, note)


def stored_as(path: Path) -> tuple[str, bool, float]:
    """Return the codec of the clip at `path`, whether it loses detail, and bytes per pixel, over all frames.

    Raises:
        UnreadableImageError: as `count_frames`.
    """
    from av import FFmpegError

    frames = count_frames(path)
    try:
        with _opened(path) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context.codec
            size = path.stat().st_size / (stream.width * stream.height * frames)
            return codec.name, bool(codec.properties & _LOSSY), size
    except (FFmpegError, *DAMAGE) as error:
        raise damaged(path, error) from error


def _opened(path: Path) -> "InputContainer":
    """Open a clip in the format that it begins with, so that none reaches a demuxer that opens other files (playlists).

    Raises:
        UnreadableImageError: it begins otherwise, or holds no video.
    """
    import av

    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(_RIFF) and start.endswith(_AVI):
        format_name = "avi"
    elif start.startswith(_MATROSKA):
        format_name = "matroska"
    elif start[4:8] in _QUICKTIME:
        format_name = "mov"
    else:
        raise unreadable(path, "no clip in a format that is read (AVI, MP4, MOV, MKV)" if start else "empty file")
    container = av.open(path, format=format_name, options={"protocol_whitelist": "file"}, metadata_errors="replace")
    if not container.streams.video:
        container.close()
        raise unreadable(path, "a clip without video")
    return container
