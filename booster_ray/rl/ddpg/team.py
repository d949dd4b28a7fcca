"""Workers that train one policy together, each on worlds of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from booster_ray.runtime.watchdog import allowing

NOTICE = "booster_ray/notice"
"""In the store by which the workers have found one another."""


class TeamLost(RuntimeError):
    """Another worker is gone, and with it the team; this one cannot go on alone."""

    of_others = True
    """What failed here failed elsewhere first."""


@contextmanager
def _together() -> Iterator[None]:
    """A call that all workers make: whatever torch raises in it, another has not made it.

    Raises:
        TeamLost: one line.
    """
    try:
        # Who keeps the others waiting is the first whose own time is over, and says where.
        with allowing(2.0):
            yield
    except RuntimeError as error:
        raise TeamLost((str(error).splitlines() or [type(error).__name__])[0]) from error


class Team(Protocol):
    """What a worker shares with the others. Every member must make the same calls in order."""

    rank: int
    """This worker's number; 0 leads."""
    size: int
    """Workers."""

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the workers, in place."""
        ...

    def share(self, thing: Any) -> Any:
        """The leader's ``thing``, on every worker. It crosses processes by pickle."""
        ...

    def gather(self, thing: Any) -> list[Any] | None:
        """Every worker's ``thing`` in the order of ranks, on the leader; None elsewhere."""
        ...

    def give_notice(self) -> None:
        """Tell the leader that this worker's machine will go; at any time, by any thread."""
        ...

    def noticed(self) -> bool:
        """Whether a worker has told so; at any time, by any thread."""
        ...


class Alone:
    """A team of one."""

    rank, size = 0, 1

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def share(self, thing: Any) -> Any:
        """The thing."""
        return thing

    def gather(self, thing: Any) -> list[Any] | None:
        """The one thing."""
        return [thing]

    def give_notice(self) -> None:
        """There is nobody to tell."""

    def noticed(self) -> bool:
        """Nobody else can have."""
        return False


class Distributed:
    """The workers of torch's default process group (gloo on CPUs, NCCL on GPUs)."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._device = torch.device("cpu")
        self._store = dist.distributed_c10d._get_default_store()
        if dist.get_backend() == "nccl":  # it moves nothing but what lies on this worker's GPU
            self._device = own_device()
            torch.cuda.set_device(self._device)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """One message for all tensors: they are small, and latency is what it costs."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(self._device)
        with _together():
            dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def share(self, thing: Any) -> Any:
        """See :class:`Team`."""
        box = [thing]
        with _together():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, thing: Any) -> list[Any] | None:
        """See :class:`Team`."""
        boxes = [None] * self.size if self.rank == 0 else None
        with _together():
            dist.gather_object(thing, boxes, dst=0)
        return boxes

    def give_notice(self) -> None:
        """See :class:`Team`. The group's store does not wait for its turn among the calls."""
        self._store.set(NOTICE, "given")

    def noticed(self) -> bool:
        """See :class:`Team`."""
        return bool(self._store.check([NOTICE]))


def own_device() -> torch.device:
    """The GPU of this process, one for each worker of a node, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # Ray Train shows every worker of a node all of the node's GPUs that are theirs.
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", local % torch.cuda.device_count())


def current_team() -> Team:
    """The workers of this process's group, or this process alone."""
    return Distributed() if dist.is_available() and dist.is_initialized() else Alone()
