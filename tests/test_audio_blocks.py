"""Audio files in blocks: the samples of the whole file, and every kind of damage named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from q2d2.audio import AudioError, read_audio, read_blocks

RATE = 16000


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samples", [1600, 16000, 40001])
def test_blocks_are_the_samples_of_the_whole(tmp_path: Path, suffix: str, channels: int, samples: int) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(samples, channels), RATE)
    blocks = list(read_blocks(path, seconds=0.5))
    assert [len(block) for block in blocks[:-1]] == [8000] * (len(blocks) - 1)
    assert all(block.dtype == np.float32 for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(path)[0])


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    broken = np.zeros(RATE, np.float32)
    broken[15000] = np.nan
    soundfile.write(path, broken, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="1 samples are NaN"):
        list(read_blocks(path, seconds=0.1))
    soundfile.write(tmp_path / "b.flac", noise(RATE * 5), RATE)
    whole = (tmp_path / "b.flac").read_bytes()
    (tmp_path / "b.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"b\.flac: (cut off|cannot be decoded)"):
        list(read_blocks(tmp_path / "b.flac", seconds=0.1))
    with pytest.raises(AudioError, match="No such file"):
        list(read_blocks(tmp_path / "c.wav"))


def test_silence_can_be_coded(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(RATE, np.float32), RATE)
    assert sum(len(block) for block in read_blocks(path, seconds=0.3)) == RATE
