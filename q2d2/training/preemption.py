"""Being asked to stop, by SIGTERM, while training."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

from q2d2.sigterm import Sigterm


class Preemption(Sigterm):
    """Notices SIGTERM while inside, and lets all processes of a training agree on the step after which to stop.

    Under several processes a signal to any of them counts. They exchange what they have received in every step, over a
    group of their own on the CPU, and read the exchange of the step before: nobody waits, and no GPU is asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exchange: tuple[torch.Tensor, dist.Work] | None = None
        several = dist.is_available() and dist.is_initialized()
        self._group: Any = dist.new_group(backend="gloo") if several else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._group is not None and kind is None:
            if self._exchange is not None:
                self._exchange[1].wait()
            dist.destroy_process_group(self._group)

    def due(self) -> bool:
        """Whether to stop now; to be called once in every step by every process, and answers all of them alike."""
        if self._group is None:
            return self.received
        before = self._exchange
        received = torch.tensor([int(self.received)])
        work = dist.all_reduce(received, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._exchange = (received, work)
        if before is None:
            return False
        before[1].wait()
        return bool(before[0])
