"""Layers of BigCodec (arXiv 2409.05377, section 2.1), named as in its published file.

Signals are (batch, channels, frames). All convolutions keep or exactly scale the number of frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 12  # of the low-pass filters around each activation


class SnakeBeta(nn.Module):
    """x + sin^2(a x) / b of each channel, a and b kept as logarithms (Snake: arXiv 2006.08195; BigVGAN: 2206.04658)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        wave = (x * self.alpha.exp()[:, None]).sin_().square_()
        return wave.div_(self.beta.exp()[:, None] + 1e-9).add_(x)


class LowPass(nn.Module):
    """Holds the taps of a filter, (1, 1, 12), as the published file does for each activation."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.zeros(1, 1, TAPS))


class Downsampling(nn.Module):
    """The filter one level deeper, where the published file has it."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = LowPass()


class Activation(nn.Module):
    """SnakeBeta at twice the rate, so that the harmonics it makes do not alias (BigVGAN, section 3.2).

    Both resamplings repeat the first and last value beyond the ends, the second one those of the doubled signal.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = SnakeBeta(channels)
        self.upsample = LowPass()
        self.downsample = Downsampling()

    def forward(self, x: Tensor) -> Tensor:
        # Depthwise convolutions take three times as long as sums on a CPU; a GPU is slower at launching many sums.
        return self.in_phases(x) if x.device.type == "cpu" else self.by_convolution(x)

    def by_convolution(self, x: Tensor) -> Tensor:
        """As the published code does it: the filters as depthwise convolutions of stride 2."""
        channels = x.shape[1]
        up = self.upsample.filter.expand(channels, -1, -1)
        down = self.downsample.lowpass.filter.expand(channels, -1, -1)
        padded = F.pad(x, (5, 5), mode="replicate")
        doubled = 2 * F.conv_transpose1d(padded, up, stride=2, groups=channels)[..., 15:-15]
        bent = F.pad(self.act(doubled), (5, 6), mode="replicate")
        return F.conv1d(bent, down, stride=2, groups=channels)

    def in_phases(self, x: Tensor) -> Tensor:
        """The same with the even and odd samples of the doubled signal apart, as sums of shifted signals."""
        up, down = self.upsample.filter.flatten().tolist(), self.downsample.lowpass.filter.flatten().tolist()
        frames = x.shape[-1]
        padded = F.pad(x, (3, 3), mode="replicate")
        even = self.act(_weighted_sum([padded], [[2 * tap for tap in up[11::-2]]], frames))
        odd = self.act(_weighted_sum([padded[..., 1:]], [[2 * tap for tap in up[10::-2]]], frames))
        first, last = even[..., :1], odd[..., -1:]  # the ends of the doubled signal
        even = torch.cat([first, first, even, last, last, last], dim=-1)
        odd = torch.cat([first, first, first, odd, last, last], dim=-1)
        return _weighted_sum([even, odd], [down[1::2], down[0::2]], frames)


def _weighted_sum(signals: list[Tensor], taps: list[list[float]], length: int) -> Tensor:
    """sum over s and k of taps[s][k] * signals[s][..., n + k], for n in [0, length)."""
    total = signals[0][..., :length] * taps[0][0]
    for number, (signal, weights) in enumerate(zip(signals, taps, strict=True)):
        for shift in range(1 if number == 0 else 0, len(weights)):
            total.add_(signal[..., shift : shift + length], alpha=weights[shift])
    return total


class ResidualUnit(nn.Module):
    """x + a dilated convolution over 7 and one over 1, each after an activation."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Activation(channels),
            nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            Activation(channels),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return y.add_(x)


class EncoderBlock(nn.Module):
    """Residual units, then a strided convolution to twice the channels: frames -> frames / stride."""

    def __init__(self, channels: int, stride: int, dilations: Sequence[int]) -> None:
        super().__init__()
        units = [ResidualUnit(channels, dilation) for dilation in dilations]
        down = nn.Conv1d(channels, 2 * channels, 2 * stride, stride, padding=(stride + 1) // 2)
        self.block = nn.Sequential(*units, Activation(channels), down)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return y


class DecoderBlock(nn.Module):
    """A transposed convolution to half the channels, then residual units: frames -> frames * stride."""

    def __init__(self, channels: int, stride: int, dilations: Sequence[int]) -> None:
        super().__init__()
        up = nn.ConvTranspose1d(
            channels, channels // 2, 2 * stride, stride, padding=(stride + 1) // 2, output_padding=stride % 2
        )
        units = [ResidualUnit(channels // 2, dilation) for dilation in dilations]
        self.block = nn.Sequential(Activation(channels), up, *units)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return y


class ResidualLSTM(nn.Module):
    """x + a unidirectional LSTM of it."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x.transpose(1, 2))[0]
        return x + y.transpose(1, 2)
