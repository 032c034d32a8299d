"""Training segments from millions of files: a manifest mapped into memory against a plain list of AudioFile.

Each is measured in a fresh process that opens it and draws batches of 16 segments of 1 s with 2 worker processes.
Memory is that of the process and its workers together, libraries and the mapped pages of the manifest included, once
after the first batch and once after many. The list is read from a CSV, as it has to come from somewhere.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

TARGET_SECONDS, TARGET_BYTES = 3.0, 2**30
BATCH, WORKERS, RATE, SAMPLES = 16, 2, 16_000, 16_000
MIB = 2**20
FILES = {"manifest": "train.arrow", "list": "train.csv"}
ROOT = Path(__file__).resolve().parent.parent


def make_audio(folder: Path) -> list[tuple[str, int]]:
    """Write 24 FLAC files of 2 to 25 s of noise below `folder`; (path, frames) of each."""
    files = []
    for number, seconds in enumerate(range(2, 26)):
        path = folder / "LibriSpeech" / "train-clean-360" / "1034" / "121119" / f"1034-121119-{number:04}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(number).uniform(-0.1, 0.1, seconds * RATE)
        soundfile.write(path, samples, RATE, subtype="PCM_16")
        files.append((str(path), seconds * RATE))
    return files


def write_files(folder: Path, entries: int, list_entries: int) -> None:
    """Write `entries` entries as a manifest and `list_entries` as CSV, pointing at the few real files in turn."""
    from q2d2.training.manifest import AudioFile, write_manifest

    audio = make_audio(folder)
    turns = itertools.islice(itertools.cycle(audio), entries)
    start = time.perf_counter()
    write_manifest(folder / FILES["manifest"], (AudioFile(Path(path), frames, RATE) for path, frames in turns))
    seconds = time.perf_counter() - start
    with (folder / FILES["list"]).open("w", newline="") as file:
        csv.writer(file).writerows(itertools.islice(itertools.cycle(audio), list_entries))
    # Not getrusage's, which begins with that of the parent process.
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    print(
        json.dumps({"seconds": seconds, "peak": int(peak) * 1024, "bytes": (folder / FILES["manifest"]).stat().st_size})
    )


class ListedFiles:
    """What a manifest replaces: one object for each file, and where it ends on the timeline."""

    def __init__(self, path: Path) -> None:
        from q2d2.training.manifest import AudioFile

        with path.open(newline="") as file:
            self.files = [AudioFile(Path(name), int(frames), RATE) for name, frames in csv.reader(file)]
        self.ends = np.cumsum([file.frames / file.sample_rate for file in self.files])
        self.seconds = float(self.ends[-1])

    def __len__(self) -> int:
        return len(self.files)

    def at(self, seconds: float) -> tuple[Any, float]:
        index = int(np.searchsorted(self.ends, seconds, side="right"))
        file = self.files[index]
        return file, 1 - (self.ends[index] - seconds) * file.sample_rate / file.frames


def memory() -> tuple[int, int]:
    """Bytes that this process and its children hold together, and how many of them no file stands behind.

    Pages that they share count once. Of a mapped file it is an upper bound, the sum over the processes or the whole
    file: the kernel's own proportional sizes also divide by the other processes of the machine that use torch.
    """
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    anonymous = 0
    held: Counter[str] = Counter()  # of each file, over all processes
    mapped: dict[str, int] = {}
    for process in ["self", *children]:
        sizes: Counter[str] = Counter()
        name = ""
        for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
            key, *values = line.split()
            if not key.endswith(":"):  # "addresses permissions offset device inode [name]" begins a mapping
                name = " ".join(values[4:]) if values[3] != "0" else ""
            elif name and key in ("Size:", "Rss:", "Anonymous:"):
                size = int(values[0]) * 1024
                sizes[name] += size if key == "Size:" else 0
                held[name] += {"Rss:": size, "Anonymous:": -size}.get(key, 0)
        for name, size in sizes.items():
            mapped[name] = max(size, mapped.get(name, 0))
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        anonymous += sum(int(size) * 1024 for size in re.findall(r"^Pss_Anon: +(\d+) kB", rollup, re.MULTILINE))
    return anonymous + sum(min(size, mapped[name]) for name, size in held.items()), anonymous


def draw(path: Path, batches: int, started: float) -> None:
    """Open `path`, draw `batches` batches, and print what they took as JSON.

    Args:
        started: when this process was started, as time.time().
    """
    from q2d2.training.manifest import Manifest
    from q2d2.training.segments import SegmentDataset, StepSampler, segment_loader

    imported = time.time()
    corpus: Any = Manifest.open(path) if path.name == FILES["manifest"] else ListedFiles(path)
    opened = time.time()
    dataset = SegmentDataset(corpus, RATE, SAMPLES, (-6.0, 3.0), 0)
    loader = iter(segment_loader(dataset, StepSampler(BATCH, 0, batches), WORKERS, pin_memory=False))
    batch = next(loader)
    first = time.time()
    assert batch.audio.shape == (BATCH, SAMPLES)
    first_held, _ = memory()
    for batch in itertools.islice(loader, batches - 2 - 2 * WORKERS):  # while the workers are there
        assert not batch.problems
    last_held, last_anonymous = memory()
    times = {"open": opened - imported, "first": first - imported, "start": first - started}
    sizes = {"first_held": first_held, "last_held": last_held, "last_anonymous": last_anonymous}
    print(json.dumps({"entries": len(corpus), **times, **sizes}))


def run(folder: Path, *arguments: object) -> dict[str, Any]:
    """What a fresh process of this module prints last."""
    command = [sys.executable, "-m", "benchmarks.manifest", *map(str, arguments), "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """What writing took, and the medians of what drawing took: "manifest" or "list" -> name -> value."""
    counts = ("--entries", options.entries, "--list-entries", options.list_entries)
    written = run(folder, "--step", "write", *counts)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in FILES}
    for _ in range(options.rounds):
        for name, results in found.items():
            draws = ("--step", name, "--batches", options.batches, "--started", time.time())
            results.append(run(folder, *draws))
    medians = {
        name: {key: statistics.median(each[key] for each in results) for key in results[0]}
        for name, results in found.items()
    }
    return written, medians


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.manifest", description=__doc__)
    parser.add_argument("--entries", type=int, default=5_000_000, help="of the manifest (default: %(default)s)")
    parser.add_argument("--list-entries", type=int, default=1_000_000, help="of the list (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=400, help="drawn by each process (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind, in turn (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to write 500 MB and leave it; default: a temporary folder")
    parser.add_argument("--step", choices=["write", *FILES], help=argparse.SUPPRESS)  # what a fresh process is to do
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "write":
        write_files(options.folder, options.entries, options.list_entries)
        return
    if options.step:
        draw(options.folder / FILES[options.step], options.batches, options.started)
        return

    from benchmarks.timing import hardware, print_figure  # not above: they load torch, which writing does without

    print(hardware())
    with tempfile.TemporaryDirectory() as temporary:
        written, medians = measure(options.folder or Path(temporary), options)
    print(
        f"written: {options.entries:,} entries, {written['bytes'] / 1e6:.0f} MB, in {written['seconds']:.1f} s, "
        f"peak RSS {written['peak'] / MIB:.0f} MiB"
    )
    print(f"batches of {BATCH} x {SAMPLES / RATE:g} s, {WORKERS} workers; medians of {options.rounds} processes")
    print("first: from opening to the first batch; start: from the start of Python to it; anonymous: no file behind")
    print(f"MiB held by all three processes after the first batch and after {options.batches}")
    last = f"MiB {options.batches}"
    print(f"{'':9}{'entries':>11}{'open s':>9}{'first s':>9}{'start s':>9}{'MiB 1':>8}{last:>9}{'anonymous':>11}")
    for name, values in medians.items():
        sizes = [values[key] / MIB for key in ("first_held", "last_held", "last_anonymous")]
        print(
            f"{name:9}{values['entries']:>11,.0f}{values['open']:>9.3f}{values['first']:>9.2f}{values['start']:>9.2f}"
            f"{sizes[0]:>8.0f}{sizes[1]:>9.0f}{sizes[2]:>11.0f}"
        )
    ours, theirs = medians["manifest"], medians["list"]
    scale = options.entries / options.list_entries
    print(f"the list of {options.entries:,} entries would take {scale * theirs['open']:.0f} s to open, by proportion")
    met = ours["start"] < TARGET_SECONDS and ours["last_held"] < TARGET_BYTES
    print(f"target: {TARGET_SECONDS:g} s and {TARGET_BYTES / MIB:.0f} MiB for 5,000,000: {'met' if met else 'MISSED'}")
    print_figure("manifest.entries", ours["entries"])
    print_figure("manifest.open_seconds", ours["open"])
    print_figure("manifest.first_batch_seconds", ours["first"])
    print_figure("manifest.first_batch_seconds_from_start", ours["start"])
    print_figure("manifest.memory_mib", ours["last_held"] / MIB)
    print_figure("manifest.memory_anonymous_mib", ours["last_anonymous"] / MIB)
    print_figure("manifest.list_entries", theirs["entries"])
    print_figure("manifest.list_first_batch_seconds", theirs["first"])
    print_figure("manifest.list_memory_mib", theirs["last_held"] / MIB)


if __name__ == "__main__":
    main()
