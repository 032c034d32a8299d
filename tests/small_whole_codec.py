"""Whole codecs as another package would bring them."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.codecs import WholeCodec


class Halved(WholeCodec):
    """16 kHz audio at half its rate, each sample one of 256 codes."""

    sample_rate = 16000
    frame_rate = 8000.0
    codebook_sizes = (256,)
    tokens_per_frame = 1

    def encode(self, audio: Tensor) -> Tensor:
        return ((audio[:, ::2].clamp(-1, 1) + 1) * 127.5).round().long()[:, None]

    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        audio = (codes[:, 0] / 127.5 - 1).repeat_interleave(2, dim=-1)
        return audio if length is None else torch.nn.functional.pad(audio, (0, 1))[:, :length]


class Picky(Halved):
    """Fails on anything longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def encode(self, audio: Tensor) -> Tensor:
        if audio.shape[-1] > self.seconds * self.sample_rate:
            raise RuntimeError("too long\nfor me")
        return super().encode(audio)


class OutOfRange(Halved):
    """Gives codes that its codebook does not have."""

    codebook_sizes = (128,)

    def encode(self, audio: Tensor) -> Tensor:
        codes = super().encode(audio)
        codes[..., 0], codes[..., 1] = 0, 255
        return codes


class Short(Halved):
    """Does not restore the length."""

    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        return codes[:, 0] / 127.5 - 1


class Nameless(WholeCodec):
    """Says nothing of itself."""

    def encode(self, audio: Tensor) -> Tensor:
        return audio

    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        return codes
