"""Random segments of a corpus, each a function of (seed, index) alone, read by seeking in the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchaudio.functional as AF
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from q2d2.audio import AudioError, read_audio
from q2d2.errors import UserError

MAX_DRAWS = 20


@dataclass(frozen=True)
class AudioFile:
    """A file to draw segments from, `frames` samples long at `sample_rate` Hz."""

    path: Path
    frames: int
    sample_rate: int


class UnreadableCorpus(UserError, RuntimeError):
    """So many files cannot be read that something is wrong with the corpus.

    Unlike AudioError it takes one argument, as errors that cross from a worker process of a DataLoader must.
    """


class Segment(NamedTuple):
    """audio: (samples,) or, in a batch, (batch, samples); problems: files that could not be read and were redrawn."""

    audio: Tensor
    problems: tuple[str, ...]


class SegmentDataset(Dataset[Segment]):
    """Endless random segments: item i is the same in every run, process and order of reading.

    Files are drawn in proportion to their duration, positions uniformly. Files shorter than a segment are padded
    with zeros at the end. A file that cannot be read is reported in `Segment.problems` and another one drawn;
    MAX_DRAWS of them in a row raise UnreadableCorpus.

    Args:
        files: the corpus.
        sample_rate: rate of the segments in Hz; files of other rates are resampled.
        samples: length of a segment.
        gain_db: range of the random gain, uniform in dB.
        seed: together with the index decides everything.

    Raises:
        ValueError: no files.
    """

    def __init__(
        self, files: Sequence[AudioFile], sample_rate: int, samples: int, gain_db: tuple[float, float], seed: int
    ) -> None:
        if not files:
            raise ValueError("no audio files to train on")
        self.files = list(files)
        self.sample_rate = sample_rate
        self.samples = samples
        self.gain_db = gain_db
        self.seed = seed
        self._ends = np.cumsum([file.frames / file.sample_rate for file in self.files])

    def __getitem__(self, index: int) -> Segment:
        random = np.random.default_rng((self.seed, index))
        problems: list[str] = []
        for _ in range(MAX_DRAWS):
            file = self.files[int(np.searchsorted(self._ends, random.uniform(0, self._ends[-1]), side="right"))]
            position = random.uniform()
            gain = 10 ** (random.uniform(*self.gain_db) / 20)
            try:
                return Segment(self._read(file, position) * gain, tuple(problems))
            except AudioError as error:
                problems.append(str(error))
        raise UnreadableCorpus(f"{MAX_DRAWS} files in a row cannot be read, the last one: {problems[-1]}")

    def _read(self, file: AudioFile, position: float) -> Tensor:
        wanted = math.ceil(self.samples * file.sample_rate / self.sample_rate)
        length = min(wanted, file.frames)
        samples, _ = read_audio(file.path, int(position * (file.frames - length + 1)), length)
        audio = torch.from_numpy(samples)
        if file.sample_rate != self.sample_rate:
            audio = AF.resample(audio, file.sample_rate, self.sample_rate)
        segment = torch.zeros(self.samples)
        segment[: audio.shape[-1]] = audio[: self.samples]
        return segment


class StepSampler(Sampler[list[int]]):
    """Indices of each batch from `first_step` to the end: a resumed run draws what an undisturbed one would have."""

    def __init__(self, batch_size: int, first_step: int, steps: int, rank: int = 0, world_size: int = 1) -> None:
        self.batch_size = batch_size
        self.range = range(first_step, steps)
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.range:
            start = (step * self.world_size + self.rank) * self.batch_size
            yield list(range(start, start + self.batch_size))

    def __len__(self) -> int:
        return len(self.range)


def _collate(segments: Sequence[Segment]) -> Segment:
    return Segment(
        torch.stack([segment.audio for segment in segments]),
        tuple(problem for segment in segments for problem in segment.problems),
    )


def segment_loader(dataset: SegmentDataset, sampler: StepSampler, num_workers: int) -> DataLoader[Segment]:
    """Batches of `dataset` in the sampler's order, read ahead by `num_workers` processes."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
    )
