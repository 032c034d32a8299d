"""Audio files, as the decoded side of a pair and as recordings to train on or encode."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import soundfile

from evalkit.datasets import load_corpus
from evalkit.metrics import load_metric
from evalkit.scoring.pair import Pair, PairScorer
from evalkit.scoring.protocol import get_protocol
from q2d2.audio import HIGHEST_PEAK, read_audio, read_blocks, read_header
from tests.fuzz.damage import damaged
from tests.fuzz.driver import Silent

FORMATS = (
    ("wav", {"subtype": "PCM_16"}), ("wav", {"subtype": "FLOAT"}), ("wav", {"subtype": "PCM_24"}), ("flac", {}),
    ("ogg", {}), ("opus", {"format": "OGG", "subtype": "OPUS"}), ("mp3", {}), ("aiff", {}), ("au", {}), ("w64", {}),
    ("rf64", {"format": "RF64"}), ("caf", {}),
)  # fmt: skip
METRICS = ("stoi", "si_sdr", "mel_distance", "stft_distance")
SECONDS = 1.5
OPUS_RATE = 24_000
NOT_FOUND = 0.1  # seconds that may be missing from a pair without a word, as its protocols say


class Audio:
    """1.5 s of speech in twelve containers."""

    name = "audio"
    count = 1000

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        audio, rate = soundfile.read(load_corpus("sample", "test").utterances[0].path, dtype="float32")
        self.rate = rate
        times = {each: np.arange(int(SECONDS * each)) / each for each in (rate, OPUS_RATE)}
        self.clean = {each: np.interp(at, np.arange(len(audio)) / rate, audio) for each, at in times.items()}
        self.coded = [self._coded(suffix, options) for suffix, options in FORMATS]

    def _coded(self, suffix: str, options: dict[str, str]) -> tuple[str, int, bytes]:
        rate = OPUS_RATE if suffix == "opus" else self.rate
        buffer = io.BytesIO()
        soundfile.write(buffer, self.clean[rate], rate, **({"format": suffix.upper()} | options))
        return suffix, rate, buffer.getvalue()

    def run(self, rng: random.Random, number: int) -> None:
        suffix, rate, data = rng.choice(self.coded)
        path = self.folder / f"case.{suffix}"
        path.write_bytes(damaged(rng, data))
        header = read_header(path)
        audio, read_rate = read_audio(path)
        blocks = sum(len(block) for block in read_blocks(path))
        if (len(audio), read_rate, len(audio)) != (header.frames, header.sample_rate, blocks):
            raise Silent(f"{suffix}: header {header}, read {len(audio)} at {read_rate}, in blocks {blocks}")
        if not np.isfinite(audio).all() or np.abs(audio).max() > HIGHEST_PEAK:
            raise Silent(f"{suffix}: samples beyond the peak were read")
        self._score(suffix, Pair("u", self.clean[rate].astype(np.float32), rate, audio, read_rate))

    def _score(self, suffix: str, pair: Pair) -> None:
        scorer = PairScorer(pair, get_protocol("strict"))
        missing = len(pair.reference) / pair.reference_rate - len(pair.estimate) / pair.estimate_rate
        for name in METRICS:
            score = scorer.score(name)
            if score.status != "ok":
                continue
            low, high = getattr(load_metric(name, "cpu"), "bounds", (0, 20))
            if score.value is None or not low <= score.value <= high:
                raise Silent(f"{suffix}: {name} {score.value}")
            if abs(missing) > NOT_FOUND and not score.detail:
                raise Silent(f"{suffix}: {name} {score.value:.3f} of a file that lacks {missing:.2f} s, without a word")
