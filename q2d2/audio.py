"""Reading audio files: headers without decoding, and samples as float32 mono.

Files are read with libsndfile (soundfile): WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF and others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from q2d2.errors import UserError

# Shorter than this there is no speech to code, and no metric has a window to look at.
SHORTEST_SECONDS = 0.1
# -80 dBFS: about three steps of 16-bit audio. Dither alone stays below, the faintest recorded room noise does not.
SILENCE_PEAK = 1e-4

# What a WAV header says of a length that was not known when it was written (streams): not damage.
_UNKNOWN_LENGTHS = {0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFF000}
_SHORTENED_DATA = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# libsndfile reports this many frames, or more, where a header holds no length.
_NO_LENGTH = 2**62


class AudioError(UserError, ValueError):
    """A file that cannot be used as audio.

    Attributes:
        path: the file.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        # Both arguments go to the base class, so that the error survives pickling between processes.
        super().__init__(str(path), reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Header(NamedTuple):
    """What a file says about itself: frames (samples per channel), sample_rate in Hz, channels."""

    frames: int
    sample_rate: int
    channels: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read the header of an audio file, without decoding it.

    Raises:
        AudioError: the file is missing, empty, not audio, cut off (WAV), or shorter than SHORTEST_SECONDS.
    """
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise AudioError(path, f"cannot be opened: {error.strerror}") from error
    if size == 0:
        raise AudioError(path, "empty file (0 bytes)")
    try:
        info = soundfile.info(path, verbose=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(path, f"corrupt or not audio: {_why(error)}") from error
    shortened = _SHORTENED_DATA.search(info.extra_info)
    if shortened and int(shortened[1]) not in _UNKNOWN_LENGTHS and int(shortened[1]) > int(shortened[2]):
        raise AudioError(path, f"cut off: the header promises {shortened[1]} bytes of audio, {shortened[2]} are there")
    if info.frames >= _NO_LENGTH:
        raise AudioError(path, "the header holds no length; convert the file, for example with `flac` or `ffmpeg`")
    if info.frames <= 0:
        raise AudioError(path, "empty: no samples")
    seconds = info.frames / info.samplerate
    if seconds < SHORTEST_SECONDS:
        raise AudioError(path, f"too short: {seconds * 1000:.0f} ms, at least {SHORTEST_SECONDS * 1000:.0f} ms needed")
    return Header(info.frames, info.samplerate, info.channels)


def read_audio(path: str | os.PathLike[str], start: int = 0, frames: int = -1) -> tuple[np.ndarray, int]:
    """Read samples of an audio file, seeking to `start` instead of decoding what comes before.

    Several channels are averaged into one. The sample rate is the file's own.

    Args:
        path: the file.
        start: first frame to read, at the file's rate.
        frames: how many frames to read; -1 for all that follow.

    Returns:
        float32 array of shape (samples,), nominally in [-1, 1] (float files may exceed it), and the rate in Hz.

    Raises:
        AudioError: the file is missing, corrupt, cut off, or ends before `start + frames`; holds NaN or infinite
            samples; or, where it is read whole, is silent throughout (peak below SILENCE_PEAK). A silent segment is
            a pause in speech, not an error.
        ValueError: `start` is negative, or `frames` is neither -1 nor positive.
    """
    if start < 0 or frames == 0 or frames < -1:
        raise ValueError(f"start={start}, frames={frames}: start must be >= 0, frames positive or -1 for all")
    try:
        with soundfile.SoundFile(path) as file:
            wanted = frames if frames > 0 else file.frames - start
            if start + wanted > file.frames or wanted <= 0:
                raise AudioError(path, f"frames {start} to {start + wanted} asked for, the file has {file.frames}")
            if start:
                file.seek(start)
            channels = file.read(wanted, dtype="float32", always_2d=True)
            rate: int = file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        if not os.path.exists(path):
            raise AudioError(path, "no such file") from error
        raise AudioError(path, f"cannot be decoded: {_why(error)}") from error
    except MemoryError as error:
        raise AudioError(path, f"too large for memory: its header promises {wanted:,} samples") from error
    if len(channels) != wanted:
        raise AudioError(path, f"cut off: {len(channels)} of {wanted} samples could be decoded")
    samples = _mono(channels)
    peak = _finite_peak(path, samples)
    if peak < SILENCE_PEAK and start == 0 and frames == -1:
        raise AudioError(path, f"silent: peak {peak:.1e}, below {SILENCE_PEAK:.0e} (-80 dBFS)")
    return samples, rate


def read_blocks(path: str | os.PathLike[str], seconds: float = 10.0) -> Iterator[np.ndarray]:
    """Read a whole audio file block by block, so that one of any length fits into memory.

    Several channels are averaged into one. The sample rate is the file's own (`read_header`).

    Args:
        path: the file.
        seconds: of a block; the last may be shorter.

    Yields:
        float32 arrays of shape (samples,), together what `read_audio` returns.

    Raises:
        AudioError: as `read_audio`, as soon as it shows; silence is not refused.
    """
    expected = read_header(path).frames
    read = 0
    try:
        with soundfile.SoundFile(path) as file:
            size = max(1, round(seconds * file.samplerate))
            while len(channels := file.read(size, dtype="float32", always_2d=True)):
                read += len(channels)
                samples = _mono(channels)
                _finite_peak(path, samples)
                yield samples
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(path, f"cannot be decoded: {_why(error)}") from error
    if read != expected:
        raise AudioError(path, f"cut off: {read} of {expected} samples could be decoded")


def _mono(channels: np.ndarray) -> np.ndarray:
    """(samples, channels) -> (samples,)."""
    mono: np.ndarray = channels[:, 0].copy() if channels.shape[1] == 1 else channels.mean(axis=1, dtype=np.float32)
    return mono


def _finite_peak(path: str | os.PathLike[str], samples: np.ndarray) -> float:
    peak = float(np.abs(samples).max())  # NaN and infinity both survive max()
    if not np.isfinite(peak):
        raise AudioError(path, f"{np.count_nonzero(~np.isfinite(samples))} samples are NaN or infinite")
    return peak


def _why(error: soundfile.LibsndfileError | OSError) -> str:
    """libsndfile's own words, without the path and the prefix it puts before them."""
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else (error.strerror or str(error))
    return text.strip().removeprefix("Error : ").rstrip(".")
