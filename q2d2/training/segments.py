"""Random segments of a corpus, each a function of (seed, index) alone, read by seeking in the file."""

from __future__ import annotations

import functools
import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torchaudio.functional as AF
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from q2d2.audio import AudioError, read_audio
from q2d2.errors import UserError
from q2d2.rates import RateError, check_rates
from q2d2.training.manifest import AudioFile, Manifest
from q2d2.training.permutation import Permutation

MAX_DRAWS = 20


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

    The corpus' files, end to end, are cut into equal slots about as long as a segment. An epoch takes every slot once,
    on whatever rank, in a random order that needs no memory. A random time within the slot decides the file and the
    position in it: files are drawn in proportion to their duration, positions uniformly; segments from neighbouring
    slots may overlap. Files shorter than a segment are padded with zeros at the end. A file that cannot be
    read is reported in `Segment.problems` and another one drawn at random; MAX_DRAWS of them in a row raise
    UnreadableCorpus.

    Args:
        manifest: the corpus.
        sample_rate: rate of the segments in Hz; files of other rates are resampled.
        samples: length of a segment.
        gain_db: range of the random gain, uniform in dB.
        seed: together with the index decides everything.

    Raises:
        ValueError: no files.
    """

    def __init__(
        self, manifest: Manifest, sample_rate: int, samples: int, gain_db: tuple[float, float], seed: int
    ) -> None:
        if not len(manifest):
            raise ValueError("no audio files to train on")
        self.manifest = manifest
        self.sample_rate = sample_rate
        self.samples = samples
        self.gain_db = gain_db
        self.seed = seed
        self.slots = max(1, int(manifest.seconds * sample_rate / samples))

    def __getitem__(self, index: int) -> Segment:
        random = np.random.default_rng((self.seed, index))
        epoch, place = divmod(index, self.slots)
        slot = _order(self.slots, self.seed, epoch)[place]
        time = (slot + random.uniform()) / self.slots
        problems: list[str] = []
        for _ in range(MAX_DRAWS):
            gain = 10 ** (random.uniform(*self.gain_db) / 20)
            # The product may round up to the end of the timeline, which belongs to no file.
            seconds = min(time * self.manifest.seconds, math.nextafter(self.manifest.seconds, 0))
            file, position = self.manifest.at(seconds)
            try:
                return Segment(self._read(file, position) * gain, tuple(problems))
            except AudioError as error:
                problems.append(str(error))
            time = random.uniform()
        raise UnreadableCorpus(f"{MAX_DRAWS} files in a row cannot be read, the last one: {problems[-1]}")

    def _read(self, file: AudioFile, position: float) -> Tensor:
        wanted = math.ceil(self.samples * file.sample_rate / self.sample_rate)
        length = min(wanted, file.frames)
        samples, rate = read_audio(file.path, int(position * (file.frames - length + 1)), length)
        if rate != file.sample_rate:
            raise AudioError(file.path, f"it has {rate} Hz, its manifest says {file.sample_rate}: index it again")
        try:
            check_rates(rate, self.sample_rate)
        except RateError as error:
            raise AudioError(file.path, str(error)) from error
        audio = torch.from_numpy(samples)
        if file.sample_rate != self.sample_rate:
            audio = AF.resample(audio, file.sample_rate, self.sample_rate)
        segment = torch.zeros(self.samples)
        segment[: audio.shape[-1]] = audio[: self.samples]
        return segment


@functools.lru_cache(maxsize=4)
def _order(slots: int, seed: int, epoch: int) -> Permutation:
    return Permutation(slots, (seed, epoch))


class StepSampler(Sampler[list[int]]):
    """Indices of this rank's batches, micro-batch by micro-batch, from `first_step` to the end.

    Step k takes the indices k * global_batch to (k + 1) * global_batch - 1, however many ranks and micro-batches share
    them, so a resumed run draws what an undisturbed one would have, also on another number of ranks.

    Args:
        global_batch: segments of a step, all ranks and micro-batches together.
        first_step, steps: the first step and the one after the last.
        rank, world_size: this process, and how many there are.
        accumulate: micro-batches of each rank in a step.

    Raises:
        ValueError: the global batch cannot be divided evenly.
    """

    def __init__(
        self, global_batch: int, first_step: int, steps: int, rank: int = 0, world_size: int = 1, accumulate: int = 1
    ) -> None:
        shares = world_size * accumulate
        if global_batch < 1 or shares < 1 or global_batch % shares:
            raise ValueError(
                f"a global batch of {global_batch} cannot be divided evenly among {world_size} processes with "
                f"{accumulate} batches each: it must be a multiple of {shares}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes")
        self.global_batch = global_batch
        self.batch_size = global_batch // shares
        self.range = range(first_step, steps)
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.range:
            for micro_batch in range(self.accumulate):
                share = micro_batch * self.world_size + self.rank
                start = step * self.global_batch + share * self.batch_size
                yield list(range(start, start + self.batch_size))

    def __len__(self) -> int:
        return len(self.range) * self.accumulate


class _SegmentLoader(DataLoader[Segment]):
    """A DataLoader that reports an error of a worker in one line, as the error is without workers."""

    def __iter__(self) -> Iterator[Segment]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except UserError as error:
            # The worker's whole traceback has been put before the message.
            message = str(error).rpartition(f"{type(error).__qualname__}: ")[2].strip()
            raise type(error)(message) from None


def segment_loader(
    dataset: SegmentDataset, sampler: StepSampler, num_workers: int, pin_memory: bool
) -> DataLoader[Segment]:
    """Batches of `dataset` in the sampler's order, the same ones for any number of workers.

    Args:
        num_workers: processes that read ahead, two batches each; they map the manifest's file instead of copying it,
            and heed SIGTERM from this process alone. 0 reads when a batch is asked for.
        pin_memory: hand batches over in page-locked memory, from which a GPU copies while it computes.
    """
    return _SegmentLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        worker_init_fn=_heed_parent_alone,
    )


def _heed_parent_alone(worker: int) -> None:
    """Ignore SIGTERM unless it is the training process that sends it, as it does to workers that it leaves behind.

    Batch systems send it to all processes of a job at once, and the training process has to finish its step.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parent = os.getppid()

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=wait, name="sigterm", daemon=True).start()


def _collate(segments: Sequence[Segment]) -> Segment:
    return Segment(
        torch.stack([segment.audio for segment in segments]),
        tuple(problem for segment in segments for problem in segment.problems),
    )
