"""Reading audio files: headers without decoding, and samples as float32 mono.

Files are read with libsndfile (soundfile): WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF and others.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from q2d2.containers import Doubtful, checked_frames, why_unreadable
from q2d2.errors import NotFinite, UserError
from q2d2.rates import RateError, check_rate
from q2d2.suffixes import why_unsupported

# Shorter than this there is no speech to code, and no metric has a window to look at.
SHORTEST_SECONDS = 0.1
# -80 dBFS: about three steps of 16-bit audio. Dither alone stays below, the faintest recorded room noise does not.
SILENCE_PEAK = 1e-4
# 20 dB beyond full scale. Decoders overshoot by a few dB; what is larger are integers read as floats, or garbage.
HIGHEST_PEAK = 10.0

# The most that ambisonics of seventh order has; a microphone array of more is no recording of a speaker.
MOST_CHANNELS = 64
# What is read whole must fit into memory: 1 GiB, 4.7 hours at 16 kHz. Blocks and segments have no such limit.
MOST_SAMPLES = 2**28
# Values that are decoded at a time, of all channels together.
_BLOCK = 2**24
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
    """Read the header of an audio file, and see that the file holds what it says, without decoding it.

    Raises:
        AudioError: the file is missing, empty, not audio, cut off, or shorter than SHORTEST_SECONDS; its length is not
            known; its sampling rate (see `q2d2.rates.check_rate`) or number of channels is none of a recording.
    """
    header = _checked_header(path)
    seconds = header.frames / header.sample_rate
    if seconds < SHORTEST_SECONDS:
        raise AudioError(path, f"too short: {seconds * 1000:.0f} ms, at least {SHORTEST_SECONDS * 1000:.0f} ms needed")
    return header


def _checked_header(path: str | os.PathLike[str]) -> Header:
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise AudioError(path, f"cannot be opened: {error.strerror}") from error
    if size == 0:
        raise AudioError(path, "empty file (0 bytes)")
    if reason := why_unsupported(path):
        raise AudioError(path, reason)
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(path, why_unreadable(path) or f"corrupt or not audio: {_why(error)}") from error
    _check_format(path, info.samplerate, info.channels)
    if info.frames >= _NO_LENGTH:
        raise AudioError(path, "the header holds no length; convert the file, for example with `flac` or `ffmpeg`")
    try:
        frames = checked_frames(path, info.format, info.frames)
    except Doubtful as error:
        raise AudioError(path, str(error)) from error
    except OSError as error:
        raise AudioError(path, f"cannot be read: {error.strerror}") from error
    if frames <= 0:
        raise AudioError(path, "empty: no samples")
    return Header(frames, info.samplerate, info.channels)


def _check_format(path: str | os.PathLike[str], rate: int, channels: int) -> None:
    try:
        check_rate(rate)
    except RateError as error:
        raise AudioError(path, f"its header says {error}") from error
    if channels > MOST_CHANNELS:
        raise AudioError(path, f"its header says {channels} channels; at most {MOST_CHANNELS} are averaged into one")


def read_audio(path: str | os.PathLike[str], start: int = 0, frames: int = -1) -> tuple[np.ndarray, int]:
    """Read samples of an audio file, seeking to `start` instead of decoding what comes before.

    Several channels are averaged into one. The sample rate is the file's own.

    Args:
        path: the file.
        start: first frame to read, at the file's rate.
        frames: how many frames to read; -1 for all that follow. How many there are is checked as in `read_header` then.

    Returns:
        float32 array of shape (samples,), nominally in [-1, 1] (float files may exceed it), and the rate in Hz.

    Raises:
        AudioError: the file is missing, corrupt, cut off, or ends before `start + frames`; holds NaN or infinite
            samples, or one beyond HIGHEST_PEAK; is to be read at once and has more than MOST_SAMPLES; its header is
            implausible (see `read_header`); or, where it is read whole, it is silent throughout (peak below
            SILENCE_PEAK). A silent segment is a pause in speech, not an error.
        ValueError: `start` is negative, or `frames` is neither -1 nor positive.
    """
    if start < 0 or frames == 0 or frames < -1:
        raise ValueError(f"start={start}, frames={frames}: start must be >= 0, frames positive or -1 for all")
    if not os.path.exists(path):
        raise AudioError(path, "no such file")
    there = _checked_header(path).frames if frames == -1 else None
    try:
        with soundfile.SoundFile(path) as file:
            _check_format(path, file.samplerate, file.channels)
            if there is None:
                there = file.frames
            wanted = frames if frames > 0 else there - start
            if start + wanted > there or wanted <= 0:
                raise AudioError(path, f"frames {start} to {start + wanted} asked for, the file has {there}")
            if wanted > MOST_SAMPLES:
                hours = wanted / file.samplerate / 3600
                raise AudioError(
                    path, f"{wanted:,} samples ({hours:.1f} hours) to be read at once, at most {MOST_SAMPLES:,}: cut it"
                )
            if start:
                file.seek(start)
            samples = _read_mono(file, wanted)
            rate: int = file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(path, f"cannot be decoded: {_why(error)}") from error
    except MemoryError as error:
        raise AudioError(path, f"too large for memory: its header promises {wanted:,} samples") from error
    if len(samples) != wanted:
        raise AudioError(path, f"cut off: {len(samples)} of {wanted} samples could be decoded")
    peak = _finite_peak(path, samples)
    if peak < SILENCE_PEAK and start == 0 and frames == -1:
        raise AudioError(path, _silent(peak))
    return samples, rate


def check_audio(path: str | os.PathLike[str]) -> None:
    """Decode a whole file, of any length, and see that it can be used.

    Raises:
        AudioError: as `read_audio`.
    """
    peak = max(float(np.abs(block).max()) for block in read_blocks(path))
    if peak < SILENCE_PEAK:
        raise AudioError(path, _silent(peak))


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
            size = max(1, min(round(seconds * file.samplerate), _BLOCK // file.channels))
            # Not to the end of the file: what follows the samples may be tags.
            while read < expected:
                wanted = min(size, expected - read)
                channels = file.read(wanted, dtype="float32", always_2d=True)
                read += len(channels)
                if len(channels) < wanted:  # a gap, over which reading on would jump
                    break
                samples = _mono(channels)
                _finite_peak(path, samples)
                yield samples
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(path, f"cannot be decoded: {_why(error)}") from error
    if read != expected:
        raise AudioError(path, f"cut off: {read} of {expected} samples could be decoded")


def _read_mono(file: soundfile.SoundFile, wanted: int) -> np.ndarray:
    """Up to `wanted` samples from where the file is; many channels are never held at once for the whole of it."""
    size = max(1, _BLOCK // file.channels)
    if wanted <= size:
        return _mono(file.read(wanted, dtype="float32", always_2d=True))
    samples = np.empty(wanted, np.float32)
    read = 0
    while read < wanted:
        block = file.read(min(size, wanted - read), dtype="float32", always_2d=True)
        samples[read : read + len(block)] = _mono(block)
        read += len(block)
        if len(block) < size:
            break
    return samples[:read]


def _mono(channels: np.ndarray) -> np.ndarray:
    """(samples, channels) -> (samples,)."""
    mono: np.ndarray = channels[:, 0].copy() if channels.shape[1] == 1 else channels.mean(axis=1, dtype=np.float32)
    return mono


def _finite_peak(path: str | os.PathLike[str], samples: np.ndarray) -> float:
    peak = float(np.abs(samples).max())  # NaN and infinity both survive max()
    if not np.isfinite(peak):
        raise AudioError(path, f"{np.count_nonzero(~np.isfinite(samples))} samples are NaN or infinite")
    if peak > HIGHEST_PEAK:
        raise AudioError(path, f"peak {peak:.3g}, where full scale is 1: integers read as floats, or damaged samples")
    return peak


def _silent(peak: float) -> str:
    return f"silent: peak {peak:.1e}, below {SILENCE_PEAK:.0e} (-80 dBFS)"


def _why(error: soundfile.LibsndfileError | OSError) -> str:
    """libsndfile's own words, without the path and the prefix it puts before them."""
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else (error.strerror or str(error))
    return text.strip().removeprefix("Error : ").rstrip(".") or "damaged"


def encode_flac(audio: np.ndarray, sample_rate: int, comment: str = "") -> bytes:
    """A FLAC file of 16 bits: clipped at full scale, not normalized.

    Args:
        audio: (samples,) float in [-1, 1].
        sample_rate: in Hz.
        comment: kept in the file.

    Raises:
        NotFinite: a sample is NaN or infinite.
    """
    if not np.isfinite(audio).all():
        raise NotFinite(
            f"audio: {np.count_nonzero(~np.isfinite(audio)):,} of {audio.size:,} samples are NaN or infinite"
        )
    coded = io.BytesIO()  # soundfile would hide why a file cannot be written
    with soundfile.SoundFile(coded, "w", sample_rate, 1, "PCM_16", format="FLAC") as file:
        if comment:
            file.comment = comment
        file.write(audio.clip(-1, 1))
    return coded.getvalue()
