"""Opus (RFC 6716) through libsndfile: the classical anchor at low rates."""

from __future__ import annotations

import io

import numpy as np
import soundfile
import torch
from torch import Tensor

from baselines.codecs import CodecError, WholeCodec
from q2d2.borders import check_audio, require_audible

RATES = (8000, 12000, 16000, 24000, 48000)
# libsndfile maps its compression level 1..0 to these rates for one channel, linearly.
LOWEST_KBPS, HIGHEST_KBPS = 6.0, 256.0
HEADERS = 2  # packets before the first of audio (RFC 7845): OpusHead and OpusTags
PAGE_HEADER = 27  # bytes before a page's table of segments (RFC 3533)


class Opus(WholeCodec):
    """libopus with its variable bit rate, one channel, packets of 20 ms.

    The rate asked for is met in the long run of loud speech; pauses take less. So the rate reported is that of the
    packets themselves, without the Ogg container around them.

    Args:
        kbps: rate asked for, in 6..256 kbit/s.
        sample_rate: of the audio in Hz, one of RATES. At these rates Opus keeps up to 8 kHz of bandwidth at most.

    Raises:
        CodecError: a rate out of range, or libsndfile was built without Opus.
    """

    codebook_sizes = ()
    tokens_per_frame = 0
    frame_rate = None

    def __init__(self, kbps: float, sample_rate: int = 16000) -> None:
        if not LOWEST_KBPS <= kbps <= HIGHEST_KBPS:
            raise CodecError(f"opus: kbps {kbps:g} is not in {LOWEST_KBPS:g}..{HIGHEST_KBPS:g}")
        if sample_rate not in RATES:
            raise CodecError(f"opus: sample_rate {sample_rate} is none of {', '.join(map(str, RATES))}")
        if "OPUS" not in soundfile.available_subtypes("OGG"):
            raise CodecError(f"opus: libsndfile {soundfile.__libsndfile_version__} was built without it")
        self.kbps = float(kbps)
        self.sample_rate = sample_rate

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {self.kbps:g} {self.sample_rate} libsndfile {soundfile.__libsndfile_version__}"

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (1, samples) -> the bytes of an Ogg file (1, 1, bytes) int64.

        Raises:
            CodecError: a batch of several, whose streams would differ in length.
        """
        check_audio(audio)
        if audio.shape[0] != 1:
            raise CodecError(f"opus: one recording at a time, not {audio.shape[0]}")
        require_audible(audio, "opus: audio")
        level = 1 - (self.kbps - LOWEST_KBPS) / (HIGHEST_KBPS - LOWEST_KBPS)
        stream = io.BytesIO()
        with soundfile.SoundFile(
            stream, "w", self.sample_rate, 1, "OPUS", format="OGG", compression_level=level
        ) as file:
            file.write(audio[0].cpu().numpy().clip(-1, 1))
        return torch.from_numpy(np.frombuffer(stream.getvalue(), np.uint8).astype(np.int64))[None, None]

    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        audio, _ = soundfile.read(io.BytesIO(_as_bytes(codes)), dtype="float32")
        wanted = len(audio) if length is None else length
        cropped = audio[:wanted]
        return torch.from_numpy(np.pad(cropped, (0, wanted - len(cropped))))[None]

    def stream_bits(self, codes: Tensor) -> int:
        return 8 * sum(packet_sizes(_as_bytes(codes))[HEADERS:])


def packet_sizes(stream: bytes) -> list[int]:
    """Bytes of each packet of an Ogg stream (RFC 3533, section 6).

    Raises:
        CodecError: it is no such stream.
    """
    sizes, unfinished, position = [], 0, 0
    while position < len(stream):
        if stream[position : position + 4] != b"OggS" or position + PAGE_HEADER > len(stream):
            raise CodecError(f"opus: no page of an Ogg stream at byte {position}")
        count = stream[position + PAGE_HEADER - 1]
        segments = stream[position + PAGE_HEADER : position + PAGE_HEADER + count]
        for segment in segments:
            unfinished += segment
            if segment < 255:  # the last one of its packet
                sizes.append(unfinished)
                unfinished = 0
        position += PAGE_HEADER + count + sum(segments)
    return sizes


def _as_bytes(codes: Tensor) -> bytes:
    return codes[0, 0].cpu().numpy().astype(np.uint8).tobytes()
