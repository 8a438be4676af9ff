"""Video files, of which a few evenly spaced frames become images."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sonosynth.data.readers import base
from sonosynth.data.readers.bit_depth import BitDepth
from sonosynth.data.source import ReadOptions

if TYPE_CHECKING:
    from av.container import InputContainer

_SUFFIXES = (".avi", ".mkv", ".mov", ".mp4")
_LOSSY = 2  # AV_CODEC_PROP_LOSSY of FFmpeg
_RIFF, _AVI, _MATROSKA = b"RIFF", b"AVI ", b"\x1a\x45\xdf\xa3"
_QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


class ClipReader(base.Reader):
    """AVI, MP4, MOV and MKV, decoded by FFmpeg (PyAV)."""

    def recognises(self, path: Path, options: ReadOptions) -> bool:
        """By the suffix alone; `open` goes by the content."""
        return path.suffix.lower() in _SUFFIXES

    def contents(self, path: Path, options: ReadOptions) -> base.FileContents:
        """Count the frames; nothing is decoded."""
        return base.FileContents(base.evenly_spaced(_count_frames(path)), path, sampled=("clip", "frames"))

    def open(self, path: Path, options: ReadOptions, depth: BitDepth) -> base.DecodedFrames:
        """Decode the frames that are taken, as far as they can be."""
        return base.DecodedFrames(path, _decode(path, base.evenly_spaced(_count_frames(path))))

    def encoding(self, path: Path) -> base.Encoding:
        """Give the codec, and bytes per pixel over all frames."""
        frames = _count_frames(path)
        with _opened(path) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context.codec
            size = path.stat().st_size / (stream.width * stream.height * frames)
            lossy = bool(codec.properties & _LOSSY)
            return base.Encoding(f"{base.format_from_name(path)} ({codec.name})", lossy, bytes_per_pixel=size)


def _count_frames(path: Path) -> int:
    with _opened(path) as container:
        count = sum(packet.size > 0 and not packet.is_discard for packet in container.demux(video=0))
    if not count:
        raise base.unreadable(path, "a clip without frames")
    return count


def _decode(path: Path, wanted: list[int]) -> Iterator[tuple[int, base.DecodedImage]]:
    with _opened(path) as container:
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise base.unreadable(path, "a clip in a codec that is not known")
        if reason := base.too_large(stream.height, stream.width):
            raise base.unreadable(path, reason)
        for index, frame in enumerate(container.decode(stream)):
            if (frame.width, frame.height) != (stream.width, stream.height) or frame.is_corrupt:
                raise base.unreadable(path, f"frame {index} is damaged or changes its size")
            if index in wanted:
                if (name := frame.format.name) == "gray":
                    grey, note = frame.to_ndarray(), None
                else:
                    grey, note = base.colours_to_grey(frame.to_ndarray(format="rgb24"), name)
                yield index, base.DecodedImage(grey, f"clip {name}", note)
            if index == wanted[-1]:
                return


@contextmanager
def _opened(path: Path) -> Iterator["InputContainer"]:
    """Open a clip in the format that it begins with, so that none reaches a demuxer that opens other files (playlists).

    What FFmpeg raises inside becomes an UnreadableImageError.
    """
    import av

    try:
        with path.open("rb") as file:
            start = file.read(12)
        if start.startswith(_RIFF) and start.endswith(_AVI):
            format_name = "avi"
        elif start.startswith(_MATROSKA):
            format_name = "matroska"
        elif start[4:8] in _QUICKTIME:
            format_name = "mov"
        else:
            known = "no clip in a format that is read (AVI, MP4, MOV, MKV)"
            raise base.unreadable(path, known if start else "empty file")
        local = {"protocol_whitelist": "file"}
        with av.open(path, format=format_name, options=local, metadata_errors="replace") as container:
            if not container.streams.video:
                raise base.unreadable(path, "a clip without video")
            yield container
    except (av.FFmpegError, *base.DAMAGE) as error:
        raise base.damaged(path, error) from error
