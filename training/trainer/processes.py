"""Several processes that train as one: Lightning Fabric starts and connects them, sums are taken here.

Every process holds all people and the whole network, works on its share of a step's frames, and adds its gradients to
those of the others. Nothing else differs between one process and many.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...runtime.errors import BackendError

__all__ = ["Processes", "launch"]

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Processes:
    """This process among its `world`. `fabric` is None where it is alone."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")
    fabric: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def share(self, slots: Sequence[Result]) -> Sequence[Result]:
        """This process's part of a step's slots."""
        return slots[self.rank :: self.world]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.fabric is None:
            return flag
        return bool(self.sum(torch.tensor([float(flag)], device=self.device)).item() > 0)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.fabric is None:
            return values
        total: Tensor = self.fabric.all_reduce(values, reduce_op="sum")
        return total

    @torch.no_grad()
    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over all processes; one that nobody has stays None."""
        if self.fabric is None:
            return
        leaves = list(parameters)
        parts = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        there = torch.tensor([float(leaf.grad is not None) for leaf in leaves], device=self.device)
        flat = self.sum(torch.cat([there, *(part.reshape(-1) for part in parts)]))
        place = len(leaves)
        for index, leaf in enumerate(leaves):
            if flat[index] > 0:
                leaf.grad = flat[place : place + leaf.numel()].reshape(leaf.shape).clone()
            place += leaf.numel()


def launch(work: Callable[..., Result], devices: int, accelerator: str, *arguments: Any) -> Result:
    """Call `work(processes, *arguments)` in `devices` processes; the first one's result.

    `work` and its arguments must be picklable if there is more than one.

    Raises:
        BackendError: there are not so many devices.
    """
    _check(devices, accelerator)
    if devices == 1:
        return work(Processes(device=torch.device("cuda" if accelerator == "cuda" else "cpu")), *arguments)
    from lightning_fabric import Fabric  # half a minute on a busy machine, so only where it is needed
    from lightning_fabric.strategies.ddp import DDPStrategy
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    fabric = Fabric(accelerator=accelerator, devices=devices, strategy=DDPStrategy(start_method="spawn"))
    threads = max(1, torch.get_num_threads() // devices)
    previous = {number: signal.signal(number, _pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        result: Result = fabric.launch(_Task(work, threads, arguments))
    except (ProcessRaisedException, ProcessExitedException) as error:
        raise BackendError(f"a training process stopped: {str(error).strip().splitlines()[-1]}") from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return result


def _check(devices: int, accelerator: str) -> None:
    if devices < 1:
        raise BackendError(f"--devices {devices}: give 1 or more")
    if accelerator not in ("cpu", "cuda"):
        raise BackendError(f"--accelerator {accelerator}: give cpu or cuda")
    if accelerator == "cuda" and torch.cuda.device_count() < devices:
        raise BackendError(
            f"--accelerator cuda --devices {devices}: this machine has {torch.cuda.device_count()} of them; train on "
            "fewer, or with --accelerator cpu"
        )


class _Task:
    """What a process does; an object, because Fabric looks into arguments and refuses frozen dataclasses there."""

    def __init__(self, work: Callable[..., Any], threads: int, arguments: tuple[Any, ...]) -> None:
        self.work, self.threads, self.arguments = work, threads, arguments

    def __call__(self, fabric: Any) -> Any:
        torch.set_num_threads(self.threads)
        return self.work(Processes(fabric.global_rank, fabric.world_size, fabric.device, fabric), *self.arguments)


def _pass_on(number: int, _: FrameType | None) -> None:
    """A signal to the parent is one to its processes, which stop after their step."""
    for child in multiprocessing.active_children():
        if child.pid is not None:
            os.kill(child.pid, number)
