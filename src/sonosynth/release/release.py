"""A release: synthetic images in one folder that others can use, trust and cite, or the reason why there is none."""

import csv
import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sonosynth.core.errors import MixedSizesError, ReleaseError
from sonosynth.core.files import atomic_directory, check_output, unreadable_reason, write_json
from sonosynth.core.seeds import seed_of
from sonosynth.core.types import StageProgress
from sonosynth.data.imageset import ImageSet
from sonosynth.data.load import load
from sonosynth.data.split import check_real, nested_subsets
from sonosynth.features.registry import require_weights
from sonosynth.gan.checkpoint import GENERATOR, LOG, Run, RunConfig, Snapshot, generator_files, read_config
from sonosynth.gan.sample import Sampler, interpolate
from sonosynth.metrics.scorecard import Scorecard, score
from sonosynth.metrics.sets import check_roles
from sonosynth.release import cards, dicom, record, signature
from sonosynth.release.bundle import write_bundle
from sonosynth.release.croissant import write_croissant
from sonosynth.release.gate import (
    Check,
    CopySearch,
    Privacy,
    discriminator_membership,
    from_scorecard,
    not_measured,
    replace_copies,
)
from sonosynth.release.record import Record, StudyCitation, TrainingData
from sonosynth.study.files import STUDY_FILE

FEATURES = ("efficientnet-lite0",)
_MOST_NOTICE = 1 << 20  # bytes


@dataclass(frozen=True)
class Release:
    """A release in a folder."""

    folder: Path
    record: Record

    def __fspath__(self) -> str:
        return str(self.folder)


def release(
    run: str | Path | Run,
    out: str | Path,
    n: int,
    *,
    train: ImageSet | str | Path | None = None,
    held_out: ImageSet | str | Path | None = None,
    class_name: str | None = None,
    truncation: float = 1.0,
    seed: int = 0,
    snapshot: Snapshot = "last",
    original_shape: bool = False,
    name: str | None = None,
    data_name: str = "",
    citation: str = "",
    data_licence: str = "",
    notice: str | Path | None = None,
    licence: str = "",
    accept: str = "",
    features: Sequence[str] | None = None,
    weights: bool = True,
    with_dicom: bool = True,
    clip_frames: int = 0,
    sign: str | Path | None = None,
    cache: str | Path | None = None,
    progress: StageProgress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Release:
    """Write `n` synthetic images of a run, with cards, checksums and a privacy gate before, as one folder to hand on.

    Nothing is written before the gate has passed: near-copies of training images by pixels and by a copy detector
    (which are replaced and counted), C_T, and membership inference by pixels, features and the discriminator. The
    folder appears whole or not at all, and the same call on the same kind of processor writes the same bytes, but for
    signatures.

    Args:
        run: what `train` returned, its directory, or one below a study's.
        out: folder to write; must be empty or not there.
        n: how many images.
        train: the images that the run was trained on, as they were given to `train`. Without them the gate refuses.
        held_out: real images of other patients. Without them the gate refuses.
        class_name: only this class; otherwise the classes come in the proportions of the training images.
        truncation: ψ in [0, 1]; 1 keeps the full diversity.
        seed: of the images, and of the draws behind the scores.
        snapshot: "last" or "best".
        original_shape: undo what `prepare` did to the shape of the training images.
        name: of the release; the name of `out` if not given.
        data_name: what the training images are called; of one in the catalogue, licence and citation are known.
        citation: what users of the release have to cite.
        data_licence: the licence of the training images.
        notice: a text file that has to go along, such as the licence of the training images.
        licence: that of the release.
        accept: why to release what the gate refuses; stands in the card.
        features: networks of the scorecard and the gate; EfficientNet-Lite0 if not given.
        weights: put the generator into the release too.
        with_dicom: write the images as DICOM too.
        clip_frames: also write a DICOM clip per class, a walk through the latents of so many frames; at least 4.
        sign: a private key of OpenSSH or minisign to sign the checksums with.
        cache: folder in which features are kept.
        progress: called with what is done, what there is to do, and what is being done.
        tell: called with lines for the user.

    Example:
        >>> made = release("run", "release", 100, train="train", held_out="test", data_name="BUS-BRA")
        >>> verify(made.folder).problems
        ()

    Raises:
        PrivacyError: the gate refuses, and no reason to `accept` is given.
        ReleaseError: a name, a notice or a key cannot be used, or a class is named like a folder of the release.
        RunError: `run` holds no such generator.
        ClassError: `class_name` is not one that the generator knows.
        LeakageError: `train` or `held_out` are synthetic, or share images.
        OutputError: `out` is not empty or cannot be written.
    """
    out, directory, networks = Path(out), Path(run), FEATURES if features is None else tuple(features)
    called = name or out.name
    check_output(out, directory=True)
    _check_words(called, n, clip_frames, notice)
    if sign is not None:
        signature.check_key(Path(sign))
    sampler, files = Sampler(directory, snapshot), generator_files(directory, snapshot)
    configs = [read_config(file) for file in files]
    _check_class_names(sampler.classes)
    real, confirmed = _training_images(train, configs)
    unseen = _loaded(held_out, configs[0].size)
    about = _about(record.training_data(data_name, data_licence, citation), configs, real, confirmed)
    if tell and about.warning:
        tell(f"note: {about.warning}")
    if real is not None:
        check_roles(real, unseen)
        require_weights(networks)

    def fresh(of_class: str | None, count: int, seed_: int) -> ImageSet:
        return sampler.generate(count, of_class, truncation, seed_, original_shape=original_shape)

    if progress:
        progress(0, None, "making images")
    images = fresh(class_name, n, seed)
    images, privacy, card = _through_the_gate(
        directory, images, real, unseen, confirmed, networks, seed, cache, fresh, progress
    )
    privacy = privacy.model_copy(update={"accepted": accept.strip()})
    privacy.require()
    hashes = {_weights_path(directory, file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    digest = hashlib.sha256(repr((sorted(hashes.items()), n, seed, class_name, truncation)).encode()).hexdigest()
    clips = [name for name, count in images.class_counts.items() if count] if with_dicom and clip_frames else []
    paths, (height, width) = images.file_names(), images.size
    made = Record(
        name=called,
        sonosynth=version("sonosynth"),
        n=n,
        classes=images.class_counts,
        folders={
            images.classes[label]: path.rsplit("/", 1)[0] for label, path in zip(images.labels, paths, strict=True)
        },
        height=height,
        width=width,
        seed=seed,
        snapshot=snapshot,
        truncation=truncation,
        original_shape=original_shape,
        family=configs[0].recipe.family,
        recipe=configs[0].recipe.record(),
        kimg=_kimg(directory),
        weights=hashes,
        weights_included=weights,
        identity=digest,
        dicom=n if with_dicom else 0,
        clips=len(clips),
        clip_frames=clip_frames if clips else 0,
        training=about,
        held_out=0 if unseen is None else len(unseen),
        features=networks if card else (),
        licence=licence,
        study=_study_of(directory),
        privacy=privacy,
    )
    walks = [
        interpolate(directory, clip_frames, class_name=of, truncation=truncation, seed=seed, snapshot=snapshot)
        for of in clips
    ]
    if progress:
        progress(0, None, "writing")
    with atomic_directory(out) as beside:
        images.save(beside)
        _write_metadata(images, beside)
        if with_dicom:
            _write_dicom(images, dict(zip(clips, walks, strict=True)), made, beside)
        if weights:
            for path, file in zip(hashes, files, strict=True):
                (beside / path).parent.mkdir(exist_ok=True)
                shutil.copyfile(file, beside / path)
            write_json(beside / record.CONFIG, _config(made, configs))
            write_bundle(made, beside)
        if notice is not None:
            (beside / record.NOTICE).write_bytes(Path(notice).read_bytes())
        if card is not None:
            card.to_json(beside / record.SCORES)
        write_json(beside / record.RECORD, made.model_dump())
        cards.write_pictures(images, card, beside / record.PICTURES)
        cards.write_cards(made, card, notice is not None, beside)
        write_croissant(made, images, beside)
        write_sums(beside)
        if sign is not None:
            signature.sign(beside / record.SUMS, Path(sign))
    return Release(out, made)


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of every file below `folder` to ``SHA256SUMS``, as ``sha256sum --check`` reads it."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in files]
    (folder / record.SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def _check_words(name: str, n: int, clip_frames: int, notice: str | Path | None) -> None:
    if n < 1:
        raise ReleaseError(f"n (-n) is {n}: a release has at least 1 image")
    if not re.fullmatch(record.NAME_PATTERN, name):
        raise ReleaseError(
            f"'{name}' cannot name a release: use letters, digits, dots, dashes and underscores (--name)"
        )
    if clip_frames and clip_frames < 4:
        raise ReleaseError(f"clip_frames (--clip) is {clip_frames}: a clip has at least 4 frames")
    if notice is not None:
        path = Path(notice)
        if not path.exists():
            raise ReleaseError(f"{path} does not exist; give a text file that goes along with the release (--notice)")
        if reason := unreadable_reason(path, _MOST_NOTICE):
            raise ReleaseError(f"{path}: {reason}; give a text file that goes along with the release (--notice)")


def _check_class_names(classes: Sequence[str]) -> None:
    for name in classes:
        if name.casefold() in (record.DICOM, record.PICTURES, record.BUNDLE):
            raise ReleaseError(f"a class is called '{name}', as a folder of every release is; train with another name")


def _loaded(images: ImageSet | str | Path | None, size: int) -> ImageSet | None:
    """Return real images, at `size` where they have not one size of their own."""
    if images is None or isinstance(images, ImageSet):
        return images
    try:
        return load(images)
    except MixedSizesError:
        return load(images, size)


def _training_images(train: ImageSet | str | Path | None, configs: Sequence[RunConfig]) -> tuple[ImageSet | None, bool]:
    """Return the images that the run was trained on, and whether they are those by its fingerprints.

    As `train` does: of the images at the size of the run, all, those of a class, or a subset that its seed drew.
    """
    size, wanted = configs[0].size, {config.data for config in configs}
    given = _loaded(train, size)
    if given is None:
        return None, False
    check_real(given, "training images")
    given = given if given.size == (size, size) else given.resized(size)
    present = tuple(name for name, count in given.class_counts.items() if count)
    n = sum(sum(config.class_counts) for config in configs)
    choices = [given]
    if n < len(given):
        named = given.with_classes(present)
        alone = [given.of_class(name) for config in configs for name in config.classes if name in given.classes]
        for one in (named, *(part.with_classes([c for c, k in part.class_counts.items() if k]) for part in alone)):
            if 0 < n < len(one):
                choices.append(one.subset(nested_subsets(one, range(len(one)), [n], 0, configs[0].seed)[n]))
        choices += alone
    for images in choices:
        if images.fingerprint() in wanted and len(wanted) == 1:
            return images, True
        parts = {images.of_class(name).fingerprint() for name, count in images.class_counts.items() if count}
        if parts == wanted:
            return images, True
    return given, False


def _about(about: TrainingData, configs: Sequence[RunConfig], real: ImageSet | None, confirmed: bool) -> TrainingData:
    counts = {
        name: count for config in configs for name, count in zip(config.classes, config.class_counts, strict=True)
    }
    return about.model_copy(
        update={
            "images": counts,
            "groups": len(np.unique(real.groups)) if real is not None and confirmed else None,
            "fingerprint": ", ".join(sorted({config.data for config in configs})),
            "confirmed": confirmed,
        }
    )


def _through_the_gate(
    run: Path,
    images: ImageSet,
    train: ImageSet | None,
    held_out: ImageSet | None,
    confirmed: bool,
    features: Sequence[str],
    seed: int,
    cache: str | Path | None,
    fresh: Callable[[str, int, int], ImageSet],
    progress: StageProgress | None,
) -> tuple[ImageSet, Privacy, Scorecard | None]:
    """Return the images without near-copies, what the gate found, and the scorecard."""
    if train is None:
        missing = "the training images are not there to compare with"
        checks = [not_measured("near_copies", "Near-copies", missing)]
        checks += [not_measured(name, title, missing) for name, title in _TITLES.items()]
        return images, Privacy(checks=tuple(checks), replaced=0), None
    identity = Check(
        name="training_images",
        title="Are these the training images?",
        features="fingerprint",
        state="passed" if confirmed else "failed",
        says="their fingerprint is the one that the generator has"
        if confirmed
        else "the images given are not those that the generator was trained on, so near-copies could be missed",
        limit="another fingerprint",
    )
    if progress:
        progress(0, None, "looking for near-copies")
    kept = None if cache is None else Path(cache)
    search = CopySearch(train, held_out, kept)
    compared = images if images.size == train.size else images.resized(train.size)
    found, copies = search.first(compared.images)

    def replacement(of_class: str, count: int, seed_: int) -> ImageSet:
        made = fresh(of_class, count, seed_)
        return made if made.size == images.size else made.resized(images.size)

    images, replaced = replace_copies(images, found, search, replacement, seed_of(seed, "release", "replacement"))
    card = score(train, images, held_out, features, seed, kept, progress)
    checks = [identity, *copies, *from_scorecard(card)]
    if held_out is None:
        wanted = "no real images that the generator has not seen were given"
        checks += [not_measured(name, title, wanted) for name, title in _TITLES.items()]
    else:
        by_discriminator = discriminator_membership(run, train, held_out)
        checks += [by_discriminator] if by_discriminator else []
    return images, Privacy(checks=tuple(checks), replaced=replaced), card


_TITLES = {"data_copying": "Data copying, C_T", "membership_auc": "Membership AUC"}


def _weights_path(run: Path, file: Path) -> str:
    """Return where a generator lies in a release: at its top, or in the folder of its class."""
    return GENERATOR if file.parent == run else f"{file.parent.name}/{GENERATOR}"


def _kimg(run: Path) -> float | None:
    files = generator_files(run)
    if not all((file.parent / LOG).is_file() for file in files):
        return None
    last = {line.get("run", ""): line["kimg"] for line in Run(run).log() if "kimg" in line}
    return float(sum(last.values())) if last else None


def _study_of(run: Path) -> StudyCitation | None:
    """Return the study in whose directory `run` lies."""
    for folder in run.resolve().parents[:6]:
        if (folder / STUDY_FILE).is_file():
            return StudyCitation(
                name=folder.name, sha256=hashlib.sha256((folder / STUDY_FILE).read_bytes()).hexdigest()
            )
    return None


def _config(made: Record, configs: Sequence[RunConfig]) -> dict[str, object]:
    """Return ``config.json``: what a hub of models wants to know of the weights beside it."""
    return {
        "library_name": "sonosynth",
        "sonosynth_version": made.sonosynth,
        "architecture": made.family,
        "image_size": configs[0].size,
        "weights": made.weights,
        "generators": [config.to_dict() for config in configs],
    }


def _write_metadata(images: ImageSet, folder: Path) -> None:
    """Write ``metadata.csv``, which Hugging Face image folders take labels from."""
    with (folder / record.METADATA).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*record.METADATA_COLUMNS, *images.extra])
        for i, path in enumerate(images.file_names()):
            more = [column[i] for column in images.extra.values()]
            writer.writerow([path, images.classes[images.labels[i]], images.ids[i], 1, *more])


def _write_dicom(images: ImageSet, walks: dict[str, np.ndarray], made: Record, folder: Path) -> None:
    weights = next(iter(made.weights.values()))
    if len(made.weights) > 1:
        weights = hashlib.sha256("".join(made.weights.values()).encode()).hexdigest()
    identity = dicom.Identity(made.identity, weights, made.sonosynth)
    for number, (path, image, label) in enumerate(
        zip(images.file_names(), images.images, images.labels, strict=True), 1
    ):
        target = folder / record.DICOM / path.removesuffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        content = dicom.image_file(image, images.classes[label], number, identity)
        target.with_name(f"{target.name}.dcm").write_bytes(content)
    for number, (of_class, frames) in enumerate(walks.items(), len(images) + 1):
        content = dicom.clip_file(frames, of_class, number, identity)
        (folder / record.DICOM / f"synthetic-clip-{number - len(images):02d}.dcm").write_bytes(content)
