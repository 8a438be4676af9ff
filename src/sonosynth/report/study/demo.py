"""The demo: a small study of simulated images, ready to run."""

from collections.abc import Callable
from pathlib import Path

import yaml

from sonosynth.core.files import check_output, write_text
from sonosynth.phantoms.phantom import write_phantoms

PER_CLASS, SIZE = 60, 64
STUDY = """\
name: demo
data: {source: PHANTOMS, size: 64}
split: {test_fraction: 0.25, sizes: [30, 120], draws: 1, seed: 0, naive: false}
gans:
  - {base: fastgan, ngf: 16, ndf: 16, kimg: 3}
  - {base: fastgan+prior, kimg: 1}
training: {mode: conditional, seeds: [0]}
scores: {features: [efficientnet-lite0], n_synthetic: 150}
classifiers:
  networks: [resnet18]
  arms: [real, real+classical, real+synthetic, real+classical+synthetic]
  ratios: [1.0]
  seeds: [0, 1]
  steps: 40
"""


def demo_study(phantoms: Path) -> str:
    """Return the study file of the demo, whose images are in `phantoms`."""
    source = str(phantoms).replace("$", "$$")  # as `design.expand` reads it
    return STUDY.replace("PHANTOMS", yaml.safe_dump(source, default_style='"', width=float("inf")).strip())


def write_demo(out: Path, tell: Callable[[str], object]) -> Path:
    """Write simulated images and a study file of them to the folder `out`, and return the path of the study file.

    Images that an earlier call wrote are kept. `tell` is called with what is being done.

    Raises:
        OutputError: `out` holds something else, or cannot be written.
    """
    phantoms, study = out / "phantoms", out / "study.yaml"
    check_output(study)
    tell(f"simulating {PER_CLASS} images per class in {phantoms}")
    write_phantoms(phantoms, PER_CLASS, SIZE)
    write_text(study, demo_study(phantoms))
    return study
