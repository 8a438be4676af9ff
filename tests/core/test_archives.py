import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonosynth.core.archives import Limits, unpack
from sonosynth.core.errors import ArchiveError

FILES = {"a/one.png": b"1" * 1000, "a/two.png": b"", "b c (1).csv": b"x,y\n"}


def as_zip(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is: ZipInfo itself would cut it at a NUL
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def as_tar(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


MAKERS = pytest.mark.parametrize("make", [as_zip, as_tar])


def new_folder(tmp_path: Path) -> Path:
    (tmp_path / "inside" / "out").mkdir(parents=True)
    return tmp_path / "inside" / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@MAKERS
def test_all_files_arrive_and_are_accounted_for(tmp_path, make):
    archive, out, told = make(tmp_path / "x", FILES), new_folder(tmp_path), []
    sizes = unpack(archive, out, progress=lambda *now: told.append(now))
    assert contents(out) == FILES
    assert sizes == {name: len(content) for name, content in FILES.items()}
    assert len(told) == len(FILES) and all(0 <= done <= total == archive.stat().st_size for done, total in told)


@MAKERS
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil", "outside"),
        ("a/../../evil", "outside"),
        ("a/b/../c", "outside"),
        ("..", "outside"),
        ("..\\evil", "outside"),
        ("a\\..\\..\\evil", "outside"),
        ("/tmp/evil", "outside"),
        ("\\evil", "outside"),
        ("//host/share/evil", "outside"),
        ("C:\\evil", "outside"),
        ("c:evil", "outside"),
        ("a:b", "outside|every file system"),
        ("a/NUL", "every file system"),
        ("com1.png", "every file system"),
        ("aux .txt", "every file system"),
        ("a/b.", "every file system"),
        ("a /b", "every file system"),
        ("a\nb", "every file system"),
        ("a\x1b[2Jb", "every file system"),
        ("a*b", "every file system"),
        ("x" * 256, "every file system"),
        ("é" * 200, "every file system"),
        ("/".join(["deep"] * 300), "every file system"),
    ],
)
def test_no_file_lands_outside_or_under_a_name_that_means_something_else(tmp_path, make, name, message):
    out = new_folder(tmp_path)
    archive = make(tmp_path / "x", [("fine.png", b"1"), (name, b"evil")])
    with pytest.raises(ArchiveError, match=message):
        unpack(archive, out)
    assert contents(tmp_path / "inside") in ({"out/fine.png": b"1"}, {})


def test_a_name_with_nul_is_not_cut(tmp_path):
    out = new_folder(tmp_path)
    with pytest.raises(ArchiveError, match="every file system"):
        unpack(as_zip(tmp_path / "x", {"a.png\0.exe": b"1"}), out)
    assert not contents(out)


@MAKERS
@pytest.mark.parametrize(
    "names",
    [
        ("a", "a"),
        ("a", "./a"),
        ("a/b", "a\\b"),
        ("a.png", "A.PNG"),
        ("Folder/a", "folder/b"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("straße", "STRASSE"),
        ("é", "e\u0301"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_file_lies_on_another_even_where_case_does_not_count(tmp_path, make, names):
    archive = make(tmp_path / "x", [(name, b"%d" % i) for i, name in enumerate(names)])
    with pytest.raises(ArchiveError, match="would overwrite"):
        unpack(archive, new_folder(tmp_path))


def test_folders_may_be_named_twice(tmp_path):
    with tarfile.open(tmp_path / "x", "w:gz") as archive:
        for name in (".", "./a", "a/"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("./a/empty.png"))
    out = new_folder(tmp_path)
    assert unpack(tmp_path / "x", out) == {"a/empty.png": 0}
    (tmp_path / "z").mkdir()
    assert unpack(as_zip(tmp_path / "y", [("a/", b""), ("b\\", b""), ("b\\c", b"1")]), tmp_path / "z") == {"b/c": 1}
    assert (tmp_path / "z" / "a").is_dir()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "x", "w:gz") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    out = new_folder(tmp_path)
    with pytest.raises(ArchiveError, match="a link or a device"):
        unpack(tmp_path / "x", out)
    assert not list(out.iterdir())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="a link or a device"):
        unpack(tmp_path / "x", new_folder(tmp_path))


def test_no_file_is_made_executable(tmp_path):
    with tarfile.open(tmp_path / "x", "w:gz") as archive:
        info = tarfile.TarInfo("a")
        info.mode = 0o6777
        archive.addfile(info)
    out = new_folder(tmp_path)
    unpack(tmp_path / "x", out)
    assert not (out / "a").stat().st_mode & 0o6111


@MAKERS
def test_a_bomb_is_stopped_early(tmp_path, make):
    archive, out = make(tmp_path / "x", {"zeros": bytes(8 << 20)}), new_folder(tmp_path)
    assert archive.stat().st_size < 20_000
    with pytest.raises(ArchiveError, match=r"unpacks to more than 1048576|far more bytes"):
        unpack(archive, out, Limits(allowed_bytes=1 << 20, max_ratio=10))
    assert sum(map(len, contents(out).values())) <= 1 << 20
    (tmp_path / "again").mkdir()
    assert unpack(archive, tmp_path / "again") == {"zeros": 8 << 20}  # within the floor it is no bomb


@MAKERS
def test_many_small_files_together_count(tmp_path, make):
    archive = make(tmp_path / "x", {f"{i}": bytes(1 << 16) for i in range(32)})
    with pytest.raises(ArchiveError, match="unpacks to more than 1048576"):
        unpack(archive, new_folder(tmp_path), Limits(max_bytes=1 << 20))
    (tmp_path / "z").mkdir()
    with pytest.raises(ArchiveError, match="more than 31 files"):
        unpack(archive, tmp_path / "z", Limits(max_entries=31))


def test_endless_headers_of_a_tar_count_too(tmp_path):
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # more of its header follows, and so say all the following parts
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * ord(" "))
    part = bytes(504) + b"\1" + bytes(7)
    (tmp_path / "x").write_bytes(gzip.compress(bytes(header) + part * 10_000))
    with pytest.raises(ArchiveError, match="far more bytes"):
        unpack(tmp_path / "x", new_folder(tmp_path), Limits(allowed_bytes=1 << 20, max_ratio=1))


def test_a_chain_of_tar_headers_ends(tmp_path):
    info = tarfile.TarInfo("x")
    info.type = tarfile.XGLTYPE
    (tmp_path / "x").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) * 5000))
    with pytest.raises(ArchiveError, match="cannot be read"):
        unpack(tmp_path / "x", new_folder(tmp_path))


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_tar_header_may_not_ask_for_memory(tmp_path, kind):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 2 << 20
    (tmp_path / "x").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(4 << 20)))
    with pytest.raises(ArchiveError, match="claims 2097152 bytes"):
        unpack(tmp_path / "x", new_folder(tmp_path))


def test_a_zip_with_a_password_says_so(tmp_path):
    archive = as_zip(tmp_path / "x", {"a": b"secret"})
    data = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    archive.write_bytes(data)
    with pytest.raises(ArchiveError, match="password"):
        unpack(archive, new_folder(tmp_path))


def test_a_packing_that_is_not_known_says_so(tmp_path):
    archive = as_zip(tmp_path / "x", {"a": b"text"})
    data = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(mark) + offset] = 97
    archive.write_bytes(data)
    with pytest.raises(ArchiveError, match="packed in a way"):
        unpack(archive, new_folder(tmp_path))


@pytest.mark.parametrize(
    ("mark", "offset", "value", "message"),
    [(b"PK\x01\x02", 6, 99, "cannot be read .zip file version"), (b"PK\x05\x06", 16, 255, "points outside itself")],
)
def test_a_zip_that_zipfile_trips_over_is_one_line(tmp_path, mark, offset, value, message):
    archive = as_zip(tmp_path / "x", {"a": b"text"})
    data = bytearray(archive.read_bytes())
    data[data.index(mark) + offset] = value
    archive.write_bytes(data)
    with pytest.raises(ArchiveError, match=message):
        unpack(archive, new_folder(tmp_path))


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><title>log in</title>", b"Rar!\x1a\x07", b"7z\xbc\xaf"])
def test_other_files_are_named_by_how_they_begin(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"x\.zip is neither a zip nor a tar\.gz"):
        unpack(tmp_path / "x.zip", new_folder(tmp_path))


@MAKERS
def test_every_cut_and_every_wrong_byte_of_a_file_is_noticed(tmp_path, make):
    whole = make(tmp_path / "x", {"a.png": bytes(range(256)) * 8, "b.png": b"text" * 100}).read_bytes()
    for i, end in enumerate(range(0, len(whole) - 30, max(1, len(whole) // 40))):
        (tmp_path / "x").write_bytes(whole[:end])
        out = tmp_path / f"cut-{i}"
        out.mkdir()
        with pytest.raises(ArchiveError):
            unpack(tmp_path / "x", out)


@pytest.mark.long
@MAKERS
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_ends_in_files_inside_or_in_one_line(tmp_path_factory, make, data):
    tmp_path = tmp_path_factory.mktemp("fuzz")
    archive = make(tmp_path / "x", FILES)
    whole = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    if make is as_tar and data.draw(st.booleans()):  # damage under the compression, where checksums do not help
        inner = bytearray(gzip.decompress(as_tar(tmp_path / "y", FILES).read_bytes()))
        for _ in range(data.draw(st.integers(1, 4))):
            inner[data.draw(st.integers(0, 600))] = data.draw(st.integers(0, 255))
        whole = bytearray(gzip.compress(bytes(inner), 1))
    archive.write_bytes(whole)
    out = new_folder(tmp_path)
    try:
        sizes = unpack(archive, out)
    except ArchiveError as error:
        assert str(error).strip()
    else:
        assert sizes == {name: len(content) for name, content in contents(out).items()}
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["out"]


@MAKERS
@settings(max_examples=100, deadline=None)
@given(names=st.lists(st.text(st.sampled_from("aA./\\:é \x00~"), min_size=1, max_size=6), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_any_names_end_in_distinct_files_inside_or_in_one_line(tmp_path_factory, make, names):
    tmp_path = tmp_path_factory.mktemp("names")
    archive, out = make(tmp_path / "x", [(name, b"1") for name in names]), new_folder(tmp_path)
    try:
        sizes = unpack(archive, out)
    except ArchiveError:
        pass
    else:
        assert contents(out).keys() == sizes.keys()
        assert len({name.casefold() for name in sizes}) == len(sizes)
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["out"]
