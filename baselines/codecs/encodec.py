"""Encodec (Défossez et al., "High Fidelity Neural Audio Compression", 2022), the mono model for whole signals."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor

from baselines.codecs import CodecError
from baselines.codecs.pretrained import CONFIG, FILES, Layout, PretrainedCodec, bandwidths
from baselines.codecs.weights import HubWeights


class Encodec(PretrainedCodec):
    """Encodec at 24 kHz: 75 frames/s, 2, 4, 8, 16 or 32 quantizers of 1024 codes (1.5 to 24 kbit/s).

    It was trained for these numbers of quantizers, its target bandwidths, and takes no others.
    """

    architecture = "EncodecModel"
    weights: ClassVar[HubWeights] = HubWeights(
        repo="facebook/encodec_24khz",
        revision="c1dbe2ae3f1de713481a3b3e7c47f357092ee040",
        files=FILES,
        source="Meta AI; code under MIT, for the weights none is stated",
    )

    def layout(self, folder: Path) -> Layout:
        config = self.model.config
        for option, wanted in (("audio_channels", 1), ("normalize", False), ("chunk_length_s", None)):
            if (value := getattr(config, option)) != wanted:
                raise CodecError(
                    f"{folder / CONFIG}: {option} {value!r}, expected {wanted!r}: only Encodec models that take "
                    "mono signals whole and at their own level, such as encodec_24khz, are pure codes"
                )
        self._bandwidths = bandwidths(self.model)
        return Layout(config.sampling_rate, config.hop_length, config.codebook_size, list(self._bandwidths))

    def codes_of(self, audio: Tensor) -> Tensor:
        codes: Tensor = self.model.encode(audio, bandwidth=self._bandwidths[self.num_quantizers]).audio_codes
        return codes[0]  # the signal is one chunk

    def audio_of(self, codes: Tensor) -> Tensor:
        audio: Tensor = self.model.decode(codes[None], [None]).audio_values
        return audio.squeeze(1)
