"""What may pass the borders of a codec: audio in, codes in, latents and audio out. Nonsense is an error there, never a
code and never a number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from q2d2.audio import HIGHEST_PEAK
from q2d2.errors import NotFinite

# Scales of integers that are read as floats by mistake.
_FULL_SCALE = {torch.uint8: "255", torch.int16: "32768", torch.int32: "2**31"}


class CodeError(ValueError, IndexError):
    """A code that its codebook does not have."""


def require_finite(values: Tensor, what: str) -> None:
    """Raise NotFinite where a value of `values` is NaN or infinite; `what` names them in the message."""
    if values.is_meta or not values.numel():
        return
    low, high = values.detach().aminmax()  # NaN and infinity survive; a tenth of the time of isfinite().all()
    if not math.isfinite(high.maximum(-low)):
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


def require_audible(audio: Tensor, what: str) -> None:
    """That samples from outside are finite and within `q2d2.audio.HIGHEST_PEAK`.

    Raises:
        NotFinite: some are NaN or infinite; `what` names them in the message.
        ValueError: one is beyond the peak.
    """
    if audio.is_meta or not audio.numel():
        return
    low, high = audio.detach().aminmax()
    peak = float(high.maximum(-low))
    if peak <= HIGHEST_PEAK:
        return
    require_finite(audio, what)
    raise ValueError(
        f"{what} has a peak of {peak:.4g}, at most {HIGHEST_PEAK:g} allowed where full scale is 1: integers read as "
        "floating point (divide 16-bit samples by 32768), or damaged samples"
    )


def check_codes(codes: Tensor, codebook_sizes: Sequence[int], lowest: int = 0) -> None:
    """That `codes` are (batch, quantizers, frames) int64, each from `lowest` on in its codebook; no sizes allow all.

    Raises:
        TypeError: they are no tensor.
        ValueError: they have another shape or dtype.
        CodeError: one is out of range; a GPU would end the process for it.
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
        if low < lowest or high >= size:
            raise CodeError(
                f"codes {low} to {high} of quantizer {quantizer}, whose codebook has {size}: they are outside "
                f"{lowest}..{size - 1}"
            )


def check_length(length: int | None, held: int) -> None:
    """Raise ValueError where `length` samples are more than the `held` ones, or none."""
    if length is not None and not 1 <= length <= held:
        raise ValueError(f"length {length} asked of codes that hold {held} samples")
