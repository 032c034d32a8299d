"""Codec: encoder -> bottleneck -> decoder -> head. Only the bottleneck differs between the systems compared."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from q2d2.borders import check_audio, check_codes, check_length, require_audible, require_finite
from q2d2.bottleneck import Bottleneck
from q2d2.codec.config import CodecConfig
from q2d2.codec.decoder import Decoder
from q2d2.codec.encoder import Encoder
from q2d2.codec.head import ISTFTHead


class CodecOutput(NamedTuple):
    """audio: (batch, samples) as long as the input; codes: (batch, quantizers, frames) int64; loss: scalar."""

    audio: Tensor
    codes: Tensor
    loss: Tensor


class Codec(nn.Module):
    """WavTokenizer backbone around any bottleneck.

    Args:
        config: sizes of the backbone.
        bottleneck: built for `config.dimension` channels.

    Raises:
        ValueError: the bottleneck's dimension is not the backbone's.
    """

    def __init__(self, config: CodecConfig, bottleneck: Bottleneck) -> None:
        super().__init__()
        if bottleneck.dim != config.dimension:
            raise ValueError(f"bottleneck has {bottleneck.dim} channels, the backbone {config.dimension}")
        self.config = config
        self.encoder = Encoder(config)
        self.bottleneck = bottleneck
        self.decoder = Decoder(config)
        self.head = ISTFTHead(config.decoder_dim, config.hop_length)

    @classmethod
    def from_pretrained(cls, source: str | Path, revision: str | None = None) -> Codec:
        """Load a codec in float32 and eval mode, on the CPU.

        Args:
            source: a checkpoint folder, the name of one that ships, or OWNER/NAME on the Hugging Face hub, which is
                downloaded once and cached.
            revision: branch, tag or commit on the hub; a commit gives the same weights ever after. None: main.

        Raises:
            CheckpointError: there is none, or it is damaged.
            HubError: the hub has none, cannot be reached or refuses.
        """
        from q2d2.checkpoints import load_codec  # it imports this module
        from q2d2.hub import locate

        return load_codec(locate(source, revision))

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        return self.config.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.config.frame_rate

    @property
    def bitrate(self) -> float:
        """Nominal bit/s: frame rate times the sum of log2 of the codebook sizes."""
        return self.frame_rate * self.bottleneck.bits_per_frame

    @property
    def tokens_per_second(self) -> float:
        """Indices per second as published tables count them, see `Bottleneck.tokens_per_frame`."""
        return self.frame_rate * self.bottleneck.tokens_per_frame

    def forward(self, audio: Tensor) -> CodecOutput:
        """Reconstruct audio (batch, samples) in [-1, 1] with gradients; errors as of `encode` and `decode`."""
        quantized, codes, loss = self.bottleneck(self.latents(audio))
        return CodecOutput(self._synthesize(quantized)[:, : audio.shape[-1]], codes, loss)

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (batch, samples) in [-1, 1] -> codes (batch, quantizers, ceil(samples / hop_length)) int64.

        With the null bottleneck, which has no codes, these are the latents themselves.

        Raises:
            TypeError, ValueError, NotFinite: as `latents`.
        """
        return self.bottleneck.encode(self.latents(audio))

    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        """Codes (batch, quantizers, frames) -> audio (batch, length), by default frames * hop_length samples.

        Raises:
            TypeError, ValueError: the codes are not those of the bottleneck, or `length` is below 1 or more than they
                hold.
            NotFinite: the audio is not, outside of training.
        """
        self._check_weights()
        # A bottleneck may be anybody's, and take any code.
        check_codes(codes, self.bottleneck.codebook_sizes, self.bottleneck.lowest_code)
        check_length(length, codes.shape[-1] * self.hop_length)
        return self._synthesize(self.bottleneck.decode(codes))[:, :length]

    def latents(self, audio: Tensor) -> Tensor:
        """Audio (batch, samples) in [-1, 1] -> what the bottleneck gets, (batch, dimension, frames).

        Raises:
            TypeError: audio is no tensor.
            ValueError: audio is not (batch, samples) float32, is empty, or the codec's weights are not float32.
            NotFinite: audio or latents are not, outside of training (which has a check of its own); beyond
                `q2d2.audio.HIGHEST_PEAK` audio is a ValueError.
        """
        if self.training:  # in mixed precision audio comes in the type of the layers
            check_audio(audio.float() if audio.is_floating_point() else audio)
            return self.encoder(audio.unsqueeze(1))
        check_audio(audio)
        self._check_weights()
        require_audible(audio, "audio")
        latents = self.encoder(audio.unsqueeze(1))
        require_finite(latents, "latents of the encoder")
        return latents

    def _check_weights(self) -> None:
        """That the codec was not converted as a whole: bottlenecks and spectra need float32."""
        dtype = next(self.decoder.parameters()).dtype
        if dtype != torch.float32:
            raise ValueError(
                f"the codec's weights are {dtype}, expected torch.float32: codec.float(); to compute in bfloat16 use "
                "torch.autocast, or q2d2.codec.inference.prepare_for_inference"
            )

    def _synthesize(self, quantized: Tensor) -> Tensor:
        condition = self._condition(quantized.shape[0], quantized.device)
        audio = self.head(self.decoder(quantized, condition))
        if not self.training:
            require_finite(audio, "decoded audio")
        return audio

    def _condition(self, batch: int, device: torch.device) -> Tensor:
        """Which scale and shift normalization takes, (batch, 1): drawn in training, 0 in evaluation, as published."""
        if self.training:
            return torch.randint(self.config.num_embeddings, (batch, 1), device=device)
        return torch.zeros(batch, 1, dtype=torch.int64, device=device)
