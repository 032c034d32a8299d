"""ISTFT head: features per frame -> spectrum -> audio, with 'same' padding (Vocos, arXiv 2306.00814)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_MAGNITUDE = 100.0


class ISTFTHead(nn.Module):
    """Features (batch, frames, dim) -> audio (batch, frames * hop_length).

    The window covers four hops; the overlap-add is cut by one and a half hops on each side ('same' padding), where
    torch.istft could only cut half a window.
    """

    window: Tensor

    def __init__(self, dim: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.n_fft = 4 * hop_length
        self.out = nn.Linear(dim, self.n_fft + 2)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        was_meta = self.window.is_meta
        super()._apply(fn, recurse)
        if was_meta and not self.window.is_meta:  # `to_empty` leaves the memory unset, and no state dict sets it
            self.window.copy_(torch.hann_window(self.n_fft))
        return self

    def forward(self, features: Tensor) -> Tensor:
        # The spectrum is computed in float32: cos, exp and the FFT lose the phase in half precision.
        place = "cpu" if features.is_meta else features.device.type  # on meta shapes alone are worked out
        with torch.autocast(place, enabled=False):
            log_magnitude, phase = self.out(features.float()).transpose(1, 2).chunk(2, dim=1)
            magnitude = log_magnitude.exp().clamp(max=MAX_MAGNITUDE)
            return self._overlap_add(torch.polar(magnitude, phase))

    def _overlap_add(self, spectrum: Tensor) -> Tensor:
        frames = torch.fft.irfft(spectrum, self.n_fft, dim=1) * self.window[:, None]
        power = self.window.square()[None, :, None].expand(1, -1, frames.shape[-1])
        audio, envelope = (self._fold(part) for part in (frames, power))
        return audio / envelope

    def _fold(self, frames: Tensor) -> Tensor:
        """(batch, n_fft, frames) -> (batch, frames * hop_length): four shifted copies of whole hops, added."""
        batch, _, num_frames = frames.shape
        hops = frames.reshape(batch, 4, self.hop_length, num_frames)
        total = sum(F.pad(hops[:, part], (part, 3 - part)) for part in range(4))
        cut = (self.n_fft - self.hop_length) // 2
        return total.transpose(1, 2).reshape(batch, -1)[:, cut : cut + num_frames * self.hop_length]  # type: ignore[union-attr]
