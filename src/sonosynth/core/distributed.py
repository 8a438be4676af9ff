"""Several processes that train one generator together, each with an equal, contiguous share of every batch.

Without a process group there is one process, and everything here leaves its arguments as they are. Several are started
by `launch`, or from outside by whatever Fabric knows (torchrun, SLURM).
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sonosynth.core.device import default_device
from sonosynth.core.errors import ProcessError


@dataclass(frozen=True)
class RankSlice:
    """Which part of every batch this process works on: number `index` of `count` equal parts."""

    index: int = 0
    count: int = 1

    def of(self, total: int) -> slice:
        """Return where this part stands among `total` things, a multiple of `count`."""
        each = total // self.count
        return slice(self.index * each, (self.index + 1) * each)


def rank_slice() -> RankSlice:
    """Return the share of this process."""
    return RankSlice(dist.get_rank(), dist.get_world_size()) if _several() else RankSlice()


def is_main_process() -> bool:
    """Return whether this is the process that writes, reports and asks."""
    return rank_slice().index == 0


def barrier() -> None:
    """Return when every process has come here."""
    if _several():
        dist.barrier()


def mean(x: Tensor) -> Tensor:
    """Return the mean of `x` over the processes, differentiable if `x` is; each process gives the same shape."""
    return _Mean.apply(x) if _several() else x  # type: ignore[no-untyped-call]


def average_(tensors: Sequence[Tensor]) -> None:
    """Replace `tensors` by their means over the processes, in one exchange of one flat buffer."""
    if not _several() or not tensors:
        return
    flat = _averaged(torch.cat([x.reshape(-1) for x in tensors]))
    parts = torch.split(flat, [x.numel() for x in tensors])
    torch._foreach_copy_(list(tensors), [part.view(x.shape) for part, x in zip(parts, tensors, strict=True)])


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` is set in any process; waits for all of them."""
    if not _several():
        return flag
    flags = torch.tensor(float(flag), device=device)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def broadcast_from_main(value: float, device: torch.device) -> float:
    """Return the `value` of the process that leads."""
    if not _several():
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


@contextmanager
def launch(devices: int, nodes: int) -> Iterator[torch.device]:
    """Run the block in ``devices · nodes`` processes and yield the device of this one.

    Only the leader is heard, and only the leader goes on after the block. Where nothing outside has started the
    processes of this machine, this command is run again for all but the first; they end with it. Several machines run
    the same command, with ``MASTER_ADDR``, ``MASTER_PORT`` and ``NODE_RANK`` set, or under torchrun or SLURM. Where a
    machine has no GPU, `devices` are processes on its CPU.

    Raises:
        ProcessError: there are not so many GPUs, or it is not said where the other machines are.
    """
    if devices * nodes == 1:
        yield default_device()
        return
    if nodes > 1 and "SLURM_JOB_ID" not in os.environ:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        missing += ["NODE_RANK"] if not {"NODE_RANK", "GROUP_RANK"} & os.environ.keys() else []
        if missing:
            raise ProcessError(
                f"--nodes {nodes}: {', '.join(missing)} not set; every machine needs the address and a free port of "
                "the first one, and its own number from 0, or start the command with torchrun"
            )
    import lightning_fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    on_gpu = default_device().type == "cuda"
    if on_gpu and devices > torch.cuda.device_count():
        raise ProcessError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs; ask for fewer")
    fabric = lightning_fabric.Fabric(
        accelerator="cuda" if on_gpu else "cpu", devices=devices, num_nodes=nodes, strategy="ddp"
    )
    try:
        fabric.launch()
        if is_main_process():
            yield fabric.device
        else:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield fabric.device
            raise SystemExit(0)
    except KeyboardInterrupt:
        if not is_main_process():
            raise SystemExit(130) from None
        raise
    finally:
        launcher: Any = fabric.strategy.launcher
        for process in getattr(launcher, "procs", ()):
            process.terminate()
        if _several():
            dist.destroy_process_group()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _averaged(x: Tensor) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total.div_(dist.get_world_size())


class _Mean(torch.autograd.Function):
    """The loss is a mean over processes too, so the gradient of a mean is the mean of its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _averaged(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _averaged(gradients[0])
