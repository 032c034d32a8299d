"""Random segments: a function of (seed, index) alone, whatever reads them and in which order."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from q2d2.audio import read_header
from q2d2.training.segments import AudioFile, SegmentDataset, StepSampler, UnreadableCorpus, segment_loader

RATE, SAMPLES = 8000, 1000
NO_GAIN = (0.0, 0.0)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> AudioFile:
    soundfile.write(path, samples.astype(np.float32), rate, subtype="FLOAT")
    header = read_header(path)
    return AudioFile(path, header.frames, header.sample_rate)


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate)).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path) -> list[AudioFile]:
    return [write(tmp_path / f"{i}.wav", noise(1.0 + i, seed=i)) for i in range(3)]


def dataset_of(files: list[AudioFile], gain_db: tuple[float, float] = (-6.0, 3.0), seed: int = 0) -> SegmentDataset:
    return SegmentDataset(files, RATE, SAMPLES, gain_db, seed)


def test_an_item_depends_on_seed_and_index_alone(files: list[AudioFile]) -> None:
    first, second = dataset_of(files), dataset_of(files)
    forward = [first[i].audio for i in range(8)]
    np.random.seed(7)
    torch.manual_seed(7)
    backward = [second[i].audio for i in reversed(range(8))][::-1]
    assert all(torch.equal(one, other) for one, other in zip(forward, backward, strict=True))
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(forward, 2))
    reseeded = dataset_of(files, seed=1)
    assert all(not torch.equal(reseeded[i].audio, forward[i]) for i in range(8))


def test_reading_by_seeking_equals_slicing_the_whole_file(tmp_path: Path) -> None:
    whole = noise(2.0)
    dataset = dataset_of([write(tmp_path / "a.wav", whole)], NO_GAIN)
    windows = np.lib.stride_tricks.sliding_window_view(whole, SAMPLES)
    starts = []
    for index in range(40):
        audio, problems = dataset[index]
        assert audio.shape == (SAMPLES,)
        assert audio.dtype == torch.float32
        assert problems == ()
        possible = np.flatnonzero(windows[:, 0] == audio[0].item())
        (start,) = (start for start in possible if np.array_equal(windows[start], audio.numpy()))
        starts.append(start)
    assert min(starts) < 0.1 * len(windows)  # all of the file is in reach
    assert max(starts) > 0.9 * len(windows)


def test_compressed_files_are_read_alike(tmp_path: Path) -> None:
    whole = (noise(2.0) * 2**15).astype(np.int16)
    plain = write(tmp_path / "a.wav", whole / 2**15)
    soundfile.write(tmp_path / "a.flac", whole, RATE)
    packed = AudioFile(tmp_path / "a.flac", plain.frames, RATE)
    for index in range(10):
        assert torch.equal(dataset_of([plain])[index].audio, dataset_of([packed])[index].audio)


def test_files_are_drawn_by_duration_and_gains_evenly_in_decibels(tmp_path: Path) -> None:
    low, high = 0.01, 1.0  # 40 dB apart: the level tells the file
    files = [write(tmp_path / "short.wav", np.full(RATE, low)), write(tmp_path / "long.wav", np.full(3 * RATE, high))]
    dataset = dataset_of(files, (-6.0, 3.0))
    levels = [20 * np.log10(dataset[index].audio[0].item()) for index in range(400)]
    drawn = Counter(level > -20 for level in levels)
    assert 260 < drawn[True] < 340  # three quarters of 400
    gains = np.array([level if level > -20 else level + 40 for level in levels])
    assert gains.min() > -6.001
    assert gains.max() < 3.001
    assert np.abs(np.quantile(gains, [0.25, 0.5, 0.75]) - [-3.75, -1.5, 0.75]).max() < 0.75


@pytest.mark.parametrize("rate", [16000, 44100, 6000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
    dataset = dataset_of([write(tmp_path / "tone.wav", np.stack([tone, tone], axis=1), rate)], NO_GAIN)
    for index in range(5):
        audio = dataset[index].audio
        assert audio.shape == (SAMPLES,)
        inner = audio[100:-100].numpy()  # the filter sees nothing beyond the ends
        t = np.arange(len(inner)) / RATE
        basis = np.stack([np.sin(2 * np.pi * 440 * t), np.cos(2 * np.pi * 440 * t)], axis=1)
        weights, *_ = np.linalg.lstsq(basis, inner, rcond=None)
        assert np.hypot(*weights) == pytest.approx(0.5, rel=0.01)
        assert np.abs(basis @ weights - inner).max() < 0.01


def test_short_files_are_padded_at_the_end(tmp_path: Path) -> None:
    short = noise(0.1)
    dataset = dataset_of([write(tmp_path / "short.wav", short)], NO_GAIN)
    for index in range(5):
        audio = dataset[index].audio
        assert np.array_equal(audio[: len(short)].numpy(), short)
        assert (audio[len(short) :] == 0).all()


def test_an_unreadable_file_is_named_and_another_one_drawn(files: list[AudioFile]) -> None:
    broken = files[2].path
    broken.write_bytes(b"no longer audio")
    dataset, healthy = dataset_of(files), {str(file.path) for file in files[:2]}
    segments = [dataset[index] for index in range(30)]
    problems = [problem for segment in segments for problem in segment.problems]
    assert len(problems) > 5
    assert all(str(broken) in problem and not any(path in problem for path in healthy) for problem in problems)
    assert all(segment.audio.abs().max() > 0.1 for segment in segments)
    # Items that did not meet the broken file are those of an intact corpus.
    write(broken, noise(3.0, seed=2))
    intact = [dataset[index] for index in range(30)]
    for met, meant in zip(segments, intact, strict=True):
        assert meant.problems == ()
        assert torch.equal(met.audio, meant.audio) == (not met.problems)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corpus_without_readable_files_is_an_error(files: list[AudioFile], workers: int) -> None:
    for file in files:
        file.path.unlink()
    loader = segment_loader(dataset_of(files), StepSampler(2, 0, 3), workers)
    with pytest.raises(UnreadableCorpus, match=r"20 files in a row cannot be read, .*\.wav: no such file"):
        next(iter(loader))
    with pytest.raises(ValueError, match="no audio files to train on"):
        dataset_of([])


def test_workers_change_nothing(files: list[AudioFile]) -> None:
    files[1].path.write_bytes(b"")
    runs = [list(segment_loader(dataset_of(files), StepSampler(3, 2, 8), workers)) for workers in (0, 2)]
    assert [len(run) for run in runs] == [6, 6]
    assert any(batch.problems for batch in runs[0])
    for one, other in zip(*runs, strict=True):
        assert one.audio.shape == (3, SAMPLES)
        assert torch.equal(one.audio, other.audio)
        assert one.problems == other.problems


def test_sampler_goes_on_where_it_stopped() -> None:
    whole = list(StepSampler(4, 0, 10))
    assert list(StepSampler(4, 7, 10)) == whole[7:]
    assert len(StepSampler(4, 7, 10)) == 3
    assert list(StepSampler(4, 10, 10)) == []
    assert list(itertools.chain(*whole)) == list(range(40))


def test_ranks_share_the_indices_without_overlap() -> None:
    ranks = [list(StepSampler(4, 0, 10, rank, 3)) for rank in range(3)]
    drawn = [index for batches in ranks for batch in batches for index in batch]
    assert sorted(drawn) == list(range(120))
    # Step by step the ranks together draw what one process with three times the batch would.
    together = [list(itertools.chain(*batches)) for batches in zip(*ranks, strict=True)]
    assert together == list(StepSampler(12, 0, 10))
