"""Opus: exact lengths, the rate that its packets take, and what it refuses."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch

from baselines.codecs import CodecError, build_codec
from baselines.codecs.opus import HEADERS, Opus, packet_sizes


def speechlike(seconds: float, rate: int = 16000) -> torch.Tensor:
    """A harmonic tone whose loudness comes and goes, (1, samples)."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 120 * harmonic * time) / harmonic for harmonic in range(1, 20))
    return torch.from_numpy((0.1 * tone * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32))[None]


@pytest.mark.parametrize("samples", [1, 7, 319, 320, 16000, 16001])
def test_length_is_restored(samples: int) -> None:
    opus = Opus(12)
    audio = speechlike(2)[:, :samples]
    codes = opus.encode(audio)
    assert codes.dtype == torch.int64
    assert codes.shape[:2] == (1, 1)
    assert opus.decode(codes, samples).shape == (1, samples)
    assert opus.decode(codes, samples + 5).shape == (1, samples + 5)


def test_signal_stays_in_place_and_gets_better_with_the_rate() -> None:
    audio = speechlike(3)
    errors = []
    for kbps in (6, 12, 24, 48):
        opus = Opus(kbps)
        decoded = opus.decode(opus.encode(audio), audio.shape[1])
        errors.append(float((decoded - audio).square().mean() / audio.square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05  # which a shift of a few samples would exceed


def test_bits_are_those_of_the_packets_alone() -> None:
    """A constant tone meets the rate asked for; the container is not counted."""
    audio = speechlike(20)
    rates = {}
    for kbps in (6, 12, 24):
        opus = Opus(kbps)
        codes = opus.encode(audio)
        bits = opus.stream_bits(codes)
        assert bits < 8 * codes.shape[-1]
        rates[kbps] = bits / 20 / 1000
    assert rates[6] < rates[12] < rates[24]
    assert all(0.7 * asked < taken < 1.3 * asked for asked, taken in rates.items()), rates


def test_packets_of_a_stream_are_20_ms() -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(16000, np.float32), 16000, format="OGG", subtype="OPUS")
    sizes = packet_sizes(stream.getvalue())
    assert len(sizes) - HEADERS in range(50, 53)
    assert sizes[0] == 19  # OpusHead of one channel
    with pytest.raises(CodecError, match="no page of an Ogg stream at byte 0"):
        packet_sizes(b"RIFF" + stream.getvalue())
    with pytest.raises(CodecError, match="no page"):
        packet_sizes(stream.getvalue() + b"OggS")


def test_states_what_it_is() -> None:
    opus = build_codec("opus", kbps=8)
    assert (opus.sample_rate, opus.frame_rate, opus.codebook_sizes, opus.num_parameters) == (16000, None, (), None)
    assert opus.bitrate == 0.0  # nominal: there is none
    assert opus.fingerprint != build_codec("opus", kbps=12).fingerprint
    assert build_codec("opus", kbps=8, sample_rate=24000).sample_rate == 24000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kbps": 5}, "kbps 5 is not in 6..256"),
        ({"kbps": 8, "sample_rate": 44100}, "sample_rate 44100 is none of 8000"),
        ({"kbit": 8}, "codec 'opus' has no option 'kbit'. Its options: kbps, sample_rate"),
    ],
)
def test_refuses(options: dict[str, float], message: str) -> None:
    with pytest.raises(CodecError, match=message):
        build_codec("opus", **options)  # type: ignore[arg-type]


def test_one_recording_at_a_time() -> None:
    with pytest.raises(CodecError, match="one recording at a time, not 2"):
        Opus(8).encode(torch.zeros(2, 100))
