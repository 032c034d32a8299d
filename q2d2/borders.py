"""What may pass the borders of a codec: audio in, codes in, latents and audio out. Nonsense is an error there, never a
code and never a number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from q2d2.errors import NotFinite

# Scales of integers that are read as floats by mistake.
_FULL_SCALE = {torch.uint8: "255", torch.int16: "32768", torch.int32: "2**31"}


def require_finite(values: Tensor, what: str) -> None:
    """Raise NotFinite where a value of `values` is NaN or infinite; `what` names them in the message."""
    if not bool(torch.isfinite(values).all()):
        bad = values.numel() - int(torch.isfinite(values).sum())
        raise NotFinite(f"{what}: {bad:,} of {values.numel():,} values are NaN or infinite")


def check_audio(audio: Tensor) -> None:
    """That `audio` is (batch, samples) float32, with samples.

    Raises:
        TypeError: it is no tensor.
        ValueError: it has another shape or dtype; the message says how to convert it.
    """
    if not isinstance(audio, Tensor):
        raise TypeError(f"audio is a {type(audio).__name__}, expected a tensor: torch.as_tensor(audio)[None]")
    if audio.dim() != 2 or audio.shape[-1] == 0:
        raise ValueError(f"audio of shape {tuple(audio.shape)}: expected (batch, samples) with samples > 0")
    if audio.dtype != torch.float32:
        scale = f" / {_FULL_SCALE[audio.dtype]}" if audio.dtype in _FULL_SCALE else ""
        raise ValueError(f"audio is {audio.dtype}, expected torch.float32 in [-1, 1]: audio.float(){scale}")


def check_codes(codes: Tensor, codebook_sizes: Sequence[int]) -> None:
    """That `codes` are (batch, quantizers, frames) int64, each in its codebook; no codebook sizes allow all.

    Raises:
        TypeError: they are no tensor.
        ValueError: they have another shape or dtype, or one is out of range.
    """
    if not codebook_sizes:
        return
    if not isinstance(codes, Tensor):
        raise TypeError(f"codes are a {type(codes).__name__}, expected a tensor: torch.as_tensor(codes)")
    expected = f"expected (batch, {len(codebook_sizes)}, frames) int64"
    if codes.dim() != 3 or codes.shape[1] != len(codebook_sizes):
        raise ValueError(f"codes of shape {tuple(codes.shape)}: {expected}")
    if codes.dtype != torch.int64:
        raise ValueError(f"codes are {codes.dtype}: {expected}")
    if codes.numel() == 0 or codes.is_meta:
        return
    for quantizer, size in enumerate(codebook_sizes):
        low, high = (int(end) for end in codes[:, quantizer].aminmax())
        if low < 0 or high >= size:
            raise ValueError(f"codes {low} to {high} of quantizer {quantizer}, whose codebook has {size}")


def check_length(length: int | None, held: int) -> None:
    """Raise ValueError where `length` samples are more than the `held` ones, or none."""
    if length is not None and not 1 <= length <= held:
        raise ValueError(f"length {length} asked of codes that hold {held} samples")
