"""The harness: trains bottlenecks under one backbone, scores them and writes tables and plots.

Importing this package loads no tensor library, so that the command line answers at once.
"""

from q2d2 import __version__

__all__ = ["__version__"]
