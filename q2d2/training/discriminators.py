"""The discriminators of the published recipe: multi-period, multi-resolution, and DAC's.

Each takes audio (batch, samples) and returns, for every one of its parts, the feature maps that feature matching
compares and the score map: high where the part takes its input for real speech.

Sources: HiFi-GAN (arXiv 2010.05646) for periods; UnivNet (2106.07889) and Vocos (2306.00814) for resolutions; DAC
(2306.06546) for bands. The published models also tell the first two the condition of the adaptive normalization, which
is drawn at random and means nothing; that is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.1  # of the leaky ReLU
FFT_SIZES = (2048, 1024, 512)
PERIODS = (2, 3, 5, 7, 11)
# Fractions of the spectrum that DAC's discriminator looks at apart.
BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))


class Judgement(NamedTuple):
    """What one part of a discriminator says of a batch: feature maps (batch, channels, ...) and a score map."""

    features: list[Tensor]
    score: Tensor


def _conv(channels_in: int, channels_out: int, kernel: Sequence[int], stride: Sequence[int] = (1, 1)) -> nn.Module:
    padding = tuple(size // 2 for size in kernel)
    return weight_norm(nn.Conv2d(channels_in, channels_out, tuple(kernel), tuple(stride), padding))  # type: ignore[arg-type]


def _run(layers: Iterable[nn.Module], maps: Tensor) -> list[Tensor]:
    """The map after each layer and its activation."""
    features = []
    for layer in layers:
        maps = F.leaky_relu(layer(maps), SLOPE)
        features.append(maps)
    return features


class PeriodPart(nn.Module):
    """Looks at every `period`-th sample, as an image of `period` rows: long rows convolve faster than long columns.

    Args:
        period: in samples.
        width: channels as a fraction of the published ones.
        num_skipped: first feature maps that feature matching does not see.
    """

    def __init__(self, period: int, width: float, num_skipped: int) -> None:
        super().__init__()
        self.period = period
        self.num_skipped = num_skipped
        sizes = [1, *(_scaled(channels, width) for channels in (32, 128, 512, 1024, 1024))]
        strides = (3, 3, 3, 3, 1)
        self.convs = nn.ModuleList(
            _conv(sizes[layer], sizes[layer + 1], (1, 5), (1, stride)) for layer, stride in enumerate(strides)
        )
        self.conv_post = _conv(sizes[-1], 1, (1, 3))

    def forward(self, audio: Tensor) -> Judgement:
        missing = -audio.shape[-1] % self.period
        if missing:
            audio = F.pad(audio, (0, missing), mode="reflect")
        rows = audio.unflatten(-1, (-1, self.period)).transpose(1, 2)
        features = _run(self.convs, rows.unsqueeze(1))
        return Judgement(features[self.num_skipped :], self.conv_post(features[-1]))


class ResolutionPart(nn.Module):
    """Looks at the magnitudes of an STFT with hops of a quarter window, without a taper, as published."""

    def __init__(self, n_fft: int, width: float) -> None:
        super().__init__()
        self.n_fft = n_fft
        channels = _scaled(64, width)
        shapes = [((7, 5), (2, 2)), ((5, 3), (2, 1)), ((5, 3), (2, 2)), ((3, 3), (2, 1)), ((3, 3), (2, 2))]
        self.convs = nn.ModuleList(
            _conv(channels if layer else 1, channels, kernel, stride) for layer, (kernel, stride) in enumerate(shapes)
        )
        self.conv_post = _conv(channels, 1, (3, 3))

    def forward(self, audio: Tensor) -> Judgement:
        features = _run(self.convs, _spectrum(audio, self.n_fft).abs().unsqueeze(1))
        return Judgement(features, self.conv_post(features[-1]))


class BandPart(nn.Module):
    """Looks at the complex STFT, each band of it with convolutions of its own."""

    def __init__(self, n_fft: int, width: float) -> None:
        super().__init__()
        self.n_fft = n_fft
        bins = n_fft // 2 + 1
        self.bands = [(int(low * bins), int(high * bins)) for low, high in BANDS]
        channels = _scaled(32, width)
        shapes = [((3, 9), (1, 1)), *[((3, 9), (1, 2))] * 3, ((3, 3), (1, 1))]
        self.band_convs = nn.ModuleList(
            nn.ModuleList(
                _conv(channels if layer else 2, channels, kernel, stride)
                for layer, (kernel, stride) in enumerate(shapes)
            )
            for _ in BANDS
        )
        self.conv_post = _conv(channels, 1, (3, 3))

    def forward(self, audio: Tensor) -> Judgement:
        parts = torch.view_as_real(_spectrum(audio, self.n_fft)).permute(0, 3, 2, 1)  # (batch, 2, frames, bins)
        per_band = [
            _run(convs, parts[..., low:high])  # type: ignore[arg-type]
            for convs, (low, high) in zip(self.band_convs, self.bands, strict=True)
        ]
        score = self.conv_post(torch.cat([features[-1] for features in per_band], dim=-1))
        return Judgement([feature for features in per_band for feature in features], score)


class Discriminator(nn.Module):
    """A family of parts, trained by one kind of loss.

    Attributes:
        loss: "hinge", each loss a mean over parts, or "least_squares", each loss a sum over parts, as published.
    """

    loss: ClassVar[Literal["hinge", "least_squares"]]
    parts: nn.ModuleList

    def forward(self, audio: Tensor) -> list[Judgement]:
        """Audio (batch, samples) -> what each part says of it.

        Raises:
            RuntimeError: audio is shorter than half the longest window.
        """
        return [part(audio) for part in self.parts]


class MultiPeriod(Discriminator):
    """Parts for five periods, as in HiFi-GAN; the first feature map is not matched, as in Vocos."""

    loss = "hinge"

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.parts = nn.ModuleList(PeriodPart(period, width, num_skipped=1) for period in PERIODS)


class MultiResolution(Discriminator):
    """Parts for three STFT resolutions, as in Vocos."""

    loss = "hinge"

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.parts = nn.ModuleList(ResolutionPart(n_fft, width) for n_fft in FFT_SIZES)


class DAC(Discriminator):
    """Periods and bands, on audio freed of its mean and brought to a peak of 0.8, as in DAC."""

    loss = "least_squares"
    PEAK = 0.8

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        periods = [PeriodPart(period, width, num_skipped=0) for period in PERIODS]
        self.parts = nn.ModuleList([*periods, *(BandPart(n_fft, width) for n_fft in FFT_SIZES)])

    def forward(self, audio: Tensor) -> list[Judgement]:
        centred = audio - audio.mean(dim=-1, keepdim=True)
        return super().forward(self.PEAK * centred / (centred.abs().amax(dim=-1, keepdim=True) + 1e-9))


# A further discriminator is a class and a line here; its losses are then NAME and NAME_features.
DISCRIMINATORS: dict[str, type[Discriminator]] = {"mpd": MultiPeriod, "mrd": MultiResolution, "dac": DAC}


class Discriminators(nn.ModuleDict):
    """Several discriminators by name, each asked once about the real and once about the made audio.

    Args:
        names: keys of DISCRIMINATORS.
        width: channels as a fraction of the published ones, in (0, 1].

    Raises:
        ValueError: `width` is out of range.
    """

    def __init__(self, names: Iterable[str], width: float = 1.0) -> None:
        if not 0 < width <= 1:
            raise ValueError(f"width of the discriminators {width}: expected a number in (0, 1]")
        super().__init__({name: DISCRIMINATORS[name](width) for name in names})

    def forward(self, real: Tensor, made: Tensor) -> dict[str, tuple[list[Judgement], list[Judgement]]]:
        """Two batches of audio (batch, samples) -> {name: (of the real, of the made)}."""
        with parametrize.cached():  # normalized weights are computed once for both
            return {name: (judge(real), judge(made)) for name, judge in self.items()}


def _scaled(channels: int, width: float) -> int:
    return max(4, round(channels * width))


def _spectrum(audio: Tensor, n_fft: int) -> Tensor:
    """Complex STFT (batch, bins, frames) in float32 with a rectangular window."""
    window = torch.ones(n_fft, device=audio.device)
    return torch.stft(audio.float(), n_fft, n_fft // 4, window=window, return_complex=True)
