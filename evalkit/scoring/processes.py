"""Worker processes: how many threads they use, how long they live, and that none outlives the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal

from joblib.externals.loky import process_executor

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
MAX_GROWTH = 4 << 30  # bytes


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


def start_worker(parent: int) -> None:
    """What every worker process of loky begins with.

    Args:
        parent: process id of the one that started it.
    """
    end_with_parent(parent)
    # loky would replace, with a warning, every worker that has grown by 300 MB: to import torch is enough for that.
    process_executor._MAX_MEMORY_LEAK_SIZE = MAX_GROWTH
