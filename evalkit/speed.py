"""Real-time factor of encoding and decoding, and the machine it was measured on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Rtf:
    """Timings of one codec. Real-time factor: seconds of computation per second of audio; below 1 is faster than time.

    Attributes:
        audio_seconds: audio in one call, all clips of the batch together, at the ORIGINAL rate of the recording.
        encode_seconds, decode_seconds: wall time of each timed repeat.
        warmup: untimed calls of each before.
        batch: clips in one call.
        device: "cpu", "cuda", ... as the caller ran it.
        hardware: see `hardware_fingerprint`.
    """

    audio_seconds: float
    encode_seconds: tuple[float, ...]
    decode_seconds: tuple[float, ...]
    warmup: int
    batch: int
    device: str
    hardware: dict[str, Any]

    @property
    def repeats(self) -> int:
        """Timed calls of each."""
        return len(self.encode_seconds)

    @property
    def encode(self) -> float:
        """Real-time factor of encoding: median over repeats."""
        return statistics.median(self.encode_seconds) / self.audio_seconds

    @property
    def decode(self) -> float:
        """Real-time factor of decoding: median over repeats."""
        return statistics.median(self.decode_seconds) / self.audio_seconds

    @property
    def detail(self) -> str:
        """What the numbers hold for: batch, clip length, repeats, device and threads."""
        machine = self.hardware
        if self.device.startswith("cuda"):
            where = str(machine["gpu"] or self.device)
        else:
            threads = machine["threads"]
            where = f"{machine['cpu']}, {threads} thread{'' if threads == 1 else 's'}"
        clip = self.audio_seconds / self.batch
        return f"batch {self.batch} x {clip:.2f} s, median of {self.repeats} after {self.warmup} warm-up, {where}"


def measure_rtf(
    encode: Callable[[], Any],
    decode: Callable[[], Any],
    audio_seconds: float,
    repeats: int = 5,
    warmup: int = 1,
    synchronize: Callable[[], Any] | None = None,
    *,
    batch: int = 1,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> Rtf:
    """Time `encode` and `decode` apart, in turns, after `warmup` untimed calls of each.

    Args:
        encode: codes a prepared batch; `decode` turns such codes back into audio.
        decode: see `encode`.
        audio_seconds: samples / rate of the recording BEFORE resampling to the codec's rate, summed over the batch.
        repeats: timed calls, at least 1.
        warmup: untimed calls, at least 0; the first calls pay for allocation, autotuning and lazy loading.
        synchronize: waits for queued work (torch.cuda.synchronize on a GPU); called before either reading of the clock.
        batch: clips in one call, for the record.
        device: where it runs, for the record.
        clock: seconds, monotonic.

    Raises:
        ValueError: a number out of range.
    """
    if not audio_seconds > 0 or repeats < 1 or warmup < 0 or batch < 1:
        raise ValueError(
            "need audio_seconds > 0, repeats >= 1, warmup >= 0, batch >= 1; "
            f"got {audio_seconds}, {repeats}, {warmup}, {batch}"
        )
    wait = synchronize or (lambda: None)

    def timed(call: Callable[[], Any]) -> float:
        wait()
        start = clock()
        call()
        wait()
        return clock() - start

    for _ in range(warmup):
        encode()
        decode()
    # In turns, so that a slow spell of the machine meets both.
    pairs = [(timed(encode), timed(decode)) for _ in range(repeats)]
    return Rtf(
        audio_seconds=audio_seconds,
        encode_seconds=tuple(pair[0] for pair in pairs),
        decode_seconds=tuple(pair[1] for pair in pairs),
        warmup=warmup,
        batch=batch,
        device=device,
        hardware=hardware_fingerprint(),
    )


def hardware_fingerprint() -> dict[str, Any]:
    """The machine, for run.json: speeds compare only where these are equal.

    cpu (model name), cores (usable by this process), threads (torch's, within one operation), gpu (model name or None),
    gpus (number), ram_gib (one decimal).
    """
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if num_gpus else None,
        "gpus": num_gpus,
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def _cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
