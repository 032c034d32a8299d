"""Random segments: a function of (seed, index) alone, whatever reads them and in which order."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from q2d2.audio import read_header
from q2d2.training.manifest import AudioFile, Manifest, ManifestError, write_manifest
from q2d2.training.segments import Segment, SegmentDataset, StepSampler, UnreadableCorpus, segment_loader

ROOT = Path(__file__).resolve().parent.parent
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
    return SegmentDataset(Manifest.of(files), RATE, SAMPLES, gain_db, seed)


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


def test_rates_that_take_gigabytes_or_are_not_the_files_own_are_named(tmp_path: Path) -> None:
    """What an old manifest, or one of another tool, says was never checked."""
    soundfile.write(tmp_path / "strange.wav", noise(1.0, 44_099), 44_099)
    other = write(tmp_path / "other.wav", noise(1.0, 16_000), 16_000)
    reasons = {
        AudioFile(tmp_path / "strange.wav", 44_099, 44_099): "a sampling rate of 44099 Hz",
        AudioFile(other.path, other.frames, 44_099): "it has 16000 Hz, its manifest says 44099",
    }
    for file, reason in reasons.items():
        with pytest.raises(UnreadableCorpus, match=reason):
            dataset_of([file])[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corpus_without_readable_files_is_one_line(files: list[AudioFile], workers: int) -> None:
    for file in files:
        file.path.unlink()
    with pytest.raises(UnreadableCorpus, match=r"^20 files in a row cannot be read, .*\.wav: no such file$") as caught:
        list(batches(dataset_of(files), StepSampler(2, 0, 3), workers))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no audio files to train on"):
        dataset_of([])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_manifest_is_one_line(files: list[AudioFile], tmp_path: Path, workers: int) -> None:
    write_manifest(tmp_path / "x.arrow", files)
    whole = (tmp_path / "x.arrow").read_bytes()
    frames = np.array([file.frames for file in files]).tobytes()
    assert whole.count(frames) == 1
    (tmp_path / "x.arrow").write_bytes(whole.replace(frames, bytes(len(frames))))
    dataset = SegmentDataset(Manifest.open(tmp_path / "x.arrow"), RATE, SAMPLES, NO_GAIN, 0)
    with pytest.raises(ManifestError, match=r"x\.arrow is damaged in its batch 0: .* Write it anew\.$") as caught:
        list(batches(dataset, StepSampler(2, 0, 3), workers))
    assert "\n" not in str(caught.value)


class TestEpochs:
    """Slots are drawn without replacement; constant files tell which one a segment is from."""

    @pytest.fixture
    def slots(self, tmp_path: Path) -> SegmentDataset:
        """40 files, each exactly a segment long: so many slots, and the first sample is the file's number."""
        files = [write(tmp_path / f"{i}.wav", np.full(SAMPLES, i / 64)) for i in range(40)]
        return dataset_of(files, NO_GAIN)

    @staticmethod
    def drawn(dataset: SegmentDataset, indices: Any) -> list[int]:
        return [round(64 * dataset[index].audio[0].item()) for index in indices]

    def test_an_epoch_takes_every_slot_once_and_the_next_in_another_order(self, slots: SegmentDataset) -> None:
        assert slots.slots == 40
        first, second = self.drawn(slots, range(40)), self.drawn(slots, range(40, 80))
        assert sorted(first) == sorted(second) == list(range(40))
        assert first != second
        assert first != list(range(40))

    def test_ranks_and_accumulated_batches_share_an_epoch_without_duplicates(self, slots: SegmentDataset) -> None:
        files = [
            number
            for rank in range(2)
            for indices in StepSampler(8, 0, 5, rank, world_size=2, accumulate=2)
            for number in self.drawn(slots, indices)
        ]
        assert sorted(files) == list(range(40))

    def test_a_long_file_is_covered_by_an_epoch(self, tmp_path: Path) -> None:
        ramp = np.linspace(0, 1, 50 * SAMPLES + SAMPLES // 2, endpoint=False)
        dataset = dataset_of([write(tmp_path / "ramp.wav", ramp)], NO_GAIN)
        assert dataset.slots == 50
        places = sorted(dataset[index].audio[0].item() * len(ramp) / (len(ramp) - SAMPLES) for index in range(50))
        assert [int(place * 50) for place in places] == list(range(50))  # one in each fiftieth
        assert np.std(np.diff(places)) * 50 > 0.2  # at random within it

    def test_a_corpus_shorter_than_a_segment_is_one_slot(self, tmp_path: Path) -> None:
        dataset = dataset_of([write(tmp_path / "short.wav", noise(0.1))], NO_GAIN)
        assert dataset.slots == 1
        assert dataset[7].audio.shape == (SAMPLES,)

    def test_files_of_other_rates_are_drawn_by_their_seconds(self, tmp_path: Path) -> None:
        low = write(tmp_path / "low.wav", np.full(4 * RATE, 0.25))
        high = write(tmp_path / "high.wav", np.full(4 * 3 * RATE, 0.5), 3 * RATE)
        dataset = dataset_of([low, high], NO_GAIN)
        middles = Counter(dataset[index].audio[SAMPLES // 2].item() > 0.4 for index in range(dataset.slots))
        assert abs(middles[True] - middles[False]) <= 1


def batches(dataset: SegmentDataset, sampler: StepSampler, workers: int) -> list[Segment]:
    return list(segment_loader(dataset, sampler, workers, pin_memory=False))


def assert_equal(one: list[Segment], other: list[Segment]) -> None:
    for mine, yours in zip(one, other, strict=True):
        assert torch.equal(mine.audio, yours.audio)
        assert mine.problems == yours.problems


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on a small machine
def test_workers_change_nothing(files: list[AudioFile]) -> None:
    files[1].path.write_bytes(b"")
    none, one, three = (batches(dataset_of(files), StepSampler(3, 2, 8), workers) for workers in (0, 1, 3))
    assert len(none) == 6
    assert all(batch.audio.shape == (3, SAMPLES) for batch in none)
    assert any(batch.problems for batch in none)
    assert_equal(none, one)
    assert_equal(none, three)


def test_a_copy_in_another_process_draws_the_same(files: list[AudioFile], tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "x.arrow", files)
    dataset = SegmentDataset(manifest, RATE, SAMPLES, (-6.0, 3.0), 0)
    packed = pickle.dumps(dataset)
    assert len(packed) < 1000  # the path of the manifest, not its entries
    expected = [dataset[index] for index in range(6)]
    assert_equal(expected, [pickle.loads(packed)[index] for index in range(6)])
    assert_equal(expected, [dataset_of(files)[index] for index in range(6)])  # in memory as from a file
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert_equal(expected, pool.map(dataset.__getitem__, range(6)))


def test_workers_outlive_a_sigterm_to_the_whole_job(files: list[AudioFile]) -> None:
    sampler = StepSampler(2, 0, 12)
    expected = batches(dataset_of(files), sampler, 0)
    before = set(multiprocessing.active_children())
    loader = segment_loader(dataset_of(files), sampler, 2, pin_memory=False)
    arriving = iter(loader)
    drawn = [next(arriving), next(arriving)]
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    subprocess.run(["kill", "-TERM", *(str(worker.pid) for worker in workers)], check=True)
    assert_equal(expected, drawn + list(arriving))
    assert all(worker.is_alive() for worker in workers)  # for the whole run
    for worker in workers:
        worker.terminate()
        worker.join(20)
        assert worker.exitcode == 0


def test_a_process_that_leaves_its_loader_behind_ends(files: list[AudioFile], tmp_path: Path) -> None:
    """The interpreter sends SIGTERM to workers at exit and waits for them."""
    write_manifest(tmp_path / "x.arrow", files)
    code = """
import sys
from q2d2.training.manifest import Manifest
from q2d2.training.segments import SegmentDataset, StepSampler, segment_loader
dataset = SegmentDataset(Manifest.open(sys.argv[1]), 8000, 1000, (0.0, 0.0), 0)
sys.kept = iter(segment_loader(dataset, StepSampler(2, 0, 1000), 2, pin_memory=False))
next(sys.kept)
raise SystemExit(7)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "x.arrow")]
    assert subprocess.run(command, cwd=ROOT, timeout=60, stderr=subprocess.DEVNULL).returncode == 7
