"""The CREPE network in the frequency domain against torchcrepe's own on the same audio, one thread, float32."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchcrepe
from numpy.typing import NDArray

from benchmarks.timing import hardware, interleaved_medians, print_figure
from evalkit.datasets import load_corpus
from evalkit.metrics import crepe
from evalkit.metrics.pitch_track import PitchTrack
from evalkit.scoring.protocol import get_protocol

SPEEDUP_TARGET = 8
DIFFERENCE_TARGET = 1e-5


def load_speech(folder: Path | None, seconds: float) -> NDArray[np.float32]:
    """The first files of `folder` (the sample corpus if None), one after another, (seconds * 16000,) at 16 kHz.

    Raises:
        DatasetError: no usable audio in `folder`.
        SystemExit: less than `seconds` of it.
    """
    corpus = load_corpus("sample", "test") if folder is None else load_corpus("folder", "all", folder)
    resample = get_protocol("paper").resampler
    wanted = round(seconds * crepe.SAMPLE_RATE)
    signals: list[NDArray[np.float32]] = []
    for utterance in corpus.utterances:
        if sum(map(len, signals)) >= wanted:
            break
        channels, rate = soundfile.read(utterance.path, dtype="float32", always_2d=True)
        signals.append(resample(channels.mean(axis=1), rate, crepe.SAMPLE_RATE))
    found = sum(map(len, signals))
    if found < wanted:
        raise SystemExit(f"only {found / crepe.SAMPLE_RATE:.1f} s of audio, asked for {seconds:g}")
    return np.concatenate(signals)[:wanted]


def theirs(signal: NDArray[np.float32], batch_frames: int) -> NDArray[np.float32]:
    """Probabilities (frames, 360) by torchcrepe."""
    audio = torch.from_numpy(signal)[None]
    batches = torchcrepe.preprocess(audio, crepe.SAMPLE_RATE, crepe.HOP, batch_frames, "cpu", pad=False)
    with torch.no_grad():
        return np.concatenate([torchcrepe.infer(frames, "full").numpy() for frames in batches])


def ours(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (frames, 360) by the harness."""
    return np.concatenate(list(crepe.posteriors(signal)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crepe", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of audio (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="of audio files (default: the sample corpus)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds counted, after one to warm up (default: 3)")
    parser.add_argument("--batch", type=int, default=64, help="frames of one batch of torchcrepe (default: 64)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    signal = load_speech(options.folder, options.seconds)

    print(hardware())
    print(f"{options.seconds:g} s of speech, {crepe.num_frames(signal.size)} frames, float32")
    print(f"CPU seconds per second of audio, medians of {options.rounds} rounds (the harness's: of 3 calls in each)")
    print("track: the network, the path through its bins, and loudness, as metrics use it")
    difference = float(np.abs(theirs(signal, options.batch) - ours(signal)).max())
    track = PitchTrack()
    seconds = interleaved_medians(
        {
            "torchcrepe": functools.partial(theirs, signal, options.batch),
            "network": functools.partial(ours, signal),
            "track": functools.partial(track, signal, crepe.SAMPLE_RATE),
        },
        rounds=options.rounds,
        repeats={"network": 3, "track": 3},
    )
    for name, value in seconds.items():
        print(f"{name:<12}{value / options.seconds:>8.3f}")
    speedup = seconds["torchcrepe"] / seconds["network"]
    met = "met" if speedup >= SPEEDUP_TARGET and difference < DIFFERENCE_TARGET else "MISSED"
    print(f"speedup {speedup:.1f}, largest difference of probabilities {difference:.2g}")
    print(f"targets: >= {SPEEDUP_TARGET}, < {DIFFERENCE_TARGET:g}: {met}")
    print_figure("crepe.speedup", speedup)
    print_figure("crepe.ours_seconds_per_second", seconds["network"] / options.seconds)
    print_figure("crepe.max_difference", difference)


if __name__ == "__main__":
    main()
