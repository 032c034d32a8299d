"""Being asked to stop: SIGTERM, as batch systems send it before they take a machine away."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist


class Preemption:
    """Notices SIGTERM while inside, and lets all processes of a training agree on the step after which to stop.

    Under several processes a signal to any of them counts. They exchange what they have received in every step, over a
    group of their own on the CPU, and read the exchange of the step before: nobody waits, and no GPU is asked.
    """

    def __init__(self) -> None:
        self._received = False
        self._before: Any = None
        self._exchange: tuple[torch.Tensor, dist.Work] | None = None
        several = dist.is_available() and dist.is_initialized()
        self._group: Any = dist.new_group(backend="gloo") if several else None

    def __enter__(self) -> Preemption:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if self._group is not None and kind is None:
            if self._exchange is not None:
                self._exchange[1].wait()
            dist.destroy_process_group(self._group)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = True

    def due(self) -> bool:
        """Whether to stop now; to be called once in every step by every process, and answers all of them alike."""
        if self._group is None:
            return self._received
        before = self._exchange
        received = torch.tensor([int(self._received)])
        work = dist.all_reduce(received, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._exchange = (received, work)
        if before is None:
            return False
        before[1].wait()
        return bool(before[0])
