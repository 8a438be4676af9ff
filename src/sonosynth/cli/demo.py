"""``sonosynth demo``: the whole product on simulated images."""

from pathlib import Path
from typing import Annotated

import typer

STUDY = """\
name: demo
data: {source: PHANTOMS, size: 64}
split: {test_fraction: 0.25, sizes: [30, 120], draws: 1, seed: 0}
gans:
  - {base: stylegan2, channel_base: 1024, batch: 8}
  - {base: fastgan, ngf: 16, ndf: 16}
training: {kimg: 5, mode: conditional, seeds: [0]}
scores: {features: [inception], n_synthetic: 150}
classifiers:
  networks: [resnet18]
  arms: [real, real+classical, real+synthetic, real+classical+synthetic]
  ratios: [1.0]
  seeds: [0, 1]
  steps: 40
"""
PER_CLASS = 80
SIZE = 64


def demo_study(phantoms: Path) -> str:
    """Return the study file of the demo, whose images are in `phantoms`."""
    import yaml

    source = str(phantoms).replace("$", "$$")  # as `design.expand` reads it
    return STUDY.replace("PHANTOMS", yaml.safe_dump(source, default_style='"', width=float("inf")).strip())


def demo(
    out: Annotated[Path, typer.Option(help="folder for phantoms, study and report; run it again to go on")] = Path(
        "demo"
    ),
) -> None:
    """Make simulated images, run a small study on them, and write its report: half an hour on two slow CPU cores.

    The last line printed is the path of the report.
    """
    from sonosynth.cli.study import run_to_report
    from sonosynth.core.files import check_output, write_text
    from sonosynth.data.prepared_folder import save_once
    from sonosynth.phantoms.phantom import phantom

    phantoms = out / "phantoms"
    check_output(study := out / "study.yaml")
    typer.echo(f"simulating {PER_CLASS} images a class in {phantoms}", err=True)
    arguments = {"command": "phantom", "per_class": PER_CLASS, "size": SIZE, "seed": 0}
    save_once(phantoms, arguments, lambda: (phantom(PER_CLASS, SIZE), []))
    write_text(study, demo_study(phantoms))
    report = run_to_report(study, out / "study")
    typer.echo(str(report))
