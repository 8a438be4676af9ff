"""How files are stored: read from headers, told where it stands for the class, kept by prepared sets."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from dicom_files import coded, dataset, encapsulated
from sonosynth.core.errors import ManifestError
from sonosynth.data.encoding import COLUMNS, encoding_of, encodings
from sonosynth.data.readers.base import Encoding
from sonosynth.data.readers.images import jpeg_quality
from sonosynth.data.scan import read_source
from sonosynth.data.source import ReadOptions, SourceItem

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (24, 40), dtype=np.uint8)


def saved(path, picture=None, **how):
    (Image.fromarray(GREY) if picture is None else picture).save(path, **how)
    return path


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 51, 75, 90, 95, 99, 100])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_quality_is_that_of_the_encoder(tmp_path, quality, mode):
    path = saved(tmp_path / "x.jpg", Image.fromarray(GREY).convert(mode), quality=quality)
    assert encoding_of(path) == Encoding("JPEG", True, quality, 8, path.stat().st_size / GREY.size)


def test_quality_of_other_tables_is_an_estimate_and_of_no_jpeg_none(tmp_path):
    table = [16] * 64  # flat, as some scanners write it
    path = saved(tmp_path / "x.jpg", qtables=[table])
    found = encoding_of(path).quality
    assert found is not None and 70 <= found <= 95
    with Image.open(saved(tmp_path / "x.png")) as picture:
        assert jpeg_quality(picture) is None


@pytest.mark.parametrize(
    ("name", "how", "expected", "lossy"),
    [
        ("x.png", {}, "PNG", False),
        ("x.bmp", {}, "BMP", False),
        ("x.tif", {}, "TIFF", False),
        ("x.tif", {"compression": "tiff_lzw"}, "TIFF (LZW)", False),
        ("x.tif", {"compression": "tiff_adobe_deflate"}, "TIFF (adobe deflate)", False),
        ("x.tif", {"compression": "jpeg"}, "TIFF (JPEG)", True),
        ("x.webp", {"lossless": True}, "WebP (lossless)", False),
        ("x.webp", {"quality": 40}, "WebP", True),
        ("x.gif", {}, "GIF", False),
        ("x.pgm", {}, "PNM", False),
    ],
)
def test_formats_of_pictures(tmp_path, name, how, expected, lossy):
    path = saved(tmp_path / name, **how)
    found = encoding_of(path)
    assert (found.format, found.lossy, found.quality, found.bits) == (expected, lossy, None, 8)
    assert found.bytes_per_pixel == path.stat().st_size / GREY.size


def test_the_content_and_not_the_suffix_names_a_picture(tmp_path):
    saved(tmp_path / "x.png", format="JPEG", quality=60)
    assert encoding_of(tmp_path / "x.png").format == "JPEG" and encoding_of(tmp_path / "x.png").quality == 60


def test_bit_depth_is_that_of_the_file(tmp_path):
    import cv2

    deep = (GREY.astype(np.uint16) * 257)[..., None].repeat(3, axis=2)
    cv2.imwrite(str(tmp_path / "colour.png"), deep)  # which Pillow opens as RGB of 8 bits
    Image.fromarray(deep[..., 0]).save(tmp_path / "deep.png")
    Image.fromarray(deep[..., 0]).save(tmp_path / "deep.tif")
    Image.fromarray(GREY > 99).save(tmp_path / "mask.png")
    names = ("colour.png", "deep.png", "deep.tif", "mask.png")
    assert [encoding_of(tmp_path / name).bits for name in names] == [16, 16, 16, 1]


def test_frames_share_the_size_of_their_file(tmp_path):
    frames = [Image.fromarray(np.roll(GREY, k)) for k in range(4)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert encoding_of(tmp_path / "x.gif").bytes_per_pixel == (tmp_path / "x.gif").stat().st_size / (4 * GREY.size)


@pytest.mark.parametrize("codec", ["mpeg4", "ffv1"])
def test_clips_name_their_codec(tmp_path, codec):
    import av

    with av.open(str(tmp_path / "x.avi"), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 40, 24, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(GREY, "gray").reformat(format="yuv420p")))
        container.mux(stream.encode())
    found = encoding_of(tmp_path / "x.avi")
    assert (found.format, found.lossy) == (f"AVI ({codec})", codec == "mpeg4")
    assert found.bytes_per_pixel == (tmp_path / "x.avi").stat().st_size / (3 * GREY.size)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless]
)
def test_dicom_names_its_transfer_syntax(tmp_path, syntax):
    data = dataset(np.stack([GREY, GREY]))
    path = tmp_path / "x.dcm"
    (coded(data, syntax) if syntax != ExplicitVRLittleEndian else data).save_as(path, enforce_file_format=True)
    found = encoding_of(path)
    assert (found.format, found.lossy, found.bits) == (f"DICOM {syntax.name}", False, 8)
    assert found.bytes_per_pixel == path.stat().st_size / (2 * GREY.size)


def test_dicom_tells_of_loss_and_of_jpeg_quality(tmp_path):
    streams = []
    for grey in (GREY, GREY[::-1]):
        stream = io.BytesIO()
        Image.fromarray(grey).save(stream, "JPEG", quality=35)
        streams.append(stream.getvalue())
    encapsulated(dataset(np.stack([GREY, GREY])), streams, JPEGBaseline8Bit).save_as(
        tmp_path / "jpeg.dcm", enforce_file_format=True
    )
    dataset(GREY[None], LossyImageCompression="01").save_as(tmp_path / "once.dcm", enforce_file_format=True)
    jpeg, once = encoding_of(tmp_path / "jpeg.dcm"), encoding_of(tmp_path / "once.dcm")
    assert (jpeg.format, jpeg.lossy, jpeg.quality) == (f"DICOM {JPEGBaseline8Bit.name}", True, 35)
    assert (once.format, once.lossy, once.quality) == (f"DICOM {ExplicitVRLittleEndian.name}", True, None)


def test_each_file_is_read_once_and_other_readers_files_are_named_by_their_suffix(tmp_path, monkeypatch):
    read = []
    real = encoding_of
    monkeypatch.setattr("sonosynth.data.encoding.encoding_of", lambda path, options: (read.append(path), real(path))[1])
    clip = tmp_path / "scan.nii.gz"
    clip.write_bytes(b"")
    items = [SourceItem(clip, "a", None, str(k), frame=k) for k in range(5)]
    assert encodings(items, ReadOptions()) == [Encoding("NII.GZ", False)] * 5 and read == [clip]


def test_a_record_that_was_edited_is_refused(tmp_path):
    extra = {"original_path": "x.jpg", "scale_x": "1"} | dict(
        zip(COLUMNS, ("JPEG", "1", "75", "8", "0.2"), strict=True)
    )
    item = SourceItem(tmp_path / "x.png", "a", None, "x", extra)
    assert encodings([item], ReadOptions()) == [Encoding("JPEG", True, 75, 8, 0.2)]
    wrong = SourceItem(tmp_path / "x.png", "a", None, "x", extra | {"original_quality": "high"})
    with pytest.raises(ManifestError, match=r"original_quality.*'x'.*high"):
        encodings([wrong], ReadOptions())


def test_old_prepared_sets_do_not_know(tmp_path):
    item = SourceItem(tmp_path / "x.png", "a", None, "x", {"original_path": "x.jpg", "scale_x": "1"})
    assert encodings([item], ReadOptions()) == [None]
    assert [e and e.format for e in encodings(read_source(_folder(tmp_path)).items, ReadOptions())] == ["PNG"]


def _folder(root):
    (root / "set" / "a").mkdir(parents=True)
    saved(root / "set" / "a" / "x.png")
    return root / "set"
