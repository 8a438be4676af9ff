"""A reader study: which images readers see, drawn once, made equal in all but the picture, and frozen by a hash."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from sonosynth.core.errors import LeakageError, ReaderStudyError
from sonosynth.core.files import atomic_directory, check_output, read_json, unreadable_reason, write_json
from sonosynth.core.seeds import numpy_generator
from sonosynth.core.text import counted, joined
from sonosynth.data.imageset import ImageSet
from sonosynth.data.load import load
from sonosynth.study.splits import SPLIT_JSON, read_splits

STUDY_JSON, IMAGES, ANSWERS = "readers.json", "images", "answers.sqlite"
SCALE = (
    "surely real",
    "probably real",
    "rather real",
    "rather synthetic",
    "probably synthetic",
    "surely synthetic",
)
"""What ratings 1 to 6 say; from 4 on an image is called synthetic."""
CALLED_SYNTHETIC = 4
BI_RADS = ("1", "2", "3", "4A", "4B", "4C", "5")
QUALITY = ("1 unusable", "2 poor", "3 fair", "4 good", "5 excellent")
CONSENT = (
    "You take part of your own will and can stop at any time. Your answers are kept under a number, with the time that "
    "each took, and are used for research. No name is kept here. The images are not for diagnosis."
)
INSTRUCTIONS = (
    "You will see ultrasound images one after the other. Some are of patients, some were made by a computer. Say of "
    "each how sure you are that it is real or synthetic. There is no going back. Pause whenever you like."
)
_LARGEST = 64 << 20  # bytes of the study's file
_ROUNDS = 6  # of drawing synthetic images until enough are no near-copies

Question = Literal["quality", "class", "birads"]
QUESTIONS: tuple[Question, ...] = ("quality", "class", "birads")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(_Frozen):
    """An image of the study."""

    name: str  # of its file, drawn at random
    synthetic: bool
    label: str  # its class
    source: str  # its id in the images that it was drawn from
    practice: bool  # whether it is for the training round alone, which shows answers


class ReaderStudy(_Frozen):
    """What `new_reader_study` drew."""

    title: str
    seed: int
    size: int  # side of the images in pixels
    repeats: int  # how many images every reader sees twice
    questions: tuple[Question, ...]  # asked beside real or synthetic
    consent: str
    instructions: str
    notes: tuple[str, ...]  # what to know of how the images were drawn
    items: tuple[Item, ...]
    images_sha256: str  # over the files of the images, in the order of `items`

    @property
    def rated(self) -> list[int]:
        """The numbers of the items that count."""
        return [i for i, item in enumerate(self.items) if not item.practice]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(sorted({item.label for item in self.items}))

    def order(self, reader: str) -> list[int]:
        """Return the items that a reader rates, in this reader's order; some of the first third come again at the end.

        A repeated image comes in the last third, at least a third of the study later.
        """
        rng = numpy_generator(self.seed, "reader order", reader)
        order = [self.rated[i] for i in rng.permutation(len(self.rated))]
        third = len(order) // 3
        again = [order[i] for i in rng.choice(third, min(self.repeats, third), replace=False)]
        for item in again:
            order.insert(int(rng.integers(2 * third + 1, len(order) + 1)), item)
        return order

    def practice_order(self, reader: str) -> list[int]:
        """Return the items of a reader's training round."""
        practice = [i for i, item in enumerate(self.items) if item.practice]
        return [practice[i] for i in numpy_generator(self.seed, "practice order", reader).permutation(len(practice))]


@dataclass(frozen=True, eq=False)
class FrozenStudy:
    """A reader study on disk, its images in memory."""

    directory: Path
    study: ReaderStudy
    pictures: tuple[bytes, ...]  # PNG files, all of one length


def new_reader_study(
    training: str | Path,
    synthetic: str | Path,
    out: str | Path,
    *,
    real: str | Path | None = None,
    per_class: int = 30,
    size: int | None = None,
    seed: int = 0,
    repeats: int | None = None,
    practice: int = 4,
    questions: Sequence[Question] = (),
    title: str = "Reader study",
    consent: str = CONSENT,
    instructions: str = INSTRUCTIONS,
    tell: Callable[[str], object] | None = None,
) -> ReaderStudy:
    """Draw real and synthetic images for readers, and freeze them in the folder `out`.

    Real images never come from the training images, and neither do near-copies of these, real or synthetic. Of a group
    (a patient) there is one image where there are groups enough. All images are grey, of one size, and files of one
    length, so that nothing but the picture tells them apart.

    Args:
        training: the images that the generator was trained on, or a study directory, which knows them.
        synthetic: a run that `train` wrote, or a folder of synthetic images.
        out: folder to write.
        real: held-out images; the test images of the study if `training` is one.
        per_class: images of each class, of real and of synthetic ones.
        size: side in pixels; that of the synthetic images if not given.
        seed: of all draws and of the readers' orders.
        repeats: images that each reader sees twice; a tenth of all if not given.
        practice: images of the training round, half of them synthetic, which count for nothing.
        questions: what is asked beside real or synthetic: "quality", "class", "birads".
        title: the heading of the page.
        consent: what readers agree to, in paragraphs.
        instructions: what they read before they begin.
        tell: called with a line for every note.

    Raises:
        ReaderStudyError: there are too few images, or no held-out ones.
        LeakageError: the held-out images are training images, or the synthetic ones are not marked as synthetic.
    """
    out = Path(out)
    check_output(out, directory=True)
    if per_class < 2 or practice < 0 or practice % 2:
        raise ReaderStudyError("a reader study needs 2 images per class or more, and an even number for practice")
    notes = list[str]()
    trained, held_out = _real_images(Path(training), real)
    made = _Synthetic(Path(synthetic), size or trained.size[0], seed)
    side = size or made.size
    trained, held_out = trained.resized(side), held_out.resized(side)
    notes += made.provenance_notes(trained)
    classes = made.classes
    unknown = [name for name in classes if not held_out.class_counts.get(name)]
    if unknown:
        raise ReaderStudyError(f"{real or training} has no held-out image of class '{unknown[0]}'; add some")
    copies = _CopyLimit(trained, held_out)
    notes += copies.notes
    rng = numpy_generator(seed, "reader study")
    extra = {name: practice // 2 // len(classes) + (i < practice // 2 % len(classes)) for i, name in enumerate(classes)}
    chosen: list[tuple[np.ndarray, Item]] = []
    for name in classes:
        need = per_class + extra[name]
        drawn = {
            False: _draw_real(held_out, copies, name, need, rng, notes),
            True: made.draw(name, need, copies, side, notes),
        }
        for is_synthetic, (images, ids) in drawn.items():
            for k, (image, identity) in enumerate(zip(images, ids, strict=True)):
                item = Item(name="", synthetic=is_synthetic, label=name, source=identity, practice=k >= per_class)
                chosen.append((image, item))
    names = [rng.bytes(8).hex() for _ in chosen]
    order = np.argsort(names)  # so that neither the file's order nor its name tells anything
    pictures = [_png(chosen[i][0]) for i in order]
    study = ReaderStudy(
        title=title,
        seed=seed,
        size=side,
        repeats=len(classes) * per_class * 2 // 10 if repeats is None else repeats,
        questions=tuple(questions),
        consent=consent,
        instructions=instructions,
        notes=tuple(notes),
        items=tuple(chosen[i][1].model_copy(update={"name": names[i]}) for i in order),
        images_sha256=_hash(pictures),
    )
    with atomic_directory(out) as beside:
        (beside / IMAGES).mkdir()
        for item, picture in zip(study.items, pictures, strict=True):
            (beside / IMAGES / f"{item.name}.png").write_bytes(picture)
        content = study.model_dump(mode="json")
        write_json(beside / STUDY_JSON, {"study": content, "sha256": _study_hash(study)})
    for note in notes if tell else ():
        tell(note)  # type: ignore[misc]
    return study


def read_reader_study(directory: str | Path) -> FrozenStudy:
    """Return the study in `directory`. Raises ReaderStudyError if it is none, or anything in it has changed."""
    directory = Path(directory)
    path, remedy = directory / STUDY_JSON, "restore it from a copy, or draw a new study with 'sonosynth readers new'"
    try:
        if why := unreadable_reason(path, _LARGEST):
            raise ReaderStudyError(f"{path} is {why}; {remedy}")
        content = read_json(path)
        study = ReaderStudy.model_validate(content["study"])
        recorded = str(content["sha256"])
    except FileNotFoundError as error:
        raise ReaderStudyError(f"{directory} holds no reader study (no {STUDY_JSON}); {remedy}") from error
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise ReaderStudyError(f"{path} is damaged; {remedy}") from error
    if _study_hash(study) != recorded:
        raise ReaderStudyError(f"{path} was changed after it was frozen; {remedy}")
    try:
        pictures = tuple((directory / IMAGES / f"{item.name}.png").read_bytes() for item in study.items)
    except OSError as error:
        raise ReaderStudyError(f"{error.filename} cannot be read ({error.strerror}); {remedy}") from error
    if _hash(pictures) != study.images_sha256:
        raise ReaderStudyError(f"images of {directory} were changed after they were frozen; {remedy}")
    return FrozenStudy(directory, study, pictures)


def _real_images(training: Path, real: str | Path | None) -> tuple[ImageSet, ImageSet]:
    """Return the training images and the held-out ones. Raises ReaderStudyError, and LeakageError."""
    if (training / SPLIT_JSON).is_file():
        (split, *others), _, _ = read_splits(training / SPLIT_JSON)
        if others:
            raise ReaderStudyError(
                f"{training} has several splits, so a test image of one trained generators of another; give the "
                "training images of the run, and --real"
            )
        everything = ImageSet.load(training / "data")
        test = np.array(split.test or (), dtype=np.int64)
        trained = everything.subset(np.setdiff1d(np.arange(len(everything)), test))
        if real is None:
            return trained, everything.subset(test) if split.test else ImageSet.load(training / "test")
    else:
        trained = load(training)
    if real is None:
        raise ReaderStudyError(f"{training} is no study, which would know held-out images; give them with --real")
    held_out = load(real, trained.size[0]) if trained.size[0] == trained.size[1] else load(real)
    for images, where in ((trained, training), (held_out, real)):
        if images.synthetic:
            raise LeakageError(f"{where} holds synthetic images where real ones are needed")
    seen = {image.tobytes() for image in trained.images}
    known = next((held_out.ids[i] for i, image in enumerate(held_out.images) if image.tobytes() in seen), None)
    if known is not None:
        raise LeakageError(f"{real}: '{known}' is a training image too; give images that the generator never saw")
    return trained, held_out


class _CopyLimit:
    """What is too similar to a training image to be shown."""

    def __init__(self, trained: ImageSet, held_out: ImageSet):
        from sonosynth.metrics.memorisation.near_copies import MAX_THRESHOLD, MIN_REAL, copy_threshold
        from sonosynth.metrics.memorisation.similarity import FineStructure, most_similar  # imports torch

        self._trained, self._most_similar, self._structure = FineStructure(trained.images), most_similar, FineStructure
        similarity = self.similarity(held_out.images)
        enough = len(held_out) >= MIN_REAL
        self.limit = copy_threshold(similarity) if enough else MAX_THRESHOLD
        self.free = similarity <= self.limit  # bool, for every held-out image
        self.notes = [f"near-copies: a similarity to a training image above {self.limit:.2f}"]
        if not enough:
            self.notes.append(f"{len(held_out)} held-out images are too few to set the limit, so the largest stands")
        if not self.free.all():
            self.notes.append(f"{counted(int((~self.free).sum()), 'held-out image')} left out as near-copies")

    def similarity(self, images: np.ndarray) -> np.ndarray:
        """Return the similarity of each image to its most similar training image."""
        return np.asarray(self._most_similar(self._structure(images), self._trained, None)[0].similarity)


def _draw_real(
    held_out: ImageSet, copies: _CopyLimit, name: str, need: int, rng: np.random.Generator, notes: list[str]
) -> tuple[np.ndarray, list[str]]:
    """Return images of a class: one of each group in a random order, then a second of each, and so on."""
    candidates = np.flatnonzero((held_out.labels == held_out.class_index(name)) & copies.free)
    candidates = candidates[rng.permutation(len(candidates))]
    turn, seen = [], dict[int, int]()
    for group in held_out.groups[candidates].tolist():
        turn.append(seen.get(group, 0))
        seen[group] = turn[-1] + 1
    order = candidates[np.argsort(turn, kind="stable")][:need]
    if len(order) < need:
        raise ReaderStudyError(
            f"class '{name}' has {counted(len(order), 'held-out image')} that may be shown, and {need} are needed; "
            "lower --per-class or --practice"
        )
    if len(seen) < need:
        notes.append(f"class '{name}': {need} real images of {counted(len(seen), 'group')}, taken as apart")
    return held_out.images[order], [held_out.ids[i] for i in order]


class _Synthetic:
    """Synthetic images: of a run, made as they are needed, or of a folder."""

    def __init__(self, source: Path, size: int, seed: int):
        from sonosynth.gan.checkpoint import GENERATOR, generator_files, read_config

        self._source, self._seed, self._configs = source, seed, []
        is_run = (source / GENERATOR).is_file() or any(source.glob(f"*/{GENERATOR}"))
        if is_run:
            self._configs = [read_config(path) for path in generator_files(source)]
            self.size = self._configs[0].size
            self.classes = tuple(name for config in self._configs for name in config.classes)
            return
        found = load(source, size)
        if not found.synthetic:
            raise LeakageError(f"{source} is not marked as synthetic; give a run, or what 'sonosynth generate' wrote")
        self._images, self.size, self.classes = found, found.size[0], found.classes

    def provenance_notes(self, trained: ImageSet) -> list[str]:
        """Return a note where it is not known that these training images were all that the run has seen."""
        if not self._configs:
            return ["what the folder of synthetic images was trained on is not on record; you vouch for it"]
        present = [name for name, count in trained.class_counts.items() if count]
        known = {trained.fingerprint(), trained.with_classes(present).fingerprint()}
        known |= {trained.of_class(name).fingerprint() for name in present}
        known |= {trained.with_classes([name]).fingerprint() for name in present}
        if all(config.data in known for config in self._configs):
            return []
        return [
            "the run was trained on other images than these, or a part of them; see that these hold all that it saw"
        ]

    def draw(
        self, name: str, need: int, copies: _CopyLimit, side: int, notes: list[str]
    ) -> tuple[np.ndarray, list[str]]:
        """Return images of a class that are no near-copies. Raises ReaderStudyError if there are too few."""
        images, ids, left_out = list[np.ndarray](), list[str](), 0
        rounds = _ROUNDS if self._configs else 1
        for k in range(rounds):
            found = self._round(name, need, k).resized(side)
            free = copies.similarity(found.images) <= copies.limit if len(found) else np.zeros(0, dtype=bool)
            left_out += int((~free).sum())
            images += list(found.images[free])
            ids += [found.ids[i] for i in np.flatnonzero(free)]
            if len(images) >= need:
                break
        if left_out:
            notes.append(f"class '{name}': {counted(left_out, 'synthetic image')} left out as near-copies")
        if len(images) < need:
            raise ReaderStudyError(
                f"{self._source} gives {counted(len(images), 'image')} of class '{name}' that are no near-copies of "
                f"training images, and {need} are needed; lower --per-class, or use another run"
            )
        return np.stack(images[:need]), ids[:need]

    def _round(self, name: str, n: int, k: int) -> ImageSet:
        if not self._configs:
            rng = numpy_generator(self._seed, "synthetic images", name)
            mine = self._images.of_class(name)
            return mine.subset(rng.permutation(len(mine)))
        from sonosynth.gan.sample import Sampler  # imports torch

        return Sampler(self._source).generate(n, name, seed=self._seed + k)


def _png(image: np.ndarray) -> bytes:
    """Return a PNG without compression, so that files of images of one size have one length."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def _hash(pictures: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(hashlib.sha256(picture).digest())
    return digest.hexdigest()


def _study_hash(study: ReaderStudy) -> str:
    return hashlib.sha256(study.model_dump_json().encode()).hexdigest()


def in_words(study: ReaderStudy) -> str:
    """Return what the study shows, in a sentence."""
    rated = [study.items[i] for i in study.rated]
    real = sum(not item.synthetic for item in rated)
    classes = joined([f"'{name}'" for name in study.classes])
    return (
        f"{real} real and {len(rated) - real} synthetic images of {classes}, {study.size} px; {study.repeats} come "
        f"twice, and {counted(len(study.items) - len(rated), 'image')} are for practice"
    )
