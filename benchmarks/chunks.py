"""Decoding in windows against decoding whole: change in PESQ, difference of the signals; an hour in how much memory."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import soundfile
import torch
import torchaudio.functional as AF
from numpy.typing import NDArray

from benchmarks.timing import hardware, print_figure
from evalkit.datasets import load_corpus
from evalkit.metrics.pesq import Pesq
from q2d2.audio import read_audio
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import load_codec, save_codec
from q2d2.codec import Codec, codec_config
from q2d2.codec.chunks import Chunking, decode_blocks

CLIP_SECONDS, PIECE_SECONDS = 60, 20  # PESQ is safe up to 20 s
PESQ_RATE = 16000
MEMORY_TARGET_GIB = 3.0
LOWEST_PESQ_CHANGE = -0.01
# Window, overlap, fade in seconds: first the window, then the overlap, then how much of it is faded.
GRID = (
    (5, 1, 0.5), (10, 1, 0.5), (20, 1, 0.5), (30, 1, 0.5),
    (10, 0, 0), (10, 0.1, 0.1), (10, 0.5, 0.25), (10, 2, 1), (30, 0, 0),
)  # fmt: skip
# The kernel's own peak: what getrusage says of a child also counts its parent's memory at the fork.
MEASURED = """
import sys
from pathlib import Path
from evalkit.cli.main import main
note = sys.argv.pop(1)
try:
    main()
finally:
    Path(note).write_text(Path("/proc/self/status").read_text())
"""

Signal = NDArray[np.float32]


class Row(NamedTuple):
    """What a way of chunking gives: change of mean PESQ, lowest change of a piece, dB of signal to change."""

    pesq: float
    worst: float
    snr: float


def join_speech(root: Path | None, rate: int, count: int) -> list[Signal]:
    """Utterances of LibriSpeech test-clean one after another, in `count` clips of CLIP_SECONDS at `rate` Hz.

    Raises:
        SystemExit: there is too little speech.
    """
    wanted = count * CLIP_SECONDS * rate
    joined: list[Signal] = []
    for utterance in load_corpus("librispeech", "test-clean", root).utterances:
        if sum(map(len, joined)) >= wanted:
            break
        samples, found = read_audio(utterance.path)
        joined.append(AF.resample(torch.from_numpy(samples), found, rate).numpy())
    speech = np.concatenate(joined)
    if len(speech) < wanted:
        raise SystemExit(f"only {len(speech) / rate:.0f} s of speech, asked for {count} clips of {CLIP_SECONDS} s")
    return list(speech[:wanted].reshape(count, -1))


def scores(clip: Signal, decoded: Signal, rate: int) -> list[float]:
    """PESQ of equal pieces of at most PIECE_SECONDS."""
    both = (AF.resample(torch.from_numpy(signal), rate, PESQ_RATE).numpy() for signal in (clip, decoded))
    count = math.ceil(len(clip) / (PIECE_SECONDS * rate))
    pieces = zip(*(np.array_split(signal, count) for signal in both), strict=True)
    return [Pesq().score(reference, estimate, PESQ_RATE) for reference, estimate in pieces]


def fitting_frames(chunking: Chunking, frames: int, frame_rate: float) -> int:
    """The most frames, up to `frames`, that windows cover with exactly the overlap asked for, and not with more."""
    window, overlap = (round(value * frame_rate) for value in (chunking.window_seconds, chunking.overlap_seconds))
    return window + (frames - window) // (window - overlap) * (window - overlap)


class Quality:
    """Clips of one codec, decoded whole and in windows.

    Args:
        name: of the checkpoint.
        root: folder that holds LibriSpeech.
        count: clips.
    """

    def __init__(self, name: str, root: Path | None, count: int) -> None:
        self.codec = load_codec(name)
        self.clips = join_speech(root, self.codec.sample_rate, count)
        with torch.inference_mode():
            self.codes = [self.codec.encode(torch.from_numpy(clip)[None])[0] for clip in self.clips]
        self.wholes: dict[int, list[tuple[Signal, list[float]]]] = {}

    def whole(self, frames: int) -> list[tuple[Signal, list[float]]]:
        """The first `frames` of each clip decoded whole, and the PESQ of its pieces."""
        if frames not in self.wholes:
            with torch.inference_mode():
                audio = [self.codec.decode(codes[None, :, :frames])[0].numpy() for codes in self.codes]
            self.wholes[frames] = [
                (signal, scores(clip[: len(signal)], signal, self.codec.sample_rate))
                for clip, signal in zip(self.clips, audio, strict=True)
            ]
        return self.wholes[frames]

    def measure(self, chunking: Chunking) -> Row:
        """Windows against the whole."""
        frames = fitting_frames(chunking, self.codes[0].shape[-1], self.codec.frame_rate)
        changes: list[float] = []
        power = error = 0.0
        for clip, codes, (whole, before) in zip(self.clips, self.codes, self.whole(frames), strict=True):
            decoded = torch.cat(list(decode_blocks(self.codec, codes[:, :frames], len(whole), chunking))).numpy()
            after = scores(clip[: len(whole)], decoded, self.codec.sample_rate)
            changes += [score - reference for score, reference in zip(after, before, strict=True)]
            power += float(np.square(whole, dtype=np.float64).sum())
            error += float(np.square(decoded - whole, dtype=np.float64).sum())
        return Row(mean(changes), min(changes), 10 * float(np.log10(power / error)))


def measure_quality(name: str, root: Path | None, count: int, grid: tuple[tuple[float, float, float], ...]) -> Row:
    """Print the grid for one checkpoint; the row of the default window."""
    quality = Quality(name, root, count)
    pesq = [score for _, found in quality.whole(quality.codes[0].shape[-1]) for score in found]
    print(f"\n{name}: {count} clips of {CLIP_SECONDS} s, decoded whole PESQ {mean(pesq):.3f} over {len(pesq)} pieces")
    print(f"{'window':>8}{'overlap':>9}{'fade':>7}{'PESQ change':>13}{'worst piece':>13}{'dB to change':>14}")
    default = Chunking()
    chosen = (default.window_seconds, default.overlap_seconds, default.fade_seconds)
    rows = {}
    for window, overlap, fade in dict.fromkeys((chosen, *grid)):
        row = rows[window, overlap, fade] = quality.measure(Chunking(window, window, overlap, fade))
        mark = "  default" if (window, overlap, fade) == chosen else ""
        print(
            f"{window:>8g}{overlap:>9g}{fade:>7g}{row.pesq:>+13.4f}{row.worst:>+13.4f}{row.snr:>14.1f}{mark}",
            flush=True,
        )
    return rows[chosen]


def run_measured(arguments: list[str], note: Path) -> tuple[float, float]:
    """Run `evalkit ARGUMENTS`; seconds it took and its peak resident memory in GiB, which it leaves in the file `note`.

    Raises:
        SystemExit: it failed.
    """
    begun = time.perf_counter()
    if subprocess.run([sys.executable, "-c", MEASURED, str(note), *arguments]).returncode:
        raise SystemExit(f"evalkit {' '.join(arguments)} failed")
    (peak,) = (line.split()[1] for line in note.read_text().splitlines() if line.startswith("VmHWM"))
    return time.perf_counter() - begun, int(peak) / 2**20


def measure_hours(root: Path | None, hours: float, size: str) -> dict[str, float]:
    """Encode and decode a recording of `hours` with random weights of `size`, each in a process of its own."""
    config = codec_config(size)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        bottleneck = build_bottleneck("q2d2", config.dimension, levels=[9, 9, 7, 7, 7, 7])
        save_codec(Codec(config, bottleneck), folder / "codec")
        (speech,) = join_speech(root, config.sample_rate, 1)
        left = length = round(hours * 3600 * config.sample_rate)
        with soundfile.SoundFile(folder / "hour.flac", "w", config.sample_rate, 1) as file:
            while left:
                file.write(speech[:left])
                left -= len(speech[:left])
        calls = {
            "encode": ["encode", str(folder / "hour.flac"), "-o", str(folder / "tokens")],
            "decode": ["decode", str(folder / "tokens"), "-o", str(folder / "decoded")],
        }
        for verb, arguments in calls.items():
            seconds, peak = run_measured(
                [*arguments, "--codec", str(folder / "codec"), "--device", "cpu"], folder / "status"
            )
            figures[f"chunks.{verb}.peak_gib"] = peak
            figures[f"chunks.{verb}.real_time_factor"] = seconds / (hours * 3600)
        if soundfile.info(folder / "decoded" / "hour.flac").frames != length:
            raise SystemExit("the decoded recording has another length")
        figures["chunks.kib_of_tokens"] = (folder / "tokens" / "hour.safetensors").stat().st_size / 1024
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chunks", description=__doc__)
    parser.add_argument("--root", type=Path, help="folder that holds LibriSpeech (default: EVALKIT_LIBRISPEECH_ROOT)")
    parser.add_argument("--checkpoint", nargs="*", default=["tiny"], help="codecs to decode with (default: tiny)")
    parser.add_argument("--clips", type=int, default=6, help="clips of 60 s (default: %(default)s)")
    parser.add_argument("--hours", type=float, default=1.0, help="of the recording for memory; 0 to skip (default: 1)")
    parser.add_argument("--size", default="wavtokenizer", help="of the codec for memory (default: %(default)s)")
    options = parser.parse_args()
    print(hardware())
    figures: dict[str, float] = {}
    print("quality: each clip decoded whole and in windows, compared by PESQ against the original and with each other")
    for name in options.checkpoint:
        row = measure_quality(name, options.root, options.clips, GRID)
        met = "met" if row.pesq >= LOWEST_PESQ_CHANGE else "MISSED"
        print(f"target: change of PESQ >= {LOWEST_PESQ_CHANGE}: {met}")
        figures[f"chunks.pesq_change.{Path(name).name}"] = row.pesq
        figures[f"chunks.snr_db.{Path(name).name}"] = row.snr
    if options.hours:
        print(f"\nmemory: `evalkit encode` and `decode` of {options.hours:g} h, size {options.size}, random weights")
        found = measure_hours(options.root, options.hours, options.size)
        for verb in ("encode", "decode"):
            peak, speed = found[f"chunks.{verb}.peak_gib"], found[f"chunks.{verb}.real_time_factor"]
            met = "met" if peak <= MEMORY_TARGET_GIB else "MISSED"
            print(f"{verb}: peak {peak:.2f} GiB (target {MEMORY_TARGET_GIB:g}: {met}), real-time factor {speed:.3f}")
        figures |= found
    for figure, value in figures.items():
        print_figure(figure, value)


if __name__ == "__main__":
    main()
