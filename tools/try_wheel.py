"""Try the built wheel as its users do: python tools/try_wheel.py dist/sonosynth-*.whl.

It is installed into an empty environment and used without a network and with nothing else on the path, so without git,
make and a compiler: commands, the Python API, and 1 kimg of training from a prior. Prints what each step cost.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
PUBLIC = "import sonosynth as ss; [getattr(ss, name) for name in ss.__all__]; print(ss.list_priors()[0])"
STEPS = (  # what is told, and the command
    ("help", "sonosynth --help"),
    ("public names", ["python", "-c", PUBLIC]),
    ("priors", "sonosynth priors"),
    ("51 simulated images", "sonosynth data phantom --out images --per-class 17 --size 64"),
    ("training from a prior", "sonosynth train images --gan fastgan+prior --kimg 1 --size 64 --out run --track none"),
    ("50 synthetic images", "sonosynth generate run --out synthetic -n 50 --seed 1 --grid"),
)


def main() -> None:
    """Install and try the wheel that the command line names; exit status 1 where a step fails."""
    wheel = Path(sys.argv[1]).resolve()
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        began = time.monotonic()
        venv.create(environment, with_pip=True)
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile"]
        subprocess.run([*pip, "--constraint", CONSTRAINTS, wheel], check=True)
        print(f"{'installing':<24} {time.monotonic() - began:6.1f} s")
        for told, command in STEPS:
            seconds = timed(command.split() if isinstance(command, str) else command, environment, Path(folder))
            print(f"{told:<24} {seconds:6.1f} s")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"{'most memory':<24} {peak:6.2f} GiB, of any of these processes")


def timed(command: Sequence[str], environment: Path, folder: Path) -> float:
    """Run `command` of `environment` in `folder`, without a network where that can be; return the seconds."""
    program = environment / "bin" / command[0]
    variables = {"PATH": str(environment / "bin"), "HOME": str(folder), "LANG": os.environ.get("LANG", "C.UTF-8")}
    alone = [unshare, "--map-root-user", "--net"] if (unshare := shutil.which("unshare")) else []
    began = time.monotonic()
    done = subprocess.run([*alone, program, *command[1:]], env=variables, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
