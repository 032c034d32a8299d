"""SEANet encoder as WavTokenizer uses it: audio -> latents (Encodec, arXiv 2210.13438, section 3.1; non-causal)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from q2d2.codec.config import CodecConfig

FIRST_KERNEL, RESIDUAL_KERNEL, LAST_KERNEL = 7, 3, 7

LSTMState = tuple[Tensor, Tensor]  # hidden and cell, each (layers, batch, channels)


def reflect_pad(signal: Tensor, left: int, right: int) -> Tensor:
    """Reflect-pad (batch, channels, samples), also where the signal is shorter than the padding.

    A short signal is first extended with zeros, as Encodec does, and the extension is cut off again.
    """
    missing = max(left, right) + 1 - signal.shape[-1]
    if missing <= 0:
        return F.pad(signal, (left, right), mode="reflect")
    padded = F.pad(F.pad(signal, (0, missing)), (left, right), mode="reflect")
    return padded[..., :-missing]


class PaddedConv1d(nn.Module):
    """Weight-normalized convolution whose output has ceil(samples / stride) frames."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = weight_norm(nn.Conv1d(channels_in, channels_out, kernel_size, stride))
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, signal: Tensor) -> Tensor:
        total = self.kernel_size - self.stride
        extra = math.ceil(signal.shape[-1] / self.stride) * self.stride - signal.shape[-1]
        right = total // 2
        if total or extra:
            signal = reflect_pad(signal, total - right, right + extra)
        return self.conv(signal)


class ResidualBlock(nn.Module):
    """ELU-conv-ELU-conv beside a convolutional shortcut, halving the channels inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ELU(),
            PaddedConv1d(channels, channels // 2, RESIDUAL_KERNEL),
            nn.ELU(),
            PaddedConv1d(channels // 2, channels, 1),
        )
        self.shortcut = PaddedConv1d(channels, channels, 1)

    def forward(self, signal: Tensor) -> Tensor:
        return self.shortcut(signal) + self.block(signal)


class SkipLSTM(nn.Module):
    """LSTM over frames of (batch, channels, frames) with a skip connection."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers)

    def forward(self, signal: Tensor) -> Tensor:
        return self.advance(signal)[0]

    def advance(self, signal: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Go on from the state after the frames before: together the chunks of a signal give what the whole gives."""
        frames_first = signal.permute(2, 0, 1)
        output, state = self.lstm(frames_first, state)
        return (output + frames_first).permute(1, 2, 0), state


class Encoder(nn.Module):
    """Audio (batch, 1, samples) -> latents (batch, dimension, ceil(samples / hop_length))."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.num_filters
        layers: list[nn.Module] = [PaddedConv1d(1, channels, FIRST_KERNEL)]
        for ratio in reversed(config.ratios):
            layers += [ResidualBlock(channels), nn.ELU(), PaddedConv1d(channels, 2 * channels, 2 * ratio, ratio)]
            channels *= 2
        layers += [
            SkipLSTM(channels, config.lstm_layers),
            nn.ELU(),
            PaddedConv1d(channels, config.dimension, LAST_KERNEL),
        ]
        self.model = nn.Sequential(*layers)

    def forward(self, audio: Tensor) -> Tensor:
        latents: Tensor = self.model(audio)
        return latents
