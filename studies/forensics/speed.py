"""How the published inference script computes its real-time factor."""

from __future__ import annotations

import itertools

import numpy as np

from evalkit.scoring.protocol import PROTOCOLS
from evalkit.speed import measure_rtf
from studies.forensics.trap import Figure, Trap

CODEC_RATE = 24_000
RATES = {"librispeech": 16_000, "ljspeech": 22_050, "libritts": 24_000}


def flattery(rate: int, seconds: int = 10) -> float:
    """RTF of `evalkit.speed.measure_rtf` by the published one, same computation time, for audio recorded at `rate` Hz.

    Published: processing time / (samples AFTER resampling to 24 kHz / rate of the recording).
    """
    audio = np.zeros(rate * seconds, np.float32)
    resampled = PROTOCOLS["paper"].resampler(audio, rate, CODEC_RATE)
    ticks = itertools.count()  # every reading of the clock is one second later: encode and decode take one each
    rtf = measure_rtf(lambda: None, lambda: None, audio.size / rate, clock=lambda: float(next(ticks)))
    published = (rtf.encode_seconds[0] + rtf.decode_seconds[0]) / (resampled.size / rate)
    return (rtf.encode + rtf.decode) / published


def original_rate() -> Trap:
    """By how much dividing 24 kHz samples by the original rate lowers the real-time factor."""
    return Trap(
        "speed.original_rate",
        "The duration of the audio is its samples after resampling to 24 kHz, divided by the original rate.",
        "seconds of audio are samples / rate of the recording",
        {
            corpus: Figure(flattery(rate), "", f"times too fast for recordings at {rate:,} Hz ({corpus})")
            for corpus, rate in RATES.items()
        },
        len(RATES),
        "sample rates",
    )


def inside_the_clock() -> Trap:
    """What the loop that counts codes, inside the published script's clock, adds to the real-time factor."""
    seconds, frames, repeats = 10, 3333, 5
    codes = np.random.default_rng(0).integers(0, 85, (frames, 3))
    rtf = measure_rtf(lambda: _count(codes), lambda: None, seconds, repeats=repeats)
    return Trap(
        "speed.inside_the_clock",
        "No call to warm up, no waiting for the GPU; the loop that counts codes runs inside the clock.",
        "untimed first calls, synchronized before each reading of the clock, codec calls and nothing else",
        {"counting": Figure(rtf.encode, "RTF", "added by counting codes, to the authors' loss", timed=True)},
        repeats,
        "calls on 10 s of codes at 333 frames/s",
        "what warming up and waiting change on a GPU is not measured",
    )


def _count(codes: np.ndarray) -> None:
    """Codes (frames, pairs) into sets, one by one, as the script does."""
    pairs: list[set[int]] = [set() for _ in range(codes.shape[1])]
    frames = set()
    for row in codes:
        for pair, code in enumerate(row):
            pairs[pair].add(int(code))
        frames.add(tuple(row))
