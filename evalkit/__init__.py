"""The harness: trains bottlenecks under one backbone, scores them and writes tables and plots.

Importing this package loads no tensor library, so that the command line answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from q2d2 import __version__

if TYPE_CHECKING:
    from evalkit.run.saved_run import SavedRun, load_run

__all__ = ["SavedRun", "__version__", "load_run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from evalkit.run import saved_run

    return getattr(saved_run, name)
