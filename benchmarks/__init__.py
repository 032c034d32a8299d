"""Speed and memory as ratios against a stated baseline measured in the same run: `python -m benchmarks.NAME`."""

import os

# Before torch is imported: its profiler, which counts memory, reports each start and stop otherwise.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
