"""Manifests: the same in memory and from a file, found by time, flat in memory, and damage named, never followed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q2d2.training import columns
from q2d2.training.manifest import AudioFile, Manifest, ManifestError, write_manifest

ROOT = Path(__file__).resolve().parent.parent


def some_files(count: int, folder: Path = Path("/audio"), seed: int = 0) -> list[AudioFile]:
    random = np.random.default_rng(seed)
    frames, rates = random.integers(1, 500_000, count), random.choice([8000, 16_000, 44_100], count)
    return [
        AudioFile(folder / f"{i % 7}" / f"{i}.flac", int(n), int(rate))
        for i, (n, rate) in enumerate(zip(frames, rates, strict=True))
    ]


@pytest.fixture(params=["open", "of"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[AudioFile]], Manifest]:
    """Both ways to a manifest."""
    if request.param == "of":
        return Manifest.of
    return lambda files: write_manifest(tmp_path / "made.arrow", files)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 16)


Make = Callable[[list[AudioFile]], Manifest]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("count", [1, 15, 16, 17, 100])
def test_entries_come_back(make: Make, count: int) -> None:
    files = some_files(count)
    manifest = make(files)
    assert len(manifest) == count
    assert list(manifest) == files
    assert manifest.seconds == pytest.approx(sum(file.frames / file.sample_rate for file in files), rel=1e-12)
    for outside in (count, -1):
        with pytest.raises(IndexError, match=f"of a manifest of {count}"):
            manifest[outside]


def test_digest_is_of_the_content_not_of_place_or_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = some_files(50)
    digest = Manifest.of(files).digest
    assert len(bytes.fromhex(digest)) == 32
    elsewhere = [AudioFile(Path("other") / f"{file.path.stem}.wav", file.frames, file.sample_rate) for file in files]
    assert Manifest.of(elsewhere).digest == digest
    for rows in (1, 7, 50, 51):
        monkeypatch.setattr(columns, "BATCH_ROWS", rows)
        written = write_manifest(tmp_path / f"{rows}.arrow", files)
        assert written.digest == Manifest.open(tmp_path / f"{rows}.arrow").digest == digest
        assert written.seconds == Manifest.of(files).seconds
    for changed in (
        files[1:],
        files[::-1],
        [*files[1:], AudioFile(files[0].path, files[0].frames + 1, files[0].sample_rate)],
        [AudioFile(files[0].path, files[0].frames, files[0].sample_rate + 1), *files[1:]],
        [AudioFile(Path("/audio/other.flac"), files[0].frames, files[0].sample_rate), *files[1:]],
    ):
        assert Manifest.of(changed).digest != digest


@pytest.mark.usefixtures("small_batches")
def test_times_lead_to_files_in_order_and_proportion(make: Make) -> None:
    files = some_files(60)
    manifest = make(files)
    start = 0.0
    for file in files:
        duration = file.frames / file.sample_rate
        for fraction in (0.001, 0.3, 0.999):
            found, position = manifest.at(start + fraction * duration)
            assert found == file
            assert position == pytest.approx(fraction, abs=1e-6)
        start += duration


@pytest.mark.usefixtures("small_batches")
def test_a_file_begins_where_the_one_before_ends(make: Make) -> None:
    files = [AudioFile(Path(f"/{number}.wav"), 8000, 8000) for number in range(40)]
    manifest = make(files)
    assert [manifest.at(second) for second in range(40)] == [(file, 0.0) for file in files]


@pytest.mark.usefixtures("small_batches")
@given(data=st.data())
def test_every_time_has_a_file_and_a_fraction_below_one(data: st.DataObject) -> None:
    manifest = Manifest.concat([Manifest.of(some_files(40, seed=seed)) for seed in range(3)])
    ends = np.cumsum([file.frames / file.sample_rate for file in manifest])
    border = float(data.draw(st.sampled_from([0.0, *ends[:-1]])))
    time = max(0.0, border + data.draw(st.sampled_from([0.0, 1e-12, -1e-12, 1e-3])))
    _, fraction = manifest.at(min(time, np.nextafter(manifest.seconds, 0)))
    assert 0 <= fraction < 1
    for outside in (-1e-9, manifest.seconds, float("nan")):
        with pytest.raises(ValueError, match="not on the timeline"):
            manifest.at(outside)


@pytest.mark.usefixtures("small_batches")
def test_several_manifests_are_one(tmp_path: Path) -> None:
    files = some_files(100)
    one, other = write_manifest(tmp_path / "a.arrow", files[:37]), Manifest.of(files[37:])
    both = Manifest.concat([one, Manifest.of([]), other])
    assert list(both) == files
    whole = Manifest.of(files)
    assert both.seconds == pytest.approx(whole.seconds, rel=1e-12)
    for time in np.linspace(0, both.seconds, 300, endpoint=False):
        (file, fraction), (expected, place) = both.at(time), whole.at(time)
        assert (file, fraction) == (expected, pytest.approx(place, abs=1e-6))
    assert Manifest.concat([one]).digest == one.digest
    swapped = Manifest.concat([other, one])
    assert len({both.digest, swapped.digest, one.digest, other.digest}) == 4
    assert Manifest.concat([Manifest.concat([one, other])]).digest == both.digest
    nothing = Manifest.concat([])
    assert (len(nothing), nothing.seconds, list(nothing)) == (0, 0.0, [])


@pytest.mark.usefixtures("small_batches")
def test_pickled_it_is_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = some_files(1000)
    manifest = Manifest.concat([write_manifest("a.arrow", files), Manifest.of(files[:20])])
    packed = pickle.dumps(manifest)
    assert len(packed) < 4000
    monkeypatch.chdir("/")
    assert list(pickle.loads(packed)) == files + files[:20]
    monkeypatch.chdir(tmp_path)
    write_manifest("a.arrow", files[1:])
    with pytest.raises(ManifestError, match=r"a\.arrow was replaced while it was in use"):
        pickle.loads(packed)
    assert list(manifest) == files + files[:20]  # what is mapped stays


def test_a_manifest_moves_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    (here / "sub").mkdir(parents=True)
    files = [
        AudioFile(here / "sub" / "a.wav", 10, 8000),
        AudioFile(tmp_path / "hereafter" / "b.wav", 10, 8000),  # a prefix of letters, not of folders
        AudioFile(Path("c.wav"), 10, 8000),
    ]
    monkeypatch.chdir(here)
    write_manifest(here / "x.arrow", files)
    assert [file.path for file in Manifest.open("x.arrow")] == [*(file.path for file in files[:2]), here / "c.wav"]
    here.rename(tmp_path / "there")
    monkeypatch.chdir("/")
    moved = [file.path for file in Manifest.open(tmp_path / "there" / "x.arrow")]
    assert moved == [tmp_path / "there/sub/a.wav", tmp_path / "hereafter/b.wav", tmp_path / "there/c.wav"]


def test_names_that_are_not_utf8_survive(make: Make) -> None:
    files = [AudioFile(Path(os.fsdecode(b"/audio/\xff\xfe caf\xc3\xa9\n.wav")), 5, 8000)]
    assert list(make(files)) == files


@pytest.mark.parametrize(("frames", "rate"), [(0, 8000), (-3, 8000), (100, 0)])
def test_files_without_length_or_rate_are_refused(make: Make, frames: int, rate: int, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=f"/audio/empty.wav: {frames} frames at {rate} Hz"):
        make([*some_files(3), AudioFile(Path("/audio/empty.wav"), frames, rate)])
    assert not list(tmp_path.iterdir())


def test_writing_leaves_the_whole_file_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    old = write_manifest(path, some_files(5))

    def fails_late() -> Iterator[AudioFile]:
        yield from some_files(100)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(path, fails_late())
    with pytest.raises(ManifestError, match=r"x\.arrow: there are no files to list"):
        write_manifest(path, [])
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.arrow"]
    assert Manifest.open(path).digest == old.digest


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_opening_is_instant_and_memory_flat(tmp_path: Path) -> None:
    """200,000 entries that would be 100 MB of objects, in a process of its own."""
    code = r"""
import re, sys, time
from pathlib import Path
from q2d2.training.manifest import AudioFile, Manifest, write_manifest

def peak():  # getrusage's would begin with that of the parent process
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
def files():
    for i in range(200_000):
        yield AudioFile(Path(f"/corpora/LibriSpeech/train-clean-100/{i % 251}/{i % 1009}/{i}.flac"), 16_000 + i, 16_000)

write_manifest(sys.argv[1], (file for file, _ in zip(files(), range(35_000))))
before = peak()
write_manifest(sys.argv[1], files())
written = peak()
start = time.process_time()
manifest = Manifest.open(sys.argv[1])
opened = time.process_time() - start
file, fraction = manifest.at(manifest.seconds / 2)
found = time.process_time() - start
assert len(manifest) == 200_000 and abs(sum(f.frames for f in manifest) / 16_000 - manifest.seconds) < 1e-3
print(written - before, peak() - written, opened, found)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.arrow")], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    writing, reading, opened, found = map(float, done.stdout.split())
    size = (tmp_path / "x.arrow").stat().st_size / 2**20
    assert writing < 8  # MB more than for 35,000 entries
    assert size > 12
    assert reading < size / 2  # pages of the file are given back
    assert opened < 0.1
    assert found < 0.2
