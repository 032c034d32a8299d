"""One process or several: devices, the processes of torchrun, and what goes wrong between them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from q2d2.bfloat16 import check_bfloat16
from q2d2.training.state import TrainingError

# A process that is gone must not be waited for much longer than a step takes, a slow disk included.
TIMEOUT = timedelta(minutes=5)
# How gloo and NCCL report that another process no longer answers; neither has an error class of its own for it.
_LOST = re.compile(r"connection (closed|reset|refused)|timed? ?out|broken pipe|gloo|nccl|watchdog|store", re.IGNORECASE)


def launch(device: str, precision: str) -> Fabric:
    """A Fabric for this process: alone on one device, or one of those that torchrun started.

    Args:
        device: "auto" (a CUDA device if there is one), "cpu" or "cuda".
        precision: as Fabric names it.

    Raises:
        TrainingError: torchrun started more processes on this machine than it has GPUs.
        WrongArithmetic: `precision` is bfloat16, on a CPU that computes wrong numbers in it.
    """
    accelerator = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cpu" and precision.startswith("bf16"):
        check_bfloat16()
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if "LOCAL_RANK" not in os.environ or world_size == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world_size)))
    if accelerator == "cuda" and local > torch.cuda.device_count():
        raise TrainingError(
            f"{local} processes on this machine, which has {torch.cuda.device_count()} GPUs: "
            "start as many as there are GPUs (torchrun --nproc-per-node), or use --device cpu"
        )
    # Codebooks are buffers and agree by themselves: copying them from rank 0 would only hide it if they did not.
    # The option's newer name is unknown to the oldest torch in use.
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    strategy = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True, timeout=TIMEOUT)
    fabric = Fabric(
        accelerator=accelerator, devices=local, num_nodes=world_size // local, strategy=strategy,
        precision=precision,  # type: ignore[arg-type]
    )  # fmt: skip
    fabric.launch()
    return fabric


@contextmanager
def others_may_fail(fabric: Fabric, kept: str) -> Iterator[None]:
    """Turn what torch reports when another process is gone into one clear line.

    Args:
        fabric: of this process.
        kept: what is kept and how to go on, for the message.
    """
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1 or isinstance(error, TrainingError) or not _LOST.search(str(error)):
            raise
        first = str(error).strip().splitlines()[0][:200]
        raise TrainingError(
            f"rank {fabric.global_rank} of {fabric.world_size}: another process of this training is gone or no longer "
            f"answers ({first}). {kept}"
        ) from error


def require_equal(fabric: Fabric, values: Iterable[Tensor], what: str) -> None:
    """Check that all processes hold equal tensors, to the bit.

    Raises:
        TrainingError: they do not; `what` names the tensors.
    """
    if fabric.world_size == 1:
        return
    everybody = gather(fabric, checksums(values))
    differing = (everybody != everybody[0]).any(dim=1).nonzero().flatten().tolist()
    if differing:
        raise TrainingError(f"{what}: those of rank {', '.join(map(str, differing))} differ from those of rank 0")


def checksums(values: Iterable[Tensor]) -> Tensor:
    """An int64 for each tensor, which a change of any bit or place changes, however small its effect on a sum."""
    sums = [
        (bits.flatten() * torch.arange(1, bits.numel() + 1, device=bits.device)).sum()
        for bits in (_bits(value) for value in values)
    ]
    return torch.stack(sums)


def gather(fabric: Fabric, value: Tensor) -> Tensor:
    """The value of every process, stacked by rank; `value` has the same shape on all of them."""
    value = value.to(fabric.device)
    if fabric.world_size == 1:
        return value[None]
    everybody = [torch.empty_like(value) for _ in range(fabric.world_size)]
    dist.all_gather(everybody, value)
    return torch.stack(everybody)


def state_tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a module, in a fixed order."""
    return [tensor.detach() for tensor in module.state_dict().values()]


def _bits(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
    return tensor.long()
