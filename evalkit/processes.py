"""Worker processes: how many threads they use, and that none outlives the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def thread_variables(threads: int) -> dict[str, str]:
    """Environment in which numpy and torch use this many threads; to be set before they are loaded."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


def end_with_parent(parent: int) -> None:
    """Have Linux end this process with the one that started it: a run that is killed leaves no worker behind.

    Args:
        parent: process id of the one that started it.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that
        os._exit(1)
