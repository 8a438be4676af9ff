"""Making a prior: a generator trained on many images of other patients, with what others need to know of it."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from sonosynth.core.errors import PriorError
from sonosynth.core.files import atomic_directory, check_output, unreadable_reason, write_json, write_text
from sonosynth.core.seeds import seed_of
from sonosynth.core.types import StageProgress
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepared_folder import prepare
from sonosynth.data.resize import Fit
from sonosynth.data.source import ReadOptions
from sonosynth.data.split import split
from sonosynth.features.registry import require_weights
from sonosynth.gan.checkpoint import GENERATOR, STATE, load_generator, load_state, read_config
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.sample import generate, save_image_grid
from sonosynth.gan.train import train
from sonosynth.gan.training.loop import Progress
from sonosynth.metrics.distances.kernel import snapshot_distance
from sonosynth.metrics.interpretation import format_value, interpret, with_baseline_rows
from sonosynth.metrics.metric import get_metric
from sonosynth.metrics.scorecard import Scorecard, score
from sonosynth.metrics.scores import ALL, AT_BASELINE, HELD_OUT
from sonosynth.priors.fingerprints import fingerprints
from sonosynth.priors.prior import (
    CARD,
    FINGERPRINTS,
    NAME_PATTERN,
    NOTICE,
    README,
    SAMPLES,
    WEIGHTS,
    Prior,
    PriorCard,
    PriorData,
    read_prior,
)

TEST_FRACTION, CHOOSE_FRACTION = 0.2, 0.1  # of the images, by patient
SCORED = 1000  # synthetic images of the scorecard
FEATURES = ("inception", "efficientnet-lite0")
_MOST_NOTICE = 1 << 20  # bytes


def make_prior(
    source: str | Path,
    out: str | Path,
    gan: str | Recipe = "fastgan",
    *,
    name: str | None = None,
    size: int = 64,
    fit: Fit = "stretch",
    kimg: float = 150.0,
    patience_kimg: float | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    work: str | Path | None = None,
    data_name: str | None = None,
    citation: str = "",
    licence: str = "",
    notice: str | Path | None = None,
    groups: str | Path | None = None,
    options: ReadOptions | None = None,
    features: Sequence[str] | None = None,
    progress: Progress | None = None,
    scoring: StageProgress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Prior:
    """Train a class-conditional generator on `source`, audit it, and write it as a prior that other runs start from.

    The images are divided by group (patient) once: 70 % train, 10 % tell whether training still helps, and 20 % are
    opened once, at the end, for the scorecard. The same call again goes on where it was interrupted. The prior has the
    averaged generator and the discriminator at the end of training in half precision, fingerprints of the pictures that
    were seen in training, a card, and a grid of samples. It is written only if no measure of memorisation finds that it
    copies its training images.

    Args:
        source: what `prepare` takes: a folder with one folder per class, a manifest.csv, an .npz file, or an image set.
        out: folder of the prior to write; must be empty or not there.
        gan: a recipe, or its name.
        name: of the prior, in lower case; the name of `out` if not given.
        size: image side in pixels: 32, 64, 128, 256 or 512.
        fit: how images become square; see `prepare`.
        kimg: thousands of images to show.
        patience_kimg: end training when the distance to the 10 % has not improved for so long.
        settings: settings of the recipe to change.
        seed: of training, of the division, and of the images that are scored.
        work: folder for the prepared images and the run, which are not part of the prior; `out` with ``-work`` behind
            it if not given.
        data_name: what to call the images; the name of `source` if not given.
        citation: what users of the prior have to cite.
        licence: the terms of the images, and what they say of weights that are made from them.
        notice: a text file that has to go along, such as the licence of the images.
        groups: a table of the images that belong together, as for `prepare`.
        options: what the files do not say themselves.
        features: networks of the scorecard; Inception and EfficientNet-Lite0 if not given.
        progress: as for `train`.
        scoring: as for `score`.
        tell: called with lines for the user.

    Raises:
        PriorError: the generator copies its training images, or the name or the notice cannot be used.
        SonosynthError: what `prepare`, `split`, `train` and `score` raise.
    """
    out = Path(out)
    called = (name or out.name).lower()
    _check(called, notice)
    check_output(out, directory=True)
    work = Path(work) if work else out.with_name(f"{out.name}-work")
    networks = FEATURES if features is None else features
    require_weights(networks)
    made = prepare(source, work / "images", size, fit=fit, groups=groups, options=options)
    parts = divide(made.images, seed)
    if tell:
        for line in made.notes:
            tell(f"note: {line}")
    chosen_by = parts["choose"]
    run = train(
        parts["train"],
        gan,
        work / "run",
        settings=settings,
        kimg=kimg,
        conditional=True,
        seed=seed,
        distance_to=lambda _: snapshot_distance(chosen_by),
        patience_kimg=patience_kimg,
        progress=progress,
        tell=tell,
    )
    directory = run.directory
    synthetic = generate(run, max(SCORED, len(parts["test"])), seed=seed_of(seed, "prior"))
    card = score(parts["train"], synthetic, parts["test"], networks, seed, work / "cache", scoring)
    audit, copies = memorisation(card)
    if copies:
        raise PriorError(
            f"no prior is written, since it would copy training images ({copies[0]}); train it for less time (--kimg), "
            f"or on more images; the run stays in {directory}"
        )
    config, seen = read_config(directory / GENERATOR), [parts["train"], parts["choose"]]
    tensors = _half(directory, np.concatenate([fingerprints(part) for part in seen]))
    metadata = {"sonosynth": json.dumps(config.to_dict(), sort_keys=True)}
    content = save(tensors, metadata)
    described = PriorCard(
        name=called,
        family=config.recipe.family,
        recipe=config.recipe.record(),
        size=size,
        classes=config.classes,
        kimg=run.log()[-1]["kimg"],
        seed=seed,
        data=PriorData(
            name=data_name or Path(source).name,
            citation=citation,
            licence=licence,
            images={part: images.class_counts for part, images in parts.items()},
            groups={part: len(np.unique(images.groups)) for part, images in parts.items()},
            fingerprint=made.images.fingerprint(),
        ),
        scores=tuple(row.model_dump(by_alias=True) for row in card.scores),
        audit=tuple(audit),
        sonosynth=version("sonosynth"),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    with atomic_directory(out) as beside:
        (beside / WEIGHTS).write_bytes(content)
        write_json(beside / CARD, described.model_dump())
        shown = [synthetic.of_class(name).images[:8] for name in config.classes]
        save_image_grid(np.concatenate(shown), beside / SAMPLES, columns=8)
        if notice:
            write_text(beside / NOTICE, Path(notice).read_text(encoding="utf-8"))
        write_text(beside / README, readme(described, card, bool(notice)))
    return read_prior(out)


def _check(name: str, notice: str | Path | None) -> None:
    """Raise PriorError unless `name` can be that of a prior and `notice` is a text file, before anything is trained."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise PriorError(f"'{name}' cannot name a prior: use letters, digits, dots, dashes and underscores (--name)")
    if notice is None:
        return
    reason = unreadable_reason(Path(notice), _MOST_NOTICE)
    if reason:
        raise PriorError(f"{notice}: {reason}; give a text file that goes along with the prior (--notice)")
    try:
        Path(notice).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PriorError(
            f"{notice} is not a text in UTF-8; give one that goes along with the prior (--notice)"
        ) from error


def divide(data: ImageSet, seed: int) -> dict[str, ImageSet]:
    """Return the images of a prior by part, no group in two: ``train``, ``choose`` and ``test``. Raises SplitError."""
    rest, test = split(data, TEST_FRACTION, seed)
    train_, choose = split(rest, CHOOSE_FRACTION / (1 - TEST_FRACTION), seed)
    return {"train": train_, "choose": choose, "test": test}


def memorisation(card: Scorecard) -> tuple[list[str], list[str]]:
    """Return what the measures of memorisation say over all classes, and of these what says that images are copied."""
    lines, copies = [], []
    for row, at_baseline in with_baseline_rows(card.scores):
        metric = get_metric(row.metric, row.features)
        if metric.part != "memorisation" or row.class_ != ALL:
            continue
        said = interpret(row, at_baseline)
        lines.append(f"{metric.title} ({row.features}) {format_value(metric, row.value)}: {said.text}")
        if said.state == "worse":
            copies.append(lines[-1])
    return lines, copies


def _half(run: Path, hashes: np.ndarray) -> dict[str, torch.Tensor]:
    """Return the tensors of a prior's file, weights in half precision."""
    cpu = torch.device("cpu")
    generator, _ = load_generator(run / GENERATOR, cpu)
    networks = {"generator": generator.state_dict(), "discriminator": load_state(run / STATE, cpu)["discriminator"]}
    tensors = {FINGERPRINTS: torch.from_numpy(hashes)}
    for network, state in networks.items():
        for name, tensor in state.items():
            half = tensor.half() if tensor.is_floating_point() else tensor
            if not bool(torch.isfinite(half).all()):
                raise PriorError(f"{run}: {network}.{name} has values that half precision cannot hold; train it anew")
            tensors[f"{network}.{name}"] = half.contiguous()
    return tensors


def readme(prior: PriorCard, card: Scorecard, notice: bool) -> str:
    """Return the card of a prior as a text that people read."""
    data = prior.data
    lines = [
        f"# {prior.name}",
        "",
        f"A generator of synthetic ultrasound images to start from: family {prior.family}, {prior.size} px, classes "
        f"{', '.join(prior.classes)}; trained for {prior.kimg:g} kimg with sonosynth {prior.sonosynth}, seed "
        f"{prior.seed}. It is no medical device, and its images are of no patient.",
        "",
        f"    sonosynth train my-images --gan {prior.family}+prior --from prior:{prior.name} --out run",
        "",
        f"Where it does not come with sonosynth, its folder stands in the place of `prior:{prior.name}`.",
        "",
        f"## Data: {data.name}",
        "",
        "| part | groups | " + " | ".join(prior.classes) + " | used for |",
        "|---|---|" + "---|" * (len(prior.classes) + 1),
    ]
    uses = {"train": "training", "choose": "when to end training", "test": "the scorecard, once"}
    for part, use in uses.items():
        counts = " | ".join(str(data.images[part].get(name, 0)) for name in prior.classes)
        lines.append(f"| {part} | {data.groups[part]} | {counts} | {use} |")
    lines += ["", "No group (patient) is in two parts.", ""]
    if data.citation:
        lines += [f"Cite: {data.citation}.", ""]
    if data.licence:
        lines += [f"Licence of the images: {data.licence}.{f' Its text is in {NOTICE}.' if notice else ''}", ""]
    lines += ["## Does it copy its training images?", "", *(f"- {line}" for line in prior.audit), ""]
    lines += [
        "## Scorecard against the test patients",
        "",
        "| measure | features | value | interval | real baseline | n |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for row in card.scores:
        metric = get_metric(row.metric, row.features)
        if row.class_ != ALL or row.reference != HELD_OUT or row.value is None or row.metric.endswith(AT_BASELINE):
            continue
        value, low, high, real = (format_value(metric, v) for v in (row.value, row.low, row.high, row.real_baseline))
        between = f"{low} to {high}" if low and high else ""
        lines.append(
            f"| {metric.title} | {row.features} | {value} | {between} | {real} | {row.n_real}, {row.n_synthetic} |"
        )
    lines += ["", "The last column counts real and synthetic images. All rows, by class too, are in `card.json`.", ""]
    return "\n".join(lines)
