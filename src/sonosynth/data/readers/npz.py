"""Arrays of images in one .npz file: the layout of MedMNIST, and a plain one."""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sonosynth.core.errors import SourceError
from sonosynth.data.readers.base import DecodedImage, Reader, colours_to_grey, from_high_depth, too_large, unreadable
from sonosynth.data.readers.bit_depth import BitDepth, HighDepthImage
from sonosynth.data.readers.tables import is_missing
from sonosynth.data.source import ReadOptions, Source, SourceItem, similar_class_names, some_of

SUFFIX = ".npz"
_PARTS = ("train", "val", "test")  # of MedMNIST, in its order
_LIMIT = 2**32  # bytes of an array, so that a small file cannot fill the memory
_DAMAGE = (
    OSError, ValueError, TypeError, LookupError, EOFError, RuntimeError, NotImplementedError, ArithmeticError,
    MemoryError, SyntaxError, tokenize.TokenError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_Header = tuple[tuple[int, ...], "np.dtype[np.generic]"]


def read_npz(path: Path, options: ReadOptions | None = None) -> Source:
    """Find the labelled images in the .npz file at `path`; the images themselves are not loaded.

    Either ``images`` ``[N, H, W]`` or ``[N, H, W, 1 or 3]`` (bool, uint8 or uint16) and ``labels`` ``[N]`` or
    ``[N, 1]`` (whole numbers or text), with ``groups`` ``[N]`` and ``ids`` ``[N]`` if there are any; or as MedMNIST has
    it, ``train_images``, ``train_labels`` and the same for ``val`` and ``test``: the parts are joined and each image
    keeps the name of its part in the column `part`. Classes are called as ``classes`` (or ``class_names``) says, by the
    number of the label, else by that number itself: "0", "1", ... The column `frame` is the index in the array. Raises
    SourceError for other files, and for arrays of other shapes or types, of Python objects, or too large.
    """
    headers = _headers(path)
    parts = [part for part in _PARTS if f"{part}_images" in headers]
    if not parts and "images" not in headers:
        keys = some_of(headers, 12) or "none"
        raise SourceError(f"{path} holds neither 'images' nor 'train_images' (its arrays: {keys}); rename its arrays")
    items: list[SourceItem] = []
    for prefix in [f"{part}_" for part in parts] or [""]:
        items += _items(path, headers, prefix, len(items))
    if not items:
        raise SourceError(f"{path} holds no images; choose another file")
    ids = Counter(item.id for item in items)
    if len(ids) < len(items):
        double = ids.most_common(1)[0][0]
        raise SourceError(f"{path}: 'ids' has '{double}' more than once; give each image its own name")
    classes = tuple(sorted({item.label for item in items}))
    known = {"images", "labels", "groups", "ids", "classes", "class_names"}
    known |= {f"{part}_{name}" for part in parts for name in ("images", "labels")}
    other = [name for name in headers if name not in known]
    notes = [f"{len(other)} further arrays left out: {some_of(other)}"] if other else []
    if parts:
        notes.append(f"parts joined and kept in the column 'part': {', '.join(parts)}")
    notes += similar_class_names(classes)
    kind = "MedMNIST file" if parts else "npz file"
    return Source(kind, path.parent, tuple(items), classes, tuple(notes), options=options or ReadOptions())


class NpzReader(Reader):
    """The images of an .npz file, which `read_npz` lists: no file of this kind is an image by itself."""

    in_folders = False

    def recognises(self, path: Path, options: ReadOptions) -> bool:
        """By the suffix."""
        return path.suffix.lower() == SUFFIX

    def open(self, path: Path, options: ReadOptions, depth: BitDepth) -> "_OpenArrays":
        """Load all arrays; those of 16 bits share one depth, whatever other files hold."""
        return _OpenArrays(path, options.bits)


class _OpenArrays:
    def __init__(self, path: Path, bits: int | None) -> None:
        self._path = path
        try:
            headers = _headers(path)
            names = [f"{part}_images" for part in _PARTS if f"{part}_images" in headers] or ["images"]
            self._arrays = [_loaded(path, name, headers) for name in names]
        except SourceError as error:
            raise unreadable(path, str(error).removeprefix(f"{path} ").removeprefix(f"{path}: ")) from error
        largest = max((int(array.max(initial=0)) for array in self._arrays if array.dtype.itemsize == 2), default=0)
        self._depth = BitDepth(bits, lambda significant, certain: largest)

    def image(self, frame: int | None) -> DecodedImage:
        """Return image `frame`, counted from 0 through all parts.

        8-bit grey is taken as it is, bool becomes 0 and 255; 16 bits are scaled by the full range of the smallest of 8,
        12 and 16 bits that holds the largest value of the whole file, so that its images stay comparable. Colours
        become ITU-R 601 luma.
        """
        index, place = frame or 0, 0
        while place < len(self._arrays) and index >= len(self._arrays[place]):
            index, place = index - len(self._arrays[place]), place + 1
        if place == len(self._arrays):
            raise unreadable(self._path, f"image {frame} is not there")
        values = self._arrays[place][index]
        mode, notes = f"array {values.dtype}", list[str]()
        values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
        if values.dtype.itemsize == 2:
            return from_high_depth(self._path, HighDepthImage(values), self._depth, mode)
        if values.dtype.kind == "b":
            values, notes = values * np.uint8(255), ["1 bit per pixel (a mask?)"]
        if values.ndim == 3:
            values, note = colours_to_grey(values, "RGB")
            notes.append(note)
        return DecodedImage(np.ascontiguousarray(values), mode, "; ".join(notes) or None)


def _headers(path: Path) -> dict[str, _Header]:
    """Return shape and type of each array as the file declares them; nothing is loaded. Raises SourceError."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as file:
                        if (version := np.lib.format.read_magic(file)) not in _HEADERS:
                            raise ValueError("version of the .npy format")
                        shape, _, dtype = _HEADERS[version](file)
                        found[name.removesuffix(".npy")] = shape, dtype
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:
            raise SourceError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
        raise SourceError(f"{path} is damaged or not an .npz file; write it again with numpy.savez") from error
    for name, (_, dtype) in found.items():
        if dtype.hasobject:
            raise SourceError(f"{path}: '{name}' holds Python objects, which may run code; store it as numbers or text")
    return found


def _loaded(path: Path, name: str, headers: Mapping[str, _Header]) -> np.ndarray:
    """Return array `name`, whose declared size is checked first. Raises SourceError."""
    shape, dtype = headers[name]
    if math.prod(shape) * dtype.itemsize > _LIMIT or any(length < 0 for length in shape):
        raise SourceError(f"{path}: '{name}' declares more than {_LIMIT:,} bytes; divide the file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            array: np.ndarray = arrays[name]
    except _DAMAGE as error:
        raise SourceError(f"{path}: '{name}' is damaged or cut short; write the file again") from error
    if (array.shape, array.dtype) != (shape, dtype):
        raise SourceError(f"{path} has the array '{name}' twice; write the file again")
    return array


def _items(path: Path, headers: Mapping[str, _Header], prefix: str, before: int) -> list[SourceItem]:
    """Return the images of one part, of which `before` come before it. Raises SourceError."""
    name = f"{prefix}images"
    shape, dtype = headers[name]
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or min(shape[1:]) < 1:
        raise SourceError(f"{path}: '{name}' has the shape {list(shape)}; give [N, H, W] or [N, H, W, 1 or 3]")
    if dtype.newbyteorder("=") not in (np.bool_, np.uint8, np.uint16):
        raise SourceError(
            f"{path}: '{name}' is of type {dtype}, whose range is not known; store it as uint8, uint16 or bool"
        )
    if reason := too_large(shape[1], shape[2]):
        raise SourceError(f"{path}: '{name}' has images of {reason}; make them smaller")
    if math.prod(shape) * dtype.itemsize > _LIMIT or shape[0] < 0:
        raise SourceError(f"{path}: '{name}' declares more than {_LIMIT:,} bytes; divide the file")
    count, digits = shape[0], max(4, len(str(shape[0])))
    labels = _labels(path, f"{prefix}labels", headers, count)
    own = {name: _column(path, name, headers, count) for name in ("groups", "ids") if name in headers and not prefix}
    groups = own.get("groups") or [""] * count
    ids = own.get("ids") or [f"{prefix or path.stem + '_'}{index:0{digits}d}" for index in range(count)]
    part = {"part": prefix[:-1]} if prefix else {}
    return [
        SourceItem(path, labels[i], groups[i] or None, ids[i], {"frame": str(i)} | part, before + i)
        for i in range(count)
    ]


def _labels(path: Path, name: str, headers: Mapping[str, _Header], count: int) -> list[str]:
    if name not in headers:
        raise SourceError(f"{path} lacks '{name}'; add one label per image")
    labels = _column(path, name, headers, count)
    if missing := next((label for label in labels if is_missing(label)), None):
        raise SourceError(
            f"{path}: '{name}' has the label '{missing}', as where a value is missing; name the class, or leave the "
            "image out"
        )
    key = next((key for key in ("classes", "class_names") if key in headers), None)
    if key is None or headers[name][1].kind == "U":
        return labels
    classes = _column(path, key, headers, None)
    if doubled := next((name for name, times in Counter(classes).items() if times > 1), None):
        raise SourceError(f"{path}: '{key}' has '{doubled}' more than once; give each class its own name")
    if bad := [label for label in labels if not 0 <= int(label) < len(classes)]:
        raise SourceError(
            f"{path}: '{name}' has the label {bad[0]}, but '{key}' names {len(classes)} classes, from 0 on"
        )
    return [classes[int(label)] for label in labels]


def _column(path: Path, name: str, headers: Mapping[str, _Header], count: int | None) -> list[str]:
    """Return an array of whole numbers or text, one entry per image, as text. Raises SourceError."""
    shape, dtype = headers[name]
    flat = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    if not flat or (count is not None and shape[0] != count):
        wanted = f"[{count}] or [{count}, 1]" if count is not None else "[classes]"
        what = "several labels per image are not read; " if len(shape) == 2 and shape[1] > 1 else ""
        raise SourceError(f"{path}: '{name}' has the shape {list(shape)}; {what}give {wanted}")
    if dtype.kind not in "biuU":
        raise SourceError(f"{path}: '{name}' is of type {dtype}; give whole numbers or text")
    values = _loaded(path, name, headers).reshape(-1)
    try:
        texts = [str(value) for value in (values.astype(np.uint8) if dtype.kind == "b" else values).tolist()]
        "".join(texts).encode()
    except (ValueError, SystemError) as error:  # numpy raises either on what is no Unicode
        raise SourceError(f"{path}: '{name}' holds what is no text; write the file again") from error
    if dtype.kind == "U" and name != "groups" and not all(texts):
        raise SourceError(f"{path}: '{name}' has an empty entry; fill it in")
    return texts
