"""A new format is one reader, listed once: folders, frames, decoding, encodings and fingerprints take it from there."""

from pathlib import Path

import numpy as np
import pytest

import sonosynth as ss
from sonosynth.data.encoding import encoding_of
from sonosynth.data.readers import registry
from sonosynth.data.readers.base import DecodedFrames, DecodedImage, Encoding, FileContents, Reader
from sonosynth.data.readers.bit_depth import BitDepth
from sonosynth.data.source import ReadOptions


class Ramps(Reader):
    """Files of lines of numbers, one frame per line."""

    def recognises(self, path: Path, options: ReadOptions) -> bool:
        return path.suffix == ".ramp"

    def contents(self, path: Path, options: ReadOptions) -> FileContents:
        count = len(path.read_text().splitlines())
        return FileContents(range(count), path, {"origin": "ramp"}, ("ramp", "lines"))

    def open(self, path: Path, options: ReadOptions, depth: BitDepth) -> DecodedFrames:
        lines = [np.array(line.split(), np.uint8) for line in path.read_text().splitlines()]
        return DecodedFrames(
            path, ((i, DecodedImage(np.stack([row] * 4), "ramp", None)) for i, row in enumerate(lines))
        )

    def encoding(self, path: Path) -> Encoding:
        return Encoding("RAMP", lossy=False, bits=8)


def test_a_reader_in_the_registry_is_all_that_a_format_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "READERS", (*registry.READERS, Ramps()))
    for label, start in (("a", 0), ("b", 100)):
        (tmp_path / label).mkdir()
        lines = [" ".join(str(start + k + i) for i in range(4)) for k in range(2)]
        (tmp_path / label / "x.ramp").write_text("\n".join(lines))
    data = ss.load(tmp_path)
    assert data.ids == ("a/x_f0000", "a/x_f0001", "b/x_f0000", "b/x_f0001")
    assert data.images[:, 0, 0].tolist() == [0, 1, 100, 101] and data.groups.tolist() == [0, 0, 1, 1]
    assert data.extra["origin"] == ("ramp",) * 4 and set(data.extra["original_format"]) == {"RAMP"}
    assert encoding_of(tmp_path / "a" / "x.ramp").bits == 8
    assert any(note.startswith("2 ramps, each a group") for note in ss.read_source(tmp_path).notes)
