"""Time and memory of calls, for all benchmarks."""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

# The largest block by whose release glibc learns to keep freed memory; torch calls of any size release such blocks.
LEARNING_BLOCK = 31 * 2**20


def interleaved_medians(
    calls: Mapping[str, Callable[[], object]], rounds: int, repeats: Mapping[str, int] | None = None
) -> dict[str, float]:
    """Median CPU seconds of each call, all calls taking turns so that a slow spell of the machine hits all alike.

    CPU seconds of the calling thread, in user and system mode: set torch to one thread first. Time during which other
    processes hold the processor does not count. One round before the counted ones warms up.

    Args:
        calls: name -> what to measure.
        rounds: number of counted rounds, at least 1.
        repeats: how often a call runs in each round; 1 where not named.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    torch.empty(LEARNING_BLOCK, dtype=torch.uint8)  # taken and at once released
    for turn in range(rounds + 1):
        for name, call in calls.items():
            for _ in range((repeats or {}).get(name, 1)):
                start = time.thread_time()
                call()
                stop = time.thread_time()
                if turn:
                    seconds[name].append(stop - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_bytes(call: Callable[[], object]) -> int:
    """Most bytes that tensors made during `call` hold at one time on the CPU, its results included.

    Counted from the allocations that torch's profiler records, so memory a library takes without torch is not in it.

    Raises:
        RuntimeError: the profiler recorded no allocation.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = call()
    del result
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        record.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    if not changes:
        raise RuntimeError("torch's profiler recorded no allocation: its trace format may have changed")
    held = peak = 0
    for event in sorted(changes, key=lambda event: float(event["ts"])):
        held += int(event["args"]["Bytes"])
        peak = max(peak, held)
    return peak


def hardware() -> str:
    """Processor, number of torch threads and torch version, in one line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = f"{len(names)} x {names[0]}" if names else model
    return f"{model}, {torch.get_num_threads()} torch thread(s), torch {torch.__version__}"


def print_figure(name: str, value: float) -> None:
    """Print the line `figure NAME VALUE`, four significant digits."""
    print(f"figure {name} {value:.4g}")
