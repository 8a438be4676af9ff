"""Study directories with made-up numbers: no training, only files of the right shape."""

import hashlib
import json
from pathlib import Path

import numpy as np
import yaml

from sonosynth.classify.scores import score_predictions
from sonosynth.core.files import read_json, write_json, write_text
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.registry import list_gans

CLASSES = ("benign", "malignant", "normal")
ARMS = ("real", "real+classical", "real+synthetic", "real+classical+synthetic")


def picture(random, label, px):
    """A speckled oval on a depth gradient: enough to tell the classes apart by eye."""
    y, x = np.mgrid[0:px, 0:px] / px - 0.5
    radius = (0.30, 0.22, 0.0)[label % 3]
    oval = (x / (1.4 if label == 0 else 0.8)) ** 2 + y**2 < radius**2
    mean = np.where(oval, 45, 120) * (1 - 0.5 * (y + 0.5))
    return np.clip(mean * random.rayleigh(0.8, (px, px)), 0, 255).astype(np.uint8)


def image_set(random, n, px, classes=CLASSES, synthetic=False, origin=None):
    labels = np.sort(random.choice(len(classes), n, p=[0.5, 0.3, 0.2]))
    return ImageSet(
        images=np.stack([picture(random, label, px) for label in labels]),
        labels=labels,
        classes=classes,
        groups=np.arange(n) // 2 * 2,
        ids=tuple(f"{'syn' if synthetic else 'img'}{i:04d}" for i in range(n)),
        synthetic=synthetic,
        extra={"origin": (origin,) * n} if origin else {},
    )


def gan_entry(name, mode):
    if mode is None:
        return {"name": name, "folder": "made-elsewhere"}
    return {"base": name} if name in list_gans() else {"base": "stylegan2-diffaug", "name": name}


def write_fake_study(
    study: Path,
    gans=("stylegan2", "stylegan2-diffaug"),
    sizes=(20, 40),
    draws=1,
    seeds=(0, 1),
    arms=ARMS,
    ratios=(1.0,),
    px=32,
    n=120,
    mode="conditional",
    origin=None,
    own_test=False,
    per_class=False,
    repeats=None,
):
    """Write a study directory with made-up numbers: no training, only files of the right shape."""
    random = np.random.default_rng(3)
    data = image_set(random, n, px, origin=origin)
    data.save(study / "data")
    parts = [_make_split(random, data, sizes, range(draws) if repeats is None else (r,)) for r in range(repeats or 1)]
    tests = [data.subset(part["test"]) for part in parts]
    if own_test:
        tests = [image_set(random, n // 4, px, origin=origin)]
        tests[0].save(study / "test")
        parts[0]["test"] = None
    write_json(study / "split.json", parts[0] if repeats is None else {"repeats": parts})
    subsets = [subset for part in parts for subset in part["subsets"]]
    split = {"draws": draws} if repeats is None else {"repeats": repeats}
    design = {
        "name": "made-up numbers",
        "data": {"source": "<images>", "size": px, "fit": "stretch", "classes": list(CLASSES)},
        "split": {"test_fraction": 0.25, "sizes": list(sizes), "seed": 11} | split,
        "gans": [gan_entry(gan, mode) for gan in gans],
        "training": {"kimg": 5, "mode": mode, "seeds": [0]},
        "scores": {"features": ["inception"], "n_synthetic": 500},
        "classifiers": {
            "networks": ["resnet18"],
            "arms": list(arms),
            "ratios": list(ratios),
            "seeds": list(seeds),
            "steps": 200,
        },
    }
    write_text(study / "study.yaml", yaml.safe_dump(design, sort_keys=False))
    write_json(
        study / "provenance.json",
        {
            "command": "sonosynth study run study.yaml --out runs/made-up",
            "system": "Linux",
            "device": "CPU (x86_64, AVX2)",
            "cores": 2,
            "threads": 2,
            "python": "3.11.2",
            "versions": {"sonosynth": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
            "data": {
                "source": "<images>",
                "kind": "folder of classes",
                "fingerprint": data.fingerprint(),
                "notes": ["15 images were stored as RGB and reduced to grey"],
            },
        },
    )
    for s in subsets:
        test_set = tests[0 if repeats is None else s["draw"]]
        for i, gan in enumerate(gans):
            _write_generator(study, random, gan, i, mode, s, px, per_class)
            for arm in (a for a in arms if "synthetic" in a):
                for ratio in ratios:
                    for seed in seeds:
                        extra = {"gan": gan, "mode": mode, "gan_seed": 0 if mode else None, "ratio": ratio}
                        _write_classifier(study, random, test_set, arm, s, seed, extra, 0.03 + 0.05 * i)
        for arm in (a for a in arms if "synthetic" not in a):
            for ratio in ratios if arm == "oversampled" else (None,):
                for seed in seeds:
                    extra = {"gan": None, "mode": None, "gan_seed": None, "ratio": ratio}
                    _write_classifier(study, random, test_set, arm, s, seed, extra, 0.05 * ("classical" in arm))
    return study


def _make_split(random, data, sizes, draws):
    by_group = random.permutation(np.unique(data.groups))
    order = np.concatenate([np.flatnonzero(data.groups == g) for g in by_group])
    test, rest = order[: len(data) // 4], order[len(data) // 4 :]
    subsets = []
    for draw in draws:
        shuffled = random.permutation(rest)
        subsets += [{"size": s, "draw": draw, "n": s, "indices": shuffled[:s].tolist()} for s in sizes]
    return {"test": test.tolist(), "subsets": subsets}


def _write_generator(study, random, gan, i, mode, s, px, per_class):
    where = {"gan": gan, "mode": mode, "size": s["size"], "draw": s["draw"], "seed": 0 if mode else None}
    gallery = f"galleries/{gan}-{s['size']}-{s['draw']}"
    synthetic = image_set(random, 40, px, synthetic=True)
    synthetic.save(study / gallery)
    trained = {
        "kimg": 5.0,
        "seconds": 210.5,
        "img_per_s": 24.1,
        "parameters_generator": 2_345_678,
        "parameters_discriminator": 3_456_789,
        "gallery": gallery,
    }
    write_cell(study, dict(kind="train", **where), trained if mode else {"gallery": gallery})
    rows = []
    for reference, n_real in (("train", s["n"]), ("held-out", 30)):
        for class_name in ("all", *(CLASSES if per_class else ())):
            for metric, value in (
                ("frechet_distance", 140 * 0.7**i - 0.1 * s["size"]),
                ("kernel_distance", 0.09 * 0.7**i),
            ):
                value *= 1.1 if reference == "held-out" else 1
                value *= random.uniform(0.9, 1.1)
                common = {"features": "inception", "reference": reference, "n_real": n_real, "n_synthetic": 500}
                common["class"] = class_name
                low, high = value * 0.88, value * 1.14
                baseline = {"real_baseline": None, "real_baseline_n": None}
                if n_real >= 20:
                    baseline = {
                        "real_baseline": 25.0 if metric == "frechet_distance" else 0.004,
                        "real_baseline_n": n_real,
                    }
                rows.append(dict(common, metric=metric, value=value, low=low, high=high, **baseline))
                if n_real >= 20:
                    small = {"value": value * 1.2, "low": None, "high": None, "n_synthetic": n_real}
                    rows.append(dict(common, metric=f"{metric}_at_baseline_n", **baseline) | small)
    write_cell(study, dict(kind="score", **where), {"scores": rows})


def _write_classifier(study, random, test, arm, s, seed, extra, gain):
    tested_on = "synthetic" if arm == "test-on-synthetic" else "real"
    if tested_on == "synthetic":
        test = image_set(random, 50, test.size[0], synthetic=True)
    n, n_classes = len(test), len(CLASSES)
    logits = random.normal(0, 1, (n, n_classes))
    logits[np.arange(n), test.labels] += 0.6 + 0.01 * s["size"] + 10 * gain
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (test.labels, predicted), 1)
    n_synthetic = int(s["n"] * (extra["ratio"] or 0)) if extra["gan"] and tested_on == "real" else 0
    write_cell(
        study,
        dict(kind="classify", network="resnet18", arm=arm, size=s["size"], draw=s["draw"], seed=seed, **extra),
        {
            "probabilities": probabilities.tolist(),
            "labels": test.labels.tolist(),
            "confusion": confusion.tolist(),
            "metrics": score_predictions(probabilities, test),
            "n_train": 0 if arm == "synthetic-only" else s["n"],
            "n_synthetic": n_synthetic,
            "n_test": n,
            "tested_on": tested_on,
            "seconds": 12.5,
        },
    )


def write_cell(study, cell, result):
    name = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:16]
    write_json(study / "cells" / f"{name}.json", {"cell": cell, "result": result})


def cells_of(study, kind):
    return [path for path in sorted((study / "cells").glob("*.json")) if read_json(path)["cell"]["kind"] == kind]
