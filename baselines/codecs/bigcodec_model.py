"""The network of BigCodec (arXiv 2409.05377): encoder, vector quantizer with a small codebook space, decoder.

Written for inference: weight normalization is folded into the weights when a published file is loaded, and modules are
named as in that file. Facts are from the published code, github.com/Aria-K-Alethia/BigCodec at 09845ab (MIT).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.codecs.bigcodec_layers import Activation, DecoderBlock, EncoderBlock, ResidualLSTM


@dataclass(frozen=True)
class BigCodecSizes:
    """Shape of the network; the defaults are those of the published file.

    Attributes:
        channels: of the encoder's first convolution; doubled by every stride.
        strides: of the encoder, at least one; the decoder has them in reverse.
        dilations: of the residual units of each block.
        lstm_layers: of the encoder, and of the decoder.
        latent_dim: channels between encoder, quantizer and decoder.
        decoder_channels: of the decoder's first convolution, a multiple of 2 ** len(strides); halved by every stride.
        codebook_size: number of codes.
        codebook_dim: dimension of the space in which codes are looked up.
    """

    channels: int = 48
    strides: tuple[int, ...] = (2, 2, 2, 5, 5)
    dilations: tuple[int, ...] = (1, 3, 9)
    lstm_layers: int = 2
    latent_dim: int = 1024
    decoder_channels: int = 1536
    codebook_size: int = 8192
    codebook_dim: int = 8

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)


class Encoder(nn.Module):
    """Audio (batch, 1, frames * hop_length) -> latents (batch, latent_dim, frames)."""

    def __init__(self, sizes: BigCodecSizes) -> None:
        super().__init__()
        channels = sizes.channels
        layers: list[nn.Module] = [nn.Conv1d(1, channels, 7, padding=3)]
        for stride in sizes.strides:
            layers.append(EncoderBlock(channels, stride, sizes.dilations))
            channels *= 2
        layers += [ResidualLSTM(channels, sizes.lstm_layers), Activation(channels)]
        layers.append(nn.Conv1d(channels, sizes.latent_dim, 3, padding=1))
        self.block = nn.Sequential(*layers)

    def forward(self, audio: Tensor) -> Tensor:
        latents: Tensor = self.block(audio)
        return latents


class FactorizedVQ(nn.Module):
    """Codes by direction in a projected space (factorized and l2-normalized codes: arXiv 2110.04627, section 3.2)."""

    def __init__(self, sizes: BigCodecSizes) -> None:
        super().__init__()
        self.in_proj = nn.Linear(sizes.latent_dim, sizes.codebook_dim)
        self.out_proj = nn.Linear(sizes.codebook_dim, sizes.latent_dim)
        self._codebook = nn.Embedding(sizes.codebook_size, sizes.codebook_dim)

    def encode(self, latents: Tensor) -> Tensor:
        """(batch, latent_dim, frames) -> codes (batch, frames) int64: the largest cosine, the first one of equals."""
        directions = F.normalize(self.in_proj(latents.transpose(1, 2)), dim=-1)
        return (directions @ F.normalize(self._codebook.weight, dim=-1).T).argmax(dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """(batch, frames) -> (batch, latent_dim, frames), from the codebook as it is: only the search normalizes."""
        quantized: Tensor = self.out_proj(self._codebook(codes))
        return quantized.transpose(1, 2)


class Decoder(nn.Module):
    """Latents (batch, latent_dim, frames) -> audio (batch, 1, frames * hop_length) in (-1, 1).

    The published file keeps the quantizer with the decoder, as the only one of a list.
    """

    def __init__(self, sizes: BigCodecSizes) -> None:
        super().__init__()
        self.quantizer = nn.ModuleDict({"layers": nn.ModuleList([FactorizedVQ(sizes)])})
        channels = sizes.decoder_channels
        layers: list[nn.Module] = [nn.Conv1d(sizes.latent_dim, channels, 7, padding=3)]
        layers.append(ResidualLSTM(channels, sizes.lstm_layers))
        for stride in reversed(sizes.strides):
            layers.append(DecoderBlock(channels, stride, sizes.dilations))
            channels //= 2
        layers += [Activation(channels), nn.Conv1d(channels, 1, 7, padding=3), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        audio: Tensor = self.model(latents)
        return audio


class BigCodecNetwork(nn.Module):
    """Encoder and decoder, their weights unset: every weight and filter comes from a file.

    Args:
        sizes: those of the file.
    """

    def __init__(self, sizes: BigCodecSizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes or BigCodecSizes()
        self.encoder = Encoder(self.sizes)
        self.decoder = Decoder(self.sizes)

    @property
    def vq(self) -> FactorizedVQ:
        found = self.decoder.get_submodule("quantizer.layers.0")
        assert isinstance(found, FactorizedVQ)
        return found

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (batch, frames * hop_length) in [-1, 1] -> codes (batch, 1, frames) int64."""
        return self.vq.encode(self.encoder(audio.unsqueeze(1))).unsqueeze(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (batch, 1, frames) -> audio (batch, frames * hop_length)."""
        audio: Tensor = self.decoder(self.vq.decode(codes[:, 0]))
        return audio[:, 0]
