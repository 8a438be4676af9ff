"""A Slurm cluster of one node on this machine, from Debian's packages ``slurm-wlm`` and ``munge``: no mock.

Its munged has a key of its own, and everything lies in a folder of the test. It must be started as root.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={at}/munge.socket
StateSaveLocation={at}/state
SlurmdSpoolDir={at}/spool
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/slurmd.pid
SlurmctldLogFile={at}/slurmctld.log
SlurmdLogFile={at}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=one Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Return why no cluster can be started here, or None."""
    lacking = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if lacking:
        return f"no {', '.join(lacking)}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "munged and slurmd of a test need root"


@contextmanager
def slurm_cluster(at: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start a cluster whose files are in `at`, and yield the environment in which its commands work."""
    for name in ("state", "spool"):
        (at / name).mkdir(parents=True)
    key = at / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    conf = at / "slurm.conf"
    conf.write_text(CONF.format(host=socket.gethostname().split(".")[0], at=at, cpus=cpus, ports=ports))
    environment = os.environ | {"SLURM_CONF": str(conf)}
    files = [f"--{name}={at}/munge.{name.split('-')[0]}" for name in ("socket", "key-file", "pid-file", "log-file")]
    commands = [
        ["munged", "--foreground", "--force", f"--seed-file={at}/munge.seed", *files],
        ["slurmctld", "-D", "-c", "-f", str(conf)],
        ["slurmd", "-D", "-N", "one", "-f", str(conf)],
    ]
    daemons: list[subprocess.Popen] = []
    try:
        for command in commands:
            with (at / f"{command[0]}.out").open("w") as out:
                daemons.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
            time.sleep(1)
        deadline = time.monotonic() + 120
        while (
            "idle"
            not in subprocess.run(
                ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True, check=False
            ).stdout
        ):
            assert time.monotonic() < deadline, "\n".join(path.read_text() for path in at.glob("*.out"))
            time.sleep(0.5)
        yield environment
        subprocess.run(["scancel", "--user=root", "--signal=KILL"], env=environment, check=False)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:  # slurmd waits for a job that does not end
                daemon.kill()
                daemon.wait()
