"""A MONAI bundle of the generator, ``configs/metadata.json`` and ``configs/inference.json``, for MONAI's own runner."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from sonosynth.core.files import write_json
from sonosynth.release.record import BUNDLE, Record


def write_bundle(made: Record, folder: Path) -> None:
    """Write the configuration of a bundle whose root is the release in `folder`.

    ``python -m monai.bundle run --bundle_root DIR --config_file DIR/configs/inference.json --output_dir OUT`` makes
    images, where MONAI's extra ``fire`` is installed.
    """
    (folder / BUNDLE).mkdir()
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "US",
        "num_channels": 1,
        "spatial_shape": [made.height, made.width],
        "dtype": "uint8",
        "value_range": [0, 255],
        "is_patch_data": False,
        "channel_def": {"0": "grey"},
    }
    metadata: dict[str, Any] = {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": "first release"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"sonosynth": made.sonosynth},
        "name": made.name,
        "task": "generation of synthetic ultrasound images",
        "description": f"{made.family} generator; classes {', '.join(made.classes)}. No image is of a patient.",
        "authors": "whoever made this release",
        "copyright": made.licence or "not stated",
        "data_source": made.training.name or "not stated",
        "intended_use": "research; not for diagnosis",
        "network_data_format": {"inputs": {}, "outputs": {"images": image}},
    }
    inference = {
        "imports": ["$import sonosynth as ss"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/generated'",
        "n": 8,
        "seed": made.seed,
        "images": "$ss.generate(ss.load_run(@bundle_root), @n, seed=@seed)",
        "run": ["$@images.save(@output_dir)"],
    }
    write_json(folder / BUNDLE / "metadata.json", metadata)
    write_json(folder / BUNDLE / "inference.json", inference)
