"""X-Codec (Ye et al., "Codec Does Matter: Exploring the Semantic Shortcoming of Codec", 2024)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor

from baselines.codecs.pretrained import FILES, Layout, PretrainedCodec, bandwidths, pad_to_frames
from baselines.codecs.weights import HubWeights


class XCodec(PretrainedCodec):
    """X-Codec at 16 kHz: 50 frames/s, 1, 2, 3, 4 or 8 quantizers of 1024 codes (0.5 to 4 kbit/s).

    Its encoder holds a semantic model as well (HuBERT), whose frames are those of the acoustic encoder only where the
    signal is whole frames. 2 quantizers make the 100 tokens/s of published comparisons.
    """

    architecture = "XcodecModel"
    weights: ClassVar[HubWeights] = HubWeights(
        repo="hf-audio/xcodec-hubert-librispeech",
        revision=None,
        files=FILES,
        source="Ye et al., converted by Hugging Face; licence on its page",
    )

    def layout(self, folder: Path) -> Layout:
        config = self.model.config
        self._bandwidths = bandwidths(self.model)
        return Layout(config.sample_rate, config.hop_length, config.codebook_size, list(self._bandwidths))

    def codes_of(self, audio: Tensor) -> Tensor:
        padded = pad_to_frames(audio, self.hop_length)
        codes: Tensor = self.model.encode(padded, bandwidth=self._bandwidths[self.num_quantizers]).audio_codes
        return codes

    def audio_of(self, codes: Tensor) -> Tensor:
        audio: Tensor = self.model.decode(codes).audio_values
        return audio.squeeze(1)
