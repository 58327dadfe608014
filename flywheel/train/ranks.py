"""What the processes of a run say to each other: sums, one clock, one decision for all."""

import time
from typing import TypeVar

import torch

from flywheel.process.worker import local_rank, rank, world

T = TypeVar("T")


def barrier() -> None:
    """Wait for every process of the run."""
    if world() > 1:
        torch.distributed.barrier()


def own_device() -> torch.device:
    """The device of this process."""
    return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def summed(values: list[float]) -> list[float]:
    """Sum numbers over all processes."""
    if world() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=own_device())
    torch.distributed.all_reduce(total)
    return total.tolist()


def shared_clock() -> float:
    """Seconds by the clock of the first process: all of them end a piece of work at once."""
    return summed([time.monotonic() if rank() == 0 else 0.0])[0]


def agreed(value: T) -> T:
    """What the first process says; the others' values are ignored."""
    if world() == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def from_each(value: T) -> list[T]:
    """The value of every process, by rank."""
    if world() == 1:
        return [value]
    found: list[T] = [value] * world()
    torch.distributed.all_gather_object(found, value)
    return found
